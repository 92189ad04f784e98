"""task=conformers: conformers of a molecule, relaxed together, with their Boltzmann weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fusion.chemistry import units
from fusion.config.checks import check_number, check_whole
from fusion.console.format import count
from fusion.errors import CalculationError, InputError
from fusion.methods import protocol
from fusion.parallel import processes
from fusion.runs.results import Result
from fusion.runs.task import Plan, Title, Trajectory, existing_trajectories
from fusion.tasks.relax.relaxation import Relaxed, Settings, check_numbers

if TYPE_CHECKING:
    from fusion.chemistry.system import System
    from fusion.methods.protocol import Method
    from fusion.runs.run import Run

FRAMES, TABLE, PICTURE = "conformers.extxyz", "conformers.csv", "conformers.png"


class Conformers:
    """Relaxes many first geometries and keeps those that differ and have the bonds of the molecule.

    conf/task/conformers.yaml has the settings.
    """

    needs = frozenset({"energy", "forces"})

    def __init__(
        self,
        number: int,
        embed: str,
        fmax: float,
        steps: int,
        temperature_k: float,
        same: Mapping[str, float],
        name: str = "conformers",
    ) -> None:
        self.name, self._number, self._embed, self._temperature_k = name, number, embed, temperature_k
        self._settings, self._same = Settings({}, fmax, steps), same

    def check(self, method: Method, system: System, run: Run) -> Plan:
        """Raise InputError for wrong settings, a method without forces, or a crystal."""
        from fusion.methods.recorded import resume_note
        from fusion.tasks.conformers import embedding

        check_whole("task.number", self._number, 2)
        check_numbers(self._settings)
        check_number("task.temperature_k", self._temperature_k, positive=True)
        for key in ("energy_kcal", "rmsd_angstrom"):
            check_number(f"task.same.{key}", self._same.get(key), positive=True)
        embedding.check(self._embed)
        if any(system.pbc) or system.fixed is not None:
            raise InputError(f"task={self.name} needs a free molecule; {system.name} is periodic or has held atoms")
        protocol.require(method, self.needs, f"task {self.name}", [system])
        resume_note(method, system, run, self.name)
        return Plan(method, system)

    def title(self, plan: Plan, run: Run) -> Title:
        """Method, system and number of first geometries."""
        from fusion.methods.recorded import resume_note
        from fusion.runs.report import title_of

        note = resume_note(plan.method, plan.system, run, self.name)
        what = f"conformers from {self._number} geometries"
        return (plan.method.label, title_of(plan.system), what), (note,) if note else ()

    def run(self, plan: Plan, run: Run) -> Result:
        """Return the result of the lowest conformer; write conformers.extxyz and conformers.csv."""
        from fusion.console.phases import phase
        from fusion.methods.recorded import Journal
        from fusion.tasks.conformers.embedding import embedded
        from fusion.tasks.geometry.bonds import Bonds
        from fusion.tasks.relax.together import relax

        if processes.rank() != 0:
            return Result(plan.system)
        places = embedded(plan.system, self._number, self._embed, np.random.default_rng(abs(run.seed)))
        systems = [plan.system.moved(place) for place in places]
        with phase("relaxing", len(systems)) as bar, Journal(plan.method, plan.system, run, self.name) as journal:
            ends = relax(journal, systems, self._settings, lambda done: bar(done, ""))
        relaxed = [end for end in ends if end.converged and end.failure is None]
        if not relaxed:
            raise CalculationError(f"none of {len(ends)} geometries relaxed: {ends[0].failure or 'too few steps'}")
        bonds = Bonds.of(plan.system)
        good = [end for end in relaxed if bonds.intact(end.result.system.positions[None])[0]]
        if not good:
            raise CalculationError(
                f"all {len(relaxed)} relaxed geometries have other bonds than {plan.system.name}: with "
                f"{plan.method.label} it is no minimum"
            )
        return self._kept(plan, run, good, len(relaxed), len(ends))

    def _kept(self, plan: Plan, run: Run, good: list[Relaxed], relaxed: int, tried: int) -> Result:
        from fusion.tasks.conformers.duplicates import different
        from fusion.tasks.geometry.structures import frame, write_frames

        energies = [end.energies[-1] for end in good]
        energy = self._same["energy_kcal"] / units.KCAL_MOL_PER_HARTREE
        rmsd = self._same["rmsd_angstrom"] * units.BOHR_PER_ANGSTROM
        groups = different([end.result.system for end in good], energies, energy, rmsd)
        relative = np.array([energies[group[0]] - energies[groups[0][0]] for group in groups])
        factors = np.exp(-relative / (units.HARTREE_PER_KELVIN * self._temperature_k))
        shares = factors / factors.sum()
        rows = [
            {
                "conformer": number + 1,
                "relative_kcal_mol": float(units.KCAL_MOL_PER_HARTREE * relative[number]),
                "population": float(shares[number]),
                "found": len(group),
                "energy_hartree": energies[group[0]],
            }
            for number, group in enumerate(groups)
        ]
        frames = []
        for row, group in zip(rows, groups, strict=True):
            info = {key: row[key] for key in ("conformer", "relative_kcal_mol", "population")}
            frames.append(frame(good[group[0]].result, **info))
        write_frames(run.directory / FRAMES, frames)
        _write_table(run.directory / TABLE, rows)
        lowest = good[groups[0][0]].result
        others = f"; {relaxed - len(good)} with other bonds left out" if relaxed > len(good) else ""
        details = {
            "number": len(groups),
            "geometries": tried,
            "relaxed": relaxed,
            "other_bonds": relaxed - len(good),
            "temperature_k": self._temperature_k,
            "conformers": rows,
            "verdict": f"{count(len(groups), 'conformer')} from {relaxed} of {tried} relaxed geometries{others}",
        }
        return Result(
            lowest.system,
            energy=lowest.energy,
            energy_std=lowest.energy_std,
            properties=dict(lowest.properties),
            details={**lowest.details, "conformers": details},
            message=lowest.message,
        )

    @staticmethod
    def rows(document: dict[str, Any]) -> Iterator[list[str]]:
        """Yield the lowest conformers with their weights."""
        part = document.get("conformers") or {}
        for row in part.get("conformers", [])[:_SHOWN]:
            share = f"{100 * row['population']:.1f} %"
            found = f"found {count(row['found'], 'time')}"
            yield [f"conformer {row['conformer']}", f"{row['relative_kcal_mol']:.2f} kcal/mol", share, found]
        if part and part["number"] > _SHOWN:
            yield ["", f"and {part['number'] - _SHOWN} more", TABLE]

    @staticmethod
    def draw(directory: Path) -> None:
        """Draw `conformers.png` of a finished run."""
        from fusion.runs.results import read_result
        from fusion.tasks.conformers.plot import draw

        part = (read_result(directory) or {}).get("conformers")
        if part:
            draw(part, directory / PICTURE)

    @staticmethod
    def trajectories(directory: Path) -> list[Trajectory]:
        """Structures to be looked at in turn."""
        return existing_trajectories(directory, {"conformers": FRAMES})

    @staticmethod
    def files(directory: Path) -> list[str]:
        """Names of the files written."""
        return [name for name in (FRAMES, TABLE) if (directory / name).is_file()]


_SHOWN = 8


def _write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    import csv
    import io

    from fusion.files.atomic import write_atomically

    text = io.StringIO()
    table = csv.DictWriter(text, rows[0].keys(), lineterminator="\n")
    table.writeheader()
    table.writerows({key: f"{v:.8f}" if isinstance(v, float) else v for key, v in row.items()} for row in rows)
    write_atomically(path, text.getvalue())

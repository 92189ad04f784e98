"""Comparison of several methods on the same molecule, reaction, scan or complex, in one table and picture."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusion.config.checks import check_switch, check_whole
from fusion.errors import InputError
from fusion.files.atomic import write_atomically
from fusion.parallel import processes
from fusion.runs.results import Result
from fusion.runs.task import Plan, Title
from fusion.tasks.compare import (
    dimers,
    methods,
    outcome,
    reactions,
    scans,
    subject,
    tables,
)
from fusion.tasks.compare import (
    jobs as parts,
)
from fusion.tasks.compare import (
    workers as running,
)
from fusion.tasks.compare.methods import Entry
from fusion.tasks.compare.progress import board
from fusion.tasks.compare.subject import Subject

if TYPE_CHECKING:
    from fusion.chemistry.system import System
    from fusion.runs.run import Run

PICTURE = "comparison.png"
_SUBJECTS = ("reaction", "atomisation", "scan", "frames", "fragments", "states", "solvation")


@dataclass(frozen=True)
class ComparisonPlan(Plan):
    """Comparison of the methods `entries` on `subject`; `reference`: the one they are compared with.

    `refusals`: by label, the structures that a method refuses, with the reasons; `share`: division of the machine.
    """

    subject: Subject
    entries: Sequence[Entry]
    reference: Entry
    refusals: Mapping[str, Mapping[str, str]]
    share: running.Share

    def parts(self, run: Run) -> dict[str, list[parts.Part]]:
        """Calculations of every method in the directory of the run, by label."""
        return {entry.label: parts.plan(entry, self.subject, run) for entry in self.entries}


class Compare:
    """Runs every entry of `methods` on the same geometries and compares the results.

    Every method has a process of its own and, for every structure, an ordinary run in `parts/LABEL/STRUCTURE`. A
    resumed comparison does not repeat finished runs. The settings are those of conf/task/compare.yaml. The status is
    `ok` if every calculation succeeded; otherwise the line of each incomplete method gives the reason.
    """

    needs = frozenset({"energy"})

    def __init__(
        self,
        against: str | None = None,
        reaction: str | Sequence[str] | None = None,
        atomisation: bool = False,
        scan: Any = None,
        frames: str | None = None,
        zero: int | None = None,
        fragments: Any = None,
        fragment_charges: Any = None,
        counterpoise: bool = True,
        states: int | None = None,
        solvation: Any = None,
        forces: bool = True,
        jobs: int | None = None,
        threads: int | None = None,
        name: str = "compare",
    ) -> None:
        self.name, self._against, self._zero, self._counterpoise = name, against, zero, counterpoise
        self._subject_settings = {
            "reaction": reaction,
            "atomisation": atomisation or None,
            "scan": scan,
            "frames": frames,
            "fragments": fragments,
            "states": states,
            "solvation": solvation,
        }
        self._states = states
        self._charges, self._forces, self._jobs, self._threads = fragment_charges, forces, jobs, threads

    def check(self, method: None, system: System, run: Run) -> ComparisonPlan:
        """Raises InputError for settings, methods or a reaction that cannot be compared, or that no method can do."""
        self._check_settings(run)
        chosen = self._subject(system, run.start_dir)
        entries = methods.read(run.config.methods, run.seed, self._forces, self._states)
        if chosen.kind == "solvation":
            parts.check_solvents(entries)
        reference = methods.chosen(self._against, entries)
        outcome.check_common(chosen, entries, reference)
        planned = {entry.label: parts.plan(entry, chosen, run) for entry in entries}
        refusals = {label: _refusals(own) for label, own in planned.items()}
        unable = {label: reasons for label, reasons in refusals.items() if len(reasons) == len(planned[label])}
        if unable and (len(unable) == len(entries) or reference.label in unable):
            more = "; task.against=LABEL chooses another reference" if len(unable) < len(entries) else ""
            raise InputError(f"{reference.label}: {next(iter(unable[reference.label].values()))}{more}")
        share = running.share(len(entries) - len(unable), self._jobs, self._threads)
        return ComparisonPlan(method, system, chosen, entries, reference, refusals, share)

    def title(self, plan: ComparisonPlan, run: Run) -> Title:
        """Subject for the title, and notes on the methods, the division of the machine and a resumed comparison."""
        from fusion.console.format import count

        labels = ", ".join(entry.label for entry in plan.entries)
        jobs, threads = plan.share.jobs, count(plan.share.threads, "thread")
        together = "one method at a time" if jobs == 1 else f"{jobs} methods at a time"
        notes = [f"{labels} against {plan.reference.label}", f"{together}, {threads} each"]
        planned = [part for parts_of_method in plan.parts(run).values() for part in parts_of_method]
        done = sum(part.done for part in planned) if run.checkpoint is not None else 0
        if done:
            notes.append(f"resuming after {done} of {count(len(planned), 'calculation')}")
        for structure in plan.subject.structures:
            notes += [f"{structure.name}: {note}" for note in structure.system.notes if note not in plan.system.notes]
        return (plan.subject.title, self.name), tuple(notes)

    def run(self, plan: ComparisonPlan, run: Run) -> Result:
        """Return the comparison in the details; write comparison.md and comparison.csv."""
        if processes.rank() != 0:
            return Result(plan.system)
        _begin(run)
        planned = plan.parts(run)
        able = {
            label: [part for part in own if part.structure.name not in plan.refusals[label]]
            for label, own in planned.items()
        }
        workers = [running.Worker(label, own) for label, own in able.items() if own]
        with board() as show:
            running.run(workers, plan.share, run.start_dir, show)
        zero = plan.subject.points[self._zero - 1].structure if self._zero and plan.subject.points else None
        ended = {worker.label: worker.failure for worker in workers}
        common = plan.subject, plan.entries, plan.reference
        comparison = outcome.describe(*common, planned, plan.refusals, ended, zero)
        comparison["jobs"], comparison["threads"] = plan.share.jobs, plan.share.threads
        write_atomically(run.directory / tables.MARKDOWN, tables.markdown(comparison))
        write_atomically(run.directory / tables.TABLE, tables.comma_separated(comparison))
        from fusion.console.format import console

        console().print()
        status, message = outcome.status(comparison)
        # The structures of reactions and frames are not the system of the run.
        no_system = {"system": None} if self._subject_settings["reaction"] or self._subject_settings["frames"] else {}
        doubts = outcome.warnings(planned)
        details = {"comparison": comparison, **no_system}
        return Result(plan.system, status, details=details, message=message, warnings=doubts)

    def _check_settings(self, run: Run) -> None:
        chosen = [key for key in _SUBJECTS if self._subject_settings[key] is not None]
        if len(chosen) > 1:
            raise InputError(f"task.{chosen[0]} and task.{chosen[1]}: a comparison has only one of them")
        for setting, flag in (("counterpoise", self._counterpoise), ("forces", self._forces)):
            check_switch(f"task.{setting}", flag)
        for setting, number in (("jobs", self._jobs), ("threads", self._threads), ("zero", self._zero)):
            if number is not None:
                check_whole(f"task.{setting}", number)
        if (
            self._zero is not None
            and self._subject_settings["scan"] is None
            and self._subject_settings["frames"] is None
        ):
            raise InputError("task.zero is a point of task.scan or task.frames; give one of them")
        if self._states is not None:
            check_whole("task.states", self._states, 2)
        if self._charges is not None and self._subject_settings["fragments"] is None:
            raise InputError("task.fragment_charges are the charges of task.fragments; give task.fragments")
        for setting, usual, example in (("weights", None, "ani-1x"), ("dtype", "float32", "float64")):
            if run.config.get(setting) != usual:
                raise InputError(
                    f"{setting} belongs to one method: methods=[{{method: ani, {setting}: {example}}}, ...]"
                )
        if run.config.get("ckpt") not in (None, "last"):
            raise InputError(
                "ckpt: a comparison can only be resumed with ckpt=last; it does not start from another file"
            )

    def _subject(self, system: System, start_dir: Path) -> Subject:
        options = self._subject_settings
        if options["reaction"] is not None:
            return reactions.subject(_plain(options["reaction"]), start_dir)
        if options["scan"] is not None or options["frames"] is not None:
            scan = (
                scans.subject(_plain(options["scan"]), system)
                if options["scan"] is not None
                else scans.frames(str(options["frames"]), system, start_dir)
            )
            if self._zero is not None and self._zero > len(scan.points):
                raise InputError(f"task.zero={self._zero}: there are {len(scan.points)} points, the first is 1")
            return scan
        if options["fragments"] is not None:
            return dimers.subject(_plain(options["fragments"]), _plain(self._charges), self._counterpoise, system)
        if any(system.pbc):
            raise InputError(f"{system.name} is periodic; only molecules can be compared")
        if self._states is not None:
            return subject.excitations(system, self._states)
        if options["solvation"] is not None:
            return subject.solvation(system, _plain(options["solvation"]))
        if options["atomisation"]:
            from fusion.chemistry.reactions import species

            atoms = {symbol: species(symbol.lower(), start_dir) for symbol in dict.fromkeys(system.symbols)}
            return subject.atomisation(system, atoms)
        return subject.molecule(system)

    @staticmethod
    def rows(document: dict[str, Any]) -> Iterator[list[str]]:
        """Yield the lines of the table, failures and notes."""
        if "comparison" in document:
            yield from tables.rows(document["comparison"])

    @staticmethod
    def draw(directory: Path) -> None:
        """Draw `comparison.png`."""
        from fusion.tasks.compare.plot import draw

        draw(directory, directory / PICTURE)

    @staticmethod
    def files(directory: Path) -> list[str]:
        """Names of the files written."""
        return [name for name in (tables.MARKDOWN, tables.TABLE, parts.DIRECTORY) if (directory / name).exists()]

    @staticmethod
    def stands(directory: Path) -> str | None:
        """Number of finished calculations of an unfinished comparison, in words."""
        from fusion.console.format import count

        done = len(list((directory / parts.DIRECTORY).glob("*/*/result.json")))
        return f"{count(done, 'calculation')} done" if done else None


def _refusals(planned: Sequence[parts.Part]) -> dict[str, str]:
    """Reasons why a method refuses structures, by structure, as far as its check tells."""
    reasons = {part.structure.name: parts.refusal(part) for part in planned}
    return {name: reason for name, reason in reasons.items() if reason is not None}


def _begin(run: Run) -> None:
    """Move the parts of an earlier comparison in this directory aside, unless it is resumed."""
    from fusion.runs.state import write_state

    home = run.directory / parts.DIRECTORY
    if run.checkpoint is None and home.is_dir():
        previous = home.with_name(f"previous-{parts.DIRECTORY}")
        shutil.rmtree(previous, ignore_errors=True)
        os.replace(home, previous)
    write_state(run, {"task": "compare"})  # marks the run as resumable; the parts hold the state


def _plain(value: Any) -> Any:
    from omegaconf import OmegaConf

    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value

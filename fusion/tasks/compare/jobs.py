"""Runs of a comparison: one per method and structure, each an ordinary run in its own directory."""

from __future__ import annotations

import os
import shutil
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from fusion.chemistry import energy_zeros, units
from fusion.config.messages import WITH_SOLVENT
from fusion.config.moved_names import current
from fusion.errors import CalculationError, InputError
from fusion.files.atomic import make_folder, record, write_atomically
from fusion.methods import abilities, by_name
from fusion.methods.sums import SumMethod
from fusion.parallel import processes
from fusion.runs import directory as run_directory
from fusion.runs import trust
from fusion.runs.layout import CONFIG, RESULT
from fusion.runs.results import Result, read_result
from fusion.runs.run import without_ckpt
from fusion.tasks.compare import subject
from fusion.tasks.compare.methods import Entry
from fusion.tasks.compare.subject import EXCITATIONS, Structure, Subject

if TYPE_CHECKING:
    from fusion.runs.run import Run

DIRECTORY = "parts"
REASON = "refused.txt"
EXCITED = "excited"
_SHARED = ("trainer", "logger", "callbacks")  # settings of the comparison that hold for its parts
_PATIENCE_S = 60.0
_MEASURED = "fusion.tasks.compare.cost."


@dataclass(frozen=True)
class Part:
    """Run of one method on one structure, with its `settings`; its `directory` is below `home`, the comparison's."""

    entry: Entry
    structure: Structure
    directory: Path
    settings: dict[str, Any]
    home: Path

    @property
    def document(self) -> dict[str, Any] | None:
        """Content of its result.json; None as long as there is none."""
        return read_result(self.directory)

    @property
    def done(self) -> bool:
        """True for a finished run. A failed run is repeated when the comparison is resumed."""
        document = self.document
        return document is not None and document["status"] != "failed"

    @property
    def good(self) -> bool:
        """True if there is a result to use."""
        return (self.document or {}).get("status") == "ok"

    @property
    def over(self) -> bool:
        """True if the run has ended, successfully or not."""
        return (self.directory / RESULT).is_file() or (self.directory / REASON).is_file()

    @property
    def reason(self) -> str | None:
        """Reason why the method refused the structure; None where it did not, or left a result."""
        file = self.directory / REASON
        return file.read_text().strip() if file.is_file() else None


def plan(entry: Entry, subject: Subject, run: Run) -> list[Part]:
    """Parts of one method in the order of calculation. Single atoms are left out for a method whose energies are
    relative to them."""
    structures = [
        structure
        for structure in subject.structures
        if not (_is_zero(structure, entry) or (structure.ghosts and not has_ghosts(entry)))
    ]
    home = run.directory / DIRECTORY / entry.label
    return [
        Part(entry, structure, home / structure.name, _settings(entry, structure, subject, run), run.directory)
        for structure in structures
    ]


def refusal(part: Part) -> str | None:
    """Reason why the method cannot calculate the structure, as far as its check tells; None if it can."""
    method, wanted = part.entry.method, {"energy"}
    if part.settings["task"]["name"] == EXCITED:
        if method.kind == "ansatz":
            return None  # its check is for one state
        if "excitations" not in method.provides:
            return f"{method.label} has no excited states"
        wanted |= {"excitations"}
    try:
        abilities.check(method, [part.structure.system], wanted)
    except InputError as error:
        return str(error)
    return None


def prepare(part: Part) -> None:
    """Write the run's settings and remove the record of a failure. A run with other settings is moved aside."""
    for name in (RESULT, REASON):
        (part.directory / name).unlink(missing_ok=True)
    file = part.directory / CONFIG
    earlier = current(OmegaConf.to_container(OmegaConf.load(file))) if file.is_file() else None
    if earlier is not None and without_ckpt(earlier) != without_ckpt(part.settings):
        previous = part.directory.with_name(f"{part.directory.name}.previous")
        shutil.rmtree(previous, ignore_errors=True)
        os.replace(part.directory, previous)
    make_folder(record(part.directory), part.home)
    write_atomically(file, trust.text(OmegaConf.create(part.settings)))


def work(directories: Sequence[Path], resume: Callable[[Path], Result]) -> int:
    """Run `resume` on `directories` one after another, in the process of one method; return its exit status.

    The process ends at once when the one that started it is gone. A run that fails does not stop the others.
    """
    processes.end_with_parent()
    status = 0
    for directory in directories:
        (directory / REASON).unlink(missing_ok=True)
        run_directory.wait(directory, _PATIENCE_S)  # for the process of a comparison that was killed
        try:
            if resume(directory).status != "ok":
                status = 1
        except KeyboardInterrupt:
            raise
        except (InputError, CalculationError) as error:
            _give_up(directory, str(error))
            status = 1
        except Exception as error:  # from a library: the other structures must still run
            traceback.print_exc()
            _give_up(directory, f"{type(error).__name__}: {' '.join(str(error).split())}")
            status = 1
    return status


def _give_up(directory: Path, reason: str) -> None:
    """Write the reason to a file where no result states it."""
    print(f"error: {reason}", file=sys.stderr, flush=True)
    if read_result(directory) is None:
        write_atomically(directory / REASON, f"{reason}\n")


def _settings(entry: Entry, structure: Structure, compared: Subject, run: Run) -> dict[str, Any]:
    settings = dict(entry.settings)
    for group in _SHARED:
        settings[group] = OmegaConf.to_container(run.config[group], resolve=True)
    settings["system"] = subject.node(structure.system)
    settings["ckpt"] = None
    if compared.kind == EXCITATIONS:
        settings["task"] = {"_target_": f"{_MEASURED}MeasuredExcited", "name": EXCITED}
    elif entry.trains:
        settings["task"] = {"_target_": f"{_MEASURED}MeasuredTraining", "name": "train"}
    else:
        settings["task"] = {"_target_": f"{_MEASURED}MeasuredEnergy", "name": "energy", "forces": entry.forces}
    if structure.ghosts and "ghosts" in settings["method"]:
        ghosts = [[symbol, *(units.ANGSTROM_PER_BOHR * x for x in place)] for symbol, *place in structure.ghosts]
        settings["method"] = settings["method"] | {"ghosts": ghosts}
    if structure.solvent is not None:
        settings["method"] = settings["method"] | {"solvent": structure.solvent}
    return settings


def check_solvents(entries: Sequence[Entry]) -> None:
    """Raise InputError for a method without solvents, or with one of its own."""
    from fusion.scf.solvent import read

    for entry in entries:
        if "solvent" not in entry.settings["method"]:
            raise InputError(f"task.solvation: {entry.label} has no solvent; {WITH_SOLVENT} have one")
        if read(entry.settings["method"]["solvent"]) is not None:
            raise InputError(f"task.solvation: {entry.label} has a solvent already; remove it from methods=")


def has_ghosts(entry: Entry) -> bool:
    """True if the method accepts ghost atoms: basis functions without nuclei, which have no cavity in a solvent."""
    settings = entry.settings["method"]
    return "ghosts" in settings and not any(_solvent_fields(settings.get("solvent")))


def _solvent_fields(solvent: Any) -> Sequence[Any]:
    """Values of the setting `solvent`, all None in the gas phase."""
    return list(solvent.values()) if isinstance(solvent, dict) else [solvent]


def has_basis(entry: Entry) -> bool:
    """True if the method has a basis of functions centred on nuclei."""
    return _in_basis(entry.method, entry.settings["method"])


def _in_basis(method: Any, settings: Mapping[str, Any]) -> bool:
    """True if a method with these settings, or a term of a sum, has a basis."""
    if isinstance(method, SumMethod):
        return any(_in_basis(term.method, by_name.node(*by_name.parts(term.entry))) for term in method.terms)
    if "calculator" in settings:  # only a program that treats all electrons has total energies
        return method.energy_zero == energy_zeros.TOTAL or "basis" in (settings.get("options") or {})
    return settings.get("basis") is not None


def _is_zero(structure: Structure, entry: Entry) -> bool:
    """True if the energy of the structure is zero by definition."""
    return entry.zero == energy_zeros.ATOMISATION and len(structure.system.symbols) == 1

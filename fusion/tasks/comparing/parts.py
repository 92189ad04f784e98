"""The runs that a comparison is made of, one per method and structure, each an ordinary run in its own directory."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from fusion import run_directory, trust, units, zeros
from fusion.atomic import make_folder, record, write_atomically
from fusion.errors import CalculationError, InputError
from fusion.results import FILENAME, read_result
from fusion.tasks.comparing import subject
from fusion.tasks.comparing.entries import Entry
from fusion.tasks.comparing.subject import Structure, Subject

if TYPE_CHECKING:
    from fusion.runs import Run

DIRECTORY = "parts"
REASON = "refused.txt"
_CONFIG = "config.yaml"
_SHARED = ("trainer", "logger", "callbacks")  # settings of the comparison that hold for its parts
_PATIENCE_S = 60.0
_MEASURED = "fusion.tasks.comparing.measured."


@dataclass(frozen=True)
class Part:
    """One method on one structure; `settings` of its run, whose directory is below `home`, that of the comparison."""

    entry: Entry
    structure: Structure
    directory: Path
    settings: dict[str, Any]
    home: Path

    @property
    def document(self) -> dict[str, Any] | None:
        """What came out, None as long as nothing did."""
        return read_result(self.directory)

    @property
    def done(self) -> bool:
        """Whether nothing is left to do; what failed is tried again when a comparison goes on."""
        document = self.document
        return document is not None and document["status"] != "failed"

    @property
    def good(self) -> bool:
        """Whether there is a result to use."""
        return (self.document or {}).get("status") == "ok"

    @property
    def over(self) -> bool:
        """Whether it has been tried, to whatever end."""
        return (self.directory / FILENAME).is_file() or (self.directory / REASON).is_file()

    @property
    def reason(self) -> str | None:
        """Why the method did not do it, if it said so without leaving a result."""
        file = self.directory / REASON
        return file.read_text().strip() if file.is_file() else None


def plan(entry: Entry, subject: Subject, run: Run) -> list[Part]:
    """The parts of one method, in the order in which they are done; single atoms are left out for a method whose
    energies are relative to them."""
    structures = [
        one for one in subject.structures if not (_is_zero(one, entry) or (one.ghosts and not has_ghosts(entry)))
    ]
    home = run.directory / DIRECTORY / entry.label
    return [Part(entry, one, home / one.name, _settings(entry, one, run), run.directory) for one in structures]


def refusal(part: Part) -> str | None:
    """Why the method cannot do the structure, as far as it knows before any work."""
    check = getattr(part.entry.method, "check", None)
    if check is None:
        return None
    wanted = part.entry.method.provides & ({"energy", "forces"} if part.entry.forces else {"energy"})
    try:
        check([part.structure.system], wanted)
    except InputError as error:
        return str(error)
    return None


def prepare(part: Part) -> None:
    """Write the run's settings, forget a failure. What lies there of other settings is put aside."""
    for name in (FILENAME, REASON):
        (part.directory / name).unlink(missing_ok=True)
    file = part.directory / _CONFIG
    if file.is_file() and _without_ckpt(OmegaConf.to_container(OmegaConf.load(file))) != _without_ckpt(part.settings):
        previous = part.directory.with_name(f"{part.directory.name}.previous")
        shutil.rmtree(previous, ignore_errors=True)
        os.replace(part.directory, previous)
    make_folder(record(part.directory), part.home)
    write_atomically(file, trust.text(OmegaConf.create(part.settings)))


def work(directories: Sequence[Path]) -> int:
    """Go on with the runs in `directories` one after another: what the process of one method does.

    Ends at once when the process that started it is gone. One that fails does not keep the others from being done.
    """
    from fusion import app

    threading.Thread(target=_follow, daemon=True).start()
    status = 0
    for directory in directories:
        (directory / REASON).unlink(missing_ok=True)
        run_directory.wait(directory, _PATIENCE_S)  # for the process of a comparison that was killed
        try:
            if app.resume(directory, relaunch=True).status != "ok":
                status = 1
        except KeyboardInterrupt:
            raise
        except (InputError, CalculationError) as error:
            _give_up(directory, str(error))
            status = 1
        except Exception as error:  # of a library: it must not take the other structures along
            traceback.print_exc()
            _give_up(directory, f"{type(error).__name__}: {' '.join(str(error).split())}")
            status = 1
    return status


def _give_up(directory: Path, reason: str) -> None:
    """Keep the reason where no result says it."""
    print(f"error: {reason}", file=sys.stderr, flush=True)
    if read_result(directory) is None:
        write_atomically(directory / REASON, f"{reason}\n")


def _follow() -> None:
    """Wait on the pipe from the process that started this one; it closes when that ends, however it does."""
    os.read(sys.stdin.fileno(), 1)
    os.killpg(0, signal.SIGKILL)  # with the programs that were called; every file is whole at any moment


def _settings(entry: Entry, structure: Structure, run: Run) -> dict[str, Any]:
    settings = dict(entry.settings)
    for group in _SHARED:
        settings[group] = OmegaConf.to_container(run.config[group], resolve=True)
    settings["system"] = subject.node(structure.system)
    settings["ckpt"] = None
    if entry.trains:
        settings["task"] = {"_target_": f"{_MEASURED}MeasuredTraining", "name": "train"}
    else:
        settings["task"] = {"_target_": f"{_MEASURED}MeasuredEnergy", "name": "energy", "forces": entry.forces}
    if structure.ghosts and "ghosts" in settings["method"]:
        ghosts = [[symbol, *(units.ANGSTROM_PER_BOHR * x for x in place)] for symbol, *place in structure.ghosts]
        settings["method"] = settings["method"] | {"ghosts": ghosts}
    return settings


def has_ghosts(entry: Entry) -> bool:
    """Whether the method takes basis functions without nuclei."""
    return "ghosts" in entry.settings["method"]


def has_basis(entry: Entry) -> bool:
    """Whether the method expands in functions centred on nuclei."""
    return entry.settings["method"].get("basis") is not None


def _is_zero(structure: Structure, entry: Entry) -> bool:
    """Whether the energy of a structure is zero by definition."""
    return entry.zero == zeros.ATOMISATION and len(structure.system.symbols) == 1


def _without_ckpt(content: Any) -> dict[str, Any]:
    return {str(key): value for key, value in content.items() if key != "ckpt"}

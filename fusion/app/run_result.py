"""Result of a run for scripts and notebooks: what a report shows, its pictures, tables and structures."""

from __future__ import annotations

import base64
import functools
import html
import io
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fusion.app.run_tables import columns_of
from fusion.chemistry import structure_sets, system_input
from fusion.chemistry import units as conversions
from fusion.chemistry.system import System
from fusion.config.options import suggestion
from fusion.console import streams, units
from fusion.errors import InputError
from fusion.runs import report
from fusion.runs.layout import RESULT
from fusion.runs.results import PROPERTY_KEYS, STRUCTURES, Result, read_result

if TYPE_CHECKING:
    from ase import Atoms
    from pandas import DataFrame

_TRAJECTORIES = (
    "relax.extxyz", "md.extxyz", "scan.extxyz", "path.extxyz", "irc.extxyz", "conformers.extxyz", "structures.extxyz",
)  # fmt: skip
_SETS = ("labels.extxyz", "structures.extxyz")
RELAXATION = "relaxation.png"
"""Picture of the steps before the result: the last one, and in a notebook only without others."""
_SHOWN = 2
"""Pictures below the numbers of a result in a notebook."""
_COLUMNS = 9
_PIXELS, _COLOURS = 900, 64


@dataclass(frozen=True, repr=False)
class Picture:
    """Picture of a run; `path` is its PNG file. A notebook shows it, and stores it in fewer points and colours."""

    path: Path

    def _repr_png_(self) -> bytes:
        from PIL import Image

        content = io.BytesIO()
        with Image.open(self.path) as image:
            small = image.convert("RGB")
            small.thumbnail((_PIXELS, _PIXELS), Image.Resampling.LANCZOS)
            small.quantize(_COLOURS).save(content, "PNG", optimize=True)
        return content.getvalue()

    def __repr__(self) -> str:
        return f"Picture({self.path.name})"


@dataclass(repr=False)
class RunResult(Result):
    """Result of a run in `directory`; energies in hartree, as in all results.

    In a notebook it shows the numbers of the run's report, in the units of the run, and its pictures.
    """

    directory: Path = field(kw_only=True)

    @functools.cached_property
    def document(self) -> dict[str, Any]:
        """Content of result.json, in atomic units."""
        return read_result(self.directory) or {}

    @property
    def atoms(self) -> Atoms:
        """Final geometry as ASE Atoms, whose calculator holds energy and forces (eV, Angstrom).

        Raises InputError for a run of many structures, whose atoms are in `trajectory`.
        """
        from fusion.tasks.geometry.structures import frame

        if STRUCTURES in self.details:
            raise InputError(f"{self.directory} has many structures; they are in .trajectory")
        return frame(self)

    @property
    def trajectory(self) -> list[Atoms]:
        """Structures that the run wrote: steps, points, frames or conformers; empty for a run of one geometry."""
        from ase.io import read

        file = next((path for name in _TRAJECTORIES if (path := self.directory / name).is_file()), None)
        return [] if file is None else list(read(file, ":"))

    @property
    def pictures(self) -> list[str]:
        """Names of the run's pictures, the main one first."""
        names = sorted(path.name for path in self.directory.glob("*.png"))
        return sorted(names, key=lambda name: name == RELAXATION)

    def figure(self, name: str | None = None) -> Picture:
        """Return the picture of that name, with or without .png, or the main one. Raises InputError without one."""
        names = self.pictures
        if not names:
            raise InputError(f"{self.directory} has no picture")
        chosen = names[0] if name is None else f"{name.removesuffix('.png')}.png"
        if chosen not in names:
            raise InputError(f"no picture {name!r}.{suggestion(chosen, names)}  Pictures: {', '.join(names)}")
        return Picture(self.directory / chosen)

    def to_frame(self, table: str | None = None) -> DataFrame:
        """Return a table of the run as a pandas DataFrame, in the units of the run, which are in the names of columns.

        It has a row per structure, point, frame, conformer, mode, state or compared method, and for other runs one row
        with the main numbers; `table` names another CSV file of the run. Raises InputError without pandas or the file.
        """
        try:
            import pandas
        except ModuleNotFoundError:
            raise InputError("to_frame needs pandas: pip install 'aiqm-fusion[notebook]'") from None
        return pandas.DataFrame(columns_of(self.directory, self.document, self._units, table))

    @property
    def _units(self) -> units.Units:
        return units.Units(units.checked((self.document.get("settings") or {}).get("units", units.HARTREE)))

    @property
    def _place(self) -> str:
        """Directory as printed: relative where it is below the current one."""
        here = Path.cwd()
        return str(self.directory.relative_to(here) if self.directory.is_relative_to(here) else self.directory)

    def _repr_html_(self) -> str:
        with units.using(self._units.name):
            title, rows = report.lines(self.document, self.directory)
            body = "".join(_row(label, [text, *columns]) for label, text, columns, _ in rows if label != "files")
            head = f"<b>{_text(' · '.join(title))}</b><br><small>{_text(self._place)}</small>"
        names = self.pictures
        shown = [name for name in names if name != RELAXATION or names == [RELAXATION]][:_SHOWN]
        pictures = "".join(_image(self.figure(name)) for name in shown)
        return f'<div>{head}<table style="font-family:monospace;width:auto">{body}</table>{pictures}</div>'

    def __repr__(self) -> str:
        energy = "" if self.energy is None else f", energy={self.energy!r}"
        error = "" if self.energy_stderr is None else f", energy_stderr={self.energy_stderr!r}"
        number = (self.details.get(STRUCTURES) or {}).get("number")
        subject = self.system.formula if number is None else f"{number} structures"
        return f"RunResult({subject}, {self.status}{energy}{error}, directory={self._place!r})"


def result(run_dir: str | Path) -> RunResult:
    """Return the result of a finished run: `fusion.result("runs/2026-01-31/120000-ani-ethanol")`.

    Raises InputError for a directory without one, and for a damaged file.
    """
    directory = Path(run_dir).absolute()
    document = read_result(directory)
    if document is None:
        raise InputError(f"{run_dir} has no {RESULT}; fusion report {run_dir} tells how far a run is")
    try:
        return restored(document, directory)
    except (InputError, OSError):
        raise
    except Exception as error:  # a damaged file can raise anything
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise InputError(f"{directory / RESULT} is damaged ({reason})") from error


def of_run(result: Result, directory: Path) -> RunResult:
    """Return the result that a task has returned, with the directory of the run."""
    return RunResult(**{each.name: getattr(result, each.name) for each in fields(Result)}, directory=directory)


def restored(document: Mapping[str, Any], directory: Path) -> RunResult:
    """Return the result that `result.json` holds."""
    energy = document.get("energy") or {}
    kept = {key: np.array(document[key]) for key in PROPERTY_KEYS.values() if key in document}
    names = {key: name for name, key in PROPERTY_KEYS.items()}
    return RunResult(
        _system(document.get("system") or {}) or _first(document["settings"]["system"], directory),
        document["status"],
        energy.get("value"),
        energy.get("stderr"),
        document.get("energy_std_hartree"),
        {names[key]: value for key, value in kept.items()},
        {key: value for key, value in document.items() if key not in kept},
        document.get("message"),
        list(document.get("warnings") or ()),
        directory=directory,
    )


def _system(described: Mapping[str, Any]) -> System | None:
    """Return the system that `result.json` describes; None without nuclei."""
    if not described.get("symbols") or "positions" not in described:
        return None
    cell, (x, y, z) = described.get("cell"), described.get("pbc") or (False,) * 3
    return System(
        str(described.get("name")),
        tuple(described["symbols"]),
        np.array(described["positions"]) * conversions.BOHR_PER_ANGSTROM,
        int(described.get("charge", 0)),
        int(described.get("spin", 0)),
        cell=None if cell is None else np.array(cell) * conversions.BOHR_PER_ANGSTROM,
        pbc=(x, y, z),
        masses=described.get("masses_dalton"),
        fixed=described.get("fixed"),
    )


def _first(node: Mapping[str, Any], directory: Path) -> System:
    """Return the system of a run whose `result.json` has no nuclei: the first of many, or an electron gas.

    If the file of the structures is gone or has changed, it is the first one that the run has written.
    """
    if not structure_sets.stated(node):
        return system_input.read(node)
    try:
        return structure_sets.read(node).systems[0]
    except InputError:
        written = [directory / name for name in _SETS if (directory / name).is_file()]
        if not written:
            raise
        return structure_sets.read({"paths": str(written[0])}).systems[0]


def _row(label: str, cells: list[str]) -> str:
    """Row of a table in HTML; the last cell takes the remaining width, so that a sentence widens no column."""
    texts = [label, *cells] if any(cells) else [label]
    spans = [""] * (len(texts) - 1) + [f' colspan="{_COLUMNS - len(texts) + 1}"']
    style = "white-space:pre;text-align:left;padding:1px 8px"
    inner = "".join(f'<td{span} style="{style}">{_text(text)}</td>' for text, span in zip(texts, spans, strict=True))
    return f"<tr>{inner}</tr>"


def _text(text: str) -> str:
    return html.escape(streams.visible(units.converted(text)))


def _image(picture: Picture) -> str:
    data = base64.b64encode(picture._repr_png_()).decode()
    style = "display:block;max-width:620px"
    return f'<img style="{style}" alt="{_text(picture.path.name)}" src="data:image/png;base64,{data}">'

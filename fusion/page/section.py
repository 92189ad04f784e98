"""Section of one run: verdict, numbers, molecule, pictures, settings and provenance."""

from __future__ import annotations

import datetime
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, Final

from fusion.console import units
from fusion.console.format import duration
from fusion.errors import InputError
from fusion.page import structures
from fusion.page.drawing import quaternion, svg
from fusion.page.markup import Html, data, element, joined
from fusion.page.pictures import data_url
from fusion.page.structures import View
from fusion.runs import report, trust
from fusion.runs.collected import UNREADABLE, CollectedRun, inner_runs
from fusion.runs.layout import CONFIG, RESULT
from fusion.runs.task import Moving

_ALARMS: Final = {"ok": "good", "not_converged": "bad", "failed": "bad", "damaged": "bad"}
_VIEW_SHARE: Final = 0.5  # of the room of a section, for structures; pictures may have what remains
_LARGEST_VIEW: Final = 300_000
_FOLDERS: Final = re.compile(r"(?<![\w.:/])/(?:[\w.+@~-]+/)+")
"""Folders of an absolute path within a text."""
_BESIDE: Final = 86  # characters of a line that has room beside the molecule


@dataclass
class Room:
    """Bytes that remain for pictures and structures; what does not fit is counted."""

    bytes: int
    left_out: int = 0

    def take(self, size: int) -> bool:
        """Take `size` bytes if there are as many."""
        if size > self.bytes:
            self.left_out += 1
            return False
        self.bytes -= size
        return True


def section(
    run: CollectedRun, number: int, label: str, given: Sequence[str], room: int, shown_in: str | None = None
) -> Html:
    """Return the section of a run in about `room` bytes; `label` is its directory as the page names it, and `given`
    are the settings that differ from the defaults. `shown_in` are the units; None means those of the run.

    Raises InputError for links out of the directory, which a run of somebody else may have.
    """
    trust.refuse_links(run.directory)
    place = element("p", _badge(run.status), f" {' · '.join([label, *_model(run)])}", class_="place")
    lines = _lines(run, shown_in)
    head, origin, settings = [element("h2", _title(run)), place], _provenance(run, given), _settings(run)
    numbers = _numbers(lines)
    left = Room(room - sum(len(part.encode()) for part in (*head, numbers, origin, settings)))
    for_views = Room(int(_VIEW_SHARE * left.bytes))
    molecule = _molecule(_views(run, for_views), number)
    left.bytes -= len(molecule)
    figures = _figures(run.directory, left)
    if any(_form(row) == "fixed" and len(row[0]) > _BESIDE for row in lines):
        molecule, figures = Html(""), [molecule, *figures]
    pictures = element("div", *figures, class_="pictures") if figures else Html("")
    count = left.left_out + for_views.left_out
    note = (
        element("p", f"{count} pictures or trajectories do not fit on this page", class_="place") if count else Html("")
    )
    return element("section", *head, molecule, numbers, origin, pictures, note, settings, id=f"run{number}")


def damaged(run: CollectedRun, number: int, label: str, fault: InputError) -> Html:
    """Return the section of a run that cannot be shown, with the reason."""
    place = element("p", _badge("damaged"), f" {label}", class_="place")
    return element(
        "section", element("h2", label), place, element("p", _without_folders(str(fault))), id=f"run{number}"
    )


def _title(run: CollectedRun) -> str:
    """Title of the terminal report; for a run without a result, what its settings name."""
    if run.document:
        return _without_folders(" · ".join(report.title_parts(dict(run.document))))
    names = [run.settings.get(key) for key in ("method.name", "system.formula", "task.name")]
    return " · ".join(str(name) for name in names if name)


def _model(run: CollectedRun) -> list[str]:
    """Name and version of the model, if the run has one."""
    weights = run.document.get("weights") or {}
    return [f"{weights['name']}@{weights.get('version')}"] if weights.get("name") else []


def _badge(status: str) -> Html:
    return element(
        "span",
        status.replace("_", " ").upper() if status != "ok" else "ok",
        class_=f"badge {_ALARMS.get(status, 'open')}",
    )


def _lines(run: CollectedRun, shown_in: str | None) -> list[report.Row]:
    """Lines of the terminal report, without that of the files."""
    if run.status == UNREADABLE:
        return [("UNREADABLE", f"{RESULT} is damaged; without it, fusion resume writes it again", [], "bold red")]
    document = dict(run.document)
    shown = shown_in or report.units_of(document or None, run.directory)
    with report.reading(run.directory), units.using(shown):
        rows = report.summary_rows(document, run.directory) if document else report.unfinished_rows(run.directory)
        return [_sendable(row) for row in rows if row[0] != "files"]


def _sendable(row: report.Row) -> report.Row:
    """Return a line without the folders and the host of the machine, in the current units."""
    label, text, columns, style = row
    if label == "RUNNING":  # the process and its host come first
        text = text.partition("; ")[2]
    text, *columns = (_without_folders(units.converted(cell)) for cell in (text, *columns))
    return label, text, columns, style


def _without_folders(text: str) -> str:
    return _FOLDERS.sub("", text)


def _numbers(lines: Sequence[report.Row]) -> Html:
    """Tables and notes made of the lines of the terminal report, in their order."""
    blocks: list[Html] = []
    for form, group in itertools.groupby(lines, key=_form):
        rows = list(group)
        if form == "fixed":
            blocks.append(element("pre", "\n".join(label for label, *_ in rows), class_="fixed"))
        elif form == "notes":
            blocks.append(element("ul", *(element("li", text) for _, text, *_ in rows), class_="notes"))
        elif form == "table":
            blocks.append(element("table", *map(_line, rows), class_="summary"))
    return joined(blocks)


def _form(row: report.Row) -> str:
    """Form of a line: in a table of labels and values, a note, or of fixed width with columns of its own."""
    label, text, columns, _ = row
    if label and not text and not columns:
        return "fixed"
    return "table" if label or columns else "notes" if text else "space"


def _line(row: report.Row) -> Html:
    label, text, columns, style = row
    cells = [text, *(element("span", column, class_="remark") for column in columns)]
    alarm = "alarm" if "red" in style or "yellow" in style else None
    return element(
        "tr",
        element("th", label),
        element("td", *cells, class_="aligned" if "  " in text.strip() else None),
        class_=alarm,
    )


def _views(run: CollectedRun, room: Room) -> list[View]:
    """Structures of the run: its molecule or those of its parts, then trajectories and modes."""
    first = structures.molecule(run.document.get("system") or _settings_system(run))
    views = [first] if first else []
    if "comparison" in run.document:
        views = _compared(run) or views
    task = _task(run)
    for trajectory in task.trajectories(run.directory) if isinstance(task, Moving) else ():
        view = structures.view(trajectory, min(room.bytes, _LARGEST_VIEW))
        if view is not None and room.take(view.size):
            views.append(view)
    return views


def _settings_system(run: CollectedRun) -> dict[str, Any]:
    """System of an unfinished run from its settings, with positions in Angstrom."""
    from fusion.chemistry.units import ANGSTROM_PER_BOHR

    system = {key: run.settings.get(f"system.{key}") for key in ("name", "formula", "symbols", "positions", "unit")}
    scale = ANGSTROM_PER_BOHR if system["unit"] == "bohr" else 1.0
    with suppress(TypeError, ValueError):
        system["positions"] = [[scale * float(value) for value in row] for row in system["positions"] or []]
    return system


def _compared(run: CollectedRun) -> list[View]:
    """Molecules of a comparison in one view, each once."""
    found: dict[Any, structures.Frame] = {}
    for part in inner_runs(run):
        view = structures.molecule(part.document.get("system") or {}, "structures compared")
        if view is not None:
            frame = view.frames[0]
            found.setdefault((frame.symbols, frame.positions), frame)
    return [View("structures compared", tuple(found.values()))] if found else []


def _task(run: CollectedRun) -> Any:
    try:
        return report.task_of(run.directory)
    except InputError:
        return None


def _molecule(views: Sequence[View], number: int) -> Html:
    """Viewer with its data, and a drawing for where it does not run."""
    if not views:
        return Html("")
    name = f"structures{number}"
    drawing = svg(views[0].frames[0])
    left_out = sum(view.left_out for view in views)
    note = (
        [element("p", f"{left_out} frames of the trajectory are not on this page", class_="place")] if left_out else []
    )
    stage = element("div", drawing, class_="stage")
    return joined(
        [
            data(name, [view.plain() for view in views]),
            element(
                "figure", stage, *note, class_="molecule", data_views=name, data_turn=quaternion(views[0].frames[0])
            ),
        ]
    )


def _figures(directory: Path, room: Room) -> list[Html]:
    """Pictures of the run, drawn now if the run has none; what does not fit is left out."""
    files = sorted(directory.glob("*.png"))
    if not files:
        with suppress(InputError, OSError):  # another user's directory may not be written to
            report.redraw(directory)
            files = sorted(directory.glob("*.png"))
    shown = []
    for file in files:
        with suppress(ValueError):  # a damaged picture; the page has the numbers
            url = data_url(file, room.bytes)
            if url is None:
                room.left_out += 1
            elif room.take(len(url)):
                name = file.stem.replace("_", " ")
                image = element("img", src=url, alt=name)
                shown.append(element("figure", image, element("figcaption", name)))
    return shown


def _settings(run: CollectedRun) -> Html:
    """All settings, folded; paths of the machine are reduced to names of files."""
    rows = [
        element("tr", element("th", key), element("td", _value(value)))
        for key, value in run.settings.items()
        if not key.startswith(("method.about.", "hydra."))
    ]
    return element("details", element("summary", f"Settings ({len(rows)})"), element("table", *rows, class_="settings"))


def _value(value: Any) -> str:
    if isinstance(value, str) and PurePath(value).is_absolute():
        return PurePath(value).name
    if isinstance(value, list):
        return f"[{', '.join(_value(item) for item in value)}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {_value(item)}' for key, item in value.items())}}}"
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)


def _provenance(run: CollectedRun, given: Sequence[str]) -> Html:
    """Settings that were given, model with its digest, versions, seed, threads, time and date."""
    document: Mapping[str, Any] = run.document
    weights, timing = document.get("weights") or {}, document.get("timing") or {}
    versions = document.get("versions") or {}
    rows = {
        "settings": _without_folders("\n".join(given)),
        "model": ", sha256 ".join([*_model(run), str(weights.get("sha256"))]) if weights.get("name") else None,
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
        "seed": document.get("seed", run.settings.get("seed")),
        "threads": document.get("threads"),
        "wall time": duration(timing["wall_s"]) if isinstance(timing.get("wall_s"), int | float) else None,
        "date": _date(run.directory),
    }
    lines = [
        element("tr", element("th", name), element("td", str(value), class_="given" if name == "settings" else None))
        for name, value in rows.items()
        if value not in (None, "")
    ]
    return joined([element("h3", "Provenance"), element("table", *lines, class_="summary")])


def _date(directory: Path) -> str | None:
    """Day of the last change of the result, or of the settings of an unfinished run, in UTC."""
    for name in (RESULT, CONFIG):
        with suppress(OSError):
            changed = (directory / name).stat().st_mtime
            return datetime.datetime.fromtimestamp(changed, datetime.UTC).strftime("%Y-%m-%d")
    return None

"""Page of several runs: overview, a section for each, references, and the scripts that show molecules.

The page holds all that it needs. Its content security policy forbids every connection, and every script
except its own two, which it names by their digests.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import fusion
from fusion.citations.used import Citations
from fusion.console.format import count
from fusion.errors import InputError
from fusion.page.markup import Html, element
from fusion.page.section import damaged, section
from fusion.runs.collected import CollectedRun

LARGEST: Final = 3_000_000
"""Largest size of a page in bytes."""
_RESERVE: Final = 20_000  # for what is not counted
_ASSETS: Final = Path(__file__).parent / "assets"
_VIEWER: Final = ("3Dmol-LICENSE.txt", "3Dmol-min.js")

Overview = tuple[Sequence[str], Sequence[Sequence[str]]]
"""Header and rows of a table, one row per run."""


def page(
    runs: Sequence[CollectedRun],
    overview: Overview,
    citations: Citations,
    given: Sequence[Sequence[str]],
    shown_in: str | None = None,
) -> str:
    """Return the page as HTML of at most `LARGEST` bytes; runs that do not fit are in the overview alone.

    `given` are the settings of each run that differ from the defaults, as words of a command; `shown_in` are the units,
    None means those of each run. A damaged run among others has its fault in place of its section. Raises InputError if
    it is the only one.
    """
    labels = _labels(runs)
    scripts = [_viewer(), _asset("page.js")]
    frame = [_overview(overview, labels) if len(runs) > 1 else Html(""), _references(citations)]
    room = LARGEST - _RESERVE - sum(len(part.encode()) for part in (*scripts, _asset("page.css"), *frame))
    sections: list[Html] = []
    for index, (run, label, words) in enumerate(zip(runs, labels, given, strict=True)):
        try:
            made = section(run, index + 1, label, words, room // (len(runs) - index), shown_in)
        except InputError as error:
            if len(runs) == 1:
                raise
            made = damaged(run, index + 1, label, error)
        if len(made.encode()) <= room:
            room -= len(made.encode())
            sections.append(made)
    left_out = len(runs) - len(sections)
    note = (
        [element("p", f"{count(left_out, 'run')} did not fit here and can be found in the table alone.")]
        if left_out
        else []
    )
    title = labels[0] if len(runs) == 1 else count(len(runs), "run")
    body = [element("header", element("h1", f"fusion report: {title}")), frame[0], *note, *sections, frame[1]]
    return _document(title, body, scripts)


def _document(title: str, body: Sequence[str], scripts: Sequence[str]) -> str:
    digests = " ".join(f"'sha256-{_digest(script)}'" for script in scripts)
    policy = f"default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src {digests}"
    head = [
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="generator", content=f"fusion {fusion.__version__}"),
        element("title", f"fusion report: {title}"),
        element("style", Html(_asset("page.css"))),
    ]
    ends = [element("script", Html(script)) for script in scripts]
    parts = [element("head", *head), element("body", element("main", *body), *ends)]
    return f"<!DOCTYPE html>\n{element('html', *parts, lang='en')}\n"


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _viewer() -> str:
    """3Dmol.js below its licence, as a script that cannot end its element."""
    licence, script = (_asset(name) for name in _VIEWER)
    return f"/*!\n{licence}\n*/\n{script}".replace("</script", "<\\/script").replace("\r", "")


def _asset(name: str) -> str:
    return (_ASSETS / name).read_text(encoding="utf-8")


def _labels(runs: Sequence[CollectedRun]) -> list[str]:
    """Directories of the runs, relative to the one that holds them all; the path of one run is its name alone."""
    directories = [run.directory.resolve() for run in runs]
    if len(runs) == 1:
        return [directories[0].name]
    home = Path(os.path.commonpath(directories))
    return [
        f"{home.name}/{directory.relative_to(home)}" if directory != home else home.name for directory in directories
    ]


def _overview(overview: Overview, labels: Sequence[str]) -> Html:
    """Table of all runs with links to their sections."""
    header, body = overview
    lines = [element("tr", element("th", "run"), *(element("th", name.replace("_", " ")) for name in header))]
    for number, (label, cells) in enumerate(zip(labels, body, strict=True), start=1):
        link = element("td", element("a", label, href=f"#run{number}"))
        lines.append(element("tr", link, *(element("td", cell) for cell in cells)))
    return element("div", element("table", *lines, class_="overview"), class_="wide")


def _references(citations: Citations) -> Html:
    remarks = [element("p", remark, class_="place") for remark in citations.remarks]
    text = "\n".join(entry.text() for entry in citations.entries)
    summary = element("summary", f"BibTeX ({count(len(citations.entries), 'entry').replace('entrys', 'entries')})")
    listed = element("ol", *(element("li", *_reference(dict(entry.fields))) for entry in citations.entries))
    folded = element("details", summary, element("pre", text, class_="fixed"))
    return element("section", element("h2", "References"), *remarks, listed, folded, id="references")


def _reference(fields: dict[str, str]) -> list[str]:
    """Parts of a line with authors, title, journal and a link."""
    from fusion.citations.bibtex import plain

    names = [_name(plain(name)) for name in fields.get("author", "").split(" and ") if name]
    shown = [name for name in names[:3] if name != "others"]
    authors = ", ".join(shown) + (" et al." if len(names) > len(shown) else "")
    where = ", ".join(plain(fields[key]) for key in ("journal", "booktitle", "volume", "pages") if fields.get(key))
    year = f"({fields['year']})" if fields.get("year") else ""
    details = (plain(fields.get("title", "")), " ".join(filter(None, (where, year))), plain(fields.get("note", "")))
    text = f"{authors}: {'. '.join(filter(None, details))}." if authors else f"{'. '.join(filter(None, details))}."
    doi, arxiv = fields.get("doi"), fields.get("eprint")
    address = f"https://doi.org/{doi}" if doi else f"https://arxiv.org/abs/{arxiv}" if arxiv else ""
    link = [" ", element("a", doi or f"arXiv:{arxiv}", href=address, rel="noreferrer")] if address else []
    return [text, *link]


def _name(text: str) -> str:
    """`J. S. Smith` for `Smith, J. S.`; other names are unchanged."""
    return " ".join(reversed([part.strip() for part in text.split(",")]))

"""`fusion report RUN_DIR`, and its page: `fusion report RUN_DIR... --html FILE`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fusion.console.format import count
from fusion.errors import InputError
from fusion.files.atomic import write_atomically

if TYPE_CHECKING:
    from fusion.runs.collected import CollectedRun


def report(places: Sequence[Path], html: Path | None, shown_in: str | None = None) -> None:
    """Print the result of a run, or write a page on the runs in `places` to the file `html`.

    `shown_in` are the units; None means those of each run.
    Raises InputError if there are no runs, for several runs without `html`, and if the file cannot be written.
    """
    from fusion.runs import report as terminal

    if html is not None:
        _write(places, html, shown_in)
    elif len(places) == 1:
        terminal.report(places[0], shown_in)
    else:
        raise InputError(
            f"fusion report shows one run, not {len(places)}; --html FILE writes a page on all of them, "
            "and fusion table tabulates them"
        )


def _write(places: Sequence[Path], html: Path, shown_in: str | None) -> None:
    from fusion.citations.used import of_runs
    from fusion.cli.table import overview
    from fusion.page.document import page
    from fusion.runs.collected import collect_some

    if html.is_dir():
        raise InputError(f"--html {html} is a directory; name a file in it, {html / 'report.html'}")
    runs = collect_some(places)
    text = page(runs, overview(runs, shown_in), of_runs(runs), [_given(run) for run in runs], shown_in)
    try:
        write_atomically(html, text)
    except OSError as error:
        raise InputError(f"--html {html} cannot be written: {error.strerror}") from error
    print(f"{html}   {count(len(runs), 'run')}, {len(text.encode()) / 1e6:.1f} MB")


def _given(run: CollectedRun) -> list[str]:
    """Words of a command that differ from the defaults; none if they cannot be told, as for a method that is missing.

    Settings of a structure that fusion does not know by name are left out: the page shows it.
    """
    from omegaconf import OmegaConf

    from fusion.cli.repeated_command import given_words
    from fusion.runs import trust

    try:
        config = OmegaConf.create(dict(run.document["settings"]))
        trust.refuse_interpolations(config)
        return [word for word in given_words(config) if not word.startswith("system.")]
    except Exception:  # the settings may be those of another version, or not settings at all
        return []

"""Checks of a contract, one after another, and what each of them finds."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

OK: Final = "ok"
FAILS: Final = "FAILS"
NOTE: Final = "note"
SKIPPED: Final = "skipped"


@dataclass(frozen=True)
class Finding:
    """Outcome of one check: its title, one of `OK`, `FAILS`, `NOTE`, `SKIPPED`, and a sentence."""

    title: str
    verdict: str
    text: str


class Broken(Exception):
    """The contract is broken, as the text says; `why` is the exception behind it."""


class Inapplicable(Exception):
    """The check does not apply to this model, for the reason in the text."""


class Noted(str):
    """Text of a check that neither passes nor fails: information for the author."""


@dataclass(frozen=True)
class Check:
    """Check `run(subject)`, which returns a sentence or raises `Broken`; without an `essential` one nothing follows."""

    title: str
    run: Callable[[Any], str]
    essential: bool = False


def findings(checks: Sequence[Check], subject: Any, package: Path | None) -> Iterator[Finding]:
    """Run `checks` on `subject`; exceptions of code in the directory `package` are reported with their line."""
    for number, check in enumerate(checks):
        finding = _finding(check, subject, package)
        yield finding
        if finding.verdict == FAILS and check.essential:
            remaining = len(checks) - number - 1
            if remaining:
                yield Finding(f"{remaining} more checks", SKIPPED, f"they need: {check.title}")
            return


def _finding(check: Check, subject: Any, package: Path | None) -> Finding:
    try:
        text = check.run(subject)
    except Inapplicable as reason:
        return Finding(check.title, SKIPPED, str(reason))
    except Broken as fault:
        cause = fault.__cause__
        return Finding(check.title, FAILS, str(fault) + (place(cause, package) if cause else ""))
    except Exception as error:  # code of others raises anything
        return Finding(check.title, FAILS, f"{described(error)}{place(error, package)}")
    return Finding(check.title, NOTE if isinstance(text, Noted) else OK, text)


def described(error: BaseException) -> str:
    """Type and first line of an exception; the message alone for fusion's own errors."""
    from fusion.errors import CalculationError, InputError

    first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    if isinstance(error, (InputError, CalculationError)):
        return first
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def place(error: BaseException, package: Path | None) -> str:
    """Last line of the package's own code on the way to the exception, ` (model.py, line 12, in forward)`."""
    if package is None:
        return ""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _below(frame.filename, package)]
    if not frames:
        return ""
    last = frames[-1]
    return f" ({Path(last.filename).relative_to(package)}, line {last.lineno}, in {last.name})"


def _below(file: str, package: Path) -> bool:
    return Path(file).is_relative_to(package)

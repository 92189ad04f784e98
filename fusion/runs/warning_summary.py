"""Summary of the warnings of all results of a run: one sentence of each kind with its number of occurrences."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, ParamSpec

if TYPE_CHECKING:
    from fusion.runs.results import Result

_NUMBER = re.compile(r"[-+]?\d[\d.]*(e[-+]?\d+)?")
_P = ParamSpec("_P")


class WarningSummary:
    """Counts of results and of their warnings; sentences that differ only in numbers are of the same kind."""

    def __init__(self) -> None:
        self._results: dict[str, int] = {}
        self._kinds: dict[tuple[str, str], tuple[str, int]] = {}

    def add(self, results: Sequence[Result]) -> None:
        """Count results and their warnings."""
        for result in results:
            system = result.system.formula
            self._results[system] = self._results.get(system, 0) + 1
            for text in dict.fromkeys(result.warnings):
                key = system, kind(text)
                self._kinds[key] = text, self._kinds.get(key, ("", 0))[1] + 1

    def sentences(self) -> list[str]:
        """Return the last sentence of each kind, with the system where there are several and the number of results."""
        sentences = []
        for (system, _), (text, times) in self._kinds.items():
            share = f" (at {times} of {self._results[system]} geometries)" if self._results[system] > 1 else ""
            sentences.append((f"{system}: " if len(self._results) > 1 else "") + text + share)
        return sentences


_CURRENT: ContextVar[WarningSummary | None] = ContextVar("warnings", default=None)


@contextmanager
def collected() -> Iterator[WarningSummary]:
    """Collect the warnings of all results that are calculated while the block runs."""
    summary = WarningSummary()
    token = _CURRENT.set(summary)
    try:
        yield summary
    finally:
        _CURRENT.reset(token)


def counted(calculate: Callable[_P, list[Result]]) -> Callable[_P, list[Result]]:
    """Decorate a function so that its results are counted, once where one such function calls another."""

    @functools.wraps(calculate)
    def wrapper(*args: _P.args, **kwargs: _P.kwargs) -> list[Result]:
        summary = _CURRENT.get()
        if summary is None:
            return calculate(*args, **kwargs)
        token = _CURRENT.set(None)
        try:
            results = calculate(*args, **kwargs)
        finally:
            _CURRENT.reset(token)
        summary.add(results)
        return results

    return wrapper


def kind(text: str) -> str:
    """Return a warning without its numbers."""
    return _NUMBER.sub("#", text)

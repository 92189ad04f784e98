"""Progress of the SCF, reported to a callback."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from fusion.console import phases
from fusion.methods.abilities import Watcher


class Watched:
    """Method whose SCF reports its cycles (`abilities.Reporting`); without a watcher, the current phase shows them.

    It depends on its settings and its last density only (`abilities.Separable`).
    """

    reports = separable = True
    _watcher: Watcher = staticmethod(phases.detail)

    @contextmanager
    def watched(self, watcher: Watcher) -> Iterator[None]:
        """Call `watcher` after each cycle inside the block."""
        self._watcher = watcher
        try:
            yield
        finally:
            del self._watcher


class Progress:
    """Report an SCF to a watcher: cycles of the starting density, integrals, cycles, and the grid within a cycle."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher, self._cycles, self._start, self._text = watcher, 0, 0, ""

    def after_start(self, name: str) -> Callable[[dict[str, Any]], None]:
        """Return the `callback` of the calculation of the starting density with the functional `name`."""

        def tell(envs: dict[str, Any]) -> None:
            self._start += 1
            self._text = f"{name} start, cycle {self._start}"
            self._watcher(0, f"{self._text}  E = {envs['e_tot']:.6f} Ha")

        return tell

    def after_cycle(self, envs: dict[str, Any]) -> None:
        """Act as the `callback` of the SCF itself."""
        self._cycles += 1
        self._text = _described(envs)
        self._watcher(self._cycles, self._text)

    def on_grid(self, done: int, total: int) -> None:
        """Report the finished blocks of the grid in a cycle; the first cycle mostly computes integrals."""
        label = "grid" if self._cycles else "integrals on the grid"
        share = f"{label} {100 * done // total} %"
        self._watcher(self._cycles, f"{self._text}  {share}" if self._text else share)


def after_cycle(watcher: Watcher) -> Callable[[dict[str, Any]], None]:
    """Return a `callback` for PySCF that calls `watcher` with energy, its change and the orbital gradient."""
    return Progress(watcher).after_cycle


def _described(envs: dict[str, Any]) -> str:
    change = envs["e_tot"] - envs["last_hf_e"]
    return f"E = {envs['e_tot']:.6f} Ha  change {change:+.1e}  gradient {envs['norm_gorb']:.1e}"

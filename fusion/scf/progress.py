"""Methods that tell somebody how their SCF gets on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from fusion.console import phases

Watcher = Callable[[int, str], None]
"""Called with the number of cycles and a text after each cycle."""


class Watched:
    """A method of which every SCF can be watched; without a watcher, the phase in progress shows the cycles."""

    _watcher: Watcher = staticmethod(phases.detail)

    @contextmanager
    def watched(self, watcher: Watcher) -> Iterator[None]:
        """Call `watcher` after each cycle, as long as the block runs."""
        self._watcher = watcher
        try:
            yield
        finally:
            del self._watcher


class Progress:
    """Tells a watcher how an SCF gets on: cycles of the start, integrals, cycles and the grid within a cycle."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher, self._cycles, self._start, self._text = watcher, 0, 0, ""

    def after_start(self, name: str) -> Callable[[dict[str, Any]], None]:
        """The `callback` of the calculation with the functional `name` whose density the SCF starts from."""

        def tell(envs: dict[str, Any]) -> None:
            self._start += 1
            self._text = f"{name} start, cycle {self._start}"
            self._watcher(0, f"{self._text}  E = {envs['e_tot']:.6f} Ha")

        return tell

    def after_cycle(self, envs: dict[str, Any]) -> None:
        """The `callback` of the SCF itself."""
        self._cycles += 1
        self._text = _described(envs)
        self._watcher(self._cycles, self._text)

    def on_grid(self, done: int, total: int) -> None:
        """Say how many of the blocks of the grid are done in a cycle; in the first, most of it is integrals."""
        what = "grid" if self._cycles else "integrals on the grid"
        share = f"{what} {100 * done // total} %"
        self._watcher(self._cycles, f"{self._text}  {share}" if self._text else share)


def after_cycle(watcher: Watcher) -> Callable[[dict[str, Any]], None]:
    """The `callback` of a PySCF object that calls `watcher` with energy, its change and the orbital gradient."""
    return Progress(watcher).after_cycle


def _described(envs: dict[str, Any]) -> str:
    change = envs["e_tot"] - envs["last_hf_e"]
    return f"E = {envs['e_tot']:.6f} Ha  change {change:+.1e}  gradient {envs['norm_gorb']:.1e}"

"""Methods that tell somebody how their SCF gets on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Watcher = Callable[[int, str], None]
"""Called with the number of cycles and a text after each cycle."""


class Watched:
    """A method of which every SCF can be watched."""

    _watcher: Watcher | None = None

    @contextmanager
    def watched(self, watcher: Watcher) -> Iterator[None]:
        """Call `watcher` after each cycle, as long as the block runs."""
        self._watcher = watcher
        try:
            yield
        finally:
            self._watcher = None


def after_cycle(watcher: Watcher | None) -> Callable[[dict[str, Any]], None] | None:
    """The `callback` of a PySCF object that calls `watcher` with energy, its change and the orbital gradient."""
    if watcher is None:
        return None
    cycles = 0

    def tell(envs: dict[str, Any]) -> None:
        nonlocal cycles
        cycles += 1
        change = envs["e_tot"] - envs["last_hf_e"]
        watcher(cycles, f"E = {envs['e_tot']:.6f} Ha  change {change:+.1e}  gradient {envs['norm_gorb']:.1e}")

    return tell

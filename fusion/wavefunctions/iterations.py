"""Batches of Lightning's loop: numbers of iterations, until all phases of a Monte Carlo run are done."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fusion.wavefunctions.vmc import VariationalMonteCarlo


class Iterations:
    """Count iterations until no phase has any left; without a length, so that a resumed run starts where it stopped.

    Lightning asks for the next one before it does the last one, which may tell that more are needed.
    """

    def __init__(self, module: VariationalMonteCarlo) -> None:
        self.module = module

    def __iter__(self) -> Iterator[int]:
        module = self.module
        number, before = 0, sum(module.done.values())
        ahead = 0 if module.schedule.evaluation_stderr is None else 1
        while number < sum(module.done.values()) - before + sum(map(module.left, module.phases)) + ahead:
            yield number
            number += 1

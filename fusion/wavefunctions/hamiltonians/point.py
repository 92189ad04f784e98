"""Walkers of one measurement, with the quantities that several terms of the Hamiltonian and estimators need."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor, nn

from fusion.errors import CalculationError
from fusion.wavefunctions.ansatz import laplacian
from fusion.wavefunctions.jets import LogPsi

FORWARDS = 4
"""Chunks of the Laplacian that one chunk of plain forwards may have: a forward needs less memory."""


class Point:
    """Wavefunction at electrons (B, N, 3); derived quantities are computed when first used, and once.

    Args:
        ansatz: the wavefunction.
        electrons: walkers of this rank, bohr.
        chunk: walkers whose Laplacian is computed at a time.
        stream: random stream of this rank, for terms that draw random numbers.
    """

    def __init__(self, ansatz: nn.Module, electrons: Tensor, chunk: int, stream: torch.Generator | None = None) -> None:
        self.ansatz, self.electrons, self.chunk = ansatz, electrons, chunk
        self._stream = stream

    @cached_property
    def psi(self) -> LogPsi:
        """Sign, log|psi|, gradient (B, 3N) and Laplacian (B,) of log|psi|."""
        return laplacian(self.ansatz, self.electrons, self.chunk)

    @cached_property
    def signs_and_logs(self) -> tuple[Tensor, Tensor]:
        """Sign of psi and log|psi|, each (B,); from `psi` if that has been computed."""
        if "psi" in self.__dict__:
            return self.psi.sign, self.psi.log
        return self.forward(self.electrons)

    @property
    def stream(self) -> torch.Generator:
        """The random stream; raises CalculationError without one."""
        if self._stream is None:
            raise CalculationError("a term of the Hamiltonian draws random numbers: pass a random stream")
        return self._stream

    @torch.no_grad()
    def forward(self, electrons: Tensor) -> tuple[Tensor, Tensor]:
        """Sign and log|psi|, each (n,), of any electrons (n, N, 3), in chunks."""
        parts = [self.ansatz(part) for part in electrons.split(FORWARDS * self.chunk)]
        if not parts:
            return electrons.new_empty(0), electrons.new_empty(0)
        sign, log = (torch.cat(columns) for columns in zip(*parts, strict=True))
        return sign, log

    def ratios(self, walkers: Tensor, electrons: Tensor) -> Tensor:
        """psi(electrons) / psi(walker) with its sign, (n,), float64.

        ``walkers`` (n,) are the indices of the walkers that ``electrons`` (n, N, 3) are compared with.
        """
        sign, log = self.signs_and_logs
        other_sign, other_log = self.forward(electrons)
        return (sign[walkers] * other_sign).double() * torch.exp(other_log.double() - log[walkers].double())

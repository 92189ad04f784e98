"""Pair densities: distributions of the distance between two electrons, `pair_density.csv`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fusion.chemistry.system import System
from fusion.config.checks import check_number
from fusion.errors import InputError
from fusion.parallel.collectives import gather_rows
from fusion.runs.layout import PAIR_DENSITY
from fusion.wavefunctions.estimators.protocol import Estimates, check_same, with_stderr
from fusion.wavefunctions.hamiltonians import LocalEnergy, Point
from fusion.wavefunctions.periodic.cell import cell_of
from fusion.wavefunctions.running_blocks import RunningBlocks

SPINS = ("parallel", "antiparallel")

_KEY = "method.evaluation.estimators.pair_density"
_BEYOND_NUCLEI = 8.0  # bohr
_MOST_BINS = 10_000


class PairDensity(nn.Module):
    """Spherically averaged intracule h(u) = <sum_{i<j} delta(u - r_ij)>, bohr^-3, for pairs of equal and opposite spin.

    The integral of 4 pi u^2 h(u) is the number of pairs (Coulson & Neilson 1961, Proc. Phys. Soc. 78, 831). An exact
    wavefunction has h(0) = 0 for parallel spins and h'(0) = h(0) for antiparallel spins (Thakkar & Smith 1977,
    Chem. Phys. Lett. 42, 476). A value of the table is the mean over the shell of one bin.

    In a periodic cell of volume V, distances are those to the nearest image, and g(u) = V h(u) / pairs is the pair
    correlation function.

    Args:
        system: nuclei and electrons.
        width: width of a bin, bohr.
        reach: largest distance, bohr, rounded up to a whole bin; None: the largest distance of two nuclei plus 8 bohr,
            or in a cell, half the smallest distance of opposite faces, which it may not exceed.

    Raises:
        InputError: a setting is out of range.
    """

    name, every = "pair_density", 1
    measures: tuple[str, ...] = ()

    def __init__(self, system: System, width: float = 0.1, reach: float | None = None) -> None:
        super().__init__()
        check_number(f"{_KEY}.width", width, positive=True)
        self.cell = cell_of(system)
        if self.cell is not None:
            reach = self.cell.radius if reach is None else reach
            if isinstance(reach, int | float) and reach > self.cell.radius * (1 + 1e-9):
                raise InputError(f"{_KEY}.reach={reach:g} must be at most {self.cell.radius:g} bohr, half of the cell")
        elif reach is None:
            vectors = system.positions[:, None] - system.positions
            reach = float(np.linalg.norm(vectors, axis=-1).max()) + _BEYOND_NUCLEI
        check_number(f"{_KEY}.reach", reach, positive=True)
        if reach / width > _MOST_BINS:
            raise InputError(f"{_KEY}.width={width} gives more than {_MOST_BINS:,} bins up to {reach:g} bohr")
        self.width, self.bins = float(width), math.ceil(reach / width - 1e-9)
        first, second = np.triu_indices(system.n_electrons, 1)
        same = (first < system.n_up) == (second < system.n_up)
        self.pairs = [(first[kind], second[kind]) for kind in (same, ~same)]
        self.histograms = RunningBlocks(2, self.bins + 1)

    def forward(self, point: Point, local: LocalEnergy) -> Mapping[str, Tensor]:
        """Add the mean histograms of the distances of both kinds of pairs; the last bin is for larger distances."""
        electrons = gather_rows(point.electrons)[torch.isfinite(gather_rows(local.total))].double()
        if len(electrons):
            self.histograms.add(torch.stack([self._histogram(electrons, *pairs) for pairs in self.pairs]))
        return {}

    def finish(self, series: Mapping[str, np.ndarray]) -> Estimates:
        """Table of both pair densities, and the share of pairs beyond its reach."""
        if not int(self.histograms.number):
            return Estimates()
        number, error = self.histograms.estimate()
        edges = self.width * np.arange(self.bins + 1)
        shells = 4 / 3 * np.pi * np.diff(edges**3)
        table = [(edges[1:] + edges[:-1]) / 2]
        details: dict[str, Any] = {"width_bohr": self.width, "reach_bohr": self.width * self.bins}
        for kind, (first, _), mean, stderr in zip(SPINS, self.pairs, number, error, strict=True):
            table += [mean[:-1] / shells, stderr[:-1] / shells]
            details[f"{kind}_pairs"] = len(first)
            if len(first):
                details[f"{kind}_share_beyond"] = with_stderr(mean[-1] / len(first), stderr[-1] / len(first))
        return Estimates(details={"pair_density": details}, files={PAIR_DENSITY: _csv(table)})

    def get_extra_state(self) -> dict[str, float]:
        """Return the settings that the histograms belong to."""
        return {"width": self.width, "reach": self.width * self.bins}

    def set_extra_state(self, state: Any) -> None:
        """Raise InputError if the histograms of a checkpoint have other bins."""
        check_same(_KEY, state, self.get_extra_state())

    def _histogram(self, electrons: Tensor, first: np.ndarray, second: np.ndarray) -> Tensor:
        """Mean number of pairs per walker in each bin, (bins + 1,), of electrons (B, N, 3)."""
        vectors = electrons[:, first] - electrons[:, second]
        vectors = vectors if self.cell is None else self.cell.nearest(vectors)
        distances = torch.linalg.vector_norm(vectors, dim=-1).flatten()
        bins = (distances / self.width).clamp(max=self.bins).long()
        return torch.bincount(bins, minlength=self.bins + 1).double() / len(electrons)


def _csv(table: list[np.ndarray]) -> bytes:
    names = [f"h_{kind}{error}_per_bohr3" for kind in SPINS for error in ("", "_stderr")]
    rows = (",".join(f"{value:.8g}" if np.isfinite(value) else "" for value in row) for row in np.stack(table, axis=1))
    return "\n".join((",".join(("u_bohr", *names)), *rows, "")).encode()

"""Inputs of neural wavefunctions: vectors and distances between electrons and nuclei, with forward Laplacian."""

from __future__ import annotations

import torch
from torch import Tensor

from fusion.chemistry.system import System
from fusion.wavefunctions.jets import Jet, dense
from fusion.wavefunctions.jets.radial import Plain, Radial


def nuclear_vectors(electrons: Tensor, nuclei: Tensor) -> tuple[Tensor, Tensor]:
    """Vectors (B, N, M, 3) from every nucleus to every electron and their norms (B, N, M).

    ``nuclei`` are (M, 3), or (B, 1, M, 3) with other places for every walker.
    """
    vector = electrons.unsqueeze(2) - nuclei
    return vector, torch.linalg.vector_norm(vector, dim=-1)


def sites(system: System) -> Tensor:
    """Places (M, 3) that the one-electron inputs start from, bohr: the nuclei, or the origin of an electron gas."""
    places = torch.zeros(1, 3) if system.is_electron_gas else torch.tensor(system.positions)
    return places.to(torch.get_default_dtype())


def core_lengths(system: System) -> Tensor | None:
    """Lengths h (M,) of softened distances sqrt(r^2 + h^2), bohr: ranges of the core potentials, zero for bare nuclei.

    A wavefunction of distances has a kink at every nucleus, which is exact for a bare one but not for a core potential.
    None without core potentials.
    """
    if not system.cores:
        return None
    lengths = {core.symbol: core.radius for core in system.cores}
    return torch.tensor([lengths.get(symbol, 0.0) for symbol in system.symbols], dtype=torch.get_default_dtype())


class ElectronFeatures:
    """One- and two-electron inputs (Pfau et al. 2020, eq. 5).

    One-electron: (|r_i - R_A|, r_i - R_A) for all nuclei, (B, N, 4M). Two-electron: (|r_j - r_i|, r_j - r_i) at [i, j],
    (B, N, N, 4), zero with zero derivative on the diagonal. `nuclear` and `electronic` may replace these functions of
    the vectors, by others with another number of features.
    """

    def __init__(self, nuclear: Radial | None = None, electronic: Radial | None = None) -> None:
        self.nuclear, self.electronic = nuclear or Plain(), electronic or Plain()

    def widths(self, system: System) -> tuple[int, int]:
        """Numbers of one- and two-electron inputs."""
        return self.nuclear.width * len(sites(system)), self.electronic.width

    def _pairs(self, electrons: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        n = electrons.shape[1]
        eye = torch.eye(n, dtype=electrons.dtype, device=electrons.device)
        vector = electrons.unsqueeze(1) - electrons.unsqueeze(2)
        # Ones on the diagonal keep the norm and its derivative finite there; the mask removes them again.
        return vector, torch.linalg.vector_norm(vector + eye.unsqueeze(-1), dim=-1), 1 - eye

    def one_electron(self, vector: Tensor, distance: Tensor) -> Tensor:
        """One-electron inputs (B, N, 4M) from the vectors and distances of ``nuclear_vectors``."""
        return self.nuclear.values(vector, distance).flatten(2)

    def two_electron(self, electrons: Tensor) -> Tensor:
        """Two-electron inputs (B, N, N, 4)."""
        vector, distance, mask = self._pairs(electrons)
        return self.electronic.values(vector, distance) * mask.unsqueeze(-1)

    def one_electron_local(self, vector: Tensor, distance: Tensor) -> Tensor:
        """One-electron inputs (B, 5, N, 4M): derivatives with respect to the own electron, Laplacian, value."""
        batch, n, _ = distance.shape
        return self.nuclear.jet(vector, distance).permute(0, 3, 1, 2, 4).reshape(batch, 5, n, -1)

    def one_electron_jet(self, vector: Tensor, distance: Tensor) -> Jet:
        """Jet (B, 3N + 2, N, 4M) of the one-electron inputs, block diagonal in the electrons."""
        return dense(self.one_electron_local(vector, distance))

    def two_electron_jet(self, electrons: Tensor) -> Tensor:
        """Jet (B, N, 5, N, 4) at [i, :, j]: derivatives and Laplacian with respect to r_j - r_i, then the value.

        A function of r_j - r_i has the derivative of opposite sign with respect to r_i, and the same Laplacian.
        """
        vector, distance, mask = self._pairs(electrons)
        local = self.electronic.jet(vector, distance) * mask[..., None, None]
        return local.transpose(2, 3)

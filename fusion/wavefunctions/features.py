"""Inputs of neural wavefunctions: vectors and distances between electrons and nuclei, with forward Laplacian."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fusion.chemistry.system import System
from fusion.wavefunctions.laplacian import Jet, radial


def nuclear_vectors(electrons: Tensor, nuclei: Tensor) -> tuple[Tensor, Tensor]:
    """Vectors (B, N, M, 3) from every nucleus to every electron and their norms (B, N, M)."""
    vector = electrons.unsqueeze(2) - nuclei
    return vector, torch.linalg.vector_norm(vector, dim=-1)


def core_lengths(system: System) -> Tensor | None:
    """Lengths h (M,) of softened distances sqrt(r^2 + h^2), bohr: ranges of the core potentials, zero for bare nuclei.

    A wavefunction of distances has a kink at every nucleus, which is exact for a bare one but not for a core potential.
    None without core potentials.
    """
    if not system.cores:
        return None
    lengths = {core.symbol: core.radius for core in system.cores}
    return torch.tensor([lengths.get(symbol, 0.0) for symbol in system.symbols], dtype=torch.get_default_dtype())


def softened(distance: Tensor, lengths: Tensor | None) -> Tensor:
    """sqrt(r^2 + h^2) of distances (..., M); the distances themselves without lengths."""
    return distance if lengths is None else torch.sqrt(distance.square() + lengths.square())


class ElectronFeatures(nn.Module):
    """One- and two-electron inputs (Pfau et al. 2020, eq. 5; rescaled as in von Glehn et al. 2023, section 4.1).

    One-electron: (|r_i - R_A|, r_i - R_A) for all nuclei, (B, N, 4M). Two-electron: (|r_j - r_i|, r_j - r_i) at [i, j],
    (B, N, N, 4), zero with zero derivative on the diagonal.

    Args:
        rescale: |x| -> log(1 + |x|), for large molecules.
        lengths: `core_lengths` of the system.
    """

    lengths: Tensor | None

    def __init__(self, rescale: bool = False, lengths: Tensor | None = None) -> None:
        super().__init__()
        self.rescale = rescale
        self.register_buffer("lengths", lengths, persistent=False)

    def _pairs(self, electrons: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        n = electrons.shape[1]
        eye = torch.eye(n, dtype=electrons.dtype, device=electrons.device)
        vector = electrons.unsqueeze(1) - electrons.unsqueeze(2)
        # Ones on the diagonal keep the norm and its derivative finite there; the mask removes them again.
        return vector, torch.linalg.vector_norm(vector + eye.unsqueeze(-1), dim=-1), 1 - eye

    def one_electron(self, vector: Tensor, distance: Tensor) -> Tensor:
        """One-electron inputs (B, N, 4M) from the vectors and distances of ``nuclear_vectors``."""
        return self._scaled(vector, softened(distance, self.lengths)).flatten(2)

    def two_electron(self, electrons: Tensor) -> Tensor:
        """Two-electron inputs (B, N, N, 4)."""
        vector, distance, mask = self._pairs(electrons)
        return self._scaled(vector, distance) * mask.unsqueeze(-1)

    def one_electron_jet(self, vector: Tensor, distance: Tensor) -> Jet:
        """Jet (B, 3N + 2, N, 4M) of the one-electron inputs, block diagonal in the electrons."""
        batch, n, m = distance.shape
        local = radial(vector, softened(distance, self.lengths), self.rescale, self.lengths)  # (B, N, M, 5, 4)
        local = local.permute(0, 3, 1, 2, 4).reshape(batch, 5, n, 4 * m)
        data = local.new_zeros(batch, 3 * n + 2, n, 4 * m)
        own = data[:, :-2].view(batch, n, 3, n, 4 * m).diagonal(dim1=1, dim2=3)  # (B, 3, 4M, N)
        own.copy_(local[:, :3].transpose(-1, -2))
        data[:, -2:] = local[:, 3:]
        return Jet(data)

    def two_electron_jet(self, electrons: Tensor) -> Tensor:
        """Jet (B, N, 5, N, 4) at [i, :, j]: derivatives and Laplacian with respect to r_j - r_i, then the value.

        A function of r_j - r_i has the derivative of opposite sign with respect to r_i, and the same Laplacian.
        """
        vector, distance, mask = self._pairs(electrons)
        local = radial(vector, distance, self.rescale) * mask[..., None, None]
        return local.transpose(2, 3)

    def _scaled(self, vector: Tensor, distance: Tensor) -> Tensor:
        r = distance.unsqueeze(-1)
        if not self.rescale:
            return torch.cat((r, vector), dim=-1)
        log = torch.log1p(r)
        return torch.cat((log, vector * (log / r)), dim=-1)

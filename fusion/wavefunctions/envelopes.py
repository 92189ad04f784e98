"""Envelopes: the exponential decay that multiplies every orbital, so that psi vanishes far from the nuclei.

Orbital o of electron i is multiplied by ``sum_A pi_Ao exp(-s_Ao(r_i - R_A))`` (Spencer et al. 2020, arXiv 2011.07125,
eq. 4, and Pfau et al. 2020, eq. 7). The three kinds differ in s: isotropic |sigma| |x|, diagonal |sigma * x|, full
|Sigma x|. Absolute values keep isotropic exponents from becoming growth.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fusion.wavefunctions.jets.radial import softened


class Envelope(nn.Module):
    """Common part: weights ``pi`` (M, O) and the sum over nuclei; subclasses define exponent and derivatives."""

    lengths: Tensor | None

    def __init__(self, nuclei: int, orbitals: int) -> None:
        super().__init__()
        self.pi = nn.Parameter(torch.ones(nuclei, orbitals))
        self.register_buffer("lengths", None, persistent=False)

    def soften(self, lengths: Tensor | None) -> None:
        """Soften the norms in s by the lengths h (M,): sqrt(.^2 + h^2)."""
        self.lengths = lengths

    def exponent(self, vector: Tensor, distance: Tensor) -> Tensor:
        """s_Ao for vectors (..., M, 3) with norms (..., M): (..., M, O)."""
        raise NotImplementedError

    def exponent_jet(self, vector: Tensor, distance: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Exponent (..., M, O), its gradient (..., 3, M, O) and Laplacian (..., M, O) with respect to r_i."""
        raise NotImplementedError

    def exponent_scores(self, vector: Tensor, distance: Tensor, weight: Tensor) -> dict[str, Tensor]:
        """Derivative of ``sum weight * s`` with respect to this envelope's exponents, one row per walker.

        ``weight`` is (B, n, M, O).
        """
        raise NotImplementedError

    def forward(self, vector: Tensor, distance: Tensor) -> Tensor:
        """Envelopes of electron-nucleus vectors (B, n, M, 3) with norms (B, n, M): (B, n, O)."""
        return (self.pi * torch.exp(-self.exponent(vector, distance))).sum(-2)

    def jet(self, vector: Tensor, distance: Tensor) -> Tensor:
        """Jet (B, 5, n, O): three derivatives with respect to the electron, Laplacian, value."""
        s, gradient, laplacian = self.exponent_jet(vector, distance)
        term = self.pi * torch.exp(-s)
        rows = torch.cat(
            (
                -(term.unsqueeze(-3) * gradient).sum(-2),
                (term * (gradient.square().sum(-3) - laplacian)).sum(-2, keepdim=True),
                term.sum(-2, keepdim=True),
            ),
            dim=-2,
        )
        return rows.transpose(1, 2)

    def parameter_scores(self, grad_output: Tensor, vector: Tensor, distance: Tensor) -> dict[str, Tensor]:
        """Per-walker derivatives of log|psi| given its derivative with respect to the output, (B, n, O)."""
        decay = torch.exp(-self.exponent(vector, distance))
        pi = torch.einsum("bno,bnmo->bmo", grad_output, decay)
        return {
            "pi": pi,
            **self.exponent_scores(vector, distance, -grad_output.unsqueeze(-2) * self.pi * decay),
        }


class IsotropicEnvelope(Envelope):
    """s = |sigma_Ao| |r_i - R_A|."""

    def __init__(self, nuclei: int, orbitals: int) -> None:
        super().__init__(nuclei, orbitals)
        self.sigma = nn.Parameter(torch.ones(nuclei, orbitals))

    def exponent(self, vector: Tensor, distance: Tensor) -> Tensor:
        return self.sigma.abs() * softened(distance, self.lengths).unsqueeze(-1)

    def exponent_jet(self, vector: Tensor, distance: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        sigma, r = self.sigma.abs(), softened(distance, self.lengths).unsqueeze(-1)
        unit = (vector / r).transpose(-1, -2).unsqueeze(-1)
        laplacian = 2 * sigma / r
        if self.lengths is not None:
            laplacian = laplacian + sigma * self.lengths.square().unsqueeze(-1) / r**3
        return sigma * r, sigma * unit, laplacian

    def exponent_scores(self, vector: Tensor, distance: Tensor, weight: Tensor) -> dict[str, Tensor]:
        r = softened(distance, self.lengths)
        return {"sigma": torch.sign(self.sigma) * torch.einsum("bnmo,bnm->bmo", weight, r)}


class FullEnvelope(Envelope):
    """s = |Sigma_Ao (r_i - R_A)| with a 3x3 matrix Sigma per nucleus and orbital, initially the identity."""

    def __init__(self, nuclei: int, orbitals: int) -> None:
        super().__init__(nuclei, orbitals)
        self.sigma = nn.Parameter(torch.eye(3)[:, :, None, None].repeat(1, 1, nuclei, orbitals))

    def matrix(self) -> Tensor:
        """Sigma, (3, 3, M, O)."""
        return self.sigma

    def _stretched(self, vector: Tensor) -> tuple[Tensor, Tensor]:
        stretched = torch.einsum("acmo,...mc->...amo", self.matrix(), vector)
        norm = torch.linalg.vector_norm(stretched, dim=-3)
        return stretched, softened(norm, None if self.lengths is None else self.lengths.unsqueeze(-1))

    def exponent(self, vector: Tensor, distance: Tensor) -> Tensor:
        return self._stretched(vector)[1]

    def exponent_jet(self, vector: Tensor, distance: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        matrix = self.matrix()
        stretched, s = self._stretched(vector)
        gradient = torch.einsum("acmo,...amo->...cmo", matrix, stretched) / s.unsqueeze(-3)
        laplacian = (matrix.square().sum((0, 1)) - gradient.square().sum(-3)) / s
        return s, gradient, laplacian

    def exponent_scores(self, vector: Tensor, distance: Tensor, weight: Tensor) -> dict[str, Tensor]:
        stretched, s = self._stretched(vector)
        return {"sigma": torch.einsum("bnmo,bnamo,bnmc->bacmo", weight / s, stretched, vector)}


class DiagonalEnvelope(FullEnvelope):
    """s = |sigma_Ao * (r_i - R_A)| with three exponents per nucleus and orbital."""

    def __init__(self, nuclei: int, orbitals: int) -> None:
        super().__init__(nuclei, orbitals)
        self.sigma = nn.Parameter(torch.ones(3, nuclei, orbitals))

    def matrix(self) -> Tensor:
        return torch.diag_embed(self.sigma.permute(1, 2, 0)).permute(2, 3, 0, 1)

    def exponent_scores(self, vector: Tensor, distance: Tensor, weight: Tensor) -> dict[str, Tensor]:
        full = super().exponent_scores(vector, distance, weight)["sigma"]
        return {"sigma": full.diagonal(dim1=1, dim2=2).permute(0, 3, 1, 2)}

"""Coulomb matrices, and descriptors made from them that do not depend on the order of the atoms.

Rupp, Tkatchenko, Mueller, von Lilienfeld, Phys. Rev. Lett. 108, 058301 (2012), equation 1; the random sorting of
Montavon et al., Advances in Neural Information Processing Systems 25, 440 (2012), section 2. Atomic units.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fusion.errors import InputError
from fusion.potentials import Batch


def coulomb_matrix(batch: Batch, size: int) -> Tensor:
    """Coulomb matrices (B, size, size), hartree: Z^2.4 / 2 on the diagonal, Z_i Z_j / |R_i - R_j| elsewhere, zeros for
    atoms that a molecule does not have. Differentiable by the positions.

    Raises InputError for a molecule of more than `size` atoms.
    """
    atoms = batch.numbers.shape[1]
    largest = int(batch.mask.sum(dim=1).max())
    if largest > size:
        raise InputError(f"a Coulomb matrix of {size} rows is too small for a molecule of {largest} atoms")
    numbers = batch.numbers.to(batch.positions.dtype)
    distances = (batch.positions[:, :, None] - batch.positions[:, None]).square().sum(dim=-1)
    same = torch.eye(atoms, dtype=torch.bool, device=distances.device)
    padding = ~(batch.mask[:, :, None] & batch.mask[:, None])
    apart = distances.masked_fill(same | padding, 1.0).sqrt()
    matrix = (numbers[:, :, None] * numbers[:, None] / apart).masked_fill(padding, 0.0)
    matrix = torch.where(same, torch.diag_embed(0.5 * numbers**2.4), matrix)
    rows = min(atoms, size)  # real atoms come first
    return nn.functional.pad(matrix[:, :rows, :rows], (0, size - rows, 0, size - rows))


class Descriptor(nn.Module):
    """Vectors of `length` numbers from Coulomb matrices of `size` rows; predictions are means over `draws` of them."""

    draws = 1

    def __init__(self, size: int, length: int) -> None:
        super().__init__()
        if size < 1:
            raise InputError(f"a Coulomb matrix needs at least 1 row, not size={size}")
        self.size, self.length = size, length

    def forward(self, matrix: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Descriptors (B, length) of matrices (B, size, size); random ones are drawn by `generator`."""
        raise NotImplementedError


class SortedMatrix(Descriptor):
    """Upper triangles of Coulomb matrices with rows and columns in the order of falling row norms.

    The order is not a continuous function of the positions: the descriptor jumps where two norms are equal.
    """

    _rows: Tensor

    def __init__(self, size: int) -> None:
        super().__init__(size, size * (size + 1) // 2)
        self.register_buffer("_rows", torch.triu_indices(size, size), persistent=False)

    def forward(self, matrix: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return self._triangle(matrix, torch.linalg.vector_norm(matrix.detach(), dim=2))

    def _triangle(self, matrix: Tensor, norms: Tensor) -> Tensor:
        order = norms.argsort(dim=1, descending=True, stable=True)
        matrix = matrix.gather(1, order[:, :, None].expand_as(matrix)).gather(2, order[:, None].expand_as(matrix))
        return matrix[:, self._rows[0], self._rows[1]]


class RandomlySortedMatrix(SortedMatrix):
    """Sorted matrices in the order of norms plus normal noise of width `noise` (hartree), drawn for every call.

    A molecule becomes a cloud of descriptors; a prediction is the mean over `draws` of them.
    """

    def __init__(self, size: int, noise: float = 1.0, draws: int = 16) -> None:
        super().__init__(size)
        if not noise > 0 or draws < 1:
            raise InputError(f"noise must be positive and draws at least 1, not {noise} and {draws}")
        self.noise, self.draws = noise, draws

    def forward(self, matrix: Tensor, generator: torch.Generator | None = None) -> Tensor:
        norms = torch.linalg.vector_norm(matrix.detach(), dim=2)
        # The generator of an evaluation is on the CPU: a model has the same energies on every device.
        device = norms.device if generator is None else generator.device
        noise = torch.randn(norms.shape, generator=generator, dtype=norms.dtype, device=device)
        return self._triangle(matrix, norms + self.noise * noise.to(norms.device))


class Eigenspectrum(Descriptor):
    """Eigenvalues of Coulomb matrices, by falling absolute value: Rupp's descriptor."""

    def __init__(self, size: int) -> None:
        super().__init__(size, size)

    def forward(self, matrix: Tensor, generator: torch.Generator | None = None) -> Tensor:
        values = torch.linalg.eigvalsh(matrix)
        return values.gather(1, values.detach().abs().argsort(dim=1, descending=True, stable=True))

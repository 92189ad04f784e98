"""Scores of one layer: the factors, or the rows, of its columns of the score matrix O."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from fusion.parallel.collectives import gather_rows

Step = dict[str, Tensor]  # change of the parameters, by name
_LARGEST = 2**22  # numbers in an intermediate product of a Gram matrix


@runtime_checkable
class KnowsScores(Protocol):
    """Module that computes the scores of its direct parameters, by name."""

    def parameter_scores(self, grad_output: Tensor, *inputs: Tensor) -> dict[str, Tensor]: ...


@runtime_checkable
class SharesInputs(Protocol):
    """Linear layer whose weight multiplies something other than the module's argument."""

    def score_inputs(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs of the weight's first columns, per repeat (B, R, in_1), and of its last columns, shared (B, in_2)."""
        ...


@dataclass
class LinearScores:
    """Factors of a linear layer on this rank, whose weight multiplies [inputs, shared].

    ``inputs`` (B, R, in_1) differ between the R repeats in a walker. ``shared`` (B, in_2), for the weight's last
    columns, and the bias do not: their scores are outer products with the sum over repeats of ``outputs`` (B, R, out),
    the derivatives of log|psi| with respect to the layer's output.
    """

    weight: str
    bias: str | None
    inputs: Tensor
    shared: Tensor
    outputs: Tensor

    def full_inputs(self) -> Tensor:
        """Inputs (B, R, in [+ 1]) that the weight and, last, the bias multiply."""
        return torch.cat((self.inputs, self._constant().unsqueeze(1).expand(-1, self.inputs.shape[1], -1)), dim=-1)

    @property
    def names(self) -> tuple[str, ...]:
        return (self.weight,) if self.bias is None else (self.weight, self.bias)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return self.inputs, self.shared, self.outputs

    def empty(self, walkers: int) -> LinearScores:
        """Return uninitialised scores of this layer for any number of walkers."""
        inputs, shared, outputs = (t.new_empty(walkers, *t.shape[1:]) for t in self.tensors)
        return LinearScores(self.weight, self.bias, inputs, shared, outputs)

    def fill(self, start: int, part: LinearScores) -> None:
        """Set the scores of the walkers from number ``start``; those that are not finite are set to zero."""
        rows = slice(start, start + len(part.inputs))
        self.inputs[rows], self.shared[rows], self.outputs[rows] = part.inputs, part.shared, _finite_rows(part.outputs)

    def gram(self, other: LinearScores) -> Tensor:
        """Part of O O^T of this layer: rows of these walkers, columns of the walkers of ``other`` on all ranks."""
        columns = gather_rows(other._constant()).T
        total = (self._constant() @ columns) * (self.outputs.sum(1) @ gather_rows(other.outputs.sum(1)).T)
        repeats, width, out = self.inputs.shape[1], self.inputs.shape[2], self.outputs.shape[2]
        if repeats * repeats * (width + out) > width * out:
            self._add_explicit(total, other)
        else:
            self._add_factored(total, other)
        return total

    def transpose_apply(self, u: Tensor) -> Step:
        """Sum over this rank's walkers of u_b O_b."""
        weighted = self.outputs * u[:, None, None]
        summed = weighted.sum(1)
        own = weighted.flatten(0, 1).T @ self.inputs.flatten(0, 1)
        step = {self.weight: torch.cat((own, summed.T @ self.shared), dim=1)}
        if self.bias is not None:
            step[self.bias] = summed.sum(0)
        return step

    def apply(self, step: Step) -> Tensor:
        """O v for this rank's walkers, (B,)."""
        own, shared = step[self.weight].split((self.inputs.shape[2], self.shared.shape[1]), dim=1)
        constant = self.shared @ shared.T
        if self.bias is not None:
            constant = constant + step[self.bias]
        return ((self.inputs @ own.T + constant.unsqueeze(1)) * self.outputs).sum((1, 2))

    def _constant(self) -> Tensor:
        if self.bias is None:
            return self.shared
        return torch.cat((self.shared, self.shared.new_ones(len(self.shared), 1)), dim=-1)

    def _add_factored(self, total: Tensor, other: LinearScores) -> None:
        """Add sum_rr' (a_r . a'_r') (g_r . g'_r'), cheap for few repeats."""
        a, g = self.inputs, self.outputs
        all_a, all_g = gather_rows(other.inputs), gather_rows(other.outputs)

        def product(rows: slice, columns: slice) -> Tensor:
            inner = a[rows].flatten(0, 1) @ all_a[columns].flatten(0, 1).T
            inner.mul_(g[rows].flatten(0, 1) @ all_g[columns].flatten(0, 1).T)
            return inner.view(-1, a.shape[1], len(all_a[columns]), a.shape[1]).sum(-1).sum(1)

        _add_products(total, product, symmetric=all_a is a, repeats=a.shape[1])

    def _add_explicit(self, total: Tensor, other: LinearScores) -> None:
        """Add products of rows of O, a few input columns at a time."""
        all_inputs, all_outputs = gather_rows(other.inputs), gather_rows(other.outputs)
        symmetric = all_inputs is self.inputs
        chunk = max(1, 2**24 // (len(all_inputs) * self.outputs.shape[-1]))
        for part, all_part in zip(self.inputs.split(chunk, -1), all_inputs.split(chunk, -1), strict=True):
            own = torch.bmm(part.mT, self.outputs).flatten(1)
            every = own if symmetric else torch.bmm(all_part.mT, all_outputs).flatten(1)
            _add_products(total, lambda r, c, o=own, e=every: o[r] @ e[c].T, symmetric)  # type: ignore[misc]


def _add_products(total: Tensor, product: Callable[[slice, slice], Tensor], symmetric: bool, repeats: int = 1) -> None:
    """Add product(r, c) to total[r, c], a block of rows at a time; of a symmetric matrix, compute one triangle only.

    ``repeats``: rows and columns of the intermediate products for every row and column of the block.
    """
    rows, columns = total.shape
    chunk = max(1, min(-(-rows // 8), 2**20 // columns, _LARGEST // (columns * repeats * repeats)))
    for start in range(0, rows, chunk):
        own = slice(start, min(start + chunk, rows))
        block = product(own, slice(start if symmetric else 0, columns))
        total[own, columns - block.shape[1] :] += block
        if symmetric:
            total[own.stop :, own] += block[:, own.stop - start :].T


@dataclass
class RowScores:
    """Rows of O for one parameter on this rank: (B, size)."""

    name: str
    shape: torch.Size
    rows: Tensor

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name,)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return (self.rows,)

    def empty(self, walkers: int) -> RowScores:
        """Return uninitialised scores of this parameter for any number of walkers."""
        return RowScores(self.name, self.shape, self.rows.new_empty(walkers, *self.rows.shape[1:]))

    def fill(self, start: int, part: RowScores) -> None:
        """Set the scores of the walkers from number ``start``; those that are not finite are set to zero."""
        self.rows[start : start + len(part.rows)] = _finite_rows(part.rows)

    def gram(self, other: RowScores) -> Tensor:
        """Part of O O^T, see ``LinearScores.gram``."""
        return self.rows @ gather_rows(other.rows).T

    def transpose_apply(self, u: Tensor) -> Step:
        return {self.name: (u @ self.rows).view(self.shape)}

    def apply(self, step: Step) -> Tensor:
        return self.rows @ step[self.name].flatten()


Block = LinearScores | RowScores


def _finite_rows(rows: Tensor) -> Tensor:
    """Return the rows with zeros in place of those that are not finite."""
    bad = ~torch.isfinite(rows).flatten(1).all(1)
    return torch.where(bad.view(-1, *[1] * (rows.dim() - 1)), 0.0, rows) if bool(bad.any()) else rows


def size(block: Block) -> int:
    """Bytes of a block."""
    return sum(t.numel() * t.element_size() for t in block.tensors)

"""Per-walker derivatives of log|psi| with respect to the parameters, without forming their full matrix.

The score matrix O_bp = d log|psi(x_b)| / d theta_p is kept layer by layer. For a linear layer, applied R times per
walker, with inputs a and derivatives g of log|psi| with respect to its outputs, O_b = sum_r g_br a_br^T; the Gram
matrix O O^T and the products O v and O^T u follow from the factors a and g. Small parameter groups store their
rows of O.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn

from fusion.parallel.collectives import gather_rows, sum_over_ranks

Step = dict[str, Tensor]  # change of the parameters, by name


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

    def gram(self) -> Tensor:
        """Part of O O^T of this layer: rows of this rank, columns of all ranks."""
        summed, constant = self.outputs.sum(1), self._constant()
        total = (constant @ gather_rows(constant).T) * (summed @ gather_rows(summed).T)
        repeats, width, out = self.inputs.shape[1], self.inputs.shape[2], self.outputs.shape[2]
        if repeats * repeats * (width + out) > width * out:
            self._add_explicit(total)
        else:
            self._add_factored(total)
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

    def _add_factored(self, total: Tensor) -> None:
        """Add sum_rr' (a_r . a'_r') (g_r . g'_r'), cheap for few repeats."""
        a, g = self.inputs, self.outputs
        all_a, all_g = gather_rows(a), gather_rows(g)

        def product(rows: slice, columns: slice) -> Tensor:
            inner = a[rows].flatten(0, 1) @ all_a[columns].flatten(0, 1).T
            inner.mul_(g[rows].flatten(0, 1) @ all_g[columns].flatten(0, 1).T)
            return inner.view(-1, a.shape[1], len(all_a[columns]), a.shape[1]).sum(-1).sum(1)

        _add_products(total, product, symmetric=all_a is a)

    def _add_explicit(self, total: Tensor) -> None:
        """Add products of rows of O, a few input columns at a time."""
        all_inputs, all_outputs = gather_rows(self.inputs), gather_rows(self.outputs)
        symmetric = all_inputs is self.inputs
        chunk = max(1, 2**24 // (len(all_inputs) * self.outputs.shape[-1]))
        for part, all_part in zip(self.inputs.split(chunk, -1), all_inputs.split(chunk, -1), strict=True):
            own = torch.bmm(part.mT, self.outputs).flatten(1)
            every = own if symmetric else torch.bmm(all_part.mT, all_outputs).flatten(1)
            _add_products(total, lambda r, c, o=own, e=every: o[r] @ e[c].T, symmetric)  # type: ignore[misc]


def _add_products(total: Tensor, product: Callable[[slice, slice], Tensor], symmetric: bool) -> None:
    """Add product(r, c) to total[r, c], a block of rows at a time; of a symmetric matrix, compute one triangle only."""
    rows, columns = total.shape
    chunk = max(1, min(-(-rows // 8), 2**20 // columns))
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

    def gram(self) -> Tensor:
        return self.rows @ gather_rows(self.rows).T

    def transpose_apply(self, u: Tensor) -> Step:
        return {self.name: (u @ self.rows).view(self.shape)}

    def apply(self, step: Step) -> Tensor:
        return self.rows @ step[self.name].flatten()


Block = LinearScores | RowScores


@dataclass
class Scores:
    """The score matrix of this rank's walkers, in blocks that cover every parameter once."""

    blocks: list[Block]
    walkers: int

    def gram(self) -> Tensor:
        """O O^T over the walkers of all ranks, (B, B), float64."""
        rows = self.blocks[0].gram()
        for block in self.blocks[1:]:
            rows = rows + block.gram()
        return gather_rows(rows).double()

    def transpose_apply(self, u: Tensor) -> Step:
        """O^T u over the walkers of all ranks; u (B_rank,) belongs to those of this rank."""
        step: Step = {}
        for block in self.blocks:
            step |= block.transpose_apply(u)
        return {name: sum_over_ranks(value) for name, value in step.items()}

    def apply(self, step: Step) -> Tensor:
        """O v for the walkers of all ranks, (B,)."""
        total = self.blocks[0].apply(step)
        for block in self.blocks[1:]:
            total = total + block.apply(step)
        return gather_rows(total)


@dataclass
class _Call:
    prefix: str
    module: nn.Module
    inputs: tuple[Tensor, ...]
    output: Tensor


def _is_supported(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear | KnowsScores)


@contextmanager
def _record(ansatz: nn.Module) -> Iterator[list[_Call]]:
    """Record inputs and outputs of the supported layers in every forward pass inside the block."""
    calls: list[_Call] = []

    def hook(prefix: str) -> Any:
        return lambda module, inputs, output: calls.append(_Call(prefix, module, inputs, output))

    handles = [
        module.register_forward_hook(hook(f"{name}." if name else ""))
        for name, module in ansatz.named_modules()
        if _is_supported(module)
    ]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


class ScoreRecorder:
    """Compute ``Scores`` of any ansatz: layer by layer for supported layers, otherwise by ``vmap(grad)``.

    Supported are ``nn.Linear``, its subclasses with ``score_inputs``, and modules with ``parameter_scores``. The scores
    of every layer are checked once against autograd on a few walkers, so that a tied weight or a layer applied across
    walkers cannot give a wrong score; such parameters are differentiated per walker instead. The first call determines
    them as ``rest``; a resumed run sets ``rest``, as rounding may decide the check.

    Raises:
        TypeError: at the first call, neither way covers some parameter; the message names it.
    """

    def __init__(self, ansatz: nn.Module, chunk: int) -> None:
        self.ansatz = ansatz
        self.chunk = chunk
        self.parameters = {name: p for name, p in ansatz.named_parameters() if p.requires_grad}
        self.rest: list[str] | None = None

    def __call__(self, electrons: Tensor) -> Scores:
        """Scores of electrons (B, N, 3); a walker whose derivative is not finite gets a zero row."""
        if self.rest is None:
            self.rest = self._find_rest(electrons[: min(4, len(electrons))])
            self._check_rest(self.rest, electrons[:2])
        rest = self.rest
        chunks = [self._blocks(part, rest) for part in electrons.split(self.chunk)]
        blocks: list[Block] = []
        for parts in zip(*chunks, strict=True):
            first = parts[0]
            if isinstance(first, LinearScores):
                inputs, shared, outputs = (
                    torch.cat([getattr(part, key) for part in parts]) for key in ("inputs", "shared", "outputs")
                )
                blocks.append(LinearScores(first.weight, first.bias, inputs, shared, _finite_rows(outputs)))
            else:
                rows = _finite_rows(torch.cat([cast(RowScores, p).rows for p in parts]))
                blocks.append(RowScores(first.name, first.shape, rows))
        return Scores(blocks, len(electrons))

    def _check_rest(self, rest: list[str], electrons: Tensor) -> None:
        if not rest:
            return
        try:
            self._rest_rows(electrons, rest)
        except RuntimeError as error:
            raise TypeError(
                f"no per-walker derivative for {', '.join(rest)}: not in a layer with known scores, and "
                f"torch.func.vmap cannot differentiate the ansatz ({str(error).splitlines()[0]})"
            ) from error

    def _blocks(self, electrons: Tensor, rest: list[str]) -> list[Block]:
        layerwise = set(self.parameters).difference(rest)
        blocks = [b for b in self._layer_blocks(electrons) if layerwise.issuperset(self._names(b))]
        if rest:
            rows = self._rest_rows(electrons, rest)
            blocks += [RowScores(n, self.parameters[n].shape, rows[n].reshape(len(electrons), -1)) for n in rest]
        return blocks

    @torch.enable_grad()
    def _layer_blocks(self, electrons: Tensor) -> list[Block]:
        with _record(self.ansatz) as calls:
            _, log = self.ansatz(electrons)
        calls = [call for call in calls if call.output.requires_grad]  # the others precede the first trained parameter
        if not calls:
            return []
        outputs = [call.output for call in calls]
        grads = torch.autograd.grad(log.sum(), outputs, allow_unused=True)
        blocks: dict[str, list[Block]] = {}
        for call, grad in zip(calls, grads, strict=True):
            if len(call.output) != len(electrons):
                continue
            grad = torch.zeros_like(call.output) if grad is None else grad
            for block in self._call_blocks(call, grad):
                blocks.setdefault(self._names(block)[0], []).append(block)
        return [_merge(parts) for parts in blocks.values()]

    def _call_blocks(self, call: _Call, grad: Tensor) -> Iterator[Block]:
        inputs = tuple(x.detach() for x in call.inputs)
        with torch.no_grad():
            if isinstance(call.module, KnowsScores):
                for name, rows in call.module.parameter_scores(grad, *inputs).items():
                    yield RowScores(call.prefix + name, rows.shape[1:], rows.reshape(len(rows), -1))
            elif isinstance(call.module, nn.Linear):
                if isinstance(call.module, SharesInputs):
                    features, shared = call.module.score_inputs(*inputs)
                else:
                    features, shared = inputs[0], inputs[0].new_empty(len(grad), 0)
                a, g = (x.reshape(len(x), -1, x.shape[-1]) for x in (features, grad))
                bias = call.prefix + "bias" if call.module.bias is not None else None
                yield LinearScores(call.prefix + "weight", bias, a, shared, g)

    def _rest_rows(self, electrons: Tensor, rest: list[str]) -> dict[str, Tensor]:
        fixed = {n: p.detach() for n, p in self.ansatz.named_parameters() if n not in rest}
        fixed |= dict(self.ansatz.named_buffers())
        free = {n: self.parameters[n].detach() for n in rest}

        def log_psi(parameters: dict[str, Tensor], walker: Tensor) -> Tensor:
            return torch.func.functional_call(self.ansatz, {**fixed, **parameters}, (walker.unsqueeze(0),))[1][0]

        return cast(dict[str, Tensor], torch.func.vmap(torch.func.grad(log_psi), in_dims=(None, 0))(free, electrons))

    @torch.enable_grad()
    def _find_rest(self, electrons: Tensor) -> list[str]:
        """Parameters without layer-wise scores, with wrong ones, or in a block with tied or frozen parameters."""
        _, log = self.ansatz(electrons)
        # Unequal weights detect rows that are not walkers.
        weights = torch.linspace(1, 2, len(log), dtype=log.dtype, device=log.device)
        grads = torch.autograd.grad((weights * log).sum(), list(self.parameters.values()), allow_unused=True)
        exact = dict(zip(self.parameters, grads, strict=True))
        trusted: set[str] = set()
        for block in self._layer_blocks(electrons):
            scores = block.transpose_apply(weights)
            if all(name in exact and _agree(value, exact[name]) for name, value in scores.items()):
                trusted.update(scores)
        untrusted = torch.tensor([float(n not in trusted) for n in self.parameters], device=electrons.device)
        return [n for n, count in zip(self.parameters, sum_over_ranks(untrusted).tolist(), strict=True) if count]

    @staticmethod
    def _names(block: Block) -> Sequence[str]:
        if isinstance(block, RowScores):
            return (block.name,)
        return (block.weight,) if block.bias is None else (block.weight, block.bias)


def _agree(scores: Tensor, exact: Tensor | None) -> bool:
    if exact is None:
        return not bool(scores.any())
    tolerance = 1e-3 if scores.dtype == torch.float32 else 1e-8
    return bool((scores - exact).norm() <= tolerance * exact.norm() + 1e-30)


def _finite_rows(rows: Tensor) -> Tensor:
    bad = ~torch.isfinite(rows).flatten(1).all(1)
    return torch.where(bad.view(-1, *[1] * (rows.dim() - 1)), 0.0, rows) if bool(bad.any()) else rows


def _merge(parts: list[Block]) -> Block:
    """Merge the blocks of a layer that was called several times; the repeats of all calls are concatenated."""
    first = parts[0]
    if len(parts) == 1:
        return first
    if isinstance(first, RowScores):
        return RowScores(first.name, first.shape, torch.stack([cast(RowScores, p).rows for p in parts]).sum(0))
    linear = [cast(LinearScores, part) for part in parts]
    repeated = [torch.cat((p.inputs, p.shared.unsqueeze(1).expand(-1, p.inputs.shape[1], -1)), dim=-1) for p in linear]
    inputs, outputs = torch.cat(repeated, dim=1), torch.cat([p.outputs for p in linear], dim=1)
    return LinearScores(first.weight, first.bias, inputs, inputs.new_empty(len(inputs), 0), outputs)

"""Record the scores of any ansatz."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from fusion.parallel.collectives import largest_of_ranks, sum_over_ranks, world_size
from fusion.parallel.memory import available_memory_of
from fusion.wavefunctions.scores.layers import Block, KnowsScores, LinearScores, RowScores, SharesInputs
from fusion.wavefunctions.scores.matrix import Scores
from fusion.wavefunctions.scores.memory import SHARE, ScoreMemory, gram_memory


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

    The first call also chooses the number of ``groups`` in which walkers are recorded, from the free memory: as few as
    fit, and no fewer than a resumed run had, as rounding depends on it.

    Args:
        ansatz: the wavefunction.
        chunk: walkers differentiated at a time.
        pairs: True if the Gram matrix is needed, False if groups are only used in turn.

    Raises:
        TypeError: at the first call, neither way covers some parameter; the message names it.
    """

    def __init__(self, ansatz: nn.Module, chunk: int, pairs: bool = True) -> None:
        self.ansatz = ansatz
        self.chunk = chunk
        self.pairs = pairs
        self.parameters = {name: p for name, p in ansatz.named_parameters() if p.requires_grad}
        self.rest: list[str] | None = None
        self.groups: int | None = None
        self.fewest_groups = 1

    def __call__(self, electrons: Tensor) -> Scores:
        """Scores of electrons (B, N, 3)."""
        self.prepare(electrons)
        if self.groups is None:
            self.groups = max(self.fewest_groups, self._groups_that_fit(electrons))
        return Scores(self.record, electrons, min(self.groups, len(electrons)))

    def prepare(self, electrons: Tensor) -> None:
        """Determine ``rest``, if it is not known yet, with the first of electrons (B, N, 3)."""
        if self.rest is None:
            self.rest = self._find_rest(electrons[: min(4, len(electrons))])
            self._check_rest(self.rest, electrons[:2])

    def record(self, electrons: Tensor) -> list[Block]:
        """Blocks of electrons (b, N, 3); a walker whose derivative is not finite gets a zero row."""
        blocks: list[Block] = []
        for start in range(0, len(electrons), self.chunk):
            part = self._blocks(electrons[start : start + self.chunk], self.rest or [])
            blocks = blocks or [block.empty(len(electrons)) for block in part]
            for block, new in zip(blocks, part, strict=True):
                block.fill(start, cast(Any, new))
        return blocks

    def memory(self, electrons: Tensor) -> ScoreMemory:
        """Memory of the scores of walkers like the first of electrons (B, N, 3)."""
        return ScoreMemory.measured(self.record(electrons[:1]), self.chunk, self.pairs)

    def state_dict(self) -> dict[str, Any]:
        return {"rest": self.rest, "groups": self.groups or self.fewest_groups}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state; that of earlier versions has one group."""
        self.rest, self.fewest_groups, self.groups = state["rest"], state.get("groups", 1), None

    def _groups_that_fit(self, electrons: Tensor) -> int:
        walkers, ranks = len(electrons), world_size()
        free = SHARE * available_memory_of(electrons.device) / (1 if electrons.is_cuda else ranks)
        free -= gram_memory(walkers * ranks) if self.pairs else 0
        return largest_of_ranks(self.memory(electrons).groups(walkers, ranks, free), electrons.device)

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
        blocks = [b for b in self._layer_blocks(electrons) if layerwise.issuperset(b.names)]
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
            sets, others = divmod(len(call.output), len(electrons))
            if sets == 0 or others:
                continue
            grad = torch.zeros_like(call.output) if grad is None else grad
            for block in self._call_blocks(call, grad):
                blocks.setdefault(block.names[0], []).append(_of_walkers(block, sets))
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


def _agree(scores: Tensor, exact: Tensor | None) -> bool:
    if exact is None:
        return not bool(scores.any())
    tolerance = 1e-3 if scores.dtype == torch.float32 else 1e-8
    return bool((scores - exact).norm() <= tolerance * exact.norm() + 1e-30)


def _of_walkers(block: Block, sets: int) -> Block:
    """Block of walkers that consist of several electron sets each, whose rows follow one another in `block`."""
    if sets == 1:
        return block
    if isinstance(block, RowScores):
        return RowScores(block.name, block.shape, block.rows.unflatten(0, (-1, sets)).sum(1))
    inputs, outputs = (t.unflatten(0, (-1, sets)).flatten(1, 2) for t in (_with_shared(block), block.outputs))
    return LinearScores(block.weight, block.bias, inputs, inputs.new_empty(len(inputs), 0), outputs)


def _merge(parts: list[Block]) -> Block:
    """Merge the blocks of a layer that was called several times; the repeats of all calls are concatenated."""
    first = parts[0]
    if len(parts) == 1:
        return first
    if isinstance(first, RowScores):
        return RowScores(first.name, first.shape, torch.stack([cast(RowScores, p).rows for p in parts]).sum(0))
    linear = [cast(LinearScores, part) for part in parts]
    inputs = torch.cat([_with_shared(part) for part in linear], dim=1)
    outputs = torch.cat([part.outputs for part in linear], dim=1)
    return LinearScores(first.weight, first.bias, inputs, inputs.new_empty(len(inputs), 0), outputs)


def _with_shared(block: LinearScores) -> Tensor:
    """Inputs (B, R, in_1 + in_2) of all columns of the weight, for every repeat."""
    return torch.cat((block.inputs, block.shared.unsqueeze(1).expand(-1, block.inputs.shape[1], -1)), dim=-1)

"""Scores of walkers by parameters agree with automatic differentiation."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from exact import PairNetwork, Slater1s, explicit_scores, matrix, radii
from fusion.wavefunctions.determinants import sum_of_determinants
from fusion.wavefunctions.envelopes import FullEnvelope
from fusion.wavefunctions.scores import Block, LinearScores, RowScores, ScoreRecorder, Scores
from fusion.wavefunctions.scores import recorder as recorder_module
from fusion.wavefunctions.scores.memory import ScoreMemory, recordings

pytestmark = pytest.mark.usefixtures("double_precision")


def recorded(ansatz: nn.Module, electrons: torch.Tensor, chunk: int = 3) -> Scores:
    return ScoreRecorder(ansatz, chunk)(electrons)


def in_groups(ansatz: nn.Module, electrons: Tensor, groups: int) -> Scores:
    recorder = ScoreRecorder(ansatz, 3)
    recorder.groups = groups
    return recorder(electrons)


def agrees_with_explicit(scores: Scores, ansatz: nn.Module, electrons: torch.Tensor) -> bool:
    """Assert that Gram matrix, O v and O^T u of the recorded scores match the explicit matrix O."""
    rows = explicit_scores(ansatz, electrons)
    dense = matrix(rows)
    v = {name: torch.randn(p.shape) for name, p in ansatz.named_parameters() if p.requires_grad}
    u = torch.randn(len(electrons))
    transposed = scores.transpose_apply(u)
    pairs = [
        (scores.gram(), dense @ dense.T),
        (scores.apply(v), dense @ torch.cat([x.flatten() for x in v.values()])),
        *((transposed.get(name), torch.einsum("b,b...->...", u, part)) for name, part in rows.items()),
    ]
    return set(transposed) == set(rows) and all(
        torch.allclose(computed, expected, rtol=1e-10, atol=1e-10) for computed, expected in pairs
    )


class Enveloped(nn.Module):
    """Determinants of linear orbitals in an envelope, from one layer per kind of block."""

    def __init__(self) -> None:
        super().__init__()
        self.orbital = nn.Linear(4, 6)
        self.envelope = FullEnvelope(2, 6)

    def forward(self, electrons: Tensor) -> tuple[Tensor, Tensor]:
        vector = electrons.unsqueeze(2) - torch.tensor([[0.0, 0, 0], [0, 0, 2]])
        features = torch.cat((electrons, radii(electrons).unsqueeze(-1)), dim=-1)
        phi = self.orbital(features) * self.envelope(vector, vector.norm(dim=-1))
        return sum_of_determinants([phi.unflatten(-1, (2, 3)).transpose(1, 2)])


def test_linear_layers_a_layer_used_twice_and_a_bare_parameter() -> None:
    ansatz, electrons = PairNetwork(), torch.randn(7, 3, 3)
    scores = recorded(ansatz, electrons)
    assert agrees_with_explicit(scores, ansatz, electrons)
    kinds = {(b.weight if isinstance(b, LinearScores) else b.name): type(b) for b in scores.blocks()}
    assert kinds == {
        "first.weight": LinearScores,
        "twice.weight": LinearScores,
        "last.weight": LinearScores,
        "scale": RowScores,
    }


@pytest.mark.parametrize("width", [2, 40])
def test_factored_and_explicit_gram_matrices_agree(width: int) -> None:
    """Narrow layers form their rows, wide ones only products of their factors."""
    ansatz, electrons = PairNetwork(width), torch.randn(5, 2, 3)
    assert agrees_with_explicit(recorded(ansatz, electrons), ansatz, electrons)


def test_modules_with_their_own_scores() -> None:
    ansatz, electrons = Enveloped(), torch.randn(6, 3, 3)
    scores = recorded(ansatz, electrons)
    assert agrees_with_explicit(scores, ansatz, electrons)
    assert len(scores.blocks()) == 3


def test_chunks_make_no_difference() -> None:
    ansatz, electrons = PairNetwork(), torch.randn(7, 3, 3)
    torch.testing.assert_close(recorded(ansatz, electrons, 2).gram(), recorded(ansatz, electrons, 100).gram())


@pytest.mark.parametrize("groups", [2, 3, 5, 9])
def test_groups_of_walkers_make_no_difference(groups: int) -> None:
    ansatz, electrons = PairNetwork(), torch.randn(9, 3, 3)
    scores = in_groups(ansatz, electrons, groups)
    assert len(scores) == groups
    assert agrees_with_explicit(scores, ansatz, electrons)


def test_one_group_is_recorded_once_and_several_as_often_as_estimated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is that of two groups, however many there are."""
    recorded: list[int] = []
    original = ScoreRecorder.record

    def record(self: ScoreRecorder, electrons: Tensor) -> list[Block]:
        recorded.append(len(electrons))
        return original(self, electrons)

    monkeypatch.setattr(ScoreRecorder, "record", record)
    ansatz, electrons = PairNetwork(), torch.randn(12, 3, 3)
    v = {name: torch.ones_like(p) for name, p in ansatz.named_parameters()}
    for groups in (1, 2, 4, 6):
        scores = in_groups(ansatz, electrons, groups)
        recorded.clear()
        scores.gram()
        scores.apply(v)
        scores.transpose_apply(torch.ones(12))
        assert recorded == [12 // groups] * round(recordings(groups, pairs=True) * groups)
        assert len(scores._kept) <= 2


@pytest.mark.parametrize(("pairs", "groups"), [(True, 4), (False, 2)])
def test_walkers_are_divided_until_their_scores_fit(pairs: bool, groups: int) -> None:
    """A Gram matrix needs two groups at a time; differentiating one walker takes twice its scores."""
    memory = ScoreMemory(total=1000, largest=0, chunk=1, pairs=pairs)
    assert memory.groups(100, 1, free=101_000) > 1 == memory.groups(100, 1, free=102_000)
    assert memory.groups(100, 1, free=52_000) == groups
    assert memory.needed(100, groups, 1) <= 52_000 < memory.needed(100, groups - 1, 1)
    assert memory.groups(100, 1, free=-1) == 100


def test_the_recorder_divides_walkers_if_memory_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    ansatz, electrons = PairNetwork(), torch.randn(64, 3, 3)
    assert len(ScoreRecorder(ansatz, 4)(electrons)) == 1
    monkeypatch.setattr(recorder_module, "available_memory_of", lambda _: 2.8e5)
    scores = ScoreRecorder(ansatz, 4)(electrons)
    assert len(scores) > 2
    assert agrees_with_explicit(scores, ansatz, electrons)


def test_a_resumed_run_has_no_fewer_groups() -> None:
    ansatz, electrons = PairNetwork(), torch.randn(8, 3, 3)
    first, second = ScoreRecorder(ansatz, 4), ScoreRecorder(ansatz, 4)
    first.groups = 4
    first(electrons)
    second.load_state_dict(first.state_dict())
    assert len(second(electrons)) == 4
    second.load_state_dict({"rest": first.rest})  # from an earlier version
    assert len(second(electrons)) == 1


class Tied(nn.Module):
    """Ansatz of two layers that share one weight."""

    def __init__(self, share_bias: bool) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)
        self.b.weight = self.a.weight
        if share_bias:
            self.b.bias = self.a.bias

    def forward(self, electrons: Tensor) -> tuple[Tensor, Tensor]:
        log = torch.tanh(self.b(torch.tanh(self.a(electrons)))).sum((1, 2))
        return torch.ones_like(log), log


@pytest.mark.parametrize("share_bias", [False, True])
def test_tied_weights(share_bias: bool) -> None:
    ansatz, electrons = Tied(share_bias), torch.randn(5, 2, 3)
    assert agrees_with_explicit(recorded(ansatz, electrons), ansatz, electrons)


@pytest.mark.parametrize("frozen", ["first.weight", "first.bias", "last.weight", "twice.weight", "scale"])
def test_frozen_parameters_have_no_scores(frozen: str) -> None:
    ansatz = PairNetwork()
    ansatz.get_parameter(frozen).requires_grad_(False)
    electrons = torch.randn(5, 2, 3)
    assert agrees_with_explicit(recorded(ansatz, electrons), ansatz, electrons)


def test_a_frozen_network_before_trained_layers() -> None:
    ansatz = PairNetwork()
    for module in (ansatz.first, ansatz.twice):
        module.requires_grad_(False)
    ansatz.scale.requires_grad_(False)
    electrons = torch.randn(5, 2, 3)
    assert agrees_with_explicit(recorded(ansatz, electrons), ansatz, electrons)


class Spread(nn.Module):
    """Linear layer whose first axis is not the walkers."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(2, 2)

    def forward(self, electrons: Tensor) -> tuple[Tensor, Tensor]:
        log = torch.tanh(self.mix(electrons.permute(2, 0, 1))).sum((0, 2))
        return torch.ones_like(log), log


@pytest.mark.parametrize("walkers", [3, 6])
def test_a_layer_whose_first_axis_is_not_the_walkers(walkers: int) -> None:
    ansatz, electrons = Spread(), torch.randn(walkers, 2, 3)
    assert agrees_with_explicit(recorded(ansatz, electrons), ansatz, electrons)


class Unused(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.used, self.unused = nn.Linear(3, 1), nn.Linear(3, 1)

    def forward(self, electrons: Tensor) -> tuple[Tensor, Tensor]:
        log = self.used(electrons).sum((1, 2))
        return torch.ones_like(log), log


def test_unused_layers_score_zero() -> None:
    ansatz, electrons = Unused(), torch.randn(4, 2, 3)
    assert agrees_with_explicit(recorded(ansatz, electrons), ansatz, electrons)


class Secretive(nn.Module):
    """Bare parameter behind an operation that vmap does not support."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 1)
        self.hidden_scale = nn.Parameter(torch.ones(()))

    def forward(self, electrons: Tensor) -> tuple[Tensor, Tensor]:
        scale = self.hidden_scale if float(electrons.detach().sum()) > -1e9 else 0.0
        log = scale * torch.tanh(self.layer(electrons)).sum((1, 2))
        return torch.ones_like(log), log


def test_a_parameter_that_cannot_be_differentiated_is_named() -> None:
    with pytest.raises(TypeError, match="hidden_scale") as error:
        recorded(Secretive(), torch.randn(4, 2, 3))
    assert "layer.weight" not in str(error.value)


def test_walkers_at_a_node_have_zero_scores() -> None:
    ansatz, electrons = Enveloped(), torch.randn(5, 3, 3)
    recorder = ScoreRecorder(ansatz, 5)
    expected = recorder(electrons).gram()
    electrons[3, 0] = electrons[3, 1]  # two electrons of one spin in one place
    gram = recorder(electrons).gram()
    others = torch.tensor([0, 1, 2, 4])
    torch.testing.assert_close(gram[others][:, others], expected[others][:, others])
    assert torch.isfinite(gram).all()


def test_scores_of_exponents() -> None:
    """d log|psi| / da = -sum r and d log|psi| / db = -sum r^2."""
    electrons = torch.randn(4, 2, 3)
    scores = recorded(Slater1s(1.0), electrons)
    r = radii(electrons)
    torch.testing.assert_close(scores.apply({"a": torch.tensor(1.0), "b": torch.tensor(0.0)}), -r.sum(1))
    torch.testing.assert_close(scores.apply({"a": torch.tensor(0.0), "b": torch.tensor(1.0)}), -(r * r).sum(1))


def test_single_precision_needs_no_fallback() -> None:
    """Rounding in float32 must not count as a wrong score."""
    ansatz, electrons = PairNetwork().float(), torch.randn(64, 3, 3).float()
    recorder = ScoreRecorder(ansatz, 64)
    gram = recorder(electrons).gram()
    assert recorder.rest == ["scale"]
    dense = matrix(explicit_scores(ansatz.double(), electrons.double()))
    torch.testing.assert_close(gram, dense @ dense.T, rtol=1e-4, atol=1e-4)

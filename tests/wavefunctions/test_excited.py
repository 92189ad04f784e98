"""Several states at once: exact spectra, their matrices, sampling and scores."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from exact import PairNetwork, Trap, explicit_scores, matrix, molecule, trap
from fusion.errors import InputError
from fusion.wavefunctions.ansatz import HasSets
from fusion.wavefunctions.excited.local_matrix import (
    StateHamiltonian,
    dipole_elements,
    local_matrix,
    lowering_elements,
    spin_elements,
)
from fusion.wavefunctions.excited.outcome import pure_multiplicity
from fusion.wavefunctions.excited.pretraining import StatePretraining, leading
from fusion.wavefunctions.excited.sampler import SetMetropolis
from fusion.wavefunctions.excited.spectrum import Spectrum, oscillator_strength, spectrum
from fusion.wavefunctions.excited.state_matrix import SeparateStates, StateMatrix
from fusion.wavefunctions.hamiltonians import Hamiltonian, Kinetic, molecular
from fusion.wavefunctions.jets import LogPsi
from fusion.wavefunctions.proposals import AllElectrons
from fusion.wavefunctions.references import ConfigurationInteraction
from fusion.wavefunctions.sampler import first_sets
from fusion.wavefunctions.scores import ScoreRecorder
from fusion.wavefunctions.states import StateJets, States
from fusion.wavefunctions.statistics import Estimate
from fusion_ferminet.network import FermiNet

pytestmark = pytest.mark.usefixtures("double_precision")

MIXTURE = [[1.0, 0.4, -0.3, 0.2], [0.3, -1.0, 0.5, 0.7], [-0.2, 0.6, 1.0, 0.1], [0.5, 0.3, 0.2, -0.9]]


class Exact(nn.Module):
    """Mixtures of functions of all electrons (B, N, 3) -> (B, S), with derivatives by autograd."""

    def __init__(self, functions: Callable[[Tensor], Tensor], mixture: list[list[float]] | None = None) -> None:
        super().__init__()
        self.functions = functions
        self.mixture = nn.Parameter(torch.tensor(mixture or np.eye(4).tolist()))

    def states(self, electrons: Tensor) -> States:
        values = self.functions(electrons)
        number = values.shape[1]
        one = torch.ones(len(electrons))
        return States(one, 0 * one, values @ self.mixture[:number, :number])

    def state_jets(self, electrons: Tensor) -> StateJets:
        def values(flat: Tensor) -> Tensor:
            return self.states(flat.view(1, -1, 3)).values[0]

        flat = electrons.flatten(1)
        slopes = torch.func.vmap(torch.func.jacrev(values))(flat)
        second = torch.func.vmap(torch.func.hessian(values))(flat).diagonal(dim1=2, dim2=3).sum(-1)
        rows = torch.cat((slopes.transpose(1, 2), second.unsqueeze(1), self.states(electrons).values.unsqueeze(1)), 1)
        zero = torch.zeros(len(flat))
        return StateJets(LogPsi(zero + 1, zero, torch.zeros_like(flat), zero), rows.detach())


def hydrogen(electrons: Tensor) -> Tensor:
    """1s, 2s, 2p_x and 2p_y of one electron."""
    r = torch.linalg.vector_norm(electrons[:, 0], dim=-1)
    x, y, _ = electrons[:, 0].unbind(-1)
    half = torch.exp(-r / 2)
    return torch.stack((torch.exp(-r), (1 - r / 2) * half, x * half, y * half), dim=-1)


def oscillator(electrons: Tensor) -> Tensor:
    """s, p_x, p_y and p_z of one electron at frequency 1."""
    x = electrons[:, 0]
    return torch.cat((torch.ones_like(x[:, :1]), x), dim=-1) * torch.exp(-0.5 * x.square().sum(-1, keepdim=True))


def parallel_pair(electrons: Tensor) -> Tensor:
    """Determinants of s and each p of two electrons with parallel spins at frequency 1."""
    return (electrons[:, 0] - electrons[:, 1]) * torch.exp(-0.5 * electrons.square().sum((1, 2))).unsqueeze(1)


def singlet_and_triplet(electrons: Tensor) -> Tensor:
    """a(1) b(2) + b(1) a(2) and a(1) b(2) - b(1) a(2) of two electrons with opposite spins."""
    r = torch.linalg.vector_norm(electrons, dim=-1)
    a, b = torch.exp(-r), torch.exp(-0.4 * r) * electrons[..., 2]
    return torch.stack((a[:, 0] * b[:, 1] + b[:, 0] * a[:, 1], a[:, 0] * b[:, 1] - b[:, 0] * a[:, 1]), dim=-1)


HYDROGEN = molecular(molecule("H"))
EXACT = {
    "hydrogen": (hydrogen, 1, HYDROGEN, [-0.5, -0.125, -0.125, -0.125]),
    "oscillator": (oscillator, 1, trap(1.0, False), [1.5, 2.5, 2.5, 2.5]),
    "parallel pair": (parallel_pair, 2, trap(1.0, False), [4.0, 4.0, 4.0]),
}


def test_several_sets_are_recognised_by_static_members() -> None:
    """From Python 3.12 on, `isinstance` with a protocol does not see submodules, parameters and buffers."""
    several = StateMatrix(nn.Identity(), 2)
    assert isinstance(several, HasSets) and several.of_one_set is several.shared
    for name in ("sets_per_walker", "of_one_set"):
        inspect.getattr_static(several, name)


@pytest.mark.parametrize("mixture", [None, MIXTURE], ids=["pure", "mixed"])
@pytest.mark.parametrize(("functions", "electrons", "hamiltonian", "energies"), EXACT.values(), ids=EXACT)
def test_the_local_matrix_of_exact_states_is_constant(
    functions: Callable[[Tensor], Tensor],
    electrons: int,
    hamiltonian: Hamiltonian,
    energies: list[float],
    mixture: list[list[float]] | None,
) -> None:
    number = len(energies)
    states = StateMatrix(Exact(functions, mixture), number)
    states.gauge.copy_(torch.linspace(-1, 1, number))
    local = StateHamiltonian(hamiltonian).evaluate(states, torch.randn(6, number * electrons, 3), 2)
    assert float(local.matrix.std(0).max()) < 1e-8
    torch.testing.assert_close(local.total, torch.full((6,), float(sum(energies))))
    found = spectrum(local.matrix.numpy())
    flat = [energy.value for energy, states in zip(found.energies, found.clusters, strict=True) for _ in states]
    np.testing.assert_allclose(flat, energies, atol=1e-8)


def small(system: str = "Be", states: int = 3) -> StateMatrix:
    """FermiNet of several states, away from its start, so that all parameters matter."""
    beryllium = molecule(system)
    shared = FermiNet(
        beryllium, one_electron=5, two_electron=3, layers=2, reference=ConfigurationInteraction, states=states
    )
    for parameter in shared.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    return StateMatrix(shared, states)


def test_derivatives_of_a_network_agree_with_autograd() -> None:
    states = small("Li")
    sets = torch.randn(3, 3, 3)
    jets = states.shared.state_jets(sets)

    def values(flat: Tensor) -> Tensor:
        sign, log, own = states.shared.states(flat.view(1, 3, 3))
        return sign * torch.exp(log - jets.factor.log[walker]) * own[0]

    for walker, x in enumerate(sets.flatten(1)):
        scale = jets.factor.sign[walker]
        torch.testing.assert_close(jets.data[walker, -1] * scale, values(x), rtol=1e-8, atol=1e-10)
        expected = torch.func.hessian(values)(x).diagonal(dim1=1, dim2=2).sum(-1)
        torch.testing.assert_close(jets.laplacians()[walker] * scale, expected, rtol=1e-6, atol=1e-7)


def test_separate_wavefunctions_have_the_same_matrices_as_shared_ones() -> None:
    """The first two of three states, each as an ansatz of its own."""

    class One(nn.Module):
        def __init__(self, state: int) -> None:
            super().__init__()
            self.state = state

        def forward(self, electrons: Tensor) -> tuple[Tensor, Tensor]:
            value = hydrogen(electrons)[:, self.state]
            return value.sign(), value.abs().log()

    separate = StateMatrix(SeparateStates([One(0), One(1)]), 2)
    shared = StateMatrix(Exact(lambda electrons: hydrogen(electrons)[:, :2]), 2)
    electrons = torch.randn(5, 2, 3)
    for got, expected in zip(separate(electrons), shared(electrons), strict=True):
        torch.testing.assert_close(got, expected)
    both = [StateHamiltonian(HYDROGEN).evaluate(states, electrons, 2).matrix for states in (separate, shared)]
    torch.testing.assert_close(*both)


@pytest.mark.slow
def test_exchange_of_two_sets_changes_the_sign_alone() -> None:
    states = small()
    electrons = torch.randn(4, 12, 3)
    swapped = torch.cat((electrons[:, 4:8], electrons[:, :4], electrons[:, 8:]), dim=1)
    (sign, log), (other, same) = states(electrons), states(swapped)
    torch.testing.assert_close(other, -sign)
    torch.testing.assert_close(same, log)


def test_spin_of_a_singlet_and_a_triplet() -> None:
    mixture = [[1.0, 0.5], [0.3, -1.0]]
    states = StateMatrix(Exact(singlet_and_triplet, mixture), 2)
    local = local_matrix(*spin_elements(states, torch.randn(5, 4, 3), molecule("He"), 2))
    assert float(local.std(0).max()) < 1e-8
    np.testing.assert_allclose(sorted(np.linalg.eigvals(local[0].numpy())), [0, 2], atol=1e-8)


def test_spin_of_parallel_electrons() -> None:
    """Three electrons in s, p_x and p_y: S = 3/2."""
    states = StateMatrix(Exact(lambda x: torch.linalg.det(torch.stack([oscillator(x[:, i : i + 1])[:, :3]
        for i in range(3)], dim=1)).unsqueeze(1)), 1)  # fmt: skip
    local = local_matrix(*spin_elements(states, torch.randn(4, 3, 3), molecule("Li", spin=3), 2))
    torch.testing.assert_close(local, torch.full((4, 1, 1), 3.75))


def test_the_penalty_of_spins_raises_the_triplet_alone() -> None:
    """w S-S+ is 0 for a singlet and 2 w for a triplet, whichever electrons are exchanged."""
    states = StateMatrix(Exact(singlet_and_triplet, [[1.0, 0.5], [0.3, -1.0]]), 2)
    electrons, stream = torch.randn(5, 4, 3), torch.Generator().manual_seed(0)
    hamiltonian = StateHamiltonian(molecular(molecule("He")), spins=(1, 1), spin_penalty=0.7)
    plain, raised = (
        hamiltonian.evaluate(states, electrons, 2, stream, penalised).matrix for penalised in (False, True)
    )
    eigenvalues = np.linalg.eigvals((raised - plain).numpy())
    np.testing.assert_allclose(np.sort(eigenvalues, axis=1), np.tile([0, 1.4], (5, 1)), atol=1e-8)


def test_lowering_elements_are_those_of_the_spin(monkeypatch: pytest.MonkeyPatch) -> None:
    """S-S+ = S^2 - s (s + 1), with one spin-down electron exactly, with two on average over both choices."""
    states, electrons, stream = small("Li"), torch.randn(4, 9, 3), torch.Generator().manual_seed(0)
    values, spin = spin_elements(states, electrons, molecule("Li"), 4)
    torch.testing.assert_close(lowering_elements(states, electrons, (2, 1), 4, stream), spin - 0.75 * values)
    states, electrons = small(), torch.randn(4, 12, 3)
    _, spin = spin_elements(states, electrons, molecule("Be"), 4)
    choices = []
    for partner in (0, 1):  # a row depends on the choice for its own set alone; the mean of many draws has a long tail
        monkeypatch.setattr(torch, "randint", lambda high, size, chosen=partner, **_: torch.full(size, chosen))
        choices.append(lowering_elements(states, electrons, (2, 2), 4, stream))
    torch.testing.assert_close((choices[0] + choices[1]) / 2, spin)
    assert not torch.allclose(*choices)


@pytest.mark.slow
def test_scores_of_all_layers_are_those_of_walkers() -> None:
    states = small()
    recorder = ScoreRecorder(states, chunk=2)
    electrons = torch.randn(5, 12, 3)
    gram = recorder(electrons).gram()
    assert recorder.rest == []
    rows = matrix(explicit_scores(states, electrons))
    torch.testing.assert_close(gram, rows @ rows.T, rtol=1e-7, atol=1e-7)


def test_scores_of_wavefunctions_of_their_own() -> None:
    """An ansatz with `forward` alone, a layer used twice, and a parameter outside of layers."""
    states = StateMatrix(SeparateStates([PairNetwork(), PairNetwork(3)]), 2)
    recorder = ScoreRecorder(states, chunk=3)
    electrons = torch.randn(4, 6, 3)
    gram = recorder(electrons).gram()
    assert recorder.rest == ["shared.own.0.scale", "shared.own.1.scale"]
    rows = matrix(explicit_scores(states, electrons))
    torch.testing.assert_close(gram, rows @ rows.T, rtol=1e-7, atol=1e-9)


def test_the_sampler_draws_the_density_of_all_sets() -> None:
    """Sum over 1s and 2s of hydrogen of <r^2>: 3 + 42 bohr^2."""
    states = StateMatrix(Exact(lambda electrons: hydrogen(electrons)[:, :2]), 2)
    sampler = SetMetropolis(states, torch.Generator().manual_seed(0), [AllElectrons()])
    sampler.electrons = torch.randn(1500, 2, 3)
    sampler.widths = [1.5]

    def log_density(electrons: Tensor) -> Tensor:
        return 2 * states(electrons)[1]

    sampler.burn_in(log_density, 200)
    values = []
    for _ in range(60):
        sampler.run(log_density, 10)
        values.append(float(sampler.electrons.square().sum((1, 2)).mean()))
    mean, error = np.mean(values), np.std(values) / 60**0.5
    assert mean == pytest.approx(45, abs=max(5 * error, 1.0)) and error < 1


def test_dipoles_and_oscillator_strength_in_any_gauge() -> None:
    """From s to the three p of an oscillator: |x_01|^2 = 1 / 2 each, f = 1."""
    dipole = np.zeros((3, 4, 4))
    for c in range(3):
        dipole[c, 0, c + 1] = dipole[c, c + 1, 0] = 0.5**0.5
    gauge = np.array(MIXTURE)
    inverse = np.linalg.inv(gauge)
    energies = inverse @ np.diag([1.5, 2.5, 2.5, 2.5]) @ gauge
    matrices = np.repeat(energies[None], 40, axis=0)
    dipoles = np.repeat((inverse @ dipole @ gauge)[None], 40, axis=0)
    found = spectrum(matrices)
    assert [len(states) for states in found.clusters] == [1, 3]
    strength = oscillator_strength(matrices, dipoles, found.clusters, 0, 1)
    assert strength.value == pytest.approx(1) and strength.stderr < 1e-10


def test_the_dipole_of_displaced_electrons() -> None:
    states = StateMatrix(Exact(oscillator), 4)
    electrons = torch.randn(3, 4, 3)
    values = states.rows(states.sets(electrons)).values.view(3, 4, 4)
    for component, operated in enumerate(dipole_elements(values, electrons).unbind(1)):
        trace = local_matrix(values, operated).diagonal(dim1=1, dim2=2).sum(-1)
        torch.testing.assert_close(trace, -electrons[..., component].sum(1))


def test_noise_neither_splits_a_level_nor_hides_a_gap() -> None:
    """Levels 0, 1, 1 and 3 with noise of 0.02 per iteration; the errors cover the deviations."""
    rng = np.random.default_rng(0)
    gauge = np.array(MIXTURE)
    exact = np.linalg.inv(gauge) @ np.diag([0.0, 1.0, 1.0, 3.0]) @ gauge
    found = spectrum(exact + 0.02 * rng.normal(size=(400, 4, 4)))
    assert [len(states) for states in found.clusters] == [1, 2, 1]
    for energy, value in zip(found.energies, [0, 1, 3], strict=True):
        assert abs(energy.value - value) < 4 * energy.stderr and energy.stderr < 0.01
    assert found.gap(0, 2).value == pytest.approx(3, abs=0.02)


@pytest.mark.parametrize(
    ("spin_squared", "stderr", "electrons", "multiplicity"),
    [
        (0.03, 0.01, 4, 1),
        (1.9, 0.05, 4, 3),
        (1.0, 0.02, 4, None),
        (1.0, 0.4, 4, 1),
        (0.8, 0.01, 3, 2),
        (5.9, 0.1, 4, 5),
    ],
)
def test_a_mixture_of_spins_has_no_multiplicity(
    spin_squared: float, stderr: float, electrons: int, multiplicity: int | None
) -> None:
    """With a large error no mixture is claimed: the nearest spin is named, as before."""
    assert pure_multiplicity(Estimate(spin_squared, stderr), electrons) == multiplicity


def test_errors_of_energies_are_those_of_repeated_series() -> None:
    rng = np.random.default_rng(1)
    exact = np.linalg.inv(MIXTURE) @ np.diag([0.0, 1.0, 2.0, 3.5]) @ np.array(MIXTURE)
    runs = [spectrum(exact + 0.05 * rng.normal(size=(100, 4, 4))) for _ in range(60)]
    for state in range(4):
        values = [run.energies[state].value for run in runs]
        quoted = np.mean([run.energies[state].stderr for run in runs])
        assert 0.67 < np.std(values) / quoted < 1.5


def test_a_term_of_the_wavefunction_is_refused() -> None:
    class OfPsi(Trap):
        def forward(self, point):  # type: ignore[no-untyped-def]
            return point.psi.log.double()

    states = StateMatrix(Exact(oscillator), 4)
    hamiltonian = StateHamiltonian(Hamiltonian([Kinetic(), OfPsi(1.0, False)]))
    with pytest.raises(InputError, match="functions of the electrons' positions"):
        hamiltonian.evaluate(states, torch.randn(2, 4, 3), 2)


@pytest.mark.slow
@pytest.mark.parametrize("full", [True, False], ids=["full", "blocks"])
def test_pretraining_brings_states_close_to_their_leading_configurations(full: bool) -> None:
    """Helium's 1s2, and 1s2s as triplet and singlet, which have the same determinants with other signs."""
    helium = molecule("He")
    shared = FermiNet(helium, one_electron=8, two_electron=3, layers=1, determinants=2, full_determinant=full, states=3)
    matrix = StateMatrix(shared, 3)
    fitting = StatePretraining(matrix, helium, learning_rate=0.01)
    assert fitting.levels[1] - fitting.levels[0] == pytest.approx(0.728, abs=0.01)
    sampler = SetMetropolis(fitting.target, torch.Generator().manual_seed(0), [AllElectrons()])
    sampler.electrons = first_sets(helium, 3, 64, torch.Generator().manual_seed(1))
    sampler.burn_in(fitting.log_density, 50)
    losses = [fitting.step(sampler) for _ in range(200)]
    assert losses[-1] < 0.1 * losses[0]
    here, there = (states.states(matrix.sets(sampler.electrons)) for states in (shared, fitting.target.shared))
    here, there = (own.values * (own.sign * own.log.exp()).unsqueeze(1) for own in (here, there))
    for state in (0, 2):
        assert torch.corrcoef(torch.stack((here[:, state], there[:, state])))[0, 1] > 0.9
    assert sampled_spectrum(matrix).energies[0].value == pytest.approx(fitting.levels[0], abs=0.2)


def test_pretraining_needs_determinants_that_tell_the_states_apart() -> None:
    pair = np.array([[[0.0, 1.0], [0.9, 0.0]], [[0.0, 1.0], [-0.9, 0.0]]])
    chosen, coefficients = leading(pair, 3)
    assert chosen.tolist() == [[1, 2, 1]] * 2 and coefficients.tolist() == [[0.5, 0.9, 0.5], [0.5, -0.9, 0.5]]
    with pytest.raises(InputError, match="states=2: 1 determinants for each are too few"):
        leading(pair, 1)


def sampled_spectrum(states: StateMatrix) -> Spectrum:
    """Spectrum of helium's states from 400 walkers."""
    helium = molecule("He")
    sampler = SetMetropolis(states, torch.Generator().manual_seed(0), [AllElectrons()])
    sampler.electrons = first_sets(helium, 3, 400, torch.Generator().manual_seed(1))
    sampler.burn_in(lambda electrons: 2 * states(electrons)[1], 150)
    hamiltonian = StateHamiltonian(molecular(helium))
    matrices = []
    for _ in range(10):
        sampler.run(lambda electrons: 2 * states(electrons)[1], 10)
        matrices.append(hamiltonian.evaluate(states, sampler.electrons, 64).matrix.mean(0).numpy())
    return spectrum(np.array(matrices))


@pytest.mark.slow
def test_states_start_as_those_of_a_configuration_interaction() -> None:
    """The matrix of a fresh network has the CI's energies, but for the Jastrow factor and the cusps."""
    helium = molecule("He")
    shared = FermiNet(helium, one_electron=4, two_electron=3, layers=1, reference=ConfigurationInteraction, states=3)
    found = sampled_spectrum(StateMatrix(shared, 3))
    assert found.energies[0].value == pytest.approx(shared.levels[0], abs=0.05)
    assert found.energies[-1].value == pytest.approx(shared.levels[2], abs=0.08)

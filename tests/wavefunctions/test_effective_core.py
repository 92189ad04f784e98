"""Effective core potentials: projectors of states with a known angular momentum, and exact energies."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pyscf import dft, gto
from scipy.linalg import eigh
from torch import Tensor, nn

from exact import molecule
from fusion.chemistry.core_potentials import CorePotential, Term, read
from fusion.chemistry.system import System
from fusion.errors import CalculationError, InputError
from fusion.wavefunctions.gaussian_orbitals import GaussianOrbitals
from fusion.wavefunctions.hamiltonians import EffectiveCore, Point, molecular
from fusion.wavefunctions.hamiltonians.effective_core import polyhedron, projectors, random_rotations
from fusion.wavefunctions.jets import laplacian_by_autograd
from fusion.wavefunctions.references import HartreeFockOrbitals
from fusion_ferminet.network import FermiNet
from processes import Program

pytestmark = pytest.mark.usefixtures("double_precision")

Orbital = Callable[[Tensor], Tensor]


class Orbitals(nn.Module):
    """Product of one function of each electron; the functions map vectors (B, 3) to values (B,)."""

    def __init__(self, *orbitals: Orbital) -> None:
        super().__init__()
        self.orbitals = orbitals

    def forward(self, electrons: Tensor) -> tuple[Tensor, Tensor]:
        values = torch.stack([phi(electrons[:, i]) for i, phi in enumerate(self.orbitals)], dim=1).prod(1)
        return values.sign(), values.abs().log()


class Slater(nn.Module):
    """Determinant of Gaussian orbitals."""

    def __init__(self, orbitals: GaussianOrbitals) -> None:
        super().__init__()
        self.orbitals = orbitals

    def forward(self, electrons: Tensor) -> tuple[Tensor, Tensor]:
        return self.orbitals.slater_log(electrons)


HARMONICS: dict[int, Orbital] = {
    0: lambda x: torch.ones_like(x[:, 0]),
    1: lambda x: x[:, 2] - 0.3 * x[:, 0],
    2: lambda x: 3 * x[:, 2] ** 2 - x.square().sum(-1) + 0.4 * x[:, 0] * x[:, 1],
}


def gaussian(momentum: int, centre: float = 0.0, exponent: float = 0.4) -> Orbital:
    """Function of one angular momentum around a point on the z axis."""

    def orbital(x: Tensor) -> Tensor:
        y = x - torch.tensor([0.0, 0.0, centre])
        return HARMONICS[momentum](y) * torch.exp(-exponent * y.square().sum(-1))

    return orbital


def with_core(symbols: str = "Li", channels: dict[int, tuple[Term, ...]] | None = None, **options: Any) -> System:
    """Nuclei in a row, of which those of one element have a potential with these channels, or ccECP."""
    system = molecule(symbols, **options)
    if channels is None:
        return system.with_cores(read("ccecp", system.symbols, Path()))
    return system.with_cores((CorePotential("own", system.symbols[0], 2, channels),))


def stream(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("points", [6, 12])
@pytest.mark.parametrize("momentum", [0, 1, 2])
def test_states_of_one_angular_momentum_see_only_their_channel(points: int, momentum: int) -> None:
    """The product of P_l and the state has at most the degree of the rule, which is exact in any rotation."""
    terms = {0: (Term(2, 0.7, 1.5),), 1: (Term(2, 0.5, -0.8), Term(3, 0.3, 0.2)), 2: (Term(1, 0.4, 0.6),)}
    if points == 6:
        terms.pop(2)  # degree 2 + 2 is too much for six points
    system = with_core(channels={-1: (), **terms})
    electrons = torch.randn(30, 1, 3)
    term = EffectiveCore(system, points=points, threshold=0.0)
    energy = term(Point(Orbitals(gaussian(momentum)), electrons, 7, stream()))
    r = electrons.norm(dim=-1).squeeze(1)
    expected = sum(
        (t.coefficient * r ** (t.power - 2) * torch.exp(-t.exponent * r**2) for t in terms.get(momentum, ())),
        start=torch.zeros_like(r),
    )
    torch.testing.assert_close(energy, expected, rtol=1e-9, atol=1e-11)


def test_random_rotations_make_every_rule_unbiased() -> None:
    """A state of degree 4 is beyond l = 2 for the octahedron; the average over rotations vanishes all the same."""
    x = nn.functional.normalize(torch.tensor([[0.3, -0.5, 0.8]]), dim=-1)
    points = polyhedron(6) @ random_rotations((20000,), stream(), torch.device("cpu")).mT
    quartic = (points**4).sum(-1) - 0.6  # harmonics of degree 4 only
    averages = (projectors((points @ x.T).squeeze(-1), 3) * quartic).mean(-1)
    errors = averages.std(1) / 20000**0.5
    assert bool((averages.std(1) > 0.01).any())
    assert bool((averages.mean(1).abs() < 4 * errors + 1e-12).all())


@pytest.mark.parametrize(("points", "degree"), [(6, 3), (12, 5)])
def test_rules_integrate_polynomials_up_to_their_degree(points: int, degree: int) -> None:
    vertices = polyhedron(points) @ random_rotations((), stream(), torch.device("cpu"))
    assert vertices.shape == (points, 3)
    for power, exact in ((1, 0.0), (2, 1 / 3), (3, 0.0), (4, 1 / 5), (5, 0.0)):
        if power <= degree:
            assert float((vertices[:, 2] ** power).mean()) == pytest.approx(exact, abs=1e-12)


def test_all_nuclei_in_range_act_with_the_signs_of_psi() -> None:
    """An s state of one centre, seen from another, has every angular momentum; and the p state of a second electron
    changes sign on the sphere."""
    channels = {-1: (), 0: (Term(2, 0.1, 1.0),)}
    system = with_core("Li Li", channels, distance=1.5)
    electrons = torch.randn(6, 2, 3)
    ansatz = Orbitals(gaussian(0), gaussian(1))
    term = EffectiveCore(system, threshold=0.0)
    drawn = term(Point(ansatz, electrons.repeat(400, 1, 1), 1000, stream())).view(400, 6)
    directions = nn.functional.normalize(torch.randn(20000, 3, generator=stream(9)), dim=-1)
    expected = torch.zeros(6)
    for i, orbital in enumerate((gaussian(0), gaussian(1))):
        for nucleus in torch.tensor(system.positions):
            r = (electrons[:, i] - nucleus).norm(dim=-1)
            sphere = nucleus + r[:, None, None] * directions
            mean = orbital(sphere.flatten(0, 1)).view(6, -1).mean(1)
            expected += torch.exp(-0.1 * r**2) * mean / orbital(electrons[:, i])
    error = drawn.std(0) / 20 + 0.02 * expected.abs().max()
    assert bool(((drawn.mean(0) - expected).abs() < 4 * error).all())


def test_electrons_out_of_range_cost_nothing() -> None:
    system = with_core(channels={-1: (Term(1, 2.0, 1.0),), 0: (Term(2, 2.0, 1.0),)})
    far = torch.full((5, 1, 3), 4.0)

    class Forbidden(nn.Module):
        def forward(self, electrons: Tensor) -> tuple[Tensor, Tensor]:
            raise AssertionError

    point = Point(Forbidden(), far, 5, stream())
    torch.testing.assert_close(EffectiveCore(system)(point), torch.zeros(5), atol=1e-9, rtol=0)


def test_lithium_with_a_core_potential_is_one_electron() -> None:
    """The ground state of one electron in a basis of s Gaussians, by quadrature and by the local energies of VMC."""
    system = with_core("Li")
    assert system.n_electrons == 1 and system.charges.tolist() == [1] and system.nuclear_repulsion == 0
    exponents = np.geomspace(0.02, 40, 14)
    r = np.linspace(1e-4, 40, 40001)
    core = system.cores[0]
    potential = -1 / r + sum(t.coefficient * r ** (t.power - 2) * np.exp(-t.exponent * r**2) for t in core.channels[-1])
    potential += sum(t.coefficient * r ** (t.power - 2) * np.exp(-t.exponent * r**2) for t in core.channels[0])
    functions = np.exp(-exponents[:, None] * r**2)
    slopes = -2 * exponents[:, None] * r * functions
    weights = r**2 * (r[1] - r[0])
    hamiltonian = 0.5 * (slopes * weights) @ slopes.T + (functions * weights * potential) @ functions.T
    energies, states = eigh(hamiltonian, (functions * weights) @ functions.T)
    assert energies[0] == pytest.approx(-0.1968528, abs=1e-5)
    a, c = torch.tensor(exponents), torch.tensor(states[:, 0])
    ansatz = Orbitals(lambda x: (c * torch.exp(-a * x.square().sum(-1, keepdim=True))).sum(-1))
    electrons = 2 * torch.randn(400, 1, 3)
    local = molecular(system).evaluate(ansatz, electrons, 100, stream())
    assert list(local.terms) == ["kinetic", "coulomb", "effective_core"]
    # The basis error of the local energy falls with the number of Gaussians; its weighted mean is the energy.
    weight = (2 * local.psi.log).exp() * torch.exp(electrons.square().sum((1, 2)) / 8)
    mean = float((weight * local.total).sum() / weight.sum())
    assert mean == pytest.approx(float(energies[0]), abs=2e-3)


def test_a_random_stream_repeats_the_energies() -> None:
    system = with_core("Be H", distance=2.5)
    ansatz = Orbitals(gaussian(0), gaussian(1), gaussian(0, 2.5))
    electrons = torch.randn(20, 3, 3)
    hamiltonian = molecular(system)
    first, again, other = (hamiltonian.local_energy(ansatz, electrons, 8, stream(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.allclose(first, other)
    with pytest.raises(CalculationError, match="random stream"):
        hamiltonian.local_energy(ansatz, electrons, 8)


def test_impossible_numbers_of_points_are_refused() -> None:
    with pytest.raises(InputError, match="points must be 6 or 12, not 7"):
        EffectiveCore(with_core("Li"), points=7)
    with pytest.raises(InputError, match="threshold must be a number of at least 0, not 'x'"):
        EffectiveCore(with_core("Li"), threshold="x")  # type: ignore[arg-type]


def test_a_run_names_its_core_potential_and_has_no_reference(program: Program, tmp_path: Path) -> None:
    words = ["+method=ferminet", "system=li", "method.walkers=8", "method.pretraining.steps=2", "trainer=cpu"]
    words += ["method.sampling.burn_in=2", "method.optimisation.steps=2", "method.evaluation.steps=4"]
    words += ["method.model.one_electron=4", "method.model.two_electron=2", "logger=csv"]
    done = program(*words, "system.ecp=ccecp", "hydra.run.dir=r")
    assert done.status in (0, 1) and "Li (1 electron, doublet, ccecp)" in done.out, done
    document = json.loads((tmp_path / "r" / "result.json").read_text())
    assert document["system"]["ecp"] == {"Li": {"name": "ccecp", "core_electrons": 2}}
    assert document["reference"] is None and "virial_ratio" not in document["vmc"]
    assert document["vmc"]["hartree_fock"]["energy_hartree"] == pytest.approx(-0.1968528, abs=1e-5)
    assert "Li (1 electron, doublet, ccecp)" in program("report", "r").out
    for refused in (
        ["+method=hf", "system=h2o", "system.ecp=ccecp"],
        [*words, "system.ecp=ccecq"],
        [*words, "system.ecp=missing.nw"],
        [*words, "task=evaluate", "ckpt=r", "system.ecp={Li: stuttgart}"],
    ):
        failed = program(*refused)
        assert failed.status == 2 and failed.err.count("\n") == 1 and "system.ecp" in failed.err, failed


@pytest.mark.parametrize(("options", "reference"), [({"rescale_inputs": True}, None), ({}, HartreeFockOrbitals)])
def test_networks_have_no_kink_at_a_core_potential(options: dict[str, Any], reference: Any) -> None:
    """The forward Laplacian is that of autograd, and the kinetic energy stays finite at the nucleus."""
    system = with_core("Be H", distance=2.5)
    ansatz = FermiNet(system, 8, 4, 2, 2, reference=reference, **options)
    electrons = torch.randn(4, 3, 3)
    electrons[0, 1] = torch.tensor([1e-6, 0.0, 0.0])
    for got, expected in zip(ansatz.laplacian(electrons), laplacian_by_autograd(ansatz, electrons), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-7, atol=1e-7)  # at 1e-6 bohr, digits cancel
    kinetic = molecular(system).evaluate(ansatz, electrons, 4, stream()).terms["kinetic"]
    assert abs(float(kinetic[0])) < 100


@pytest.mark.parametrize("symbol", ["S", pytest.param("Fe", marks=pytest.mark.slow)])
def test_expectation_values_are_the_integrals_of_pyscf(symbol: str) -> None:
    """One electron in an orbital of all angular momenta around two nuclei with core potentials, on a grid."""
    system = with_core(f"{symbol} {symbol}", distance=2.5)
    mol = gto.M(
        atom=[(symbol, place) for place in system.positions],
        unit="Bohr",
        basis="ccecp-ccpvdz",
        ecp={symbol: system.cores[0].as_pyscf()},
    )
    coefficients = np.random.default_rng(0).normal(size=mol.nao)
    grid = dft.Grids(mol)
    grid.level = 0
    grid.build()
    orbital = GaussianOrbitals(mol, coefficients[:, None], np.zeros((mol.nao, 0)))
    electrons, weights = torch.tensor(grid.coords).unsqueeze(1), torch.tensor(grid.weights)
    point = Point(Slater(orbital), electrons, 4000, stream())
    density = torch.exp(2 * point.signs_and_logs[1])
    values = EffectiveCore(system)(point)
    expected = coefficients @ mol.intor("ECPscalar") @ coefficients
    assert float((weights * density * values).sum()) == pytest.approx(expected, rel=1e-3)

"""Analytic gradients against those of libxc and central differences of energies."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from pyscf import dft, gto
from pyscf.dft import gen_grid, radi
from torch import Tensor, nn

from functional_models import (
    OXYGEN_HYDRIDE,
    WATER,
    Everything,
    ExactExchange,
    Kinetic,
    PBEExchange,
    SlaterExchange,
    WholeGrid,
)
from fusion.chemistry.system import System
from fusion.errors import CalculationError
from fusion.functionals import DensityFeatures, FunctionalMethod
from fusion.functionals.grid.becke_weights import weight_gradient
from fusion.functionals.grid.gradients import exchange_correlation_gradient
from fusion.functionals.local_exchange.gradients import exchange_gradient
from fusion.functionals.local_exchange.shell_pairs import shell_pairs
from fusion.functionals.scf.kohn_sham import kohn_sham, molecule

Make = Callable[[gto.Mole], Any]


class OfAllPoints(nn.Module):
    """Functional of the whole grid and its points, whose energy is not a sum over points."""

    needs = frozenset({"rho", "grad", "coords", "weights"})

    def energy(self, grid: DensityFeatures) -> Tensor:
        assert grid.weights is not None and grid.coords is not None
        varying = 1.0 + 0.02 * torch.cos(grid.coords.sum(dim=1))
        return grid.weights @ (varying * PBEExchange().energy_density(grid)) + 0.01 * torch.sqrt(
            grid.weights @ grid.rho.sum(dim=0).square()
        )


class Placed(PBEExchange):
    """Pointwise functional that depends on the position."""

    needs = PBEExchange.needs | {"coords", "weights"}

    def energy_density(self, features: DensityFeatures) -> Tensor:
        assert features.weights is not None and features.coords is not None
        varying = 1.0 + 0.02 * torch.cos(features.coords.sum(dim=1)) + 0.01 * torch.tanh(features.weights)
        return varying * super().energy_density(features)


def closeness(features: DensityFeatures) -> Tensor:
    """Smooth function of the distances (G,) to the nuclei."""
    assert features.coords is not None and features.nuclei is not None
    return torch.exp(-0.4 * (features.coords[:, None] - features.nuclei).square().sum(dim=2)).sum(dim=1)


class NearNuclei(PBEExchange):
    """Pointwise functional that depends on the nuclei."""

    needs = PBEExchange.needs | {"coords", "nuclei"}

    def energy_density(self, features: DensityFeatures) -> Tensor:
        return (1.0 + 0.03 * closeness(features)) * super().energy_density(features)


class AroundNuclei(nn.Module):
    """Functional of the whole grid that depends on the nuclei."""

    needs = NearNuclei.needs | {"weights"}

    def energy(self, grid: DensityFeatures) -> Tensor:
        assert grid.weights is not None
        near = grid.weights @ (closeness(grid) * grid.rho.sum(dim=0))
        return grid.weights @ NearNuclei().energy_density(grid) + 0.01 * torch.sqrt(near)


def maker(model: nn.Module, level: int = 0, **options: Any) -> Make:
    def make(mol: gto.Mole) -> Any:
        mean_field = kohn_sham(mol, model, grid_level=level, conv_tol=1e-12, start=None, **options)
        mean_field.conv_tol_grad = 1e-6
        return mean_field.run()

    return make


def moved(mol: gto.Mole, atom: int, step: np.ndarray) -> gto.Mole:
    coords = mol.atom_coords().copy()
    coords[atom] += step
    return mol.set_geom_(coords, unit="Bohr", inplace=False)


def assert_is_derivative(make: Make, system: System, tolerance: float = 1e-6, translates: bool = True) -> None:
    """Derivative along one direction for one atom, by differences of fourth order."""
    mol = molecule(system, "6-31g")
    gradient = make(mol).nuc_grad_method().kernel()
    if translates:
        assert np.abs(gradient.sum(axis=0)).max() < 1e-10
    direction = np.array([0.3, 0.5, 0.8])
    energies = [make(moved(mol, 1, step * direction)).e_tot for step in (-0.004, -0.002, 0.002, 0.004)]
    expected = (energies[0] - 8.0 * energies[1] + 8.0 * energies[2] - energies[3]) / 0.024
    assert gradient[1] @ direction == pytest.approx(expected, abs=tolerance)


@pytest.mark.parametrize(
    ("system", "model", "xc"),
    [
        (WATER, PBEExchange(), "pbe,"),
        (OXYGEN_HYDRIDE, SlaterExchange(), "lda,"),
        (OXYGEN_HYDRIDE, PBEExchange(), "pbe,"),
    ],
    ids=["water-pbe", "oh-lda", "oh-pbe"],
)
@pytest.mark.parametrize("response", [True, False])
def test_same_formula_same_gradient_as_libxc(system: System, model: nn.Module, xc: str, response: bool) -> None:
    mol = molecule(system, "6-31g")
    reference = (dft.RKS if system.spin == 0 else dft.UKS)(mol, xc=xc)
    reference.grids.level, reference.conv_tol = 1, 1e-12
    theirs = reference.run().nuc_grad_method()
    ours = maker(model, 1)(mol).nuc_grad_method()
    theirs.grid_response = ours.grid_response = response
    np.testing.assert_allclose(ours.kernel(), theirs.kernel(), atol=1e-7)


@pytest.mark.parametrize(
    ("system", "model"),
    [
        (WATER, Kinetic()),
        pytest.param(WATER, Everything(), marks=pytest.mark.slow),
        (OXYGEN_HYDRIDE, Kinetic()),
        (OXYGEN_HYDRIDE, Everything()),
    ],
    ids=["water-tau", "water-everything", "oh-tau", "oh-everything"],
)
def test_gradient_is_the_derivative_of_the_energy(system: System, model: nn.Module) -> None:
    assert_is_derivative(maker(model), system)


@pytest.mark.parametrize("spins", [1, 2])
@pytest.mark.parametrize("cart", [False, True])
def test_gradient_of_the_integrals_matches_pyscf(spins: int, cart: bool) -> None:
    """Test shells up to d, general contractions, tight and diffuse functions, close to and far from a nucleus."""
    mol = gto.M(atom="C 0 0 0; H 0.3 1.9 0.6", unit="Bohr", basis="cc-pvdz", spin=1, cart=cart, verbose=0)
    random = np.random.default_rng(0)
    coords = np.concatenate([random.normal(size=(70, 3)), 1e-3 * random.normal(size=(10, 3)), [[0.0, 0.0, 20.0]]])
    smeared, by = random.normal(size=(spins, mol.nao, 81)), random.normal(size=(2, spins, 81))
    of_atoms, of_points = exchange_gradient(shell_pairs(mol, derivatives=True), 2, (0.0, 0.4), coords, smeared, by)
    expected = np.zeros((3, mol.nao, 81))
    for factors, omega in zip(by, (0.0, 0.4), strict=True):
        with mol.with_range_coulomb(omega):
            slopes = mol.intor("int1e_grids_ip", grids=coords)  # (3, G, n, n) of <grad b|...|d>
        expected += np.einsum("sg,sng,xgnm,smg->xng", factors, smeared, slopes, smeared)
    np.testing.assert_allclose(of_points, expected.sum(axis=1), atol=1e-9)
    slices = mol.aoslice_by_atom()[:, 2:]
    np.testing.assert_allclose(of_atoms, [expected[:, a:b].sum(axis=(1, 2)) for a, b in slices], atol=1e-9)


@pytest.mark.parametrize("model", [OfAllPoints(), Placed()], ids=lambda model: type(model).__name__)
def test_gradient_of_functionals_of_the_coordinates(model: nn.Module) -> None:
    assert_is_derivative(maker(model), OXYGEN_HYDRIDE, translates=False)


def test_gradient_of_fractional_occupations() -> None:
    assert_is_derivative(maker(ExactExchange(), occupations=[[1, 1, 1, 1, 0.6], [1, 1, 1, 0.7]]), OXYGEN_HYDRIDE)


@pytest.mark.parametrize("system", [WATER, OXYGEN_HYDRIDE], ids=lambda system: system.name)
def test_gradient_with_density_fitting_and_dispersion(system: System) -> None:
    assert_is_derivative(maker(PBEExchange(), density_fit=True, dispersion="d3bj"), system)


def test_whole_grid_and_pointwise_forms_have_the_same_gradient() -> None:
    mol = molecule(OXYGEN_HYDRIDE, "6-31g")
    pointwise, whole = (
        maker(model)(mol).nuc_grad_method().kernel() for model in (PBEExchange(), WholeGrid(PBEExchange()))
    )
    np.testing.assert_allclose(whole, pointwise, atol=1e-9)


def test_torque_falls_with_the_grid_level() -> None:
    """Grid points do not rotate with the molecule; the resulting torque falls with the grid level."""
    mol = molecule(WATER, "6-31g")
    turned = mol.set_geom_(mol.atom_coords() @ rotation().T, unit="Bohr", inplace=False)
    torques = []
    for level in (0, 3):
        gradient = maker(PBEExchange(), level)(turned).nuc_grad_method().kernel()
        torques.append(np.linalg.norm(np.cross(turned.atom_coords(), gradient).sum(axis=0)))
    assert torques[1] < 2e-5 < torques[0]


def rotation() -> np.ndarray:
    return np.linalg.qr(np.array([[1.0, 0.4, -0.3], [-0.2, 1.0, 0.6], [0.5, -0.7, 1.0]]))[0]


@pytest.mark.parametrize("adjust", [radi.treutler_atomic_radii_adjust, radi.becke_atomic_radii_adjust, None])
def test_gradient_of_weights_matches_the_grid(adjust: Any) -> None:
    mol = gto.M(atom="C 0 0 0; O 0.2 2.1 0.4; H 1.6 -1 0.3; F -1.2 -1 -1.7", unit="Bohr", verbose=0)

    def grid(mol: gto.Mole) -> gen_grid.Grids:
        grids = gen_grid.Grids(mol)
        grids.level, grids.radii_adjust = 0, adjust
        return grids.build(sort_grids=False)

    here = grid(mol)
    values = np.exp(-np.linalg.norm(here.coords - [0.1, 0.3, 0.2], axis=1))
    computed = weight_gradient(here, values)
    for atom in range(mol.natm):
        step = np.array([1e-4, -2e-4, 3e-4])
        ends = [values @ grid(moved(mol, atom, sign * step)).weights for sign in (1.0, -1.0)]
        assert computed[atom] @ step == pytest.approx(0.5 * (ends[0] - ends[1]), abs=1e-9)


def test_scanner_starts_from_the_last_geometry() -> None:
    mol = molecule(OXYGEN_HYDRIDE, "6-31g")
    scanner = maker(SlaterExchange())(mol).nuc_grad_method().as_scanner()
    stretched = moved(mol, 1, np.array([0.0, 0.0, 0.1]))
    energy, gradient = scanner(stretched)
    again = maker(SlaterExchange())(stretched)
    assert energy == pytest.approx(again.e_tot, abs=1e-8)
    np.testing.assert_allclose(gradient, again.nuc_grad_method().kernel(), atol=1e-5)


def test_method_computes_forces() -> None:
    (result,) = FunctionalMethod("x", ExactExchange(), basis="6-31g", grid_level=0).calculate([WATER], {"forces"})
    expected = maker(ExactExchange())(molecule(WATER, "6-31g")).nuc_grad_method().kernel()
    np.testing.assert_allclose(result.properties["forces"], -expected, atol=1e-5)


def test_refusals() -> None:
    mean_field = kohn_sham(molecule(WATER, "6-31g"), SlaterExchange(), grid_level=0, start=None)
    mean_field.max_cycle = 0
    mean_field.kernel()
    with pytest.raises(CalculationError, match="the SCF did not converge"):
        mean_field.nuc_grad_method().kernel()
    converged = maker(SlaterExchange())(molecule(OXYGEN_HYDRIDE, "6-31g"))
    converged.grids.becke_scheme = gen_grid.stratmann
    with pytest.raises(NotImplementedError, match="becke_scheme = original_becke"):
        converged.nuc_grad_method().kernel()


@pytest.mark.parametrize("model", [NearNuclei(), AroundNuclei()], ids=lambda model: type(model).__name__)
def test_gradient_of_functionals_of_the_nuclei(model: nn.Module) -> None:
    """The functional moves with the nuclei: without that term, the gradients would not sum to zero."""
    assert_is_derivative(maker(model), OXYGEN_HYDRIDE)


def test_ghost_atoms_are_no_nuclei() -> None:
    mol = gto.M(atom="O 0 0 0; ghost-H 0 0 1; H 0 1 0", basis="sto-3g", spin=1, verbose=0)
    mean_field = kohn_sham(mol, AroundNuclei(), grid_level=0, start=None).run()
    features = next(iter(mean_field._numint.working_grid(mol, mean_field.grids, mean_field.make_rdm1()).blocks()))
    np.testing.assert_array_equal(features.nuclei, mol.atom_coords()[[0, 2]])
    gradient = mean_field.nuc_grad_method().kernel()
    assert gradient.shape == (3, 3) and np.abs(gradient.sum(axis=0)).max() < 1e-8


class Counting(Everything):
    """`Everything`, counting its evaluations."""

    evaluations = 0

    def energy_density(self, features: DensityFeatures) -> Tensor:
        Counting.evaluations += 1  # of any copy
        return super().energy_density(features)


@pytest.mark.parametrize("system", [WATER, OXYGEN_HYDRIDE])
def test_gradients_use_what_the_scf_found_at_the_points(system: System) -> None:
    Counting.evaluations = 0
    ks = kohn_sham(molecule(system, "sto-3g"), Counting(), grid_level=0)
    ks.kernel()
    evaluations = Counting.evaluations
    gradients = [ks.nuc_grad_method().kernel() for _ in range(2)]
    assert Counting.evaluations == evaluations  # the second time, PySCF has changed the molecule's environment
    assert gradients[1] == pytest.approx(gradients[0], abs=1e-12)
    ks._numint.reset()
    assert ks.nuc_grad_method().kernel() == pytest.approx(gradients[0], abs=1e-7)
    assert Counting.evaluations > evaluations


class Weighted(SlaterExchange):
    """Exchange of the uniform electron gas times a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones((), dtype=torch.float64), requires_grad=False)

    def energy_density(self, features: DensityFeatures) -> Tensor:
        return self.scale * super().energy_density(features)


def test_changed_weights_need_another_scf_before_a_gradient() -> None:
    model = Weighted().eval()  # a module in training would be copied
    mean_field = kohn_sham(molecule(OXYGEN_HYDRIDE, "sto-3g"), model, grid_level=0, start=None).run()
    density = np.asarray(mean_field.make_rdm1())
    mean_field.nuc_grad_method().kernel()
    model.scale.data *= 1.1  # does not raise the tensor's version
    with pytest.raises(CalculationError, match=r"weights of .* have changed since the SCF"):
        mean_field.nuc_grad_method().kernel()
    fresh = kohn_sham(molecule(OXYGEN_HYDRIDE, "sto-3g"), model, grid_level=0, start=None)
    by_hand, kept = (  # at the old density: with the new weights, whatever was found with the old ones
        exchange_correlation_gradient(ks._numint, ks.mol, mean_field.grids, density) for ks in (fresh, mean_field)
    )
    np.testing.assert_allclose(kept, by_hand, atol=1e-7)
    expected = fresh.run().nuc_grad_method().kernel()
    mean_field.kernel()
    np.testing.assert_allclose(mean_field.nuc_grad_method().kernel(), expected, atol=1e-5)

"""One-body density matrices and natural orbitals with known occupations."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from exact import Slater1s, molecule
from fusion.chemistry.system import System
from fusion.errors import InputError
from fusion.parallel.collectives import random_stream
from fusion.runs.layout import DENSITY_MATRIX, NATURAL_ORBITALS
from fusion.wavefunctions.configurations import Configurations
from fusion.wavefunctions.estimators import DensityMatrix, Estimates
from fusion.wavefunctions.features import nuclear_vectors
from fusion.wavefunctions.gaussian_orbitals import GaussianOrbitals
from fusion.wavefunctions.hamiltonians import Point
from fusion.wavefunctions.hartree_fock import hartree_fock
from fusion.wavefunctions.references import ConfigurationInteraction
from fusion.wavefunctions.sampler import Metropolis, initial_electrons
from killable import TINY, assert_same, at, checkpoint, fusion
from resuming import document, killed_and_resumed, placed

pytestmark = pytest.mark.usefixtures("double_precision")

KEY = "method.evaluation.estimators.density_matrix"
WORDS = (*TINY, "+estimator=density_matrix", f"{KEY}.basis=def2-SVP", f"{KEY}.every=3", f"{KEY}.points=2")


class TwoDeterminants(nn.Module):
    """sqrt(1 - w) a(1) a(2) - sqrt(w) b(1) b(2) with the bonding and antibonding 1s orbitals of H2 in the basis."""

    def __init__(self, estimator: DensityMatrix, weight: float) -> None:
        super().__init__()
        self.functions = estimator.functions
        ao = np.linalg.eigh(estimator.mol.intor("int1e_ovlp"))
        lowdin = ao[1] / np.sqrt(ao[0]) @ ao[1].T
        core = lowdin @ (estimator.mol.intor("int1e_kin") + estimator.mol.intor("int1e_nuc")) @ lowdin
        self.orbitals = torch.tensor(lowdin @ np.linalg.eigh(core)[1][:, :2])
        self.amplitudes = ((1 - weight) ** 0.5, -(weight**0.5))

    def forward(self, electrons: Tensor) -> tuple[Tensor, Tensor]:
        values = self.functions.atomic_orbitals(electrons) @ self.orbitals
        psi = values.prod(1) @ torch.tensor(self.amplitudes)
        return torch.sign(psi), psi.abs().log()


class Determinant(nn.Module):
    """Product of both spins' determinants of Gaussian orbitals."""

    def __init__(self, orbitals: GaussianOrbitals) -> None:
        super().__init__()
        self.orbitals = orbitals

    def forward(self, electrons: Tensor) -> tuple[Tensor, Tensor]:
        return self.orbitals.slater_log(electrons)


def local(walkers: int, lost: int = 0) -> Any:
    """Local energies of walkers, of which the first few are not finite."""
    return SimpleNamespace(total=torch.cat((torch.full((lost,), torch.nan), torch.zeros(walkers - lost))))


def measured(estimator: DensityMatrix, ansatz: Any, walkers: int, iterations: int) -> Estimates:
    """Estimates from a Metropolis sampling of |psi|^2."""
    stream = random_stream(0)
    sampler = Metropolis(initial_electrons(estimator.system, walkers, stream), stream)

    def log_density(electrons: Tensor) -> Tensor:
        return 2 * ansatz(electrons)[1]

    sampler.burn_in(log_density, 200)
    for _ in range(iterations):
        sampler.run(log_density, 10)
        estimator(Point(ansatz, sampler.electrons, walkers, stream), local(walkers))
    return estimator.finish({})


def details(estimates: Estimates) -> dict[str, Any]:
    content: dict[str, Any] = estimates.details["density_matrix"]
    return content


def table(estimates: Estimates) -> dict[str, np.ndarray]:
    """Columns of density_matrix.csv."""
    rows = list(csv.DictReader(io.StringIO(estimates.files[DENSITY_MATRIX].decode())))
    return {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}


@pytest.fixture(scope="module")
def hydrogen_molecule() -> Estimates:
    """Estimates of a wavefunction whose natural occupations are 1.8 and 0.2."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)  # fixtures of a module are made before `double_precision`
    estimator = DensityMatrix(molecule("H H", 1.4), "def2-SVP")
    estimates = measured(estimator, TwoDeterminants(estimator, 0.1), 256, 64)
    torch.set_default_dtype(before)
    return estimates


@pytest.mark.parametrize(
    ("system", "up", "down"), [(molecule("Li H", 3.0), 2, 2), (molecule("Li"), 2, 1), (molecule("H"), 1, 0)]
)
def test_a_determinant_has_occupations_of_one(system: System, up: int, down: int) -> None:
    """In the Hartree-Fock orbitals of the same basis, diagonal elements have no variance."""
    field = hartree_fock(system, "def2-SVP")
    estimates = measured(DensityMatrix(system, "def2-SVP"), Determinant(field.orbitals), 64, 8)
    content = details(estimates)
    for count, spin in ((up, "up"), (down, "down")):
        occupations = content[f"{spin}_occupations"]["value"]
        np.testing.assert_allclose(occupations[:count], 1.0, atol=0.1)
        np.testing.assert_allclose(occupations[count:], 0.0, atol=0.1)
    assert content["electrons_in_basis"]["value"] == pytest.approx(up + down, abs=1e-9)
    assert content["electrons_missing"]["value"] == pytest.approx(0, abs=1e-9)
    np.testing.assert_allclose(
        content["hartree_fock_occupations"][: up + down], [2.0] * down + [1.0] * (up - down) + [0.0] * down, atol=0.01
    )


def test_hydrogen_has_one_natural_orbital() -> None:
    """The exact 1s orbital is not within the basis, which lacks 1e-4 of it."""
    content = details(measured(DensityMatrix(molecule("H")), Slater1s(1.0), 256, 50))
    occupation = content["occupations"]
    assert 0 < occupation["stderr"][0] < 2e-3
    assert abs(occupation["value"][0] - 1) < 4 * occupation["stderr"][0] + 5e-4
    missing = content["electrons_missing"]
    assert abs(missing["value"]) < 4 * missing["stderr"] + 5e-4


def test_two_determinants_have_their_occupations(hydrogen_molecule: Estimates) -> None:
    content = details(hydrogen_molecule)
    value, stderr = (np.array(content["occupations"][part]) for part in ("value", "stderr"))
    assert stderr[0] < 0.02
    assert np.all(np.abs(value[:2] - [1.8, 0.2]) < 4 * stderr[:2] + content["noise_of_weak_occupations"] ** 2)
    assert np.abs(value[2:]).max() < 1.5 * content["noise_of_weak_occupations"] < 0.05
    missing = content["electrons_missing"]
    assert abs(missing["value"]) < 4 * missing["stderr"]


def test_beryllium_has_the_occupations_of_its_determinants() -> None:
    """2s^2 and the three 2p^2, which differ by pairs: the occupations are sums of squared weights."""
    system = molecule("Be")
    reference = ConfigurationInteraction(system)
    strings = [own[:4] for own in reference.strings]
    weights = np.diag(reference.weights.diagonal()[:4])
    configurations = Configurations(strings, weights)

    def ansatz(electrons: Tensor) -> tuple[Tensor, Tensor]:
        orbitals = reference(*nuclear_vectors(electrons, torch.zeros(1, 3)))
        return cast(tuple[Tensor, Tensor], configurations(orbitals.split(reference.spins, dim=1)))

    shares = weights.diagonal() ** 2 / (weights**2).sum()
    expected = np.zeros(5)
    np.add.at(expected, strings[0], 2 * shares[:, None])
    content = details(measured(DensityMatrix(system), ansatz, 128, 24))
    value, stderr = (np.array(content["occupations"][part])[:5] for part in ("value", "stderr"))
    occupations = np.sort(expected)[::-1]
    assert occupations[1] < 1.9 and occupations[4] > 0.03
    assert np.all(np.abs(value - occupations) < 4 * stderr + 0.5 * content["noise_of_weak_occupations"])
    assert content["noise_of_weak_occupations"] < 0.03


def test_the_control_changes_errors_only(monkeypatch: pytest.MonkeyPatch, hydrogen_molecule: Estimates) -> None:
    monkeypatch.setattr(DensityMatrix, "_controls", lambda _self, _point, _kept, own: torch.zeros_like(own))
    estimator = DensityMatrix(molecule("H H", 1.4), "def2-SVP")
    bare = details(measured(estimator, TwoDeterminants(estimator, 0.1), 256, 64))
    value, stderr = (np.array(bare["occupations"][part]) for part in ("value", "stderr"))
    assert np.all(np.abs(value[:2] - [1.8, 0.2]) < 4 * stderr[:2] + bare["noise_of_weak_occupations"] ** 2)
    assert details(hydrogen_molecule)["noise_of_weak_occupations"] < 0.75 * bare["noise_of_weak_occupations"]


def test_the_table_is_diagonal_in_the_natural_orbitals(hydrogen_molecule: Estimates) -> None:
    columns = table(hydrogen_molecule)
    diagonal = columns["i"] == columns["j"]
    total = columns["up"] + columns["down"]
    np.testing.assert_allclose(total[diagonal], details(hydrogen_molecule)["occupations"]["value"], atol=1e-6)
    np.testing.assert_allclose(total[~diagonal], 0.0, atol=1e-7)


def test_pyscf_reads_the_natural_orbitals(hydrogen_molecule: Estimates, tmp_path: Path) -> None:
    from pyscf.tools import molden

    (tmp_path / NATURAL_ORBITALS).write_bytes(hydrogen_molecule.files[NATURAL_ORBITALS])
    mol, _, coefficients, occupations, _, _ = molden.load(str(tmp_path / NATURAL_ORBITALS))
    np.testing.assert_allclose(occupations, details(hydrogen_molecule)["occupations"]["value"], atol=1e-5)
    overlap = coefficients.T @ mol.intor("int1e_ovlp") @ coefficients
    np.testing.assert_allclose(overlap, np.eye(len(overlap)), atol=1e-6)
    np.testing.assert_allclose(mol.atom_coords()[:, 2], [0.0, 1.4], atol=1e-6)


def test_matrices_are_symmetric() -> None:
    estimator = DensityMatrix(molecule("H H", 1.4), "sto-3g", points=1)
    estimator(Point(Slater1s(1.0), torch.randn(4, 2, 3), 4, random_stream(0)), local(4))
    matrices = estimator.matrices.mean()
    assert np.abs(matrices).max() > 0.1
    np.testing.assert_array_equal(matrices, matrices.transpose(0, 2, 1))


def test_a_single_measurement_has_no_errors() -> None:
    estimator = DensityMatrix(molecule("He"), "def2-SVP", points=1)
    estimator(Point(Slater1s(1.7), torch.randn(4, 2, 3), 4, random_stream(0)), local(4))
    estimates = estimator.finish({})
    content = details(estimates)
    assert content["occupations"]["stderr"] is None and content["noise_of_weak_occupations"] is None
    assert estimates.files[DENSITY_MATRIX].splitlines()[1].count(b",,") == 1


def test_orbitals_are_orthonormal_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """A quadrature over all space, computed a few points at a time."""
    from pyscf import dft

    estimator = DensityMatrix(molecule("H H", 1.4), "def2-SVP")
    grid = dft.gen_grid.Grids(estimator.mol)
    grid.build()
    monkeypatch.setattr("fusion.wavefunctions.estimators.density_matrix._CHUNK", 1000)
    orbitals = estimator._orbitals(torch.tensor(grid.coords)).numpy()
    overlap = (orbitals * grid.weights[:, None]).T @ orbitals
    np.testing.assert_allclose(overlap, np.eye(estimator.mol.nao), atol=1e-4)


def test_walkers_without_a_local_energy_do_not_count() -> None:
    system, electrons = molecule("He"), torch.randn(4, 2, 3)
    several, fewer = (DensityMatrix(system, "def2-SVP", points=1) for _ in range(2))
    several(Point(Slater1s(1.7), torch.cat((torch.zeros(1, 2, 3), electrons)), 5, random_stream(0)), local(5, lost=1))
    fewer(Point(Slater1s(1.7), electrons, 4, random_stream(0)), local(4))
    np.testing.assert_allclose(several.matrices.mean(), fewer.matrices.mean())


def test_an_iteration_without_local_energies_does_not_count() -> None:
    estimator = DensityMatrix(molecule("He"), "def2-SVP")
    estimator(Point(Slater1s(1.7), torch.randn(4, 2, 3), 4, random_stream(0)), local(4, lost=4))
    assert estimator.finish({}) == Estimates()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"every": 0}, r"\.every must be a whole number of at least 1, not 0"),
        ({"points": 1.5}, r"\.points must be a whole number of at least 1, not 1.5"),
        ({"basis": 3}, r"\.basis must be a name of a basis such as def2-SVP, or null, not 3"),
        ({"basis": "cc-pV5Z"}, r"\.basis: cc-pV5Z has h functions, which Molden files lack"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=rf"^method\.evaluation\.estimators\.density_matrix{message}"):
        DensityMatrix(molecule("Ne"), **settings)


def test_a_basis_that_does_not_exist_is_refused() -> None:
    with pytest.raises(
        InputError, match=f"^{KEY}.basis: no all-electron basis for H in def3-SVP: choose another basis"
    ):
        DensityMatrix(molecule("H"), "def3-SVP")


def test_a_linearly_dependent_basis_is_refused() -> None:
    with pytest.raises(InputError, match="aug-cc-pVTZ is linearly dependent for this geometry: choose a smaller basis"):
        DensityMatrix(molecule("H H", 0.2), "aug-cc-pVTZ")


@pytest.mark.parametrize("other", [{"basis": "def2-TZVP"}, {"every": 3}, {"points": 4}])
def test_sums_of_other_settings_are_refused(other: dict[str, Any]) -> None:
    state = DensityMatrix(molecule("He"), "def2-SVP").state_dict()
    (name,) = other
    with pytest.raises(
        InputError, match=f"density_matrix.{name}={other[name]}: the evaluation in the checkpoint began"
    ):
        DensityMatrix(molecule("He"), **{"basis": "def2-SVP", **other}).load_state_dict(state, strict=False)


@pytest.mark.slow
def test_a_killed_and_resumed_evaluation_has_the_same_matrix(tmp_path: Path) -> None:
    assert fusion(tmp_path, *placed(WORDS, "uninterrupted")).complete
    (resumed,) = killed_and_resumed(tmp_path, WORDS, [at("step", 33)])
    assert "evaluation step 5 of 12" in resumed.out
    assert_same(tmp_path / "uninterrupted", tmp_path / "run")
    for name in (NATURAL_ORBITALS, DENSITY_MATRIX):
        assert (tmp_path / "uninterrupted" / name).read_bytes() == (tmp_path / "run" / name).read_bytes()
    assert checkpoint(tmp_path / "run")["estimators"]["density_matrix"]["matrices.number"] == 4
    assert document(tmp_path / "run")["vmc"]["density_matrix"]["measurements"] == 4

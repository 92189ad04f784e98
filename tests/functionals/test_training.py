"""Labels, stability and regression in the training of functionals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from pyscf import cc, dft, fci, gto
from torch import Tensor, nn

from functional_models import Everything, SlaterExchange
from fusion.errors import InputError
from fusion.functionals import DensityFeatures
from fusion.functionals.grid.numint import LearnedNumInt
from fusion.functionals.scf.kohn_sham import molecule
from fusion.functionals.training import dataset, labels, samples
from fusion.functionals.training.labels import Level
from fusion.functionals.training.regression import Regression
from fusion.functionals.training.settings import Settings
from fusion.functionals.training.stability import instability, potential_matrix

NEEDS = frozenset({"rho", "grad", "tau", "hfx:0", "hfx:0.4"})
SMALL = """
h = { atoms = "H 0 0 0", spin = 1 }
he = { atoms = "He 0 0 0" }
"he+" = { atoms = "He 0 0 0", charge = 1, spin = 1, against = { he = 1 } }
h2 = { molecule = "H2" }
h2-2_0 = { atoms = "H 0 0 0; H 0 0 2.0", held_out = true }
h-25 = { atoms = "H 0 0 0", spin = 1, occupations = [[0.25], []], line = { h = 0.25 } }
he-25 = { atoms = "He 0 0 0", occupations = [[1], [0.25]], line = { he = 0.25, "he+" = 0.75 } }
"""
SETTINGS: dict[str, Any] = OmegaConf.to_container(  # type: ignore[assignment]
    OmegaConf.load(Path(__file__).parents[2] / "conf" / "training" / "functional.yaml")
)


class Scaled(nn.Module):
    """Multiple of the exchange of the uniform gas."""

    needs = frozenset({"rho"})

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor, dtype=torch.float64))

    def energy_density(self, features: DensityFeatures) -> Tensor:
        return self.factor * SlaterExchange().energy_density(features)


@pytest.fixture(scope="module")
def chosen(tmp_path_factory: pytest.TempPathFactory) -> dataset.Set:
    path = tmp_path_factory.mktemp("data") / "small.toml"
    path.write_text(SMALL)
    return dataset.read(path)


def entry(**table: Any) -> dataset.Entry:
    return dataset._entry(Path("x.toml"), "x", table)


def sample(one: dataset.Entry, level: Level, needs: frozenset[str], **known: float) -> samples.Sample:
    return samples.Sample(one.name, labels.label(one, level, needs, known), torch.float64)


def changed(functional: nn.Module, training_sample: samples.Sample) -> float:
    """Return -dE in hartree."""
    return float(instability(functional, training_sample.features, training_sample.orbitals(), 1e-3).detach())


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Share one cache, so that labels are computed once."""
    return tmp_path_factory.mktemp("cache")


def prepared(chosen: dataset.Set, cache: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, samples.Sample]:
    monkeypatch.setenv("FUSION_CACHE", str(cache))
    return samples.prepare(chosen, Level("sto-3g"), NEEDS, torch.float64, lambda step, text: None)


@pytest.mark.parametrize("table", [{"molecule": "LiH"}, {"molecule": "NH2"}])
def test_labels_add_up_to_the_wavefunction_energy(table: Any) -> None:
    one, level = entry(**table), Level("sto-3g", grid_level=2)
    training_sample = sample(one, level, NEEDS)
    mol = molecule(one.system, "sto-3g")
    mean_field = (dft.RKS if mol.spin == 0 else dft.UKS)(mol, xc="b3lyp").run(conv_tol=1e-10)
    assert training_sample.classical == pytest.approx(mean_field.e_tot - mean_field.scf_summary["exc"], abs=2e-5)
    hartree_fock = mol.HF().run(conv_tol=1e-11)
    if training_sample.source == "FCI":
        exact = fci.FCI(hartree_fock).kernel()[0]
    else:
        cluster = cc.CCSD(hartree_fock).run(conv_tol=1e-9)
        exact = cluster.e_tot + cluster.ccsd_t()
    assert training_sample.classical + training_sample.target == pytest.approx(exact, abs=1e-7)
    density = np.asarray(mean_field.make_rdm1())
    exchange = (
        -0.5 * np.einsum("...ij,...ji", mean_field.get_k(mol, density), density).sum() * (1 - 0.5 * (mol.spin == 0))
    )
    local = float((training_sample.features.hfx[0.0] @ training_sample.features.weights).sum())
    assert local == pytest.approx(exchange, abs=3e-4)
    assert float((training_sample.features.rho @ training_sample.features.weights).sum()) == pytest.approx(
        mol.nelectron, abs=1e-3
    )


def test_a_label_has_the_spin_of_its_system() -> None:
    """The lowest state with four electrons up and four down is the triplet of the oxygen atom, not its singlet."""
    energies = []
    for spin in (0, 2):
        mol = gto.M(atom="O 0 0 0", basis="sto-3g", spin=spin, verbose=0)
        density = (dft.RKS if spin == 0 else dft.UKS)(mol, xc="b3lyp").run().make_rdm1()
        energies.append(labels.reference(mol, density, "o"))
    singlet, triplet = (energy for energy, _ in energies)
    assert [source for _, source in energies] == ["FCI", "FCI"]
    assert singlet - triplet == pytest.approx(0.0949, abs=1e-4)  # of all determinants in this basis


def test_energies_of_fractional_electrons_are_linear(chosen: Any, cache: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    training_set = prepared(chosen, cache, monkeypatch)
    assert training_set["h-25"].reference == pytest.approx(0.25 * training_set["h"].reference, abs=1e-12)
    between = 0.25 * training_set["he"].reference + 0.75 * training_set["he+"].reference
    assert training_set["he-25"].classical + training_set["he-25"].target == pytest.approx(between, abs=1e-10)
    electrons = [
        float((training_set[name].features.rho @ training_set[name].features.weights).sum())
        for name in ("h-25", "he-25")
    ]
    assert electrons == pytest.approx([0.25, 1.25], abs=1e-4)
    orbitals = training_set["he-25"].orbitals()
    assert orbitals.occupations.sum(dim=1).tolist() == [1.0, 0.25]


def test_labels_are_computed_once(chosen: Any, cache: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    first = prepared(chosen, cache, monkeypatch)
    monkeypatch.setattr(samples, "label", lambda *anything: pytest.fail("made again"))
    second = prepared(chosen, cache, monkeypatch)
    assert {name: one.target for name, one in first.items()} == {name: one.target for name, one in second.items()}
    assert not list(cache.rglob("*.part"))


def test_a_truncated_label_is_computed_again(
    chosen: Any, cache: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = prepared(chosen, cache, monkeypatch)["he"].target
    only_helium = dataset.Set({"he": chosen.entries["he"]}, ())
    assert prepared(only_helium, tmp_path, monkeypatch)["he"].target == expected
    (path,) = (tmp_path / "labels").iterdir()
    path.write_bytes(path.read_bytes()[:100])
    assert prepared(only_helium, tmp_path, monkeypatch)["he"].target == expected


@pytest.mark.parametrize("table", [{"molecule": "H2"}, {"molecule": "BeH"}])
def test_potential_matches_the_integrator(table: Any) -> None:
    one, level = entry(**table), Level("sto-3g", grid_level=0)
    training_sample = sample(one, level, Everything.needs)
    mol = molecule(one.system, "sto-3g")
    mean_field = labels.conventional(mol, one, level)
    grids = dft.Grids(mol)
    grids.level = 0
    grids.build()
    numint, density = LearnedNumInt(Everything()), mean_field.make_rdm1()
    integrate = numint.nr_rks if mol.spin == 0 else numint.nr_uks
    expected = np.reshape(integrate(mol, grids, "", density)[2], (-1, mol.nao, mol.nao))
    matrix = potential_matrix(Everything(), training_sample.features, training_sample.orbitals())
    assert np.abs(matrix.detach().numpy() - expected).max() < 2e-5


@pytest.mark.parametrize("table", [{"molecule": "LiH"}, {"molecule": "BeH"}])
def test_a_functional_is_stable_at_its_own_density_only(table: Any) -> None:
    one = entry(**table)
    training_sample = sample(one, Level("sto-3g", "lda,", 3), SlaterExchange.needs)
    assert 0.0 <= changed(Scaled(1.0), training_sample) < 1e-8
    mean_field = labels.conventional(molecule(one.system, "sto-3g"), one, Level("sto-3g", "1.1*lda,", 3))
    fixed = training_sample.classical + float(
        1.1 * SlaterExchange().energy_density(training_sample.features) @ training_sample.features.weights
    )
    gained = fixed - mean_field.e_tot
    # Without the response of the Fock matrix, which works against the change.
    assert 1e-5 < gained < changed(Scaled(1.1), training_sample) < 2.5 * gained


def test_stability_of_fractional_electrons_and_its_gradient() -> None:
    one = entry(atoms="He 0 0 0", occupations=[[1], [0.25]], line={"he": 1.0})
    training_sample = sample(one, Level("def2-svp", "lda,", 3), SlaterExchange.needs, he=-2.8)
    assert changed(Scaled(1.0), training_sample) < 1e-8
    functional = Scaled(1.1)
    slope = torch.autograd.grad(
        instability(functional, training_sample.features, training_sample.orbitals(), 1e-3), functional.factor
    )[0]
    values = [changed(Scaled(1.1 + h), training_sample) for h in (-1e-4, 1e-4)]
    assert float(slope) == pytest.approx((values[1] - values[0]) / 2e-4, rel=1e-5)


def regression(
    chosen: dataset.Set, training_set: dict[str, samples.Sample], functional: nn.Module, **changes: Any
) -> Regression:
    settings = Settings.read({**SETTINGS, "batch": 2, **changes}, Path())
    return Regression(functional, training_set, chosen.differences, settings, 0, {})


def test_regression_recovers_an_exact_functional(chosen: Any, cache: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    training_set = prepared(chosen, cache, monkeypatch)
    truth = Scaled(1.3)
    for one in training_set.values():  # what the truth gives takes the place of the labels
        with torch.no_grad():
            one.reference = one.classical + float(samples.xc_energy(truth, one.features))
    no_penalty = {**SETTINGS["stability"], "weight": 0.0}
    module = regression(chosen, training_set, Scaled(0.7), steps=300, learning_rate=0.02, stability=no_penalty)
    while module.done < 300:
        module._step(*module._drawn())
        module.done += 1
    assert float(module.functional.factor.detach()) == pytest.approx(1.3, abs=1e-4)
    assert max(map(abs, module.errors().values())) < 0.1


def test_held_out_differences_are_never_drawn(chosen: Any, cache: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    module = regression(chosen, prepared(chosen, cache, monkeypatch), Scaled(1.0))
    drawn = set()
    for module.done in range(20):
        drawn |= {name for difference in module._drawn()[0] for name in difference.coefficients}
    assert drawn == {"h", "he", "he+", "h2", "h-25", "he-25"}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"stability": 3}, "stability is a group"),
        ({"self_consistent": 2}, "self_consistent must be true or false"),
        ({"steps": 0}, "steps must be a whole number"),
        ({"learning_rate": -1}, "learning_rate must be a positive"),
        ({"density": "b3lpy"}, "PySCF has no such functional"),
        ({"grid_level": 12}, "grid_level must be 0"),
        ({"weights": {**SETTINGS["weights"], "barriers": 1}}, "no such kind of energy"),
        ({"stability": {**SETTINGS["stability"], "gap": 0}}, "stability.gap must be a positive"),
    ],
)
def test_invalid_settings_are_refused(changes: Any, said: str) -> None:
    with pytest.raises(InputError, match=said) as error:
        Settings.read({**SETTINGS, **changes}, Path())
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has no systems"),
        ("h = {", "is no TOML"),
        ('h = { atoms = "H 0 0 0" }', "no energy difference to train on"),
        ('h2 = { molecule = "H2" }', "the set has no atom H"),
        ('h2 = { molecule = "H2X" }', "no molecule 'H2X'"),
        ('h = { atoms = "H 0 0 0", spins = 1 }', "unknown key 'spins'"),
        ('h = { atoms = "H 0 0 0", line = { he = 1 } }', "occupations and line belong together"),
        ('h = { atoms = "H 0 0 0", against = { he = 1 } }', "refers to 'he'"),
        ('h = { atoms = "H 0 0 0", spin = 2 }', "spin"),
        (
            'o = { atoms = "O 0 0 0", spin = 2 }\no1 = { atoms = "O 0 0 0", spin = 0 }\no2 = { molecule = "O2" }',
            "o2 needs against = .* several states of one of its atoms, o, o1",
        ),
        ('h = { atoms = "H 0 0 0", held_out = "false" }', "held_out must be true or false, not 'false'"),
        (
            'he = { atoms = "He 0 0 0" }\n"li+" = { atoms = "Li 0 0 0", charge = 1, against = { he = 1 } }',
            "same nuclei",
        ),
        (
            'h = { atoms = "H 0 0 0", spin = 1 }\nh2 = { molecule = "H2", against = { h = 3 } }',
            "have \\+1 H more than it",
        ),
        ('h = { atoms = "H 0 0 0", spin = 1 }\nh2 = { molecule = "H2", against = { h = 0 } }', "numbers other than 0"),
        (
            'h = { atoms = "H 0 0 0", spin = 1 }\n'
            'q = { atoms = "H 0 0 0", spin = 1, occupations = [[0.5], []], line = { h = 1 } }',
            "have \\+0.5 electrons more than its occupations",
        ),
    ],
)
def test_invalid_data_are_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "data.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=said) as error:
        dataset.read(path)
    assert "\n" not in str(error.value)

"""Solvents: their names, energies and responses against PySCF and finite differences, learned functionals included."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyscf import dft, gto, mp, scf

from functional_models import HYDROGEN, OXYGEN_HYDRIDE, WATER, SlaterExchange
from fusion.errors import InputError
from fusion.functionals.scf.kohn_sham import kohn_sham, molecule
from fusion.methods import by_name
from fusion.scf import solvent
from processes import Program

SMD_WATER = {"name": "water", "model": "smd"}


@pytest.mark.parametrize(
    ("setting", "name", "model", "epsilon"),
    [
        ("water", "water", "IEF-PCM", 78.355),
        ("DMSO", "dimethylsulfoxide", "IEF-PCM", 46.826),
        ({"name": "n,n-dimethylformamide", "model": "C-PCM"}, "N,N-dimethylformamide", "C-PCM", 37.219),
        ({"name": "thf", "model": "cosmo", "epsilon": 7.6}, "tetrahydrofuran", "COSMO", 7.6),
        ({"name": None, "model": "ss(v)pe", "epsilon": 4}, None, "SS(V)PE", 4.0),
        (SMD_WATER, "water", "SMD", 78.355),
    ],
)
def test_names_of_the_field(setting: Any, name: str | None, model: str, epsilon: float) -> None:
    assert solvent.read(setting) == solvent.Solvent(name, model, epsilon)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("watr", "no solvent 'watr'.  ?Did you mean 'water'"),
        ("smd", "smd is a model: solvent.model=smd"),
        ({"name": "water", "model": "gbsa"}, "solvent.model=gbsa is unknown; use pcm"),
        ({"name": "water", "epsilon": 0.5}, "at least 1, as 78.4 of water, not 0.5"),
        ({"epsilon": float("nan")}, "at least 1"),
        ({"name": None, "model": "cpcm"}, "solvent.model=cpcm needs a solvent"),
        ({"model": "smd", "epsilon": 5.0}, "give a name"),
        (SMD_WATER | {"epsilon": 5.0}, "remove solvent.epsilon"),
        ({"nme": "water"}, "no setting 'nme'.  ?Did you mean 'name'"),
        (["water"], "write a name, water"),
    ],
)
def test_invalid_settings_are_refused(setting: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        solvent.read(setting)


def test_there_is_a_gas_phase() -> None:
    assert solvent.read(None) is None and solvent.read({"name": None, "model": None, "epsilon": None}) is None


def learned(mol: gto.Mole, **options: Any) -> Any:
    mean_field = kohn_sham(mol, SlaterExchange(), grid_level=0, conv_tol=1e-11, start=None, **options)
    mean_field.conv_tol_grad = 1e-6
    return mean_field.run()


@pytest.mark.parametrize(("system", "kind"), [(WATER, dft.RKS), (OXYGEN_HYDRIDE, dft.UKS)])
def test_a_learned_functional_in_a_solvent_has_the_energy_of_pyscf(system: Any, kind: Any) -> None:
    mol = molecule(system, "sto-3g")
    expected = kind(mol, xc="lda,").PCM()
    expected.with_solvent.method, expected.with_solvent.eps = "IEF-PCM", 46.826
    expected.grids.level, expected.conv_tol = 0, 1e-11
    mean_field = learned(mol, solvent="dmso")
    assert mean_field.e_tot == pytest.approx(expected.kernel(), abs=1e-8)
    described = solvent.describe(mean_field, solvent.Solvent("dimethylsulfoxide", "IEF-PCM", 46.826))
    assert described["polarisation_hartree"] == pytest.approx(expected.scf_summary["e_solvent"], abs=1e-7)
    assert described["polarisation_hartree"] < -1e-3


@pytest.mark.parametrize(
    "options",
    [pytest.param({"solvent": SMD_WATER}, marks=pytest.mark.slow), {"solvent": "water", "density_fit": True}],
)
def test_gradient_is_the_derivative_of_the_energy(options: dict[str, Any]) -> None:
    mol = gto.M(atom="F 0 0 0; H 0.3 0.4 1.6", unit="Bohr", basis="sto-3g", verbose=0)
    gradient = learned(mol, **options).nuc_grad_method().kernel()
    direction, energies = np.array([0.3, 0.5, 0.8]), []
    for step in (-0.002, 0.002):
        places = mol.atom_coords()
        places[1] += step * direction
        energies.append(learned(mol.set_geom_(places, unit="Bohr", inplace=False), **options).e_tot)
    assert gradient[1] @ direction == pytest.approx((energies[1] - energies[0]) / 0.004, abs=5e-6)
    assert np.abs(gradient.sum(axis=0)).max() < 1e-9


def test_fitting_after_the_solvent_keeps_its_forces() -> None:
    mol = gto.M(atom="F 0 0 0; H 0 0 1.7", unit="Bohr", basis="sto-3g", verbose=0)
    before = learned(mol, solvent="water", density_fit=True)
    after = learned(mol).PCM()
    after.with_solvent.method, after.with_solvent.eps = "IEF-PCM", 78.355
    after = after.density_fit().run()
    assert after.e_tot == pytest.approx(before.e_tot, abs=1e-9)
    forces = [each.nuc_grad_method().kernel() for each in (before, after)]
    np.testing.assert_allclose(*forces, atol=1e-6)


def test_response_is_the_derivative_of_the_fock_matrix() -> None:
    """A restricted open shell has matrices of both spins, whose sum polarises the solvent."""
    mol = gto.M(atom="O 0 0 0; H 0 0.3 1.8", unit="Bohr", basis="sto-3g", spin=1, verbose=0)
    for kind in (scf.UHF, scf.ROHF):
        mean_field = solvent.attached(kind(mol), solvent.Solvent("water", "C-PCM", 78.355)).run(conv_tol=1e-11)
        density = np.asarray(mean_field.make_rdm1())
        change = 1e-3 * np.random.default_rng(0).normal(size=density.shape)
        change = change + change.transpose(0, 2, 1)

        def fock(matrix: np.ndarray, mean_field: Any = mean_field) -> np.ndarray:
            potential = mean_field.get_veff(mol, matrix)
            return np.asarray(potential) + potential.v_solvent

        expected = 0.5 * (fock(density + change) - fock(density - change))
        np.testing.assert_allclose(mean_field.gen_response(hermi=1)(change), expected, atol=1e-10)


def test_a_change_of_spin_alone_does_not_polarise_the_solvent() -> None:
    mol = molecule(WATER, "sto-3g")
    mean_field = solvent.attached(scf.RHF(mol), solvent.Solvent("water", "C-PCM", 78.355)).run()
    change = np.eye(mol.nao)
    response = mean_field.gen_response(singlet=False, hermi=1)(change)
    np.testing.assert_allclose(response, mean_field.undo_solvent().gen_response(singlet=False, hermi=1)(change))


@pytest.mark.parametrize("in_solvent", [None, "water"])
def test_what_a_learned_functional_lacks_is_refused_in_one_line(in_solvent: str | None) -> None:
    mean_field = kohn_sham(molecule(WATER, "sto-3g"), SlaterExchange(), solvent=in_solvent)
    for name in ("to_gpu", "TDA", "TDDFT", "CasidaTDDFT", "Hessian", "NMR", "DDCOSMO", "CCSD", "MP2"):
        with pytest.raises(NotImplementedError, match="not supported with a learned functional") as refusal:
            getattr(mean_field, name)()
        assert "\n" not in str(refusal.value)


def test_conventional_methods_in_a_solvent() -> None:
    """Correlation is added to the determinant in the solvent; its result states the parts of the solvent's energy."""
    water = {"solvent": "water", "basis": "sto-3g"}
    (result,) = by_name.method({"method": "mp2", "frozen_core": False, **water}).calculate([WATER], {"energy"})
    reference = solvent.attached(scf.RHF(molecule(WATER, "sto-3g")), solvent.Solvent("water", "IEF-PCM", 78.355)).run()
    assert result.energy == pytest.approx(mp.MP2(reference).run().e_tot, abs=1e-7)
    assert result.details["solvent"]["model"] == "IEF-PCM"
    hartree_fock = by_name.method({"method": "hf", **water, "solvent": SMD_WATER})
    (result,) = hartree_fock.calculate([HYDROGEN], {"energy"})
    parts = result.details["solvent"]
    assert parts["nonelectrostatic_hartree"] != 0 and parts["polarisation_hartree"] < 0
    assert hartree_fock.label == "HF/sto-3g in water, SMD"
    assert "hessian" not in hartree_fock.provides


def test_excitations_in_a_solvent_have_its_fast_response() -> None:
    settings = {"method": "hf", "basis": "sto-3g", "states": 3, "tda": True}
    (result,) = by_name.method({**settings, "solvent": "toluene"}).calculate([WATER], {"energy", "excitations"})
    mean_field = scf.RHF(molecule(WATER, "sto-3g")).PCM()
    mean_field.with_solvent.method, mean_field.with_solvent.eps = "IEF-PCM", 2.3741
    response = mean_field.run(conv_tol=1e-10).TDA()
    response.with_solvent.eps = 1.4961**2
    response.with_solvent.build()
    response.nstates, response.singlet = 2, False
    assert result.properties["excitations"][0] == pytest.approx(response.kernel()[0][0], abs=1e-6)
    with pytest.raises(InputError, match="refractive index"):
        by_name.method({**settings, "solvent": {"epsilon": 5.0}}).check([WATER], {"excitations"})


def test_on_the_command_line(program: Program, tmp_path: Path) -> None:
    hydrogen = ("system=inline", "system.atoms=H 0 0 0; H 0 0 0.74")
    done = program("+method=hf", "method.basis=sto-3g", *hydrogen, "solvent=dmso", "hydra.run.dir=run")
    assert done.status == 0 and "dimethylsulfoxide, IEF-PCM, ε 46.826" in done.out
    document = json.loads((tmp_path / "run" / "result.json").read_text(encoding="utf-8"))
    assert document["settings"]["method"]["solvent"] == {"name": "dmso", "model": None, "epsilon": None}
    assert document["solvent"]["name"] == "dimethylsulfoxide"
    for words, message in (
        (("+method=toy", "solvent=water"), "this method has no solvent; hf, dft"),
        (("+method=hf", *hydrogen, "solvent=watr"), "no solvent 'watr'"),
        (("+method=hf", *hydrogen, "solvent.epsilon=0.9"), "at least 1"),
    ):
        refused = program(*words)
        assert refused.status == 2 and message in refused.err
        assert len(refused.err.strip().splitlines()) == 1

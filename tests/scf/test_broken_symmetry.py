"""Unrestricted singlets of learned functionals: spins separate only where that lowers the energy."""

from dataclasses import replace

import numpy as np
import pytest
from pyscf import gto

from functional_models import ExactExchange
from fusion.chemistry.system import System
from fusion.errors import InputError
from fusion.functionals import FunctionalMethod, kohn_sham
from fusion.methods import protocol

HYDROGEN = System("h2", ("H", "H"), np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 1.4]]))
SMALL = {"basis": "6-31g", "grid_level": 1}


def stretched(bohr: float) -> System:
    return HYDROGEN.moved(np.array([[0.0, 0.0, 0.0], [0.0, 0.0, bohr]]))


@pytest.mark.parametrize("start", ["b3lyp", None])
def test_stretched_hydrogen_is_two_atoms(start: str | None) -> None:
    mol = gto.M(atom="H 0 0 0; H 0 0 4", basis="6-31g", verbose=0)
    mean_field = kohn_sham(mol, ExactExchange(), grid_level=1, reference="uks", start=start)
    assert mean_field.kernel() == pytest.approx(2 * -0.49823, abs=1e-4)  # two atoms of Hartree-Fock
    assert mean_field.spin_square()[0] == pytest.approx(1.0, abs=1e-3)


def test_a_scan_finds_where_the_spins_separate() -> None:
    method = FunctionalMethod("exact", ExactExchange(), reference="unrestricted", **SMALL)
    results = method.calculate([stretched(bohr) for bohr in (1.4, 2.2, 3.0)], ["energy"])
    spins = [result.details["kohn_sham"]["spin_squared"] for result in results]
    assert spins[0] == pytest.approx(0.0, abs=1e-6) and spins[2] > 0.5
    assert [result.details["kohn_sham"]["reference"] for result in results] == ["UKS"] * 3
    restricted = FunctionalMethod("exact", ExactExchange(), reference="rks", **SMALL)
    assert results[2].energy < protocol.calculate(restricted, [stretched(3.0)], ["energy"])[0].energy - 0.01


@pytest.mark.parametrize(("reference", "spin"), [("roks", 0), ("closed", 0), ("rks", 2)])
def test_impossible_references_are_refused(reference: str, spin: int) -> None:
    with pytest.raises(InputError, match=f"method.reference={reference!r}|method.reference=restricted"):
        FunctionalMethod("exact", ExactExchange(), reference=reference, **SMALL).check([replace(HYDROGEN, spin=spin)])


def test_the_starting_density_of_a_chain_is_antiferromagnetic() -> None:
    mol = gto.M(atom=[("H", (0, 0, 2.8 * place)) for place in range(6)], unit="Bohr", basis="sto-6g", verbose=0)
    mean_field = kohn_sham(mol, ExactExchange(), grid_level=1, reference="uks")
    up, down = mean_field.get_init_guess(mol, "b3lyp")
    moments = np.diag((up - down) @ mol.intor("int1e_ovlp"))
    assert np.abs(moments).min() > 0.2 and (moments[1:] * moments[:-1] < 0).all()

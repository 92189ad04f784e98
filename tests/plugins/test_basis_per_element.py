"""Basis sets per element: in all methods on PySCF, on the command line and in lists of methods."""

from typing import Any

import numpy as np
import pytest
from pyscf import gto, scf

from fusion.chemistry.system import System
from fusion.config import overrides
from fusion.errors import InputError
from fusion.functionals.scf.kohn_sham import molecule as learned_molecule
from fusion.methods import by_name
from fusion.scf.basis import read
from fusion.tasks.compare import methods

WATER = System("water", ("O", "H", "H"), np.array([[0.0, 0.0, 0.22], [0.0, 1.43, -0.89], [0.0, -1.43, -0.89]]))
MIXED = {"O": "6-31G(d,p)", "h": "sto-3g"}
EXPECTED = gto.M(
    atom=list(zip(WATER.symbols, WATER.positions.tolist(), strict=True)),
    unit="Bohr",
    basis={"O": "6-31G(d,p)", "H": "sto-3g"},
    verbose=0,
)


@pytest.mark.parametrize("basis", [MIXED, {"O": "6-31G(d,p)", "default": "sto-3g"}])
def test_every_element_gets_its_functions(basis: dict[str, str]) -> None:
    result = by_name.method({"method": "hf", "basis": basis}).calculate([WATER], ["energy"])[0]
    assert result.energy == pytest.approx(scf.RHF(EXPECTED).kernel(), abs=1e-8)
    assert result.details["scf"]["functions"] == EXPECTED.nao
    assert result.details["scf"]["basis"].startswith("O 6-31G(d,p), ")
    assert learned_molecule(WATER, read(basis)).nao == EXPECTED.nao


def test_labels_name_the_bases() -> None:
    assert by_name.method({"method": "mp2", "basis": MIXED}).label == "MP2/{O 6-31G(d,p), H sto-3g}"
    listed = [{"method": "hf", "basis": {"O": name, "H": "sto-3g"}} for name in ("sto-3g", "6-31g")]
    labels = [entry.label for entry in methods.read(listed, 1, False)]
    assert labels == ["hf-O-sto-3g-H-sto-3g", "hf-O-6-31g-H-sto-3g"]


@pytest.mark.parametrize(
    ("basis", "reason"),
    [
        ({"O": "6-31g"}, "no basis for H"),
        ({"O": "6-31g", "Q": "sto-3g"}, "unknown element 'Q'"),
        ({"O": "6-31g", "o": "sto-3g", "H": "sto-3g"}, "for O twice"),
        ({"O": "6-31g", "H": "nonsense"}, "nonsense has no functions for H"),
        ({"O": "6-31g", "H": 3}, "3 for H is not the name"),
        ({"O": "cbs(cc-pvdz,cc-pvtz)", "H": "sto-3g"}, "pair of basis sets"),
        (["6-31g", "sto-3g"], "is not a basis"),
        ({}, "is not a basis"),
        (631, "is not a basis"),
    ],
)
@pytest.mark.parametrize("method", ["hf", "ccsd"])
def test_refusals_are_one_line(method: str, basis: Any, reason: str) -> None:
    with pytest.raises(InputError, match=reason) as refused:
        by_name.method({"method": method, "basis": basis}).check([WATER])
    assert "\n" not in str(refused.value) and str(refused.value).startswith("method.basis")


def test_names_with_brackets_reach_hydra_quoted() -> None:
    (word,) = overrides.prepare(["method.basis={O: 6-31G(d,p), H: sto-3g}"], multirun=False)
    assert word == "method.basis={O:'6-31G(d,p)',H:'sto-3g'}"


def test_valence_bases_come_with_their_core_potentials() -> None:
    iodide = System("hi", ("H", "I"), np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 3.04]]))
    mol = by_name.method({"method": "hf", "basis": "ccecp-cc-pvdz"})._mean_field(iodide, "ccecp-cc-pvdz").mol
    assert mol.has_ecp() and mol.nelectron == 8
    with pytest.raises(InputError, match="no core potential of molecules with it"):
        by_name.method({"method": "hf", "basis": "gth-dzvp"}).check([WATER])

"""Excitations of conventional methods: exact cases, spins, degenerate levels, and refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fusion.chemistry.system import System
from fusion.errors import InputError
from fusion.methods.protocol import calculate
from fusion.runs.results import Result
from fusion_conventional.correlated import CoupledCluster
from fusion_conventional.full_ci import FullCI
from fusion_conventional.mean_field import MeanField

SETTINGS: dict[str, Any] = {
    "cartesian": False,
    "density_fit": False,
    "conv_tol": 1e-10,
    "max_cycle": 50,
    "stability": None,
    "reference": None,
}


def atom(symbol: str, spin: int = 0) -> System:
    return System(symbol.lower(), (symbol,), np.zeros((1, 3)), 0, spin)


def excited(method: Any, system: System) -> Result:
    (result,) = calculate(method, [system], {"energy", "excitations"})
    assert result.status == "ok", result
    return result


def gaps(result: Result) -> list[float]:
    return [level.get("gap_ev", 0.0) for level in result.details["excited"]["states"]]


def full_ci(states: int) -> FullCI:
    return FullCI("fci", "aug-cc-pvdz", 1e6, states=states, **SETTINGS)


def test_coupled_cluster_is_exact_for_two_electrons() -> None:
    """Helium: 1s2s triplet and singlet, then the triplet 1s2p with three states."""
    helium = atom("He")
    cluster = excited(CoupledCluster("ccsd", "aug-cc-pvdz", states=6, **SETTINGS), helium)
    exact = excited(full_ci(6), helium)
    assert gaps(cluster) == pytest.approx(gaps(exact), abs=1e-4)
    for result in (cluster, exact):
        levels = result.details["excited"]["states"]
        assert [(level["multiplicity"], level["states"]) for level in levels] == [(1, 1), (3, 1), (1, 1), (3, 3)]
        assert result.properties["excitations"].shape == (5,)


def test_strengths_of_one_electron_add_up_to_one() -> None:
    """Full CI of hydrogen: the rule of Thomas, Reiche and Kuhn, nearly complete in a basis with 9 states."""
    exact = excited(full_ci(9), atom("H", 1))
    strengths = [t["oscillator_strength"] for t in exact.details["excited"]["transitions"]]
    assert sum(strengths) == pytest.approx(1.0, abs=0.05)
    assert [level["states"] for level in exact.details["excited"]["states"]] == [1, 1, 3, 1, 3]


def test_singlets_and_triplets_of_a_closed_shell() -> None:
    """The determinant of beryllium is unstable towards a triplet, whose full response is imaginary."""
    approximate = excited(MeanField("hf", "cc-pvdz", states=4, **SETTINGS), atom("Be"))
    level = approximate.details["excited"]["states"][1]
    assert (level["multiplicity"], level["states"]) == (3, 3)
    result = excited(MeanField("hf", "cc-pvdz", tda=False, states=4, **SETTINGS), atom("Be"))
    assert all(level["multiplicity"] == 1 for level in result.details["excited"]["states"])
    assert any("unstable" in warning for warning in result.warnings), result.warnings


def test_the_oscillator_strength_of_density_functionals_is_that_of_pyscf() -> None:
    from pyscf import dft, gto

    system = System("lih", ("Li", "H"), np.array([[0.0, 0, 0], [0, 0, 3.0]]), 0, 0)
    result = excited(MeanField("dft", "sto-3g", xc="pbe", grid_level=2, tda=False, states=3, **SETTINGS), system)
    mol = gto.M(atom="Li 0 0 0; H 0 0 3", unit="bohr", basis="sto-3g", verbose=0)
    field = dft.RKS(mol, xc="pbe")
    field.grids.level = 2
    field.run(conv_tol=1e-10)
    response = field.TDDFT().set(nstates=3, verbose=0)
    response.kernel()
    bright = [t for t in result.details["excited"]["transitions"] if t["oscillator_strength"] > 1e-6]
    assert bright[0]["oscillator_strength"] == pytest.approx(response.oscillator_strength()[0], abs=1e-4)


@pytest.mark.parametrize(
    ("method", "system", "message"),
    [
        (lambda: MeanField("hf", "sto-3g", **SETTINGS), atom("He"), "method.states=3"),
        (lambda: MeanField("hf", "sto-3g", states=2, **SETTINGS), atom("H", 1), r"exact with \+method=fci"),
        (lambda: CoupledCluster("ccsd", "sto-3g", states=2, **SETTINGS), atom("H", 1), "excitations need 2"),
        (lambda: CoupledCluster("ccsd", "sto-3g", states=2, **SETTINGS), atom("He", 2), "all have the same spin"),
        (lambda: MeanField("hf", "cbs(cc-pvdz,cc-pvtz)", states=2, **SETTINGS), atom("He"), "not extrapolated"),
        (lambda: CoupledCluster("ccsd_t", "sto-3g", triples=True, states=2, **SETTINGS), atom("He"), "does not give"),
    ],
)
def test_refusals(method: Any, system: System, message: str) -> None:
    with pytest.raises(InputError, match=message):
        calculate(method(), [system], {"energy", "excitations"})


def test_total_energies_of_states_include_dispersion() -> None:
    neon = System("pair", ("Ne", "Ne"), np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 5.8]]))
    plain, corrected = (excited(MeanField("hf", "6-31g", states=3, dispersion=name), neon) for name in (None, "d3bj"))
    dispersion = corrected.details["scf"]["dispersion_hartree"]
    assert corrected.energy == pytest.approx(plain.energy + dispersion, abs=1e-10) and dispersion < -1e-5
    levels = [result.details["excited"]["states"] for result in (plain, corrected)]
    assert levels[1][0]["energy_hartree"] == pytest.approx(corrected.energy, abs=1e-10)
    for before, after in zip(*levels, strict=True):
        assert after["energy_hartree"] == pytest.approx(before["energy_hartree"] + dispersion, abs=1e-8)

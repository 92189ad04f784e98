"""Warnings about converged but physically wrong solutions, and none for ordinary molecules."""

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

import fusion
from fusion.chemistry.structures import from_atoms
from fusion.chemistry.system import System
from fusion.methods import by_name
from fusion.runs.results import read_result
from fusion.scf import instability
from fusion_conventional import self_consistent

DFT = {"method": "dft", "grid_level": 0}
UNSTABLE, DOUBLES = "an unrestricted one lies below", "largest double excitation"


def diatomic(symbol: str, angstrom: float) -> System:
    return from_atoms(Atoms([symbol] * 2, [[0, 0, 0], [0, 0, angstrom]]), 0, 0)


@pytest.mark.parametrize(
    ("system", "method", "reasons"),
    [
        (diatomic("H", 4.0), {"method": "hf"}, [UNSTABLE]),
        (diatomic("N", 3.0), {"method": "mp2"}, [UNSTABLE, DOUBLES]),
        (diatomic("N", 3.0), {**DFT, "xc": "b3lyp"}, [UNSTABLE]),
        (diatomic("N", 3.0), {**DFT, "xc": "pbe"}, [UNSTABLE]),
        (diatomic("N", 1.7), {"method": "ccsd_t"}, [UNSTABLE, DOUBLES]),
        (diatomic("F", 2.2), {"method": "ccsd"}, [UNSTABLE, DOUBLES]),
    ],
)
def test_broken_bonds_have_warnings(system: System, method: dict[str, object], reasons: list[str]) -> None:
    result = by_name.method({"basis": "sto-3g", **method}).calculate([system], ["energy"])[0]
    assert result.status == "ok"
    assert all(any(reason in text for text in result.warnings) for reason in reasons)


@pytest.mark.parametrize("name", ["H2O", "N2", "C2H4", "C6H6"])
@pytest.mark.parametrize("method", [{"method": "hf"}, {"method": "mp2"}, {**DFT, "xc": "pbe"}])
def test_ordinary_molecules_have_no_warning(name: str, method: dict[str, object]) -> None:
    system = from_atoms(molecule(name), 0, 0)
    assert by_name.method({"basis": "sto-3g", **method}).calculate([system], ["energy"])[0].warnings == []


def test_unrestricted_and_exact_states_have_no_warning() -> None:
    for method in ({"method": "hf", "reference": "uhf"}, {"method": "fci"}, {"method": "hf", "stability": False}):
        result = by_name.method({"basis": "sto-3g", **method}).calculate([diatomic("H", 4.0)], ["energy"])[0]
        assert result.warnings == []


@pytest.mark.parametrize(("system", "xc"), [(diatomic("N", 1.5), "b3lyp"), (diatomic("N", 3.0), "pbe")])
def test_few_products_find_broken_bonds_of_large_molecules(
    system: System, xc: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    products: list[int] = []
    search = instability.lowest_eigenpair
    monkeypatch.setattr(instability, "LARGE", 0)
    monkeypatch.setattr(instability, "lowest_eigenpair", lambda *given: products.append(given[2]) or search(*given))
    monkeypatch.setattr(instability, "lowest_curvature", None)  # the other search, which is left out
    result = by_name.method({**DFT, "basis": "def2-svp", "xc": xc}).calculate([system], ["energy"])[0]
    assert any(UNSTABLE in text for text in result.warnings) and products == [3]


def test_a_scan_warns_of_points_beyond_the_broken_bond(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = [
        "system=inline",
        "system.atoms='H 0 0 0; H 0 0 0.74'",
        "task=scan",
        "task.atoms=[1,2]",
        "task.relaxed=false",
    ]
    terms = "method.terms=[{method: hf, basis: sto-3g},d3]"
    fusion.run(["+method=sum", terms, *words, "task.stop=3.74", "task.points=4", "hydra.run.dir=run"])
    (text,) = (read_result(tmp_path / "run") or {})["warnings"]
    assert text.startswith("HF/sto-3g: ") and UNSTABLE in text and text.endswith("(at 3 of 4 geometries)")


def test_small_displacements_need_no_new_analysis(monkeypatch: pytest.MonkeyPatch) -> None:
    method, system = by_name.method({"method": "hf", "basis": "sto-3g"}), diatomic("H", 4.0)
    near = system.moved(system.positions * 1.001)
    results = [method.calculate([one], ["energy"])[0] for one in (system, near)]
    assert results[0].warnings == results[1].warnings != []
    assert not np.array_equal(results[0].energy, results[1].energy)


def test_a_stability_analysis_is_not_that_of_other_elements_at_the_same_places() -> None:
    carbon, nitrogen = (diatomic(symbol, 1.2) for symbol in "CN")
    method = by_name.method({**DFT, "basis": "sto-3g", "xc": "b3lyp"})
    first, second, third = (
        [UNSTABLE in text for text in result.warnings]
        for result in method.calculate([carbon, nitrogen, carbon], ["energy"])
    )
    assert (first, second, third) == ([True], [], [True])


def test_a_state_that_becomes_a_saddle_point_along_a_path_is_left() -> None:
    method = by_name.method({"method": "hf", "basis": "sto-3g", "reference": "uhf"})
    along = method.calculate([diatomic("N", angstrom) for angstrom in (1.1, 1.4, 1.7)], ["energy"])[-1]
    alone = by_name.method({"method": "hf", "basis": "sto-3g", "reference": "uhf"})
    assert along.energy == pytest.approx(alone.calculate([diatomic("N", 1.7)], ["energy"])[0].energy, abs=1e-6)


def test_spins_separate_in_a_basis_of_one_function_per_atom() -> None:
    method = by_name.method({"method": "hf", "basis": "sto-3g", "reference": "unrestricted"})
    (result,) = method.calculate([diatomic("H", 2.434)], ["energy"])
    assert result.energy == pytest.approx(2 * -0.466582, abs=2e-3)  # of two atoms
    assert result.details["scf"]["spin_squared"] > 0.9


def test_a_saddle_point_below_which_no_state_is_found_has_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(self_consistent, "_LOWERED", np.inf)  # no step counts as lower
    method = by_name.method({"method": "hf", "basis": "sto-3g", "reference": "uhf"})
    unstable, stable = method.calculate([diatomic("H", 4.0), diatomic("H", 0.74)], ["energy"])
    assert any("not stable" in text for text in unstable.warnings) and not stable.warnings

"""Sums of methods: derivatives by the chain rule, exact limits, uncertainties, and terms that fail."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf

import fusion
from fusion.chemistry import energy_zeros, reactions, system_input
from fusion.chemistry.system import System
from fusion.config import compose
from fusion.errors import InputError
from fusion.methods import by_name, protocol
from fusion.methods.sums import fragments
from fusion.tasks.geometry.normal_modes import normal_modes
from processes import Program

pytestmark = pytest.mark.usefixtures("with_toy")

DEEP = {"method": "morse", "model.depth": 0.25, "model.width": 0.9}
HALF = [1, "3-5"]  # a methyl group of ethane
DERIVATIVES = {"forces", "hessian"}


def ethane() -> System:
    """Ethane away from its minimum."""
    system = reactions.species("C2H6", Path("/"))
    return system.with_positions(system.positions + np.random.default_rng(1).normal(scale=0.05, size=(8, 3)))


def summed(*terms: Any) -> Any:
    return by_name.method({"method": "sum", "terms": list(terms)})


def layered(high: Any = DEEP, low: Any = "morse", atoms: Any = HALF, **more: Any) -> Any:
    return by_name.method({"method": "sum/oniom", "high": high, "low": low, "atoms": list(atoms), **more})


def one(method: Any, system: System, *properties: str) -> Any:
    (result,) = protocol.calculate(method, [system], properties)
    return result


def test_a_sum_adds_the_terms_with_their_factors() -> None:
    system = ethane()
    parts = [one(by_name.method(entry), system, *DERIVATIVES) for entry in ("morse", DEEP)]
    computed = one(summed("morse", {**DEEP, "factor": -0.3}), system, *DERIVATIVES)
    assert computed.energy == pytest.approx(parts[0].energy - 0.3 * parts[1].energy, abs=1e-12)
    for name in DERIVATIVES:
        np.testing.assert_allclose(
            computed.properties[name], parts[0].properties[name] - 0.3 * parts[1].properties[name]
        )
    with_dipoles = summed({"method": "bonds", "analytic": True}, {"method": "bonds", "analytic": True, "factor": 0.5})
    single = by_name.method({"method": "bonds", "analytic": True})
    assert with_dipoles.provides == single.provides
    for name in single.provides - {"energy"}:
        values = [one(method, system, name).properties[name] for method in (with_dipoles, single)]
        np.testing.assert_allclose(values[0], 1.5 * values[1])
    assert summed("bonds", "morse").provides == {"energy"}  # one has no dipole, the other no forces


def test_two_layers_at_one_level_give_that_level() -> None:
    system = ethane()
    plain = one(by_name.method("morse"), system, *DERIVATIVES)
    computed = one(layered(high="morse"), system, *DERIVATIVES)
    assert computed.energy == pytest.approx(plain.energy, abs=1e-12)
    for name in DERIVATIVES:
        np.testing.assert_allclose(computed.properties[name], plain.properties[name], atol=1e-10)
    everything = layered(atoms=["1-8"])
    assert one(everything, system).energy == pytest.approx(one(by_name.method(DEEP), system).energy, abs=1e-12)


def test_forces_and_hessian_of_layers_are_derivatives_of_their_energy() -> None:
    system, method = ethane(), layered()
    computed = one(method, system, *DERIVATIVES)
    forces = computed.properties["forces"]
    np.testing.assert_allclose(forces, protocol.numerical_forces(method, system, 1e-3), atol=1e-6)
    hessian, _ = protocol.numerical_hessian(method, system, 1e-3)
    np.testing.assert_allclose(computed.properties["hessian"], hessian, atol=1e-5)
    np.testing.assert_allclose(forces.sum(axis=0), 0.0, atol=1e-10)
    np.testing.assert_allclose(np.cross(system.positions, forces).sum(axis=0), 0.0, atol=1e-10)
    modes = normal_modes(computed.properties["hessian"], system.positions, np.ones(8))
    assert modes.removed == 6 and np.abs(modes.residual[:3]).max() < 1e-2  # nothing holds it in space


def test_dipoles_of_layers_follow_the_link_atoms() -> None:
    system = ethane()
    entries = [{"method": "bonds", "analytic": analytic, "flux": 0.7} for analytic in (True, False)]
    exact, differences = (
        one(layered(high=entry, low={**entry, "flux": 0.2}), system, "dipole_derivatives", "polarizability_derivatives")
        for entry in entries
    )
    for name in ("dipole_derivatives", "polarizability_derivatives"):
        np.testing.assert_allclose(exact.properties[name], differences.properties[name], atol=1e-4)
    assert "derived" in differences.details and "derived" not in exact.details


def test_link_atoms_lie_on_the_bonds_they_replace() -> None:
    system = reactions.species("CH3CH2OH", Path("/"))
    carbon = system.symbols.index("C")
    (cut,) = fragments.bonds_across(system, [0, *np.flatnonzero(_bonded(system, 0, "H")).tolist()])
    assert (system.symbols[cut.inside], system.symbols[cut.outside]) == ("C", "C") and cut.inside == carbon
    assert cut.g == pytest.approx((0.76 + 0.31) / (0.76 + 0.76)) and cut.order == pytest.approx(1.0, abs=0.1)
    part = fragments.fragment(system, [0, *np.flatnonzero(_bonded(system, 0, "H")).tolist()], [cut])
    assert part.system.formula == "CH4" and part.system.spin == 0
    first, second = system.positions[cut.inside], system.positions[cut.outside]
    np.testing.assert_allclose(part.system.positions[-1], first + cut.g * (second - first))
    np.testing.assert_allclose(part.jacobian.sum(axis=1), 1.0)  # a shifted molecule has a shifted part


def _bonded(system: System, atom: int, symbol: str) -> np.ndarray:
    near = np.linalg.norm(system.positions - system.positions[atom], axis=1) < 2.4
    return near & (np.array(system.symbols) == symbol)


def test_displacements_outside_a_part_do_not_recalculate_it(monkeypatch: pytest.MonkeyPatch) -> None:
    method, system = layered(high="morse", low={**DEEP}), ethane()
    asked: list[int] = []
    high = method.terms[1].method
    real = high.calculate
    monkeypatch.setattr(high, "calculate", lambda systems, names: asked.append(len(systems)) or real(systems, names))
    protocol.numerical_forces(method, system)
    # Four atoms of the part and the carbon atom on whose bond the link atom stands, each in six ways, and the rest.
    assert sum(asked) == 6 * 5 + 1
    assert one(method, system).energy == pytest.approx(one(layered(high="morse", low={**DEEP}), system).energy)


def test_spreads_add_in_quadrature_but_one_ensemble_member_by_member() -> None:
    hooh = system_input.read(compose.compose(["+method=torsion"])[0].system)
    torsion = {"method": "torsion", "model.spread": 1e-3}
    single = one(by_name.method(torsion), hooh).energy_std
    assert single > 0
    other = {**torsion, "model.b": 0.01}
    assert one(summed(torsion, {**other, "factor": -2}), hooh).energy_std == pytest.approx(np.sqrt(5.0) * single)
    computed = one(summed(torsion, {**torsion, "factor": -0.25}), hooh)
    assert computed.energy_std == pytest.approx(0.75 * single)
    assert "member by member" in computed.details["sum"]["uncertainty"]


def test_energies_have_the_zero_of_the_terms_only_if_counted_once() -> None:
    total = {"method": "toy", "kind": "conventional"}
    assert summed(total).energy_zero == energy_zeros.TOTAL
    assert summed(total, total).energy_zero == energy_zeros.OWN
    assert summed(total, "morse").energy_zero == energy_zeros.OWN
    assert summed({**total, "factor": 0.5}, {**total, "factor": 0.5}).energy_zero == energy_zeros.TOTAL
    assert layered(high=total, low={**total, "energy": -3.0}).energy_zero == energy_zeros.TOTAL
    assert layered(high=total, low="morse").energy_zero == energy_zeros.OWN


def test_a_dispersion_term_does_not_change_zero_and_dipole() -> None:
    water = reactions.species("H2O", Path("/"))
    parts = {"method": "hf", "basis": "sto-3g"}, {"method": "d3", "xc": "hf"}
    method = summed(*parts)
    assert method.energy_zero == energy_zeros.TOTAL and method.label == "HF/sto-3g + D3(BJ) of hf"
    combined, alone = (one(which, water, "forces", "dipole") for which in (method, by_name.method(parts[0])))
    correction = one(by_name.method(parts[1]), water, "forces")
    assert combined.energy == pytest.approx(alone.energy + correction.energy, abs=1e-9)
    np.testing.assert_allclose(combined.properties["dipole"], alone.properties["dipole"], atol=1e-6)
    total = alone.properties["forces"] + correction.properties["forces"]
    np.testing.assert_allclose(combined.properties["forces"], total, atol=1e-6)


def test_no_reference_is_shown_beside_an_energy_with_another_zero(program: Program, tmp_path: Path) -> None:
    for term, shown in (("toy", True), ("{method: toy, factor: 0.5}", False)):
        done = program("+method=sum", f"method.terms=[{term}]", "system=he", "hydra.run.dir=run")
        assert done.status == 0, done
        assert (json.loads((tmp_path / "run/result.json").read_text())["reference"] is not None) is shown
        assert ("reference" in done.out) is shown and ("only energies of the same atoms" in done.out) is not shown


def test_a_failed_term_fails_the_sum_and_is_named(program: Program, tmp_path: Path) -> None:
    words = "+method=sum", "system=he", "hydra.run.dir=run"
    done = program(*words, "method.terms=[toy, {method: toy, status: not_converged, energy: -7.0}, toy]")
    assert done.status == 1 and "NOT CONVERGED" in done.out and "toy: did not settle" in done.out
    document = json.loads((tmp_path / "run/result.json").read_text())
    assert document["energy"] is None
    assert [(term["status"], term["energy_hartree"]) for term in document["sum"]["terms"]] == [
        ("ok", -2.0),
        ("not_converged", -7.0),  # kept, and not added to anything
    ]
    done = program(*words, "method.terms=[toy, {method: toy, failure: out of disk}]")
    assert done.status == 1 and "toy: out of disk" in done.err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("method.terms=null", "method.terms must list the methods to add"),
        ("method.terms=[tay]", "term 1: no method 'tay'. Did you mean 'toy'?"),
        ("method.terms=[morse, {method: morse, modell: 1}]", "term 2: morse has no setting 'modell'"),
        ("method.terms=[{method: toy, factor: 0}]", "term 1: factor must be a number other than zero"),
        (
            "method.terms=[{method: toy, atoms: [1, 9]}]",
            "of atoms 1, 9: no atom 9 in c2h4, whose atoms are 1 ... 6",
        ),
        ("method.terms=[{method: toy, atoms: [0]}]", "whole numbers from 1 on"),
        ("method.terms=[{method: toy, atoms: [1, 1]}]", "names an atom twice"),
        ("method.terms=[{method: toy, charge: 1}]", "charge belongs to a part of the molecule"),
        ("method.terms=[{method: toy, atoms: [1, 3, 4]}]", "the bond C1–C2 is a multiple bond (order about 1.9)"),
        ("method.terms=[{method: toy, atoms: [1, 3], cuts: [[3, 1]]}]", "cuts: of [3, 1] one atom must be among"),
        ("method.terms=[{method: toy, atoms: [1], cuts: [[1, 2]]}]", "these atoms have an odd electron"),
    ],
)
def test_wrong_terms_give_one_line(program: Program, words: str, says: str) -> None:
    done = program("+method=sum", "system=c2h4", words)
    assert done.status == 2 and says in done.err, done.err
    assert done.err.count("\n") == 1 and not list(Path.cwd().iterdir())


def test_wrong_layers_give_one_line(program: Program, tmp_path: Path) -> None:
    layers = "+method=sum/oniom", "method.high=toy"
    assert "method.low=" in program(*layers).err
    done = program(*layers, "method.low={method: toy, atoms: [1]}", "method.atoms=[1]")
    assert done.status == 2 and "method.low: atoms is a setting of the sum" in done.err
    charged = program(*layers, "method.low=toy", "method.atoms=[1,7-9]", "system.charge=1")
    assert charged.status == 2 and "ethanol has charge +1: give the charge" in charged.err
    done = program("+method=sum", "method.terms=[toy, {method: ani, weights: null}]", "system=lih")
    assert done.status == 2 and done.err.startswith("error: ANI, untrained: ani covers H C N O S F Cl; lih also has Li")
    assert not list(tmp_path.iterdir())


def test_charge_and_spin_of_a_part() -> None:
    water = reactions.species("H2O", Path("/"))
    with pytest.raises(InputError, match="odd electron"):
        fragments.fragment(water, [0, 1], [])
    part = fragments.fragment(water, [0, 1], [], charge=-1)
    assert (part.system.charge, part.system.spin, part.system.formula) == (-1, 0, "HO")
    triplet = System("o2", ("O", "O"), np.array([[0, 0, 0], [0, 0, 2.3]]), spin=2)
    with pytest.raises(InputError, match="o2 has spin 2"):
        fragments.fragment(triplet, [0], [])
    assert fragments.fragment(triplet, [0], [], spin=2).system.spin == 2


def test_every_task_and_the_calculator_take_a_sum(program: Program, tmp_path: Path) -> None:
    terms = "method.terms=[morse, {method: morse, model.depth: 0.05}]"
    done = program("+method=sum", terms, "task=vibrations", "system=h2o", "hydra.run.dir=run")
    assert done.status == 0 and "no imaginary modes: a minimum" in done.out, done
    document = json.loads((tmp_path / "run/result.json").read_text())
    assert document["kind"] == "composite" and document["zero_point_energy_hartree"] > 0
    atoms = ethane().to_atoms()
    atoms.calc = fusion.calculator("sum", terms=["morse", DEEP])
    parts = [one(by_name.method(entry), ethane(), "forces") for entry in ("morse", DEEP)]
    np.testing.assert_allclose(
        atoms.get_forces() / fusion.chemistry.units.EV_ANGSTROM_PER_HARTREE_BOHR,
        sum(p.properties["forces"] for p in parts),
    )
    assert OmegaConf.is_config(by_name.node("sum", {"terms": ["morse"]}))


def test_parts_of_other_elements_at_the_same_places_are_calculated_anew() -> None:
    places = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 9.0]])
    systems = [System("pair", (symbol, "He"), places) for symbol in ("He", "Ne", "He")]
    of_first = summed({"method": "hf", "basis": "sto-3g", "atoms": [1]})
    apart = [one(of_first, system).energy for system in systems]
    together = [result.energy for result in protocol.calculate(of_first, systems, [])]
    assert apart == pytest.approx(together)
    assert apart[0] == apart[2] == pytest.approx(-2.808, abs=1e-3) and apart[1] < -120.0

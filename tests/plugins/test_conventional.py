"""Conventional methods against PySCF itself, exact cases and finite differences of their energies."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.units import Hartree
from pyscf import cc, dft, fci, gto, mp, scf

import fusion
from fusion.chemistry.system import System
from fusion.chemistry.units import ANGSTROM_PER_BOHR, BOHR_PER_ANGSTROM
from fusion.errors import InputError
from fusion.methods import by_name, protocol

DATA = os.environ.get("FUSION_TEST_DATA")
WATER = System("water", ("O", "H", "H"), np.array([[0, 0, 0.1], [0, 1.5, -0.9], [0.2, -1.4, -1.0]]))
OXYGEN = System("oxygen", ("O", "O"), np.array([[0, 0, 0], [0, 0, 2.3]]), spin=2)
AMIDOGEN = System("amidogen", ("N", "H", "H"), np.array([[0, 0, 0.1], [0, 1.5, -1.1], [0.1, -1.5, -1.0]]), spin=1)
HYDROXYL = System("hydroxyl", ("O", "H"), np.array([[0, 0, 0], [0, 0.3, 1.9]]), spin=1)
HYDROGEN = System("hydrogen", ("H", "H"), np.array([[0, 0, 0], [0, 0.3, 1.5]]))


def chain(spacing: float) -> System:
    return System("h10", ("H",) * 10, np.array([[0, 0, spacing * index] for index in range(10)]))


def calculated(entry: dict[str, Any], system: System, *properties: str) -> Any:
    method = by_name.method({"conv_tol": 1e-10, **entry})
    (result,) = protocol.calculate(method, [system], {"energy", *properties})
    assert result.status == "ok", result.message
    return result


def molecule(system: System, basis: str, **options: Any) -> gto.Mole:
    atoms = list(zip(system.symbols, system.positions.tolist(), strict=True))
    return gto.M(atom=atoms, unit="B", basis=basis, spin=system.spin, verbose=0, **options)


def pyscf_energy(name: str, system: System, basis: str) -> float:
    mol = molecule(system, basis)
    if name == "dft":
        kohn_sham = (dft.UKS if system.spin else dft.RKS)(mol, xc="b3lyp")
        return float(kohn_sham.set(conv_tol=1e-11).kernel())
    determinant = (scf.UHF if system.spin else scf.RHF)(mol).set(conv_tol=1e-11, conv_tol_grad=1e-7).run()
    if name == "hf":
        return float(determinant.e_tot)
    if name == "mp2":
        return float(mp.MP2(determinant, frozen=system.symbols.count("O")).run().e_tot)
    clusters = cc.CCSD(determinant, frozen=system.symbols.count("O"))
    clusters.set(conv_tol=1e-11, conv_tol_normt=1e-7).kernel()
    return float(clusters.e_tot + (clusters.ccsd_t() if name == "ccsd_t" else 0.0))


@pytest.mark.parametrize("system", [WATER, OXYGEN], ids=lambda system: system.name)
@pytest.mark.parametrize("name", ["hf", "dft", "mp2", "ccsd", "ccsd_t"])
def test_energies_match_pyscf(name: str, system: System) -> None:
    expected = pyscf_energy(name, system, "6-31g")
    assert calculated({"method": name, "basis": "6-31g"}, system).energy == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("name", ["hf", "ccsd_t"])
def test_ase_calculators_give_the_same_energies(name: str) -> None:
    atoms = WATER.to_atoms()
    atoms.calc = fusion.calculator(name, basis="6-31g", conv_tol=1e-10)
    assert atoms.get_potential_energy() / Hartree == pytest.approx(pyscf_energy(name, WATER, "6-31g"), abs=1e-9)


@pytest.mark.parametrize(
    ("entry", "system"),
    [
        ({"method": "dft", "xc": "pbe", "dispersion": "d3bj"}, WATER),
        ({"method": "dft", "xc": "wb97x", "grid_level": 1, "basis": "sto-3g"}, HYDROXYL),
        ({"method": "hf", "ghosts": "He 0 0 1.5"}, WATER),
        ({"method": "mp2", "basis": "cc-pv[dt]z"}, HYDROGEN),
        ({"method": "ccsd"}, AMIDOGEN),
        ({"method": "ccsd_t"}, WATER),
        ({"method": "ccsd_t", "basis": "sto-3g"}, HYDROXYL),
    ],
    ids=lambda case: case.name if isinstance(case, System) else case["method"],
)
def test_forces_are_minus_the_slope_of_the_energy(entry: dict[str, Any], system: System) -> None:
    """Test one direction in which every nucleus moves; a finite grid moves with them."""
    method = by_name.method({"basis": "6-31g", "conv_tol": 1e-10, **entry})
    forces = np.asarray(protocol.calculate(method, [system], {"forces"})[0].properties["forces"])
    direction, step = np.random.default_rng(1).normal(size=forces.shape), 0.002
    ahead, behind = (system.moved(system.positions + sign * step * direction) for sign in (1, -1))
    energies = [result.energy for result in method.calculate([ahead, behind], {"energy"})]
    assert -(energies[0] - energies[1]) / (2 * step) == pytest.approx(float(np.sum(forces * direction)), abs=2e-5)


@pytest.mark.parametrize(("system", "xc"), [(WATER, "pbe"), (AMIDOGEN, None)], ids=["restricted", "unrestricted"])
def test_responses_match_finite_differences(system: System, xc: str | None) -> None:
    entry = {"method": "dft", "xc": xc} if xc else {"method": "hf"}
    method = by_name.method({"basis": "sto-3g", "conv_tol": 1e-11, **entry})
    wanted = {"hessian", "dipole_derivatives", "polarizability"}
    (result,) = method.calculate([system], wanted)
    direction, step = np.random.default_rng(2).normal(size=system.positions.shape), 0.002
    pair = [system.moved(system.positions + sign * step * direction) for sign in (1, -1)]
    ahead, behind = (one.properties for one in method.calculate(pair, {"forces", "dipole"}))
    slope = -(np.ravel(ahead["forces"]) - np.ravel(behind["forces"])) / (2 * step)
    assert direction.ravel() @ result.properties["hessian"] == pytest.approx(slope, abs=1e-3)
    change = (np.asarray(ahead["dipole"]) - np.asarray(behind["dipole"])) / (2 * step)
    assert direction.ravel() @ result.properties["dipole_derivatives"] == pytest.approx(change, abs=1e-3)

    mean_field, field = method.settings.mean_field(system, "sto-3g"), 1e-3
    mean_field.conv_tol_grad = 1e-8
    core, along = mean_field.get_hcore(), mean_field.mol.intor("int1e_r")[1]
    dipoles = []
    for sign in (1, -1):
        mean_field.get_hcore = lambda *_, sign=sign: core + sign * field * along
        mean_field.kernel()
        dipoles.append(mean_field.dip_moment(unit="AU", verbose=0))
    induced = (dipoles[0] - dipoles[1]) / (2 * field)
    assert result.properties["polarizability"][1] == pytest.approx(induced, abs=2e-4)


@pytest.mark.skipif(DATA is None, reason="FUSION_TEST_DATA names no directory with the reference energies")
@pytest.mark.slow
@pytest.mark.parametrize("spacing", [1.8, 2.8])
def test_hydrogen_chain_matches_motta_2017(spacing: float) -> None:
    reference = json.loads((Path(str(DATA)) / "data" / "refs" / "h10_motta2017.json").read_text())["data"]
    tables = {"fci": "FCI", "hf": "RHF", "ccsd": "RCCSD", "ccsd_t": "RCCSD(T)"}
    for name, table in tables.items():
        steps = {"cc_max_cycle": 300} if name.startswith("cc") else {}
        energy = calculated({"method": name, "basis": "sto-6g", "conv_tol": 1e-8, **steps}, chain(spacing)).energy
        assert energy == pytest.approx(reference[f"{table}_basis-STO"][str(spacing)][0], abs=2e-6), name


def test_full_ci_converges_to_the_requested_spin() -> None:
    for system in (System("o2", OXYGEN.symbols, OXYGEN.positions), OXYGEN):
        result = calculated({"method": "fci", "basis": "sto-3g", "frozen_core": 2}, system)
        assert result.details["correlation"]["spin_squared"] == pytest.approx(system.spin, abs=1e-4)
    mol = molecule(System("lih", ("Li", "H"), np.array([[0, 0, 0], [0, 0, 3.0]])), "6-31g")
    lih = System("lih", ("Li", "H"), mol.atom_coords())
    expected = fci.FCI(scf.RHF(mol).run()).kernel()[0]
    assert calculated({"method": "fci", "basis": "6-31g"}, lih).energy == pytest.approx(expected, abs=1e-8)


def test_for_two_electrons_coupled_cluster_is_exact() -> None:
    h2 = System("h2", ("H", "H"), np.array([[0, 0, 0], [0, 0, 2.5]]))
    exact = calculated({"method": "fci", "basis": "cc-pvdz"}, h2).energy
    for name in ("ccsd", "ccsd_t"):
        assert calculated({"method": name, "basis": "cc-pvdz"}, h2).energy == pytest.approx(exact, abs=1e-8)


@pytest.mark.parametrize("name", ["hf", "dft", "mp2", "ccsd_t", "fci"])
def test_one_electron_has_the_energy_of_its_orbital(name: str) -> None:
    atom = System("h", ("H",), np.zeros((1, 3)), spin=1)
    energy = calculated({"method": name, "basis": "sto-3g"} | ({"xc": "hf"} if name == "dft" else {}), atom).energy
    assert energy == pytest.approx(-0.46658185, abs=1e-7)  # Szabo and Ostlund, table 3.1


def test_restricted_open_shells_lie_above_unrestricted_ones_and_are_pure() -> None:
    open_shell = calculated({"method": "hf", "basis": "6-31g", "reference": "restricted_open"}, AMIDOGEN)
    unrestricted = calculated({"method": "hf", "basis": "6-31g"}, AMIDOGEN)
    assert open_shell.energy > unrestricted.energy
    assert unrestricted.details["scf"]["spin_squared"] > 0.75
    correlated = [
        calculated({"method": "ccsd_t", "basis": "6-31g", "reference": name}, AMIDOGEN).energy
        for name in ("restricted_open", "unrestricted")
    ]
    assert abs(correlated[0] - correlated[1]) < 0.1 * (open_shell.energy - unrestricted.energy)


def test_unstable_determinants_move_to_a_minimum() -> None:
    """For distant hydrogen atoms the unrestricted energy is that of two atoms; the restricted one is not."""
    far = System("h2", ("H", "H"), np.array([[0, 0, 0], [0, 0, 12.0]]))
    broken = calculated({"method": "hf", "basis": "sto-3g", "reference": "unrestricted"}, far)
    assert broken.energy == pytest.approx(2 * -0.46658185, abs=1e-6)
    assert calculated({"method": "hf", "basis": "sto-3g"}, far).energy > broken.energy + 0.1


def test_ghosts_have_basis_functions_and_nothing_else() -> None:
    """A fragment in the basis of the complex has PySCF's energy, below that in its own basis."""
    pair = System("pair", ("He", "He"), np.array([[0, 0, 0], [0, 0, 4.0]]))
    alone = System("he", ("He",), np.zeros((1, 3)))
    ghost = [["He", 0, 0, 4.0 * ANGSTROM_PER_BOHR]]
    entry = {"method": "mp2", "basis": "6-31g"}
    in_pair = calculated({**entry, "ghosts": ghost}, alone, "forces")
    assert in_pair.energy < calculated(entry, alone).energy - 1e-7
    mol = gto.M(atom="He 0 0 0; ghost-He 0 0 4", unit="B", basis="6-31g", verbose=0)
    assert in_pair.energy == pytest.approx(mp.MP2(scf.RHF(mol).run(conv_tol=1e-11)).run().e_tot, abs=1e-9)
    assert np.shape(in_pair.properties["forces"]) == (1, 3)
    binding = calculated(entry, pair).energy - 2 * in_pair.energy
    assert binding > calculated(entry, pair).energy - 2 * calculated(entry, alone).energy


def test_cartesian_functions() -> None:
    spherical, cartesian = (
        calculated({"method": "hf", "basis": "6-31g(d)", "cartesian": choice}, WATER).details["scf"]["functions"]
        for choice in (False, True)
    )
    assert cartesian == spherical + 1


def test_core_potentials() -> None:
    hydrogen_iodide = System("hi", ("H", "I"), np.array([[0, 0, 0], [0, 0, 1.61 * BOHR_PER_ANGSTROM]]))
    scf_details = calculated({"method": "hf", "basis": "def2-svp"}, hydrogen_iodide).details["scf"]
    assert scf_details["core_potential_electrons"] == 28


def test_the_next_geometry_starts_from_the_last_density() -> None:
    method = by_name.method({"method": "dft", "basis": "6-31g", "grid_level": 1})
    first, second = method.calculate([WATER, WATER.moved(WATER.positions * 1.001)], {"energy"})
    assert (first.details["scf"]["start"], second.details["scf"]["start"]) == ("atoms", "the last density")
    assert second.details["scf"]["cycles"] < first.details["scf"]["cycles"]


@pytest.mark.parametrize("entry", [{"max_cycle": 1}, {"cc_max_cycle": 2}])
def test_unconverged_calculations_report_the_failure(entry: dict[str, Any]) -> None:
    method = by_name.method({"method": "ccsd", "basis": "6-31g", **entry})
    (result,) = method.calculate([WATER], {"energy", "forces"})
    assert result.status == "not_converged"
    assert "did not converge" in str(result.message)
    assert not result.properties


LITHIUM = System("li", ("Li",), np.zeros((1, 3)), spin=1)
PERIODIC = System("cube", ("H", "H"), np.array([[0, 0, 0], [0, 0, 1.4]]), cell=np.eye(3) * 9, pbc=(True,) * 3)


@pytest.mark.parametrize(
    ("entry", "system", "words"),
    [
        ({"method": "hf", "basis": "foo"}, WATER, "no basis 'foo' for H2O"),
        ({"method": "hf", "basis": "cc-pvdz"}, System("u", ("U", "H"), OXYGEN.positions, spin=1), "no functions for U"),
        ({"method": "dft", "xc": "foo"}, WATER, "no functional"),
        ({"method": "dft", "xc": "b3lyp-d3bj"}, WATER, "method.xc=b3lyp method.dispersion=d3bj"),
        ({"method": "dft", "basis": "cc-pv[dt]z"}, WATER, "no known limit"),
        ({"method": "hf", "reference": "restricted"}, OXYGEN, "no unpaired electrons"),
        ({"method": "mp2", "reference": "restricted_open"}, OXYGEN, "choose unrestricted"),
        ({"method": "ccsd", "frozen_core": 4}, LITHIUM, "would freeze 4 orbitals"),
        ({"method": "fci", "basis": "cc-pvtz"}, WATER, "1.6e+11 determinants (4 + 4 electrons in 57 orbitals)"),
        ({"method": "hf"}, PERIODIC, "periodic"),
        ({"method": "hf", "ghosts": "Xx 0 0 1"}, WATER, "unknown element 'Xx'"),
        ({"method": "hf", "dispersion": "d2"}, WATER, "use d3bj"),
        ({"method": "hf", "conv_tol": 0}, WATER, "positive"),
    ],
)
def test_bad_input_is_one_line(entry: dict[str, Any], system: System, words: str) -> None:
    with pytest.raises(InputError) as error:
        protocol.require(by_name.method(entry), {"energy"}, "this", [system])
    assert words in str(error.value)
    assert "\n" not in str(error.value)

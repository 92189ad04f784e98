"""Basis set limits, ASE calculators, dispersion alone, and the output of conventional methods."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones

import fusion
from fusion.chemistry import energy_zeros
from fusion.chemistry.system import System
from fusion.errors import InputError
from fusion.methods import by_name, protocol
from fusion_conventional.basis_limit import terms, title

DATA = os.environ.get("FUSION_TEST_DATA")
WATER = System("water", ("O", "H", "H"), np.array([[0, 0, 0.1], [0, 1.5, -0.9], [0.2, -1.4, -1.0]]))


def test_extrapolation_is_exact_for_its_model() -> None:
    """Both series have the limit -5 (mean field) and -1 (correlation) by construction."""
    for pair, cardinals in (("cc-pv[dt]z", (2, 3)), ("cbs(aug-cc-pvtz, aug-cc-pvqz)", (3, 4)), ("cc-pcv[q5]z", (4, 5))):
        weighted = terms(pair)
        mean_field = sum(
            term.mean_field * (-5 + 3 * (n + 1) * np.exp(-9 * np.sqrt(n)))
            for term, n in zip(weighted, cardinals, strict=True)
        )
        correlation = sum(term.correlation * (-1 + 0.7 / n**3) for term, n in zip(weighted, cardinals, strict=True))
        assert mean_field == pytest.approx(-5, abs=1e-12)
        assert correlation == pytest.approx(-1, abs=1e-12)


def test_names_of_limits() -> None:
    assert [term.basis for term in terms("aug-cc-pv[tq]z")] == ["aug-cc-pvtz", "aug-cc-pvqz"]
    assert [term.basis for term in terms("cc-pV[DT]Z")] == ["cc-pVDZ", "cc-pVTZ"]
    assert title("cc-pv[dt]z") == "CBS(cc-pvdz,cc-pvtz)"
    (plain,) = terms("6-31g(d)")
    assert (plain.mean_field, plain.correlation) == (1.0, 1.0)


@pytest.mark.parametrize(
    "basis",
    ["cbs(cc-pvdz,cc-pvqz)", "cbs(cc-pvtz,cc-pvdz)", "cbs(cc-pvdz,aug-cc-pvtz)", "cbs(def2-svp,def2-tzvp)", "cbs(x)"],
)
def test_pairs_that_have_no_limit(basis: str) -> None:
    with pytest.raises(InputError, match="two adjacent basis sets of one family") as error:
        terms(basis)
    assert "\n" not in str(error.value)


@pytest.mark.skipif(DATA is None, reason="FUSION_TEST_DATA names no directory with the reference energies")
@pytest.mark.parametrize("spacing", ["1.4", "1.8", "2.8"])
def test_basis_set_limit_of_the_hydrogen_chain_matches_motta_2017(spacing: str) -> None:
    """Extrapolate their energies in cc-pVTZ and cc-pVQZ; they use more basis sets and state an error."""
    tables = json.loads((Path(str(DATA)) / "data" / "refs" / "h10_motta2017.json").read_text())["data"]
    total = 0.0
    for term, label in zip(terms("cc-pv[tq]z"), ("TZ", "QZ"), strict=True):
        mean_field = tables[f"RHF_basis-{label}"][spacing][0]
        total += term.mean_field * mean_field
        total += term.correlation * (tables[f"RCCSD(T)_basis-{label}"][spacing][0] - mean_field)
    limit, error = tables["RCCSD(T)_CBS"][spacing]
    assert abs(total - limit) < 3 * error
    assert abs(total - limit) < 0.5 * abs(tables["RCCSD(T)_basis-QZ"][spacing][0] - limit)


def test_a_basis_set_limit_sums_and_reports_its_parts() -> None:
    h2 = System("h2", ("H", "H"), np.array([[0, 0, 0], [0, 0, 1.4]]))
    (result,) = by_name.method({"method": "ccsd", "basis": "cc-pv[dt]z"}).calculate([h2], {"energy"})
    parts = result.details["basis_limit"]
    assert result.energy == pytest.approx(parts["limit_mean_field_hartree"] + parts["limit_correlation_hartree"])
    assert -1.1747 < result.energy < -1.1720  # exact: -1.174475, Kolos and Wolniewicz 1968


@pytest.mark.parametrize("calculator", ["emt", "ase.calculators.lj.LennardJones"])
def test_ase_calculators_give_the_values_of_ase(calculator: str) -> None:
    options = {} if calculator == "emt" else {"epsilon": 0.02, "sigma": 2.0, "rc": 9.0}
    atoms = Atoms("Cu4", positions=[[0, 0, 0], [2.6, 0, 0], [0, 2.5, 0.3], [0.2, 0.1, 2.7]])
    atoms.calc = fusion.calculator("ase", calculator=calculator, options=options)
    plain = atoms.copy()
    plain.calc = EMT() if calculator == "emt" else LennardJones(**options)
    assert atoms.get_potential_energy() == pytest.approx(plain.get_potential_energy(), abs=1e-9)
    assert atoms.get_forces() == pytest.approx(plain.get_forces(), abs=1e-9)


def test_a_crystal_in_a_calculator_of_ase_has_a_stress() -> None:
    from ase.build import bulk

    crystal = bulk("Cu", a=3.7, cubic=True)
    crystal.calc = fusion.calculator("ase", calculator="emt")
    plain = crystal.copy()
    plain.calc = EMT()
    assert crystal.get_stress() == pytest.approx(plain.get_stress(), abs=1e-9)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({}, "names a calculator of ASE"),
        ({"calculator": "emtt"}, "Did you mean 'emt'?"),
        ({"calculator": "nowhere.Calculator"}, "no Python package 'nowhere'"),
        ({"calculator": "ase.calculators.emt.NoSuch"}, "has no NoSuch"),
        ({"calculator": "ase.atoms.Atoms"}, "is no calculator of ASE"),
        (
            {"calculator": "gaussian", "options": {"command": "nosuchprogram < PREFIX.com"}},
            "'nosuchprogram', which is not",
        ),
    ],
)
def test_unavailable_calculators_are_refused(entry: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError) as error:
        protocol.require(by_name.method({"method": "ase", **entry}), {"energy"}, "this", [WATER])
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_a_charge_is_passed_to_the_calculator_or_refused() -> None:
    ion = System("ion", ("Cu", "Cu"), np.array([[0, 0, 0], [0, 0, 4.2]]), charge=1, spin=1)
    with pytest.raises(InputError, match="name it in method"):
        by_name.method({"method": "ase", "calculator": "emt"}).calculate([ion], {"energy"})


def test_a_program_that_fails_leaves_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "broken"
    program.write_text("#!/bin/sh\necho 'cannot go on' > nwchem.err\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    entry = {"method": "ase", "calculator": "nwchem", "options": {"theory": "scf", "command": f"{program} PREFIX.nwi"}}
    (result,) = by_name.method(entry).calculate([WATER], {"energy"})
    assert result.status == "failed"
    assert result.energy is None
    assert result.files["nwchem.err"] == b"cannot go on\n"
    assert [path.name for path in tmp_path.iterdir()] == ["broken"]


@pytest.mark.skipif(shutil.which("nwchem") is None, reason="the program nwchem is not installed")
def test_nwchem_and_pyscf_agree() -> None:
    nwchem = {"method": "ase", "calculator": "nwchem", "options": {"theory": "scf", "basis": "6-31g"}}
    (theirs,) = by_name.method(nwchem).calculate([WATER], {"energy", "forces"})
    (ours,) = by_name.method({"method": "hf", "basis": "6-31g"}).calculate([WATER], {"energy", "forces"})
    assert theirs.energy == pytest.approx(ours.energy, abs=1e-6)
    assert theirs.properties["forces"] == pytest.approx(ours.properties["forces"], abs=1e-4)


def test_dispersion_equals_its_contribution_to_a_functional() -> None:
    alone = by_name.method({"method": "d3", "xc": "pbe"}).calculate([WATER], {"energy", "forces"})[0]
    entry = {"method": "dft", "xc": "pbe", "basis": "sto-3g", "grid_level": 0}
    plain, corrected = (
        by_name.method({**entry, "dispersion": name}).calculate([WATER], {"energy", "forces"})[0]
        for name in (None, "d3bj")
    )
    assert corrected.energy - plain.energy == pytest.approx(alone.energy, abs=1e-8)
    difference = corrected.properties["forces"] - plain.properties["forces"]
    assert difference == pytest.approx(alone.properties["forces"], abs=1e-6)


@pytest.mark.parametrize("name", ["d3", "d4"])
def test_forces_of_a_dispersion_energy_are_its_slope(name: str) -> None:
    if name == "d4":
        pytest.importorskip("dftd4", reason="the library dftd4 is not installed")
    method = by_name.method({"method": name, "xc": "b3lyp"})
    (result,) = method.calculate([WATER], {"energy", "forces"})
    assert result.properties["forces"] == pytest.approx(protocol.numerical_forces(method, WATER), abs=1e-8)
    with pytest.raises(InputError, match="no parameters for the functional 'foo'"):
        protocol.require(by_name.method({"method": name, "xc": "foo"}), {"energy"}, "this", [WATER])


def test_from_the_command_line(program: Any) -> None:
    done = program("+method=ccsd_t", "method.basis=6-31g", "system=h2o")
    assert done.status == 0
    for label in ("Hartree–Fock", "correlation", "triples (T)", "T1 diagnostic", "1 core orbital frozen"):
        assert label in done.out
    refused = program("+method=hf", "method.basis=cbs(cc-pvdz,cc-pvqz)")
    assert refused.status == 2
    assert "not adjacent" in refused.err
    unconverged = program("+method=ccsd", "method.basis=sto-3g", "method.cc_max_cycle=1", "system=h2o")
    assert unconverged.status == 1
    assert "NOT CONVERGED" in unconverged.out


def test_vibrations_with_an_analytic_hessian(program: Any) -> None:
    """Water with HF/STO-3G: 2170, 4140, 4391 per cm (W. J. Hehre, L. Radom, P. v. R. Schleyer, J. A. Pople, 1986)."""
    done = program("+method=hf", "method.basis=sto-3g", "task=vibrations", "system=h2o", "hydra.run.dir=run")
    assert done.status == 0
    result = json.loads(Path("run/result.json").read_text())
    assert result["frequencies_cm1"] == pytest.approx([2170, 4140, 4391], abs=2)


def test_plugin_imports_no_heavy_packages() -> None:
    heavy = "('torch', 'pyscf', 'numba', 'ase')"
    code = f"import sys, fusion_conventional; print(any(name in sys.modules for name in {heavy}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_energy_zero_of_ase_calculators() -> None:
    """Only energies of programs that treat all electrons are total energies."""
    nwchem = by_name.method({"method": "ase", "calculator": "nwchem"})
    emt = by_name.method({"method": "ase", "calculator": "emt"})
    assert (nwchem.energy_zero, emt.energy_zero) == (energy_zeros.TOTAL, energy_zeros.OWN)
    stated = by_name.method({"method": "ase", "calculator": "emt", "energy_zero": "total"})
    assert stated.energy_zero == energy_zeros.TOTAL
    with pytest.raises(InputError, match=r"method\.energy_zero is total or own, not 'atoms'"):
        by_name.method({"method": "ase", "calculator": "emt", "energy_zero": "atoms"})


@pytest.mark.parametrize("switch", ["cartesian", "density_fit", "stability", "tda"])
def test_words_are_no_switches(switch: str) -> None:
    with pytest.raises(InputError, match=f"method.{switch} must be true or false, not 'no'"):
        by_name.method({"method": "hf", switch: "no"})

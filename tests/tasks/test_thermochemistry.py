"""Heats of formation and reaction: known sums, species that fail, and runs that are killed and resumed."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fusion.chemistry import g2, reactions, units
from fusion.runs.report import redraw
from fusion.tasks.thermochemistry import balance, report
from fusion.tasks.thermochemistry.species import Energy, Species
from processes import Program
from resuming import Resumes, Stop

KCAL = units.KCAL_MOL_PER_HARTREE
RT = 8.31446e-3 * 298.15 / units.KJ_MOL_PER_HARTREE
TASK = "task=thermochemistry", "hydra.run.dir=run"
SMALL = "+method=hf", "method.basis=6-31g"
AMMONIA = "task.reaction='N2 + 3 H2 -> 2 NH3'"


def result_of(directory: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((directory / "result.json").read_text())
    return document


def by_name(rows: list[dict[str, Any]], level: int = 0) -> dict[str, dict[str, Any]]:
    """Rows of one level by name."""
    levels = list(dict.fromkeys(row["level"] for row in rows))
    return {row["name"]: row for row in rows if row["level"] == levels[level]}


@pytest.fixture(scope="module")
def halides(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """H2, F2 and HF at a small level, with energies at another level and scaled zero-point energies."""
    import fusion

    directory = tmp_path_factory.mktemp("halides") / "run"
    words = (*SMALL, "task=thermochemistry", "task.molecules=[H2,F2,HF]", "task.reaction='H2 + F2 -> 2 HF'")
    more = "task.energies={method: hf, basis: 3-21g}", "task.zero_point_scale=0.9", f"hydra.run.dir={directory}"
    assert fusion.run([*words, *more]).status == "ok"
    return result_of(directory)["thermochemical"], directory


def test_a_heat_of_formation_is_the_sum_of_energies_vibrations_and_measured_atoms(halides: Any) -> None:
    document, _ = halides
    species = {one["name"]: one for one in document["species"]}
    for level in (0, 1):
        energies = {name: one["energies"][level]["energy_hartree"] for name, one in species.items()}
        row = by_name(document["formation"], level)["H2"]
        vibration = species["H2"]["frequencies_cm1"][0] / units.CM1_PER_HARTREE
        cold = 2 * energies["H"] - energies["H2"] - 0.9 * 0.5 * vibration
        assert row["atomisation_energy_hartree"] == pytest.approx(2 * energies["H"] - energies["H2"], abs=1e-10)
        assert row["atomisation_enthalpy_0_hartree"] == pytest.approx(cold, abs=1e-9)
        assert row["formation_0_hartree"] == pytest.approx(2 * 51.63 / KCAL - cold, abs=1e-9)
        warm = row["formation_0_hartree"] + 3.5 * RT - 2 * 1.01 / KCAL  # a stiff rotor
        assert row["formation_298_hartree"] == pytest.approx(warm, abs=1e-7)
        entropies = 2 * (species["H"]["entropy_j_per_mol_k"]) - species["H2"]["entropy_j_per_mol_k"]
        assert species["H"]["entropy_j_per_mol_k"] == pytest.approx(114.72, abs=0.05)  # CODATA
        gibbs = cold + 1.5 * RT - 298.15e-3 * entropies / units.KJ_MOL_PER_HARTREE
        assert row["atomisation_gibbs_hartree"] == pytest.approx(gibbs, abs=1e-6)
    assert species["H2"]["entropy_j_per_mol_k"] == pytest.approx(130.68, abs=1.0)  # CODATA; at its bond length


def test_a_reaction_is_the_difference_of_heats_of_formation(halides: Any) -> None:
    document, _ = halides
    for level in (0, 1):
        formed = {name: row["formation_298_hartree"] for name, row in by_name(document["formation"], level).items()}
        (row,) = by_name(document["reactions"], level).values()
        assert row["enthalpy_298_hartree"] == pytest.approx(2 * formed["HF"] - formed["H2"] - formed["F2"], abs=1e-9)
        assert row["experiment_298_hartree"] * KCAL == pytest.approx(2 * -65.1, abs=0.2)  # heat of formation of HF
        errors = {name: one["error_hartree"] for name, one in by_name(document["formation"], level).items()}
        assert row["error_hartree"] == pytest.approx(2 * errors["HF"] - errors["H2"] - errors["F2"], abs=1e-9)
    assert document["reaction_errors_hartree"][row["level"]]["mean"] == pytest.approx(row["error_hartree"])


def test_tables_agree_with_the_result(pictures: None, halides: Any) -> None:
    document, directory = halides
    with (directory / "thermochemistry.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["name"] for line in lines] == ["H2", "F2", "HF"] * 2 + ["H2 + F2 -> 2 HF"] * 2
    fluoride = by_name(document["formation"], 1)["HF"]
    assert float(lines[5]["formation_298_kcal_per_mol"]) == pytest.approx(fluoride["formation_298_hartree"] * KCAL)
    text = (directory / "thermochemistry.md").read_text()
    assert f"{fluoride['formation_298_hartree'] * KCAL:.1f}" in text and "scaled by 0.9" in text
    redraw(directory)
    assert (directory / "thermochemistry.png").stat().st_size > 10_000


def test_spin_orbit_energies_of_atoms_lower_atomisation_enthalpies() -> None:
    fluorine = Species("F2", g2.system("F2"), "F2", energies={"hf": Energy(-198.0)})
    known = {"F2": fluorine, "F": Species("F", g2.system("F"), "F", energies={"hf": Energy(-99.0)})}
    without, with_coupling = (
        balance.change(balance.atomisation(fluorine), known, "hf", balance.Conditions(298.15, spin_orbit=coupled))
        for coupled in (False, True)
    )
    assert without is not None and with_coupling is not None
    assert with_coupling.electronic - without.electronic == pytest.approx(-2 * 0.61e-3)


def test_errors_of_energies_reach_the_reaction() -> None:
    parsed = reactions.parse("2 H2O -> 2 H2 + O2", Path("/"))
    members = {"H2O": [0.0, 0.3], "H2": [0.1, 0.2], "O2": [0.0, 0.4]}
    known = {
        term.name: Species(term.name, term.system, energies={"x": Energy(0.0, 0.1, 0.2, np.array(members[term.name]))})
        for term in parsed.terms
    }
    conditions = balance.Conditions(298.15)
    change = balance.change(parsed, known, "x", conditions)
    assert change is not None and change.stderr == pytest.approx(0.3)  # sqrt(4 + 4 + 1) of 0.1
    assert change.std == pytest.approx(0.0, abs=1e-12)  # both members: 2 (0.1 - 0.0) + 0.0 = 2 (0.2 - 0.3) + 0.4
    for one in known.values():
        one.energies["x"] = Energy(0.0, None, 0.2)
    change = balance.change(parsed, known, "x", conditions)
    assert change is not None and change.stderr is None and change.std == pytest.approx(0.6)
    known["O2"].problem = "not relaxed"
    assert balance.change(parsed, known, "x", conditions) is None
    assert balance.missing(parsed, known, "x") == ["O2"]


def test_a_species_that_fails_is_named_and_enters_no_sum(program: Program, tmp_path: Path) -> None:
    words = "method.basis=dz", "task.molecules=[H2,BeH]", "task.reaction='2 BeH -> H2 + 2 Be'"  # dz has no beryllium
    done = program(SMALL[0], *TASK, *words)
    assert (
        done.status == 1
        and "left out: BeH: method.basis: dz has no functions for Be" in done.out
        and "no BeH, Be" in done.out
    ), done
    document = result_of(tmp_path / "run")
    assert document["status"] == "not_converged" and "BeH" in document["message"]
    rows = document["thermochemical"]
    assert "formation_298_hartree" in by_name(rows["formation"])["H2"]
    assert "enthalpy_hartree" not in rows["reactions"][0] and rows["reactions"][0]["missing"] == ["BeH", "Be"]


def test_a_failed_level_does_not_affect_the_others(program: Program, tmp_path: Path) -> None:
    done = program("+method=morse", *TASK, AMMONIA, "task.energies=[{method: toy, status: not_converged}]")
    assert done.status == 1 and "N2: toy: did not settle" in done.out
    rows = result_of(tmp_path / "run")["thermochemical"]["reactions"]
    assert "energy_hartree" in rows[0] and rows[1]["missing"] == ["N2", "H2", "NH3"]
    done = program("+method=morse", *TASK, AMMONIA, "task.energies={method: toy, energy: -1}")
    assert done.status == 0, done
    row = result_of(tmp_path / "run")["thermochemical"]["reactions"][1]
    assert row["energy_hartree"] == pytest.approx(-1.0 * (2 - 3 - 1))
    for key in ("enthalpy_0_hartree", "enthalpy_hartree", "gibbs_hartree"):  # corrections are those of the geometries
        assert row[key] - row["energy_hartree"] == pytest.approx(rows[0][key] - rows[0]["energy_hartree"], abs=1e-9)


def test_a_saddle_point_is_not_accepted_as_a_molecule(program: Program, tmp_path: Path) -> None:
    (tmp_path / "chain.xyz").write_text("3\n\nN 0 0 -1.1\nN 0 0 0\nN 0 0 1.1\n")  # pairwise bonds want a triangle
    done = program("+method=morse", *TASK, "task.reaction='2 chain.xyz -> 3 N2'")
    assert done.status == 1 and "chain.xyz: " in done.out and "imaginary mode" in done.out, done
    assert result_of(tmp_path / "run")["thermochemical"]["reactions"][0]["missing"] == ["chain.xyz"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("+method=morse", "task.molecules=[H2]"), "no meaningful energies of single atoms"),
        (("+method=morse", "system=h2o"), "task.reaction='2 H2O -> 2 H2 + O2'"),
        (("+method=morse", "task.reaction='H2 -> 2 H'"), "task.reaction: H is an atom, and morse, untrained has no"),
        ((*SMALL, "task.molecules=[H2,H3]"), "task.molecules: no species 'H3'. Did you mean"),
        ((*SMALL, "task.molecules=[H2,O]"), "O is an atom"),
        ((*SMALL, "task.reaction='H2 + O2 -> H2O'"), "task.reaction: 'H2 + O2 -> H2O' is not balanced"),
        ((*SMALL, "task.temperature_k=-1"), "task.temperature_k must be a positive number"),
        ((*SMALL, "task.zero_point_scale=97"), "task.zero_point_scale must be from"),
        ((*SMALL, "task.unit=eV"), "task.unit must be kcal/mol or kJ/mol"),
        ((*SMALL, "task.energies=[hff]"), "task.energies: no method 'hff'. Did you mean 'hf'?"),
        ((*SMALL, "task.energies={method: hf, basis: 6-31g}"), "HF/6-31g is listed twice"),
        (("+method=toy", AMMONIA), "task thermochemistry needs hessian"),
    ],
)
def test_wrong_settings_give_one_line(program: Program, words: tuple[str, ...], says: str) -> None:
    done = program(*words, *TASK)
    assert done.status == 2 and says in done.err and done.err.count("\n") == 1, done
    assert not list(Path.cwd().iterdir())


@pytest.mark.slow
def test_a_run_killed_during_a_species_resumes_to_the_same_result(
    resumes: Resumes, program: Program, tmp_path: Path
) -> None:
    words = "+method=morse", AMMONIA, "method._target_=toy.morse.WithoutHessian", *TASK
    (resumed,) = resumes(words, Stop("toy.morse:Morse.forward", 20), files=("thermochemistry.csv",), rel=1e-9)
    assert "resuming the calculations of N2, H2" in resumed.out, resumed
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("toy.morse.Morse.forward", None)  # nothing is calculated again
        again = program("resume", "run")
    assert again.status == 0 and "N2 + 3 H2 -> 2 NH3" in again.out


def test_modes_that_count_as_noise_are_stated() -> None:
    """They are in no correction, so that the entropy lacks them."""
    species = [
        {"name": "a", "modes_below_noise": 1},
        {"name": "b"},
        {"name": "c", "modes_below_noise": 1, "problem": "saddle"},
    ]
    (note,) = report.notes({"species": species})
    assert note.startswith("a: an imaginary mode counts as noise")

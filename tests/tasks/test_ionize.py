"""task=ionize: differences of energies, choice of the ions' spins, nuclei without electrons, refusals, resumed runs."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyscf import fci, gto, scf

from fusion.chemistry import system_input, units
from fusion.chemistry.system import System
from fusion.errors import CalculationError
from fusion.runs.results import Result
from fusion.tasks.ionize import calculations, energies
from fusion.tasks.ionize.states import ANION, CATION, State, ion
from fusion.tasks.ionize.task import unbound
from processes import Program
from resuming import Resumes, Stop, document

RUN = ("task=ionize", "hydra.run.dir=run")
FCI = ("+method=fci", "method.basis=cc-pvdz")


def ionisation(directory: Path) -> dict[str, Any]:
    """The ionisation of the run in `directory`."""
    summary: dict[str, Any] = document(directory / "run")["ionisation"]
    return summary


def energy(symbol: str, charge: int, spin: int, basis: str) -> float:
    """Full CI energy of an atom by PySCF, hartree."""
    mol = gto.M(atom=symbol, charge=charge, spin=spin, basis=basis, verbose=0)
    return float(fci.FCI(scf.ROHF(mol).run()).kernel()[0])


def chosen(config: dict[str, Any], name: str = CATION) -> tuple[int, str]:
    """Multiplicity of an ion of the system that `config` describes, and the reason of the choice."""
    state = ion(config, system_input.read(config), name, None)
    assert state.system is not None
    return state.system.multiplicity, state.origin


def test_helium_has_the_ionisation_potential_of_its_basis(program: Program, tmp_path: Path) -> None:
    done = program(*FCI, *RUN, "system=he")
    assert done.status == 0 and done.err == ""
    exact = energy("He", 1, 1, "cc-pvdz") - energy("He", 0, 0, "cc-pvdz")
    assert ionisation(tmp_path)["ionisation_potential"]["hartree"] == pytest.approx(exact, abs=1e-8)


def test_the_energy_of_the_run_is_that_of_the_system(program: Program, tmp_path: Path) -> None:
    program(*FCI, *RUN, "system=he")
    system, cation = ionisation(tmp_path)["states"]
    assert document(tmp_path / "run")["energy"]["value"] == system["energy_hartree"] < cation["energy_hartree"]


def test_the_affinity_is_the_energy_gained_by_an_electron(program: Program, tmp_path: Path) -> None:
    done = program("+method=fci", "method.basis=aug-cc-pvdz", *RUN, "system=h", "task.affinity=true")
    assert done.status == 0
    exact = energy("H", 0, 1, "aug-cc-pvdz") - energy("H", -1, 0, "aug-cc-pvdz")
    affinity = ionisation(tmp_path)["electron_affinity"]
    assert affinity["hartree"] == pytest.approx(exact, abs=1e-8)
    assert affinity["reference"]["hartree"] == pytest.approx(0.027751, abs=1e-6)


def test_an_anion_above_the_system_is_a_warning(program: Program) -> None:
    done = program("+method=fci", "method.basis=sto-3g", *RUN, "system=h", "task.affinity=true")
    assert done.status == 0 and "H⁻ lies above the system" in done.out


def test_an_affinity_within_its_noise_binds_no_electron() -> None:
    states = [State(ANION, "H⁻", -1, None, "")]
    near, below, bound = (
        unbound(states, {"electron_affinity": {"hartree": value, "stderr_hartree": 0.01}})
        for value in (0.015, -0.03, 0.03)
    )
    assert "does not tell whether the last electron of H⁻ is bound" in near[0]
    assert "H⁻ lies above the system" in below[0] and bound == []


def test_hydrogen_gives_minus_its_energy(program: Program, tmp_path: Path) -> None:
    done = program(*FCI, *RUN, "system=h")
    assert done.status == 0 and "H⁺: bare nuclei" in done.out
    potential = ionisation(tmp_path)["ionisation_potential"]
    assert potential["hartree"] == -document(tmp_path / "run")["energy"]["value"]
    assert potential["reference"]["hartree"] == 0.5


def test_nuclei_without_electrons_have_their_repulsion(program: Program, tmp_path: Path) -> None:
    program(*FCI, *RUN, "system=h2plus")
    system = system_input.read(document(tmp_path / "run")["settings"]["system"])
    assert ionisation(tmp_path)["states"][1]["energy_hartree"] == system.nuclear_repulsion


def test_the_reference_is_the_difference_of_listed_energies(program: Program, tmp_path: Path) -> None:
    program(*FCI, *RUN, "system=he")
    potential = ionisation(tmp_path)["ionisation_potential"]
    assert potential["reference"]["hartree"] == pytest.approx(0.903724377034, abs=1e-12)
    deviation = 1000 * (potential["hartree"] - potential["reference"]["hartree"])
    assert potential["reference"]["difference_mhartree"] == pytest.approx(deviation)


def test_statistical_errors_add_in_quadrature(helium: System) -> None:
    upper, lower = Result(helium, energy=-2.0, energy_stderr=3e-3), Result(helium, energy=-2.9, energy_stderr=4e-3)
    value = energies.difference(upper, lower)
    assert value is not None and value["stderr_hartree"] == pytest.approx(5e-3)
    assert value["stderr_ev"] == pytest.approx(5e-3 * units.EV_PER_HARTREE)


def test_an_exact_energy_adds_no_error(helium: System) -> None:
    value = energies.difference(Result(helium, energy=0.0), Result(helium, energy=-0.5, energy_stderr=1e-3))
    assert value is not None and value["stderr_kcal_mol"] == pytest.approx(1e-3 * units.KCAL_MOL_PER_HARTREE)


def test_the_spread_is_that_of_the_members_own_differences(helium: System) -> None:
    upper = Result(helium, energy=-2.0, properties={"energy_members": np.array([-2.1, -1.9])})
    lower = Result(helium, energy=-3.0, properties={"energy_members": np.array([-3.1, -2.9])})
    value = energies.difference(upper, lower)
    assert value is not None and value["std_hartree"] == pytest.approx(0.0, abs=1e-12)


@pytest.fixture
def helium() -> System:
    return System("he", ("He",), np.zeros((1, 3)))


def test_the_spin_of_an_ion_is_that_of_its_listed_state() -> None:
    states = [{"charge": 1, "spin": 2}, {"charge": 0, "spin": 1}]
    config = {"name": "x", "atoms": "B 0 0 0", "formula": "B", "nuclear_repulsion": 0.0, "states": states}
    assert chosen(config) == (3, "listed in system=x")


def test_the_spin_of_an_atom_follows_from_hunds_rules() -> None:
    config = {"name": "x", "atoms": "N 0 0 0", "multiplicity": 4}
    assert chosen(config) == chosen(config, ANION) == (3, "Hund's rules")


def test_the_spin_of_a_radicals_cation_has_the_lower_mean_field() -> None:
    assert chosen({"name": "no", "atoms": "N 0 0 0; O 0 0 1.15"}) == (1, "the lower Hartree–Fock energy")


def test_nuclei_need_a_method_whose_zero_is_theirs(program: Program) -> None:
    done = program("+method=morse", *RUN, "system=h")
    assert done.status == 2 and "H⁺ has no electrons, and the energies of " in done.err


def test_a_correction_is_refused(program: Program) -> None:
    done = program("+method=d3", *RUN, "system=h2o")
    assert done.status == 2 and "d3 gives a correction" in done.err


def test_an_ion_of_a_closed_shell_is_a_doublet() -> None:
    assert chosen({"name": "x", "atoms": "Li 0 0 0; H 0 0 1.6"}, ANION)[0] == 2


def test_a_multiplicity_of_the_settings_is_used(program: Program, tmp_path: Path) -> None:
    done = program("+method=hf", "method.basis=sto-3g", *RUN, "system=h2o", "task.cation_multiplicity=4")
    assert done.status == 0 and "H2O⁺: quartet (task.cation_multiplicity)" in done.out
    assert ionisation(tmp_path)["states"][1]["multiplicity"] == 4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("system=he", "task.cation_multiplicity=3"), "task.cation_multiplicity=3: He with charge 1 has 1 electron"),
        (("system=h", "task.cation_multiplicity=1"), "H⁺ has no electrons"),
        (("system=he", "task.anion_multiplicity=2"), "task.affinity=true"),
        (("system=he", "task.affinity=2"), "task.affinity must be true or false"),
        (("system=he", "task.cation_multiplicity=0"), "task.cation_multiplicity must be a whole number"),
        (("system=h", "system.charge=-1", "task.affinity=true"), "no state binds more than 2"),
    ],
)
def test_wrong_settings_are_one_line(program: Program, tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    done = program(*FCI, *RUN, *words)
    assert done.status == 2 and message in done.err and len(done.err.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_a_potential_of_neutral_molecules_is_refused(zoo_cache: Path, program: Program) -> None:
    done = program("+method=ani", *RUN, "system=h2o")
    assert done.status == 2 and len(done.err.strip().splitlines()) == 1
    assert "H2O⁺: " in done.err and "charge 1 is outside its domain" in done.err


def test_a_method_that_ignores_the_charge_fails(program: Program, tmp_path: Path) -> None:
    done = program("+method=toy", *RUN, "system=h2o")
    assert done.status == 1 and "does not depend on the number of electrons" in done.err


def test_a_crystal_is_refused(program: Program, tmp_path: Path) -> None:
    (tmp_path / "cell.xyz").write_text('1\nLattice="4 0 0 0 4 0 0 0 4" pbc="T T T"\nHe 0 0 0\n')
    done = program(*FCI, *RUN, "system=cell.xyz")
    assert done.status == 2 and "changes the charge of molecules; cell is periodic" in done.err


def test_the_checkpoint_of_another_task_is_refused(program: Program) -> None:
    scan = ("task=scan", "task.atoms=[1,2]", "task.stop=0.8", "task.points=2", "task.relaxed=false")
    assert program(*FCI, "system=h2", *scan, "hydra.run.dir=scan").status == 0
    done = program(*FCI, *RUN, "system=h2", "ckpt=scan")
    assert done.status == 2 and "is a checkpoint of task=scan, not of task=ionize" in done.err


def test_an_ionisation_is_not_resumed_with_another_method(program: Program) -> None:
    assert program(*FCI, *RUN, "system=h").status == 0
    done = program("+method=hf", *RUN, "system=h", "ckpt=last")
    assert done.status == 2 and "belongs to another method" in done.err


def test_a_failed_ion_is_named_beside_the_energy_of_the_system(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = calculations._energy

    def failing(method: Any, state: State, *arguments: Any) -> Result:
        if state.name == CATION:
            raise CalculationError("no convergence")
        return original(method, state, *arguments)

    monkeypatch.setattr(calculations, "_energy", failing)
    done = program(*FCI, *RUN, "system=he")
    assert done.status == 1 and "He⁺: no convergence" in done.out
    summary = ionisation(tmp_path)
    assert "ionisation_potential" not in summary and "energy_hartree" in summary["states"][0]


def test_a_killed_run_repeats_no_energy(resumes: Resumes) -> None:
    words = (*FCI, "task=ionize", "system=h", "task.affinity=true")
    (resumed,) = resumes(
        words, Stop("fusion.tasks.ionize.calculations:_energy", 1), files=["states/system/config.yaml"]
    )
    assert "resuming H" in resumed.out


def test_the_states_are_drawn(pictures: None, program: Program, tmp_path: Path) -> None:
    program(*FCI, *RUN, "system=he")
    assert (tmp_path / "run" / "levels.png").stat().st_size > 10_000


def test_the_report_repeats_the_values(program: Program) -> None:
    done = program(*FCI, *RUN, "system=he")
    again = program("report", "run")
    assert [row for row in done.out.splitlines() if row.startswith("IP")] == [
        row for row in again.out.splitlines() if row.startswith("IP")
    ]
    assert math.isfinite(float(next(row for row in again.out.splitlines() if row.startswith("IP ")).split()[1]))

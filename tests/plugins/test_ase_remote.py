"""Calculators of ASE in another Python environment: the same numbers, charge and spin, and what can go wrong."""

from __future__ import annotations

import gc
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import standins
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT

import fusion
from fusion.chemistry import units
from fusion.chemistry.structures import from_atoms
from fusion.chemistry.system import System
from fusion.errors import InputError
from fusion.methods import protocol
from fusion_conventional.ase_calculator import ASECalculator

ALL = {"energy", "forces", "dipole", "charges"}


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Python of an environment with the module `echo`."""
    folder = tmp_path_factory.mktemp("environment")
    standins.write(folder, {"echo.py": "\nclass WithoutInfo(Echo):\n    keys = ('none', 'none')\n"})
    return standins.python(folder)


def molecule(*symbols: str, charge: int = 0, spin: int | None = None, shift: float = 0.0) -> System:
    atoms = Atoms(symbols, [[0.3 * i + shift, 0.0, 1.1 * i] for i in range(len(symbols))])
    return from_atoms(atoms, charge, spin)


def echo(python: str, calculator: str = "Echo", **settings: Any) -> ASECalculator:
    return ASECalculator("ase", f"echo.{calculator}", python=python, **settings)


def test_a_calculator_in_another_process_gives_the_same_numbers() -> None:
    crystal, cluster = bulk("Cu", a=3.7, cubic=True), Atoms("Cu2Au", [[0, 0, 0], [2.6, 0, 0], [1.1, 2.3, 0.2]])
    crystal.rattle(0.05, seed=1)
    calculator = fusion.calculator("ase", calculator="emt", python=sys.executable)
    for atoms in (crystal, cluster):
        plain, remote = atoms.copy(), atoms.copy()
        plain.calc, remote.calc = EMT(), calculator
        assert remote.get_potential_energy() == pytest.approx(plain.get_potential_energy(), abs=1e-10)
        assert remote.get_forces() == pytest.approx(plain.get_forces(), abs=1e-10)
    crystal.calc = calculator
    plain = crystal.copy()
    plain.calc = EMT()
    assert crystal.get_stress() == pytest.approx(plain.get_stress(), abs=1e-10)


@pytest.mark.parametrize(
    ("calculator", "state"),
    [
        ("Echo", {"charge": "charge", "spin": {"key": "spin", "as": "multiplicity"}}),
        ("WithoutInfo", {"charge": {"key": "charge", "through": "attribute"},
                         "spin": {"key": "total_spin", "through": "set", "as": "multiplicity"}}),
    ],
)  # fmt: skip
def test_charge_and_spin_reach_the_other_process(there: str, calculator: str, state: Any) -> None:
    method = echo(there, calculator, state=state)
    for system, received in (
        (molecule("O", "O"), 0 + 100 * 1),
        (molecule("O", "O", charge=-1), -1 + 100 * 2),
        (molecule("O", "O", charge=1, spin=3), 1 + 100 * 4),
        (molecule("O", "O", spin=2), 0 + 100 * 3),
        (molecule("O", "O"), 0 + 100 * 1),
    ):
        (result,) = protocol.calculate(method, [system], {"energy"})
        assert result.energy * units.EV_PER_HARTREE == pytest.approx(received)


def test_initial_charges_and_moments_reach_the_other_process(there: str) -> None:
    method = echo(there, "WithoutInfo", state={"charge": {"through": "initial"}, "spin": {"through": "initial"}})
    ion = molecule("O", "O", "O", charge=-1, spin=3)
    (result,) = protocol.calculate(method, [ion], {"energy"})
    assert result.energy * units.EV_PER_HARTREE == pytest.approx(-1 + 100 * 3)


def test_all_properties_come_from_one_calculation_per_structure(there: str) -> None:
    method = echo(there)
    assert method.provides == ALL
    systems = [molecule("C", "O"), molecule("C", "O", shift=0.2), molecule("N", "N")]
    results = protocol.calculate(method, systems, ALL)
    for number, (system, result) in enumerate(zip(systems, results, strict=True), start=1):
        assert result.properties["charges"] == pytest.approx([number, number])
        assert result.properties["dipole"] == pytest.approx(system.positions.sum(axis=0))
        slope = units.EV_ANGSTROM_PER_HARTREE_BOHR * units.BOHR_PER_ANGSTROM
        assert result.properties["forces"] == pytest.approx(-2.0 * system.positions / slope)
    details = results[0].details["ase"]
    assert details["python"] == there and "ase" in details["versions"]


@pytest.mark.parametrize(
    ("symbol", "status", "words"),
    [
        ("Ne", "failed", "no parameters for Ne"),
        ("Ar", "not_converged", "40 cycles"),
        ("Kr", "failed", "energy is nan"),
        ("He", "failed", r"ended \(status 3\): killed by the memory limit"),
    ],
)
def test_a_failure_is_a_result_and_the_next_structure_is_calculated(
    there: str, symbol: str, status: str, words: str
) -> None:
    method = echo(there)
    failed, good = protocol.calculate(method, [molecule(symbol, symbol), molecule("C", "O")], {"energy", "forces"})
    assert failed.status == status and failed.energy is None
    with pytest.raises(AssertionError, match=words):
        raise AssertionError(failed.message)
    assert "\n" not in str(failed.message)
    assert good.status == "ok" and np.isfinite(good.properties["forces"]).all()


@pytest.mark.parametrize(
    ("python", "settings", "words"),
    [
        ("no-such-python", {}, "there is no program 'no-such-python'; write the path"),
        (str(Path(sys.prefix)), {}, "is a folder; write its program"),
        ("true", {}, "it wrote nothing; it must be a Python"),
        (None, {"calculator": "nowhere.Calculator", "about": {"requires": ["no-where"]}},
         r"no Python package 'nowhere' in the environment of method.python=.* -m pip install ase no-where"),
        (None, {"calculator": "echo.Nothing"}, "echo has no Nothing"),
        (None, {"calculator": "emtt"}, "Did you mean 'emt'?"),
        (None, {"options": {"no_option": 1}}, "method.options of echo.Echo: .*no_option"),
        (None, {"options": {"charge": np.eye(2)}}, "must be plain settings"),
    ],
)  # fmt: skip
def test_what_cannot_be_created_there_is_refused_in_one_line(
    there: str, python: str | None, settings: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputError, match=words) as error:
        protocol.require(
            ASECalculator("ase", **{"calculator": "echo.Echo", "python": python or there, **settings}),
            {"energy"},
            "this",
        )
    assert "\n" not in str(error.value)


def test_a_relative_path_starts_at_the_current_directory(there: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(there).parent)
    assert echo("./python").provides == ALL


def test_files_beside_the_worker_hide_no_package(there: str) -> None:
    """The plugin has modules `field` and `response`; a package of that name must be found, or be missing."""
    for name in ("ase_state.State", "molecules.anything"):
        with pytest.raises(InputError, match="there is no Python package"):
            ASECalculator("ase", name, python=there).check([molecule("C", "O")])


def test_the_process_ends_with_the_method(there: str) -> None:
    method = echo(there)
    protocol.calculate(method, [molecule("C", "O")], {"energy"})
    process = method._calculator._worker._process
    assert process.poll() is None
    del method
    gc.collect()
    assert process.poll() == 0


def test_a_program_runs_in_a_scratch_directory_and_leaves_its_files(tmp_path: Path) -> None:
    """A calculator that writes files must not write into the directory where the user started."""
    program = tmp_path / "fails"
    program.write_text("#!/bin/sh\necho broken > reason.txt\nexit 1\n")
    program.chmod(0o755)
    options = {"theory": "scf", "command": f"{program} PREFIX.nwi"}
    method = ASECalculator("ase", "nwchem", options, python=sys.executable)
    (result,) = protocol.calculate(method, [molecule("H", "H")], {"energy"})
    assert result.status == "failed" and "reason.txt" in result.files


@pytest.mark.slow
def test_two_environments_that_exclude_each_other_meet_in_one_comparison(tmp_path: Path) -> None:
    entries = []
    for number in (1, 2):
        folder = tmp_path / f"environment{number}"
        standins.write(
            folder, {"pinned.py": f"\nclass Pinned(Echo):\n    def received(self):\n        return {number}.0\n"}
        )
        python = standins.python(folder)
        entries.append(f"{{method: ase, label: m{number}, calculator: pinned.Pinned, python: {python}}}")
    run = tmp_path / "run"
    fusion.run(["task=compare", f"methods=[{','.join(entries)}]", "system=h2o", f"hydra.run.dir={run}"])
    (quantity,) = json.loads((run / "result.json").read_text())["comparison"]["quantities"]
    energies = [value["energy_hartree"] * units.EV_PER_HARTREE for value in quantity["values"].values()]
    assert energies == pytest.approx([1.0, 2.0])

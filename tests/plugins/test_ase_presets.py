"""Presets of published potentials: the arguments, charge and spin, domain and licence that each of them has."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import standins
from ase import Atoms
from ase.build import bulk

import fusion
from fusion.chemistry import energy_zeros, units
from fusion.chemistry.structures import from_atoms
from fusion.chemistry.system import System
from fusion.config.options import available
from fusion.errors import InputError
from fusion.methods import by_name, protocol

PRESETS = ("aimnet2", "mace_off", "mace_omol", "orbmol", "sevennet", "so3lr", "uma")
OF_ALL_STATES = ("mace_omol", "orbmol", "uma")
PACKAGES = ("so3krates_torch", "aimnet", "mace", "fairchem", "orb_models", "sevenn")
ACETATE = Atoms(
    "CCOOH3",
    [[0, 0, 0], [1.54, 0, 0], [2.1, 1.12, 0], [2.1, -1.12, 0], [-0.38, 1.02, 0], [-0.38, -0.51, 0.88],
     [-0.38, -0.51, -0.88]],
)  # fmt: skip


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Stand-ins of the packages of all presets, also where the packages are installed."""
    _forget()
    monkeypatch.syspath_prepend(standins.write(tmp_path / "site"))
    yield
    _forget()


def _forget() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] in PACKAGES]:
        del sys.modules[name]


def molecule(*symbols: str, charge: int = 0, spin: int | None = None) -> System:
    return from_atoms(Atoms(symbols, [[0.3 * i, 0.0, 1.1 * i] for i in range(len(symbols))]), charge, spin)


def received(preset: str, system: System, **options: Any) -> float:
    (result,) = protocol.calculate(by_name.method({"method": f"ase/{preset}", **options}), [system], {"energy"})
    return float(result.energy) * units.EV_PER_HARTREE


@pytest.mark.usefixtures("packages")
@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_creates_its_calculator_and_states_its_terms(preset: str) -> None:
    method = by_name.method(f"ase/{preset}")
    method.check([molecule("C", "O")])
    assert {"energy", "forces"} <= method.provides
    assert method.name == f"ase/{preset}" and method.label == method.about.title
    assert method.licence and method.about.requires and method.energy_zero == energy_zeros.OWN
    assert f"ase/{preset}" in available("method")


@pytest.mark.usefixtures("packages")
@pytest.mark.parametrize("preset", OF_ALL_STATES)
def test_models_of_omol25_receive_charge_and_multiplicity(preset: str) -> None:
    assert received(preset, molecule("O", "O", spin=2)) == pytest.approx(300)  # a triplet
    assert received(preset, molecule("O", "O", charge=-1)) == pytest.approx(-1 + 200)
    assert received(preset, molecule("Fe", "O", charge=2, spin=4)) == pytest.approx(2 + 500)
    for system, words in ((molecule("U", "O"), "also has U"), (molecule("C", "O", charge=-12), "charge -12")):
        with pytest.raises(InputError, match=words):
            received(preset, system)


@pytest.mark.usefixtures("packages")
def test_models_of_closed_shells_receive_the_charge_and_refuse_radicals() -> None:
    ion = molecule("O", "C", "O", charge=-2)
    assert received("so3lr", ion) == pytest.approx(-2)
    assert received("aimnet2", ion) == pytest.approx(-2 + 100)
    for preset in ("so3lr", "aimnet2", "mace_off"):
        for system in (molecule("C", "H", "H", "H"), molecule("O", "O", spin=2), molecule("Li", "H")):
            with pytest.raises(InputError, match=r"closed|also has Li"):
                received(preset, system)
    for preset in ("mace_off", "sevennet"):
        with pytest.raises(InputError, match="charge"):
            received(preset, ion)


@pytest.mark.usefixtures("packages")
def test_aimnet2_for_radicals_is_a_setting_away() -> None:
    options = {"options.base_calc": "aimnet2-nse", "domain.spins": [0, 1, 2]}
    assert received("aimnet2", molecule("C", "H", "H", "H"), **options) == pytest.approx(200)


@pytest.mark.usefixtures("packages")
def test_a_crystal_model_takes_a_magnetic_crystal() -> None:
    method = by_name.method("ase/sevennet")
    method.check([from_atoms(bulk("Fe", cubic=True), None, None)])


@pytest.mark.skipif(importlib.util.find_spec("mace") is not None, reason="mace-torch is installed")
def test_a_missing_package_is_refused_with_both_remedies() -> None:
    with pytest.raises(InputError) as error:
        by_name.method("ase/mace_off")
    assert "pip install mace-torch" in str(error.value) and "method.python" in str(error.value)


def test_the_first_lines_of_a_run_tell_licence_and_limits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    python = standins.python(standins.write(tmp_path))
    result = fusion.run(["+method=ase/sevennet", f"method.python={python}", "system=h2o"])
    shown = capsys.readouterr().out
    assert "licence of SevenNet-0: MIT" in shown and "energies of molecules are extrapolations" in shown
    assert result.details["ase"]["licence"].startswith("MIT")


def where(package: str, variable: str) -> dict[str, Any]:
    """Settings for the real package: the Python that the variable names, or this one; skip without either."""
    python = os.environ.get(variable)
    if python is None and importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed, and {variable} names no Python that has it")
    return {} if python is None else {"python": python}


def test_so3lr_gives_the_energies_of_its_package_and_refuses_what_it_was_not_trained_on() -> None:
    """The weights come with the package. The energies are those of SO3LRCalculator of so3krates-torch 0.2.1."""
    method = by_name.method({"method": "ase/so3lr", **where("so3krates_torch", "FUSION_TEST_PYTHON_SO3LR")})
    results = protocol.calculate(
        method, [from_atoms(ACETATE, charge, None) for charge in (-1, 1)], {"energy", "forces"}
    )
    assert results[0].energy == pytest.approx(-42.493226383, abs=1e-6)
    assert results[1].energy != pytest.approx(results[0].energy, abs=1e-3)
    assert results[0].properties["forces"] == pytest.approx(
        protocol.numerical_forces(method, results[0].system), abs=1e-5
    )
    assert results[0].details["ase"]["versions"]["so3krates-torch"]
    for system in (molecule("C", "H", "H", "H"), molecule("C", "Br", "Br", "Br", "Br"), molecule("Li", "H")):
        with pytest.raises(InputError) as error:
            method.check([system])
        assert "\n" not in str(error.value)


def test_sevennet_has_the_lattice_of_silicon() -> None:
    """The weights come with the package; PBE's lattice constant of silicon is 5.47 Angstrom."""
    method = by_name.method({"method": "ase/sevennet", **where("sevenn", "FUSION_TEST_PYTHON_SEVENN")})
    pressures = []
    for lattice in (5.42, 5.52):
        (result,) = protocol.calculate(method, [from_atoms(bulk("Si", a=lattice), None, None)], {"energy", "stress"})
        pressures.append(-np.trace(result.properties["stress"]) / 3.0)
    assert pressures[0] > 0.0 > pressures[1]

"""Systems: reading, refusals and their messages, and reference energies of states."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import DictConfig, OmegaConf

from fusion.chemistry import system_input, units
from fusion.chemistry.structures import from_atoms
from fusion.chemistry.system import System
from fusion.errors import InputError

CONF = Path(__file__).parents[2] / "conf" / "system"
NAMES = sorted(path.stem for path in CONF.glob("*.yaml") if path.stem not in ("file", "inline", "many"))


def built_in(name: str, **overrides: object) -> System:
    root = OmegaConf.create({"system": OmegaConf.load(CONF / f"{name}.yaml")})
    root.system.merge_with(overrides)
    return system_input.read(root.system)


def inline(atoms: str, **keys: object) -> System:
    return system_input.read({"atoms": atoms, "unit": "bohr", **keys})


@pytest.mark.parametrize("name", NAMES)
def test_built_in_systems_are_consistent(name: str) -> None:
    config = OmegaConf.load(CONF / f"{name}.yaml")
    assert isinstance(config, DictConfig)
    system = built_in(name)
    assert system.name == name
    assert system.n_up + system.n_down == system.n_electrons
    states = config.get("states") or []
    if states:
        assert system.formula == config.formula
        assert system.nuclear_repulsion == pytest.approx(config.nuclear_repulsion, abs=1e-6)
        assert system.spin == states[0].spin
    for state in states:  # every listed state can be asked for and carries its own energy and no other
        reference = built_in(name, charge=state.charge, spin=state.spin).reference
        assert (reference.value if reference else None) == state.get("energy")


@pytest.mark.parametrize(
    ("name", "overrides", "spin", "energy"),
    [
        ("li", {}, 1, -7.47806032391),
        ("li", {"charge": 1}, 0, -7.279913412669),
        ("h", {"charge": -1}, 0, -0.527751016544),
        ("he", {"spin": 2}, 2, -2.175229378237),
        ("n", {}, 3, -54.5892),
        ("n", {"multiplicity": 2}, 1, None),
        ("o", {"charge": 1}, 3, -74.5668),
        ("o", {"charge": -1}, 1, None),
        ("lih", {"charge": 1}, 1, None),
        ("lih", {"distance": 4.0}, 0, None),
        ("n2", {"unit": "angstrom"}, 0, None),
        ("h2", {"symbols": ["H", "Li"]}, 0, None),
    ],
)
def test_a_reference_belongs_to_one_state_and_geometry(
    name: str, overrides: dict[str, Any], spin: int, energy: float | None
) -> None:
    system = built_in(name, **overrides)
    assert system.spin == spin
    assert (system.reference.value if system.reference else None) == energy


def test_moved_nuclei_lose_the_reference() -> None:
    system = built_in("lih")
    assert system.reference is not None
    assert system.with_positions(system.positions * 1.1).reference is None
    assert system.moved(system.positions * 1.1).reference is None


def test_moving_nuclei_and_cell_does_not_change_the_original() -> None:
    system = System("he", ("He",), np.ones((1, 3)), cell=np.eye(3), pbc=(True, True, True))
    other = system.moved(2 * system.positions, 3 * np.eye(3))
    assert system.cell is not None and other.cell is not None
    assert (other.positions[0, 0], other.cell[0, 0], system.positions[0, 0], system.cell[0, 0]) == (2, 3, 1, 1)
    with pytest.raises(InputError, match="not a finite number"):
        system.moved(system.positions * np.nan)


def test_inline_systems_and_units() -> None:
    bohr = inline("H 0 0 0; H 0 0 1.4")
    lines = system_input.read({"atoms": "h 0 0 0\n h, 0, 0, 1.4\n", "unit": "angstrom"})
    assert bohr.symbols == lines.symbols == ("H", "H")
    np.testing.assert_allclose(lines.positions, bohr.positions * units.BOHR_PER_ANGSTROM)
    assert bohr.nuclear_repulsion == pytest.approx(1 / 1.4)


@pytest.mark.parametrize(
    ("atoms", "keys", "words"),
    [
        ("H 0 0 0; H 0 0 1.4", {"spin": 1}, "H2 with charge 0 has 2 electrons, so system.spin (N_up - N_down) must be"),
        ("H 0 0 0; H 0 0 1.4", {"spin": 1}, "must be even: 0 or 2, not 1"),
        ("Ne 0 0 0", {"spin": 1}, "must be even: 0, 2, ... 10, not 1"),
        ("H 0 0 0", {"spin": 3}, "1 electron, so system.spin (N_up - N_down) must be odd: 1, not 3"),
        ("He 0 0 0", {"spin": 0, "multiplicity": 3}, "disagree"),
        ("He 0 0 0", {"charge": 0.5}, "system.charge must be a whole number, not 0.5"),
        ("He 0 0 0", {"charge": 2}, "He with charge 2 has no electrons"),
        ("H 0 0 0", {"charge": -2}, "system.charge must be at least -1"),
        ("Xx 0 0 0", {}, "unknown element 'Xx' (atom 1"),
        ("CO 0 0 0", {}, "unknown element 'CO'"),
        ("H 0 0 0; Li 0 0 3; H 0 0 0.001", {}, "two nuclei on one spot: atoms 1 (H) and 3 (H)"),
        ("H 0 0 nan", {}, "not a finite number"),
        ("H 0 0", {}, "expected 'SYMBOL x y z', got 'H 0 0'"),
        ("", {}, "no atoms"),
        ("H 0 0 0", {"unit": "nm"}, "system.unit must be bohr or angstrom, not 'nm'"),
    ],
)  # fmt: skip
def test_bad_input_is_one_clear_line(atoms: str, keys: dict[str, object], words: str) -> None:
    with pytest.raises(InputError) as error:
        inline(atoms, **keys)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("periodic", "number"), [(False, 5), (False, 300), (True, 5), (True, 300)])
def test_two_nuclei_on_one_spot_are_found(periodic: bool, number: int) -> None:
    sites = 3.0 * np.array(list(np.ndindex(10, 10, 10)), dtype=float)[:number]
    box: dict = {"cell": 30.0 * np.eye(3), "pbc": (True, True, True)} if periodic else {}
    System("lattice", ("He",) * number, sites, **box)
    sites[2] = sites[4] + (30.0 * periodic, 0.01, 0.0)  # of an image, where there are images
    with pytest.raises(InputError, match=r"atoms 3 \(He\) and 5 \(He\) of lattice are 0.00529 Angstrom apart"):
        System("lattice", ("He",) * number, sites, **box)


def test_systems_are_read_from_files(tmp_path: Path) -> None:
    (tmp_path / "one.xyz").write_text("2\ncharge=1\nHe 0 0 0\nH 0 0 0.774\n")
    (tmp_path / "two.xyz").write_text("1\n\nH 0 0 0\n" * 2)
    (tmp_path / "bad.xyz").write_text("not a structure")
    system = system_input.read({"path": "one.xyz"}, tmp_path)
    assert (system.name, system.charge, system.spin) == ("one", 1, 0)
    assert system.positions[1, 2] == pytest.approx(0.774 / units.ANGSTROM_PER_BOHR)
    assert system_input.read({"path": "one.xyz", "charge": 0}, tmp_path).spin == 1
    assert system_input.read({"path": "two.xyz", "frame": 1}, tmp_path).formula == "H"
    for config, words in [
        ({"path": "none.xyz"}, "no file 'none.xyz'"),
        ({"path": "two.xyz"}, "holds 2 structures"),
        ({"path": "two.xyz", "frame": 2}, "system.frame=2"),
        ({"path": "bad.xyz"}, "cannot read 'bad.xyz'"),
        ({"path": None}, "needs system.path=FILE"),
        ({"atoms": None}, "needs its atoms"),
    ]:
        with pytest.raises(InputError, match=words):
            system_input.read(config, tmp_path)


def test_ase_round_trip_keeps_cell_charge_and_spin() -> None:
    system = System("x", ("Li",), np.zeros((1, 3)), 0, 1, cell=6.0 * np.eye(3), pbc=(True, True, False))
    atoms = system.to_atoms()
    assert "spin" not in atoms.info, "it means 2S + 1 to some calculators"
    back = from_atoms(atoms, charge=atoms.info["charge"], spin=atoms.info["multiplicity"] - 1, name="x")
    assert (back.formula, back.charge, back.spin, back.pbc) == ("Li", 0, 1, (True, True, False))
    np.testing.assert_allclose(back.cell, system.cell)


def test_formulas() -> None:
    assert [built_in(n).formula for n in ("lih", "nh3", "h2o", "hf", "ethanol", "co2")] == [
        "LiH", "NH3", "H2O", "HF", "C2H6O", "CO2",
    ]  # fmt: skip


def water() -> System:
    return System("water", ("O", "H", "H"), np.array([[0.0, 0, 0], [0, 1.4, 1.1], [0, -1.4, 1.1]]))


def test_masses_and_fixed_coordinates_stay_with_their_atoms() -> None:
    heavy = replace(water(), masses=[16.0, 2.014, 2.014], fixed=[[True] * 3, [False] * 3, [False] * 3])
    assert heavy.masses is not None and heavy.masses.tolist() == [16.0, 2.014, 2.014]
    assert heavy.moved(heavy.positions + 0.1).fixed is heavy.fixed
    assert replace(water(), fixed=np.zeros((3, 3))).fixed is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"masses": [16.0, -1.0, 1.0]}, "one positive number of daltons per atom"),
        ({"fixed": [True, False, False]}, "three values of true or false per atom"),
    ],
)
def test_masses_and_fixed_coordinates_are_one_per_atom(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        replace(water(), **change)

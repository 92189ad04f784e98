"""Units of printed numbers: sentences, rows and columns in the units of the setting `units`."""

from __future__ import annotations

import re

import pytest
from ase import units as ase
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.console import units
from fusion.console.format import difference
from fusion.errors import InputError

EV = ase.Hartree
HARTREE = units.Units(units.HARTREE)
SENTENCES = [
    ("E = -155.041234 Ha  largest force 0.00012 Ha/bohr", "E = -4218.8869 eV  largest force 0.0062 eV/Å"),
    ("largest force 8.1e-05 Ha/bohr, asked for 1e-4 Ha/bohr", "largest force 0.0042 eV/Å, asked for 0.0051 eV/Å"),
    ("E = -8.0700(4) Ha", "E = -219.60(1) eV"),
    ("-8.07005 ± 0.00024 Ha", "-219.5972 ± 0.0065 eV"),
    ("the error bar is above 1 mHa", "the error bar is above 27 meV"),
    ("highest 3.5 kcal/mol above", "highest 0.15 eV above"),
    ("change +0.31 kcal/mol", "change +0.013 eV"),
    ("in 12,345.6 Ha, or 0.001 Ha", "in 335941 eV, or 0.027 eV"),
    ("time step 0.01 1/Ha; variance 0.0071; 1.5 Ha²", "time step 0.01 1/Ha; variance 0.0071; 1.5 Ha²"),
    ("error 1.5 kcal/mol/Å, 0.4 meV per atom", "error 0.065 eV/Å, 0.4 meV per atom"),
]


@pytest.mark.parametrize(("atomic", "shown"), SENTENCES)
def test_numbers_with_a_unit_are_converted_at_their_resolution(atomic: str, shown: str) -> None:
    assert units.converted(atomic) == atomic
    with units.using("eV"):
        assert units.converted(atomic) == shown
    assert units.converted(atomic) == atomic


@pytest.mark.parametrize("name", units.NAMES[1:])
def test_converted_text_is_not_converted_again(name: str) -> None:
    with units.using(name):
        for atomic, _ in SENTENCES:
            once = units.converted(atomic)
            assert units.converted(once) == once
            assert not re.search(r"\dm? ?Ha(/bohr)?\b(?!²)", once)


@settings(max_examples=60, derandomize=True, database=None, deadline=None)
@given(st.floats(-1e4, 1e4), st.integers(0, 8), st.sampled_from(units.NAMES[1:]))
def test_a_converted_number_is_right_within_the_resolution_of_the_original(value: float, n: int, name: str) -> None:
    text = f"{value:.{n}f}"
    with units.using(name):
        shown, symbol = units.converted(f"{text} Ha").split()
    factor = units.Units(name).energy.factor
    places = len(shown.partition(".")[2])
    assert symbol == name
    assert abs(float(shown) - float(text) * factor) <= 0.51 * 10.0**-places
    assert abs(float(shown) - value * factor) <= 10.0**-n * factor + 0.51 * 10.0**-places


def test_rows_keep_the_digits_of_their_numbers() -> None:
    assert (units.energy(-76.4200123), units.energy(-8.07005, 0.00024)) == ("-76.420012 Ha", "-8.07005 ± 0.00024 Ha")
    assert units.relative(0.0057682) == "3.62 kcal/mol (15.14 kJ/mol)"
    with units.using("eV"):
        assert units.energy(-76.4200123) == f"{-76.4200123 * EV:.5f} eV"
        assert units.relative(0.0057682) == f"{0.0057682 * EV:.4f} eV"
        assert difference(0.5, 0.2) == "+14 ± 5 meV above"
    with units.using("kJ/mol"):
        assert difference(0.5, None) == "+1.31 kJ/mol above"
    assert difference(0.5, 0.2) == "+0.5 ± 0.2 mHa above"


def test_columns_state_their_unit() -> None:
    ev = units.Units("eV")
    assert units.column("energy_hartree", ev) == ("energy_ev", ev.energy.factor)
    assert units.column("difference_mhartree", ev) == ("difference_ev", ev.energy.factor / 1e3)
    assert units.column("largest_force_hartree_per_bohr", ev)[0] == "largest_force_ev_per_angstrom"
    assert units.column("energy_hartree", units.Units("kcal/mol"))[0] == "energy_kcal_mol"
    for name in ("stress_hartree_per_bohr3", "frequencies_cm1", "wall_s", "first_gap_ev", "relative_kcal_mol"):
        assert units.column(name, ev) == (name, 1.0)
    assert units.column("energy_hartree", HARTREE) == ("energy_hartree", 1.0)


@pytest.mark.parametrize("wrong", ["Ry", "", None, 1, True, "meV"])
def test_other_units_are_refused_in_one_line(wrong: object) -> None:
    with pytest.raises(InputError, match=r"^units must be hartree, eV, kcal/mol or kJ/mol, not "):
        units.checked(wrong)
    assert units.checked("KCAL/MOL") == "kcal/mol"

"""Structures from ASE Atoms: a stated charge or spin is read, or refused in one line, never dropped."""

import re
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from structure_files import hydronium

from fusion.chemistry import structures
from fusion.chemistry.structures import from_atoms
from fusion.errors import InputError
from fusion.runs import report


@pytest.mark.parametrize(
    ("info", "spin"),
    [
        ({"charge": 1.0, "multiplicity": 3}, 2),
        ({"Total_Charge": "+1", "Spin_Multiplicity": "triplet"}, 2),
        ({"molecular_charge": np.float32(1), "SPIN": 2}, 2),  # N_up - N_down of an even number of electrons
        ({"CHARGE": np.array([1]), "spin": 3}, 2),  # 2S + 1
        ({"q": 1, "uhf": np.int64(2)}, 2),
        ({"net charge": "1+", "multiplicity": 1, "spin": 0}, 0),
        ({"charge": 1}, None),
    ],
)
def test_spellings_of_charge_and_spin(info: dict[str, Any], spin: int | None) -> None:
    system = from_atoms(hydronium(**info))
    assert (system.charge, system.spin, system.spin_assumed) == (1, spin or 0, spin is None)


@pytest.mark.parametrize(
    ("info", "words"),
    [
        ({"charge": 0.5}, "its charge, 0.5, is not a whole number"),
        ({"charge": "abc"}, "its charge, abc, is not a whole number"),
        ({"charge": 1, "total_charge": 2}, "charge=1 and total_charge=2 contradict each other"),
        ({"charge": 1, "multiplicity": 2}, "multiplicity=2 is impossible with 10 electrons"),
        ({"charge": 1, "multiplicity": 3, "spin": 1}, "contradict"),
        ({"charge": True}, "its charge, True, is not a whole number"),
        ({"spin": 0}, "its spin, 0, is neither N_up - N_down nor 2S + 1 of 11 electrons"),
    ],
)
def test_unusable_charges_and_spins_are_refused(info: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match="^h3o: .*" + words.replace("+", r"\+")):
        from_atoms(hydronium(**info))
    assert from_atoms(hydronium(**info), charge=1, spin=2).spin == 2  # the user's words go before them


def test_charges_and_moments_of_atoms_are_summed() -> None:
    charged = hydronium()
    charged.set_initial_charges([-0.5, 0.5, 0.5, 0.5])
    charged.set_initial_magnetic_moments([-2.0, 0, 0, 0])
    system = from_atoms(charged)
    assert (system.charge, system.spin, system.spin_assumed) == (1, 2, False)
    charged.set_initial_charges([1.0, 0, 0, 0])
    charged.set_initial_magnetic_moments([1.0, -1.0, 0, 0])
    assert (from_atoms(charged).spin, from_atoms(charged).spin_assumed) == (0, False)


def test_sums_of_atoms_that_contradict_the_molecule_are_refused() -> None:
    charged = hydronium()
    charged.set_initial_charges([-0.5, 0.5, 0.5, 0.5])
    charged.set_initial_magnetic_moments([-2.0, 0, 0, 0])
    for info in ({"charge": 0}, {"charge": 1, "multiplicity": 1}):
        charged.info = info
        with pytest.raises(InputError, match="sum to"):
            from_atoms(charged)
    charged.info = {}
    charged.set_initial_charges([0.4, 0, 0, 0])
    with pytest.raises(InputError, match=r"initial charges sum to 0\.400, not to a whole number"):
        from_atoms(charged)


def test_a_computed_moment_sets_the_spin() -> None:
    computed = Atoms("O2", positions=[[0, 0, 0], [0, 0, 1.2]])
    computed.calc = SinglePointCalculator(computed, magmom=2.0)
    assert from_atoms(computed).multiplicity == 3


@pytest.mark.parametrize(
    ("symbols", "charge", "words"),
    [
        ("O2", 0, r"a singlet; its ground state is a triplet \(multiplicity=3\)"),
        ("SO", 0, "triplet"),
        ("C", 0, "triplet"),
        ("N", 1, "triplet"),  # isoelectronic with carbon
        ("Cr", 0, r"septet \(multiplicity=7\)"),
        ("FeO", 0, "Fe may have more unpaired electrons"),
        ("OH", 0, "odd: a radical, unless a charge was left out"),
        ("N2", 1, "13, is odd"),
    ],
)
def test_a_doubtful_assumed_spin_gives_a_note(symbols: str, charge: int, words: str) -> None:
    atoms = Atoms(symbols)
    atoms.positions[:, 2] = 1.2 * np.arange(len(atoms))
    system = from_atoms(atoms, charge=charge)
    assert len(system.notes) == 1
    assert re.search(words, system.notes[0])
    assert not from_atoms(atoms, charge=charge, spin=system.spin + 2).notes


@pytest.mark.parametrize("symbols", ["H2", "N2", "CO", "F2", "H", "Na", "He", "LiH", "ClF", "HF"])
def test_usual_closed_shells_and_doublet_atoms_give_no_note(symbols: str) -> None:
    atoms = Atoms(symbols)
    atoms.positions[:, 2] = 1.1 * np.arange(len(atoms))
    assert not from_atoms(atoms).notes


def test_titles_name_the_periodic_directions() -> None:
    atoms = hydronium(charge=1)
    assert report.title_of(from_atoms(atoms)) == "H3O (10 electrons, singlet, charge +1)"
    atoms.set_cell(9.0 * np.eye(3))
    atoms.pbc = (True, True, False)
    assert report.title_of(from_atoms(atoms)) == "H3O (10 electrons, singlet, charge +1, periodic in xy)"


def test_another_geometry_must_have_the_same_charge_and_spin() -> None:
    system = from_atoms(hydronium(), charge=1)
    assert structures.in_state_of(hydronium(), system, "p.xyz").charge == 1
    with pytest.raises(InputError, match=r"p\.xyz states the charge -1, but the system has 1"):
        structures.in_state_of(hydronium(charge=-1), system, "p.xyz")
    with pytest.raises(InputError, match=r"p\.xyz states the multiplicity 3, but the system has 1"):
        structures.in_state_of(hydronium(charge=1, mult=3), system, "p.xyz")

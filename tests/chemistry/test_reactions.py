"""Reactions from text: species, coefficients and balance."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fusion.chemistry import g2, reactions, units
from fusion.errors import InputError


def _amounts(text: str, start: Path = Path("/")) -> dict[str, float]:
    return {term.name: term.coefficient for term in reactions.parse(text, start).terms}


@pytest.mark.parametrize(
    "text", ["2 H2O -> 2 H2 + O2", "2H2O->2H2+O2", "2*H2O = 2 H2 + 1/2 O2 + 0.5 O2", "2 H2O → 2H2+O2"]
)
def test_notations_of_a_reaction(text: str) -> None:
    assert _amounts(text) == {"H2O": -2.0, "H2": 2.0, "O2": 1.0}


def test_species_from_all_sources(tmp_path: Path) -> None:
    (tmp_path / "nh4+.xyz").write_text("5\ncharge=1\nN 0 0 0\nH .6 .6 .6\nH -.6 -.6 .6\nH -.6 .6 -.6\nH .6 -.6 -.6\n")
    (tmp_path / "proton_donor.xyz").write_text("4\ncharge=1\nO 0 0 .1\nH .9 0 -.2\nH -.5 .8 -.2\nH -.5 -.8 -.2\n")
    parsed = reactions.parse("NH3 + proton_donor.xyz -> nh4+.xyz + h2o", tmp_path)
    assert [term.system.n_electrons for term in parsed.terms] == [10, 10, 10, 10]
    assert sum(term.coefficient * term.system.charge for term in parsed.terms) == 0
    assert reactions.species("2-butyne", tmp_path).formula == "C4H6"  # a number that belongs to the name
    assert reactions.species("ETHANOL", tmp_path).name == "ethanol"
    assert reactions.species("o2", tmp_path).spin == reactions.species("O2", tmp_path).spin == 2


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("h2 + o2 -> h2o", r"the right lacks 1 O; 2 h2 \+ o2 -> 2 h2o is"),
        ("ch4 + o2 -> co2 + h2o", "the left lacks 1 O; the right lacks 2 H; ch4 [+] 2 o2 -> co2 [+] 2 h2o is"),
        ("2 h2 -> h2plus + h2", r"the charge is \+0 on the left and \+1 on the right"),
        ("etanol -> ch3och3", "no species 'etanol'. Did you mean 'ethanol'?"),
        ("water.xyz -> h2", "no file 'water.xyz'"),
        ("h2 -> h2", "both sides"),
        ("0 h2 -> h2", "positive"),
        ("1/0 h2 -> h2", "positive"),
        ("h2 + o2", "not a reaction"),
        ("h2 -> h -> h", "not a reaction"),
        ("", "not a reaction"),
    ],
)
def test_wrong_reactions_are_refused_in_one_line(text: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=says) as caught:
        reactions.parse(text, tmp_path)
    assert "\n" not in str(caught.value)


def test_reaction_energy_and_its_error() -> None:
    parsed = reactions.parse("2 h2 + o2 -> 2 h2o", Path("/"))
    assert parsed.change({"h2": -1.0, "o2": -150.0, "h2o": -76.5}) == pytest.approx(-1.0)
    assert parsed.error({"h2": 0.3, "o2": None, "h2o": 0.4}) == pytest.approx(1.0)  # in quadrature, times the amounts
    assert parsed.error({"h2": None}) is None
    assert str(parsed) == "2 h2 + o2 -> 2 h2o"


def test_measured_heats_of_formation_agree_with_measured_dissociation() -> None:
    kcal = units.KCAL_MOL_PER_HARTREE
    hydrogen = g2.measured("H2")
    assert hydrogen is not None and abs(hydrogen.formation_0) * kcal < 0.06  # an element in its standard state
    water = g2.measured("H2O")
    assert water is not None
    dissociation = (g2.atoms_formation_0(["O", "H", "H"]) - water.formation_0) * kcal
    assert dissociation == pytest.approx(
        219.36, abs=0.1
    )  # D0 of water, Ruscic et al., J. Phys. Chem. A 106, 2727 (2002)
    oxygen = g2.measured("O")
    assert oxygen is not None and oxygen.formation_298 * kcal == pytest.approx(
        59.55, abs=0.15
    )  # JANAF, which counts the levels of 3P
    assert g2.measured("He") is None and not g2.knows(["He"])
    with pytest.raises(InputError, match="He"):
        g2.atoms_formation_0(["He"])
    assert all(g2.measured(name) for name in g2.molecules()) and len(g2.molecules()) == 148


def test_molecules_are_recognised_by_their_bonds_and_spin() -> None:
    assert {name: g2.recognised(g2.system(name)) for name in g2.names()} == {name: name for name in g2.names()}
    ethanol = reactions.species("ethanol", Path("/"))
    shaken = ethanol.positions + np.random.default_rng(3).normal(scale=0.05, size=(9, 3))
    assert g2.recognised(ethanol.with_positions(shaken[:, [2, 0, 1]])) == "CH3CH2OH"
    assert g2.recognised(reactions.species("h2plus", Path("/"))) is None
    assert g2.recognised(replace(g2.system("O2"), spin=0)) is None


def test_files_with_the_same_name_are_different_species(tmp_path: Path) -> None:
    for folder, length in (("a", 0.7), ("b", 1.5)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.xyz").write_text(f"2\n\nH 0 0 0\nH 0 0 {length}\n")
    (tmp_path / "y.xyz").write_text("2\n\nH 0 0 0\nH 0 0 0.9\n")
    assert str(reactions.parse("a/x.xyz -> y.xyz", tmp_path)) == "x.xyz -> y.xyz"
    assert str(reactions.parse("a/x.xyz -> b/x.xyz", tmp_path)) == "a/x.xyz -> b/x.xyz"
    with pytest.raises(InputError, match=r"x\.xyz is the name of two different files"):
        reactions.parse_all(["a/x.xyz -> y.xyz", "b/x.xyz -> y.xyz"], tmp_path)


@pytest.mark.parametrize("name", ["o@2.xyz", "o 2.xyz", "o=2.xyz", "o -> 2.xyz", "o + 2.xyz", "o'2.xyz", "O2CAR"])
def test_files_of_any_name_react(name: str, tmp_path: Path) -> None:
    """Names with a sign between spaces are quoted; full paths make the reaction independent of the directory."""
    (tmp_path / name).write_text("2\n\nO 0 0 0\nO 0 0 1.2\n")
    (tmp_path / "h2").write_text("not read: the species of that name goes first")
    if name == "O2CAR":
        (tmp_path / name).write_text("o2\n1.0\n9 0 0\n0 9 0\n0 0 9\nO\n2\nCartesian\n0 0 0\n0 0 1.2\n")
        (tmp_path / name).rename(tmp_path / (name := "POSCAR"))
    mark = '"' if "'" in name else "'"
    written = f"{mark}{name}{mark}" if " + " in name or " -> " in name else name
    whole = reactions.with_full_paths(f"2 h2 + {written} -> 2 h2o", tmp_path)
    for text, place in ((f"2 h2 + {written} -> 2 h2o", tmp_path), (whole, Path("/"))):
        parsed = reactions.parse(text, place)
        assert [(term.coefficient, term.name) for term in parsed.terms] == [(-2, "h2"), (-1, name), (2, "h2o")]
        assert parsed.terms[1].system.symbols == ("O", "O")

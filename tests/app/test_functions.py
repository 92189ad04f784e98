"""`fusion.relax(atoms, "ani-2x")` and the like: the same settings and checks as the command line, exact structures."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.constraints import FixAtoms, FixCartesian
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

import fusion
from fusion.app import functions
from fusion.app.settings import resolved
from fusion.chemistry import exact_xyz, structure_sets
from fusion.chemistry.structure_files import all_frames
from fusion.chemistry.structures import from_atoms
from fusion.config import compose, overrides
from fusion.config.written_values import written
from fusion.errors import InputError
from fusion.methods.card_words import with_card


def settings_of(words: list[str]) -> Any:
    config, _ = compose.compose(with_card(overrides.prepare(words, multirun=False)))
    return OmegaConf.to_container(resolved(config, Path.cwd()))


CALLS: list[tuple[Callable[[], Any], str]] = [
    (
        lambda: fusion.relax("ethanol", "ani-2x", fmax=3e-6, steps=7, fixed=[1, 2], units="ev", seed=3),
        "+method=ani weights=ani-2x task=relax system=ethanol task.fmax=3e-6 task.steps=7 task.fixed=[1,2] units=eV "
        "seed=3",
    ),
    (
        lambda: fusion.energy("h2o", {"method": "dft", "xc": "pbe", "basis": "6-31G(d,p)"}, charge=1, spin=1),
        "method=dft system=h2o method.xc=pbe 'method.basis=6-31G(d,p)' system.charge=1 system.spin=1",
    ),
    (
        lambda: fusion.vibrations(
            Path("mol.xyz"), "hf", masses={2: 2.014}, settings={"task.spectrum.scale": 0.97, "trainer": "cpu"}
        ),
        "+method=hf task=vibrations system=mol.xyz task.masses={2:2.014} task.spectrum.scale=0.97 trainer=cpu",
    ),
    (
        lambda: fusion.md("h2o", "ani-2x", ensemble="nve", time_ps=0.1),
        "+method=ani weights=ani-2x task=md ensemble=nve system=h2o task.time_ps=0.1",
    ),
    (
        lambda: fusion.compare(None, ["hf", {"method": "dft", "xc": "pbe"}], reaction="h2o -> h2 + o2"),
        "task=compare 'methods=[hf,{method: dft, xc: pbe}]' 'task.reaction=h2o -> h2 + o2'",
    ),
]


@pytest.mark.parametrize(("call", "words"), CALLS)
def test_a_call_has_the_settings_of_its_command(
    call: Callable[[], Any], words: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mol.xyz").write_text("2\n\nH 0 0 0\nH 0 0 0.7\n")
    monkeypatch.setattr(functions, "run", settings_of)
    assert call() == settings_of(shlex.split(words))


TEXT = st.text(st.characters(blacklist_categories=("Cs", "Cc")), min_size=1, max_size=12).filter(
    lambda text: "${" not in text and text != "???"
)
NUMBERS = st.integers(-(10**9), 10**9) | st.floats(allow_nan=False) | st.booleans() | st.none()
VALUES = st.recursive(
    NUMBERS | TEXT,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.from_regex(r"[A-Za-z_]\w{0,5}", fullmatch=True).filter(str.isascii), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(max_examples=60, derandomize=True, database=None, deadline=None)
@given(VALUES)
def test_every_value_survives_the_words_of_the_command_line(value: Any) -> None:
    (word,) = overrides.prepare([f"task.key={written(value, 'task.key')}"], multirun=False)
    parsed = OverridesParser.create().parse_override(word).value()
    assert same(parsed, value)


def same(parsed: Any, value: Any) -> bool:
    """Equality of type as well; texts in lists are QuotedStrings of Hydra."""
    text = getattr(parsed, "text", parsed)
    if isinstance(value, dict):
        return (
            isinstance(parsed, dict)
            and [str(getattr(key, "text", key)) for key in parsed] == list(value)
            and all(same(item, value[key]) for key, item in zip(value, parsed.values(), strict=True))
        )
    if isinstance(value, list):
        return isinstance(parsed, list) and len(parsed) == len(value) and all(map(same, parsed, value))
    return type(text) is type(value) and text == value


WRONG: list[tuple[Callable[[Atoms], Any], str]] = [
    (lambda atoms: fusion.relax(atoms, "hf", fmx=1), "no setting 'task.fmx'. Did you mean 'task.fmax'?"),
    (lambda atoms: fusion.relax(atoms, "hff"), "no method 'hff'. Did you mean 'hf'?"),
    (lambda atoms: fusion.energy(atoms, {"method": "hf", "bassis": "sto-3g"}), "Did you mean 'method.basis'?"),
    (lambda atoms: fusion.energy(atoms, {"xc": "pbe"}), "names no method"),
    (lambda atoms: fusion.energy(atoms, "hf", charge=1, spin=0), "system.spin (N_up - N_down) must be odd"),
    (lambda atoms: fusion.energy(atoms, "hf", charge=1.5), "must be a whole number"),
    (lambda atoms: fusion.scan([atoms, atoms], "hf", atoms=[1, 2]), "task=scan has one structure"),
    (lambda atoms: fusion.energy("h22", "hf"), "no system 'h22'"),
    (lambda atoms: fusion.energy(3, "hf"), "must be ASE Atoms, a name such as 'ethanol', a file or a list"),  # type: ignore[arg-type]
    (lambda atoms: fusion.energy([atoms, 3], "hf"), "not a list with Atoms"),
    (lambda atoms: fusion.energy(atoms, "hf", settings={"task": "relax"}), "task is stated by the function"),
    (lambda atoms: fusion.energy(atoms, "hf", units="Ry"), "units must be hartree, eV, kcal/mol or kJ/mol"),
    (lambda atoms: fusion.relax(atoms, "hf", optimiser=object()), "task.optimiser: object is no value of a setting"),
    (lambda atoms: fusion.compare(atoms, "hf"), "methods must be a list"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "message"), WRONG)
def test_wrong_input_is_refused_as_on_the_command_line_and_leaves_nothing(
    call: Callable[[Atoms], Any], message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as caught:
        call(Atoms("H2", [[0, 0, 0], [0, 0, 0.74]]))
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    assert not list(tmp_path.iterdir())


def crystal() -> Atoms:
    atoms = Atoms("NaCl", [[0.1, 0.2, 1 / 3], [2.8, math.pi / 10, 0]], cell=[[5, 1 / 3, 0], [0, 6, 0.1], [0, 0, 7]])
    atoms.pbc = (True, True, False)
    return atoms


def charged() -> Atoms:
    atoms = molecule("CH3CH2O")
    atoms.set_initial_magnetic_moments(None)
    atoms.info |= {"charge": -1, "multiplicity": 1, "name": "ethoxide"}
    atoms.positions += np.random.default_rng(2).normal(scale=1e-3, size=atoms.positions.shape)
    return atoms


def held() -> Atoms:
    atoms = molecule("H2O")
    atoms.set_masses([15.99491462, 2.01410178, 1.00782503])
    atoms.set_constraint([FixAtoms([0]), FixCartesian([1], mask=(True, False, True))])
    return atoms


@pytest.mark.parametrize("make", [crystal, charged, held])
def test_structures_pass_without_loss(make: Callable[[], Atoms], tmp_path: Path) -> None:
    atoms, file = make(), tmp_path / "a.xyz"
    file.write_text(exact_xyz.text(atoms))
    (read,) = all_frames(file)
    assert np.array_equal(read.get_positions(), atoms.get_positions())
    before, after = from_atoms(atoms), from_atoms(read)
    for name in ("positions", "cell", "masses", "fixed"):
        one, other = getattr(before, name), getattr(after, name)
        assert (one is None) == (other is None) and (one is None or np.array_equal(one, other)), name
    for name in ("symbols", "charge", "spin", "pbc", "spin_assumed"):
        assert getattr(before, name) == getattr(after, name), name


def test_a_list_of_atoms_is_a_set_with_its_names_and_states(tmp_path: Path) -> None:
    file = tmp_path / "many.xyz"
    file.write_text(
        "".join(
            exact_xyz.text(atoms, name=atoms.info.get("name")) for atoms in (charged(), molecule("OH"), molecule("H2"))
        )
    )
    entries = structure_sets.read({"paths": str(file)}).entries
    assert [entry.name for entry in entries] == ["ethoxide", "many-2", "many-3"]
    assert [(entry.system.charge, entry.system.spin) for entry in entries if entry.system] == [(-1, 0), (0, 1), (0, 0)]


def test_the_arguments_state_a_charge_that_the_atoms_do_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    words: list[list[str]] = []
    monkeypatch.setattr(functions, "run", words.append)
    cation = molecule("H2O")
    fusion.ts(cation, "hf", charge=1, product=cation, guess=Path("guess.xyz"))
    (file,) = (tmp_path / "runs" / "structures").iterdir()  # one structure, one file
    assert "charge=1" in file.read_text() and file.name.startswith("h2o-")
    shown = f"runs/structures/{file.name}"
    assert words[0][:4] == ["task=ts", "+method=hf", f"system={shown}", "system.name=h2o"]
    assert {"system.charge=1", f"task.product={shown}", "task.guess=guess.xyz"} <= set(words[0])

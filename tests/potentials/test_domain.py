"""Domain of potentials: refusals of open shells, ions and crystals, and remarks on single atoms."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from test_potentials import Springs

from fusion import zoo
from fusion.chemistry.formulas import lowest_spin
from fusion.chemistry.system import System
from fusion.errors import InputError
from fusion.methods.ase_calculator import FusionCalculator
from fusion.potentials import PotentialMethod
from fusion.potentials.domain import Domain

CLOSED = Domain("springs", charges=(0,), spins=(0,))


def in_a_row(symbols: Sequence[str], charge: int = 0, spin: int | None = None, **more: object) -> System:
    lowest, positions = lowest_spin(symbols, charge), [[0.0, 0.0, 2.5 * index] for index in range(len(symbols))]
    state = {"spin": lowest if spin is None else spin, "spin_assumed": spin is None}
    return System("it", tuple(symbols), np.array(positions), charge, **state, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("system", "words"),
    [
        (in_a_row("OH"), r"9 electrons is an odd number: an open shell \(spin 1\).* if it is an ion, system\.charge="),
        (in_a_row("OH", spin=1), "9 electrons is an odd number"),
        (in_a_row("CHHH"), "9 electrons is an odd number"),
        (in_a_row("N", spin=3), "7 electrons is an odd number"),
        (in_a_row("H", cell=9.0 * np.eye(3), pbc=(True, True, True)), "1 electron is an odd number"),
        (in_a_row("OO", spin=2), "spin 2"),
        (in_a_row("O", spin=2), "spin 2"),
        (in_a_row("OH", charge=-1), "charge -1"),
    ],
)
def test_a_domain_of_closed_shells_refuses_open_ones_and_ions(system: System, words: str) -> None:
    with pytest.raises(InputError, match=words):
        CLOSED.check(system)


def test_closed_shells_and_atoms_without_a_stated_spin_pass_with_a_remark_on_atoms() -> None:
    for system in (in_a_row("OO"), in_a_row("HH"), in_a_row("N"), in_a_row("O")):
        CLOSED.check(system)
    assert "constant of springs" in (CLOSED.remark(in_a_row("N")) or "") and CLOSED.remark(in_a_row("NN")) is None
    radicals = Domain("radicals", charges=(0,), spins=(1,))
    radicals.check(in_a_row("OH"))
    with pytest.raises(InputError, match="spin 0"):
        radicals.check(in_a_row("HH", spin=0))


def test_a_model_of_atomisation_energies_refuses_crystals_single_atoms_radicals_and_ions(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FUSION_CACHE", str(tmp_path))
    cell = {"cell": 20.0 * np.eye(3), "pbc": (True, False, False)}
    method = PotentialMethod("coulomb", {}, weights="coulomb-qm7")
    for system, words in (
        (in_a_row("CO", **cell), "no periodic images"),  # type: ignore[arg-type]
        (in_a_row("O"), "relative to separate atoms"),
        (in_a_row("NO"), "15 electrons is an odd number"),
        (in_a_row("CN", charge=-1), "charge -1"),
    ):
        with pytest.raises(InputError, match=words):
            method.check([system])
    method.check([in_a_row("CO")])
    assert method.domain.elements == zoo.find("coulomb-qm7").elements


def test_a_calculator_warns_once_outside_the_domain_and_not_inside() -> None:
    method = PotentialMethod("springs", Springs())
    method.domain = Domain("springs", spread=0.05)
    atoms = Atoms("H2", [[0, 0, 0], [0, 0, 1.1]], calculator=FusionCalculator(method))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        atoms.get_potential_energy()
    with pytest.warns(UserWarning, match="h2: outside what the model was trained on") as caught:
        for distance in (2.5, 2.6, 2.7):
            atoms.positions[1, 2] = distance
            atoms.get_potential_energy()
    assert len(caught) == 1

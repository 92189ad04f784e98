"""Abilities of the bundled methods and models, and the page that lists all of them."""

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from fusion.functionals import protocol as of_functionals
from fusion.methods import abilities as of_methods
from fusion.methods.sums import SumMethod
from fusion.potentials import abilities as of_potentials
from fusion.potentials.self_energies import self_energies
from fusion.wavefunctions import ansatz, optimisers
from fusion.wavefunctions.scores import layers
from fusion_ani.network import ANI
from fusion_coulomb.matrix import SortedMatrix
from fusion_coulomb.network import CoulombNetwork
from fusion_dm21.network import DM21

PAGE = Path(__file__).parents[1] / "docs" / "abilities.md"
HF = {"method": "hf", "basis": "sto-3g"}


def abilities(module: ModuleType) -> Iterator[Any]:
    """Protocols that the module defines for use with `isinstance`."""
    for _, kind in inspect.getmembers(module, inspect.isclass):
        if kind.__module__ == module.__name__ and getattr(kind, "_is_runtime_protocol", False):
            yield kind


def members(ability: Any) -> set[str]:
    names = {name for name in vars(ability) if not name.startswith("_")}
    return names | set(vars(ability).get("__annotations__", {}))


@pytest.mark.parametrize("module", [of_methods, of_potentials, of_functionals, ansatz, layers, optimisers])
def test_the_page_lists_every_ability_with_its_members_below_the_name_of_its_module(module: ModuleType) -> None:
    chapter = next(
        part
        for part in PAGE.read_text(encoding="utf-8").split("\n## ")
        if module.__name__.replace(".", "/") in part.splitlines()[0]
    )
    for ability in abilities(module):
        row = re.search(rf"^\| `{ability.__name__}` \|.*$", chapter, re.MULTILINE)
        assert row is not None, ability
        assert all(f"`{name}" in row[0] for name in members(ability)), ability


def test_bundled_models_have_their_abilities() -> None:
    ani = ANI(["H", "O"], 2, {"H": [4], "O": [4]}, 4.0, 10.0, [1.0], 3.0, 10.0, [1.0], 8.0, [0.5], charges=True)
    coulomb, dm21 = CoulombNetwork(["H"], SortedMatrix(size=2), hidden=[3]), DM21(width=2, depth=1)
    of_coulomb = {of_potentials.Calibrating, of_potentials.StatesPeriodicity, of_potentials.StatesSingleAtoms}
    of_dm21 = set(abilities(of_functionals)) - {of_functionals.OnWholeGrid}
    for model, module, expected in (
        (ani, of_potentials, set(abilities(of_potentials)) - of_coulomb),
        (coulomb, of_potentials, {of_potentials.HasElements, *of_coulomb}),
        (dm21, of_functionals, of_dm21),
    ):
        assert {ability for ability in abilities(module) if isinstance(model, ability)} == expected
        for name in set[str]().union(*map(members, expected)):  # Python 3.12 looks no further than this
            inspect.getattr_static(model, name)
    assert self_energies(ani) is ani.self_energies and self_energies(coulomb) is coulomb.self_energies
    assert self_energies(dm21) is None


def test_models_without_an_ability_have_its_default() -> None:
    model = torch.nn.Linear(1, 1)
    assert of_potentials.elements(model) is None and of_potentials.provides(model) == frozenset()
    assert of_potentials.is_periodic(model) and of_potentials.has_single_atoms(model)
    assert of_potentials.members(model) == 1


def test_a_sum_reports_and_remembers_if_a_term_does(with_toy: None) -> None:
    with_scf, without = SumMethod("sum", [HF, "toy"]), SumMethod("sum", ["toy", "toy"])
    assert of_methods.reporting(with_scf) is with_scf and of_methods.remembering(with_scf) is with_scf
    assert of_methods.reporting(without) is None and of_methods.remembering(without) is None


def test_methods_without_an_ability_have_its_default(with_toy: None) -> None:
    (toy,) = SumMethod("sum", ["toy"]).terms
    of_methods.check(toy.method, [])
    assert of_methods.weights(toy.method) is of_methods.licence(toy.method) is None
    assert of_methods.spread_factor(toy.method) is None and of_methods.costly(toy.method) == frozenset()

"""Charge and spin for ASE calculators: values that they receive, and states that are refused."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes

import fusion
from fusion.chemistry import energy_zeros, units
from fusion.chemistry.structures import from_atoms
from fusion.chemistry.system import System
from fusion.errors import InputError
from fusion.methods import protocol
from fusion_conventional.ase_calculator import ASECalculator
from fusion_conventional.ase_state import State

HANDED: list[dict[str, Any]] = []
"""Charge, spin and other input of each calculation by `Recorder`."""


class Recorder(Calculator):
    """Third-party learned potential that records its input."""

    implemented_properties: ClassVar = ["energy", "forces"]

    def __init__(self, model: str = "small", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.model, self.charge = model, None

    @classmethod
    def from_pretrained(cls, model: str) -> Recorder:
        return cls(model)

    def calculate(self, atoms: Any = None, properties: Any = None, system_changes: Any = all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        moments, charges = self.atoms.get_initial_magnetic_moments(), self.atoms.get_initial_charges()
        HANDED.append(
            {
                **self.atoms.info, "moment": moments.sum(), "initial_charge": charges.sum(), "attribute": self.charge,
                "set": self.parameters.get("total_charge"), "model": self.model,
            }
        )  # fmt: skip
        self.results = {"energy": float(len(HANDED)), "forces": np.zeros((len(self.atoms), 3))}


def pretrained(model: str = "large") -> Recorder:
    return Recorder(model)


class InDoublePrecision(Recorder):
    """Potential that sets torch's default dtype, and fails with another."""

    def __init__(self) -> None:
        super().__init__()
        torch.set_default_dtype(torch.float64)

    def calculate(self, *arguments: Any, **keywords: Any) -> None:
        assert torch.zeros(1).dtype == torch.float64
        super().calculate(*arguments, **keywords)


def nothing(**_: Any) -> Atoms:
    return Atoms("H")


MADE = Recorder("made")
HERE = __name__
OMOL = {"charge": "charge", "spin": {"key": "spin", "as": "multiplicity"}}


def ase(calculator: str = "Recorder", **settings: Any) -> Any:
    return ASECalculator("ase", f"{HERE}.{calculator}", **settings)


def molecule(*symbols: str, charge: int = 0, spin: int | None = None, **more: Any) -> System:
    atoms = Atoms(symbols, [[0.3 * i, 0.0, 1.1 * i] for i in range(len(symbols))], **more)
    return from_atoms(atoms, charge, spin)


def handed(method: Any, system: System) -> dict[str, Any]:
    protocol.calculate(method, [system], {"energy"})
    return HANDED[-1]


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (OMOL, [{"charge": 0, "spin": 1}, {"charge": 1, "spin": 2}, {"charge": 0, "spin": 3}]),
        ({"charge": "Q", "spin": {"key": "nopen", "as": "unpaired"}},
         [{"Q": 0, "nopen": 0}, {"Q": 1, "nopen": 1}, {"Q": 0, "nopen": 2}]),
        ({"charge": {"through": "initial"}, "spin": {"through": "initial"}},
         [{"initial_charge": 0, "moment": 0}, {"initial_charge": 1, "moment": 1}, {"initial_charge": 0, "moment": 2}]),
        ({"charge": {"key": "charge", "through": "attribute"}, "spin": "mult"},
         [{"attribute": 0, "mult": 1}, {"attribute": 1, "mult": 2}, {"attribute": 0, "mult": 3}]),
        ({"charge": {"key": "total_charge", "through": "set"}, "spin": {"key": "2S+1", "as": "multiplicity"}},
         [{"set": 0, "2S+1": 1}, {"set": 1, "2S+1": 2}, {"set": 0, "2S+1": 3}]),
    ],
)  # fmt: skip
def test_calculators_receive_charge_and_spin_in_their_convention(state: Any, expected: list[dict[str, int]]) -> None:
    method = ase(state=state)
    states: list[dict[str, int]] = [{}, {"charge": 1}, {"spin": 2}]
    for given, right in zip(states, expected, strict=True):
        computed = handed(method, molecule("O", "O", "S", **given))
        assert right.items() <= computed.items()
        assert "spin" in right or "spin" not in computed, "an ambiguous key that nobody asked for"


def test_the_same_nuclei_in_another_state_are_calculated_again() -> None:
    """ASE compares nuclei, not atoms.info: an ion would get the energy of the neutral molecule."""
    method = ase(state=OMOL)
    energies = [protocol.calculate(method, [molecule("O", "O", charge=q)], {"energy"})[0].energy for q in (0, 1, 0)]
    assert len({*energies}) == 3


@pytest.mark.parametrize(
    ("system", "words"),
    [
        (molecule("C", "O", charge=1), "the charge 1"),
        (molecule("O", "H"), "is an open shell"),
        (molecule("O", "O", spin=2), r"is an open shell \(spin 2\)"),
        (molecule("N", spin=3), "is an open shell"),
    ],
)
def test_states_that_a_calculator_cannot_receive_are_refused(system: System, words: str) -> None:
    with pytest.raises(InputError, match=rf"{words}.*method\.state=") as error:
        ase().check([system])
    assert "\n" not in str(error.value)
    ase(state={"charge": False, "spin": False}).check([system])


def test_programs_that_read_moments_and_force_fields_need_no_state() -> None:
    ase().check([molecule("O", "O"), molecule("Cu", cell=[5, 5, 5], pbc=True)])
    triplet = molecule("O", "O", spin=2)
    for module in ("emt", "nwchem", "tblite"):
        State.read(None, module).check(triplet, module, {})
    State.read(None, "psi4").check(triplet, "psi4", {"multiplicity": 3})
    for options, words in (({"mult": 1}, "multiplicity is 3"), ({}, "open shell")):
        with pytest.raises(InputError, match=words):
            State.read(None, "psi4").check(triplet, "psi4", options)


def test_moments_of_any_number_of_atoms_sum_to_whole_numbers() -> None:
    """NWChem's writer truncates the sum: 0.9999999 would be a singlet."""
    method = ase(state={"spin": {"through": "initial"}})
    for atoms in range(1, 60, 2):
        assert handed(method, molecule(*["H"] * atoms))["moment"] == 1.0


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("charge", "must be a mapping"),
        ({"multiplicity": "spin"}, "has charge and spin, not multiplicity"),
        ({"spin": "spin"}, "say as: multiplicity"),
        ({"spin": {"key": "spin", "as": "triplet"}}, "say as: multiplicity"),
        ({"charge": {"key": "q", "through": "telepathy"}}, "info | attribute | set"),
        ({"charge": {"through": "set"}}, "info | attribute | set"),
        ({"charge": 1}, "is a key of atoms.info"),
    ],
)
def test_an_ambiguous_state_is_refused(state: Any, words: str) -> None:
    with pytest.raises(InputError) as error:
        ase(state=state)
    assert words in str(error.value) and "\n" not in str(error.value)


def test_a_stated_domain_refuses_like_a_model_card() -> None:
    method = ase(state=OMOL, domain={"elements": ["H", "C", "O"], "charges": [0, -1], "spins": [0]})
    method.check([molecule("C", "O"), molecule("O", "H", charge=-1)])
    for system, words in (
        (molecule("N", "N"), "covers H C O; n2 also has N"),
        (molecule("C", "O", charge=-2), "charge -2"),
        (molecule("O", "H"), "9 electrons is an odd number"),
        (molecule("O", "O", spin=2), "spin 2"),
    ):
        with pytest.raises(InputError, match=words):
            method.check([system])
    for domain in ({"element": ["H"]}, {"elements": "HCO"}, {"charges": 0}, {"spins": ["0"]}, {"elements": ["Xx"]}, 3):
        with pytest.raises(InputError, match=r"method\.domain"):
            ase(domain=domain).check([molecule("C", "O")])


@pytest.mark.parametrize(
    ("path", "options", "model"),
    [
        ("Recorder", {}, "small"),
        ("Recorder", {"model": "own"}, "own"),
        ("pretrained", {}, "large"),
        ("pretrained", {"model": "own"}, "own"),
        ("Recorder.from_pretrained", {"model": "own"}, "own"),
        ("MADE", {}, "made"),
    ],
)
def test_calculators_from_classes_functions_class_methods_and_instances(path: str, options: Any, model: str) -> None:
    method = ase(path, options=options)
    assert handed(method, molecule("C", "O"))["model"] == model
    assert method.provides == {"energy", "forces"} and method.energy_zero == energy_zeros.OWN
    assert method.label == f"{'Recorder' if path == 'MADE' else path.split('.')[-1]} (ASE)"


@pytest.mark.parametrize(
    ("path", "options", "words"),
    [
        ("nothing", {}, "makes an object of"),
        ("Recorder.from_nowhere", {}, "has no Recorder.from_nowhere"),
        ("OMOL", {}, "is no calculator of ASE"),
        ("MADE", {"model": "own"}, "calculator object already"),
        ("Recorder.from_pretrained", {}, "missing 1 required positional argument"),
    ],
)
def test_paths_without_a_calculator_are_refused(path: str, options: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        ase(path, options=options).check([molecule("C", "O")])


def test_a_calculator_keeps_its_default_dtype_to_itself() -> None:
    """Another learned potential in the same process would compute in the wrong precision."""
    torch.set_default_dtype(torch.float32)
    method = ase("InDoublePrecision")
    assert method.provides == {"energy", "forces"} and torch.zeros(1).dtype == torch.float32
    handed(method, molecule("C", "O"))
    assert torch.zeros(1).dtype == torch.float32


def test_the_licence_is_printed_and_kept(capsys: pytest.CaptureFixture[str]) -> None:
    settings = [f"method.calculator={HERE}.Recorder", "method.licence='ASL, non-commercial'", "system=h2o"]
    result = fusion.run(["+method=ase", *settings])
    assert "licence of Recorder (ASE): ASL, non-commercial" in capsys.readouterr().out
    assert result.details["ase"]["licence"] == "ASL, non-commercial"


def test_so3lr_receives_the_charge_and_refuses_radicals() -> None:
    """The weights come with the package."""
    so3 = pytest.importorskip("so3krates_torch.calculator.so3")
    path = "so3krates_torch.calculator.so3.SO3LRCalculator"
    domain = {"elements": [*"HCNOFPS", "Cl"], "spins": [0]}
    method = ASECalculator("ase", path, state={"charge": "charge"}, domain=domain)
    systems = [molecule("O", "C", "O"), molecule("O", "C", "O", charge=-2)]
    energies = [protocol.calculate(method, [system], {"energy"})[0].energy for system in systems]
    plain = so3.SO3LRCalculator()
    for system, energy in zip(systems, energies, strict=True):
        atoms = system.to_atoms()
        plain.reset()
        assert energy == pytest.approx(plain.get_potential_energy(atoms) / units.EV_PER_HARTREE, abs=1e-5)
    assert abs(energies[0] - energies[1]) > 1e-3
    for system in (molecule("O", "H"), molecule("Br", "Cl")):
        with pytest.raises(InputError, match=r"odd number|also has Br"):
            method.check([system])

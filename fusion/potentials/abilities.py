"""Optional abilities of a potential, beside its forward (`fusion.potentials.protocol.Potential`).

A model has an ability if it has the members of its protocol, as attributes, properties or methods of the module; it
inherits from nothing. Self energies are an ability too: a submodule `fusion.potentials.SelfEnergies`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from torch import Tensor, nn

if TYPE_CHECKING:
    from fusion.datasets import Labelled
    from fusion.potentials.batch import Batch
    from fusion.potentials.training.passes import Passes
    from fusion.zoo.card import Card


@runtime_checkable
class HasElements(Protocol):
    """Potential for some elements only; the core refuses systems with others."""

    @property
    def elements(self) -> Sequence[str]:
        """Their symbols."""
        ...


@runtime_checkable
class PredictsMore(Protocol):
    """Potential whose `Prediction` has more than the energy."""

    @property
    def provides(self) -> frozenset[str]:
        """Names of these properties: energy_std (members of an ensemble), charges, dipole."""
        ...


@runtime_checkable
class StatesPeriodicity(Protocol):
    """Potential that says whether it sees periodic images; others are taken to see them."""

    @property
    def periodic(self) -> bool:
        """False if it ignores the cell: the core then refuses periodic systems."""
        ...


@runtime_checkable
class StatesSingleAtoms(Protocol):
    """Potential that says whether a single atom has an energy; in others it has."""

    @property
    def single_atoms(self) -> bool:
        """False if energies are relative to separate atoms: the core then refuses single atoms."""
        ...


@runtime_checkable
class StatesSizeConsistency(Protocol):
    """Potential that says whether the energy of separate molecules is the sum of their energies."""

    @property
    def size_consistent(self) -> bool:
        """True if it is; `fusion plugins check` then tests it."""
        ...


@runtime_checkable
class Extendable(Protocol):
    """Potential that can be trained further on new elements (method.training.new_elements)."""

    def extended(self, elements: Sequence[str]) -> nn.Module:
        """Return a model with these elements too, whose other parts are unchanged.

        Raises InputError for elements that the model has already, or that do not exist.
        """
        ...


@runtime_checkable
class Restrictable(Protocol):
    """Potential that is trained from random parameters for the elements of the data alone."""

    def restricted(self, elements: Sequence[str]) -> nn.Module:
        """Return a new, untrained model over these elements."""
        ...


@runtime_checkable
class Chargeable(Protocol):
    """Potential to which atomic charges can be added, to learn dipoles."""

    def with_charges(self) -> nn.Module:
        """Return a model with the same energies and untrained charges."""
        ...


@runtime_checkable
class LearnsPartly(Protocol):
    """Potential of which some parameters stay fixed in a training."""

    def learn_from(self, elements: Sequence[str], dipoles: bool) -> None:
        """Freeze the parameters that structures of these elements, and dipoles, do not determine."""
        ...


@runtime_checkable
class Calibrating(Protocol):
    """Potential that takes ranges and scales from the training data before its first step."""

    def calibrate(self, batches: Iterable[Batch], energies: Tensor) -> None:
        """Set them from the structures of all batches and their energies (M,), hartree."""
        ...


@runtime_checkable
class HasMembers(Protocol):
    """Potential that is an ensemble, whose members are trained on different parts of the data."""

    @property
    def members(self) -> int:
        """Number of members."""
        ...


@runtime_checkable
class HasPasses(Protocol):
    """Potential with training passes of its own, faster than differentiation by torch."""

    def passes(self, labelled: Labelled, memory_gb: float) -> Passes | None:
        """Return the passes for these data, within this memory; None if torch's are to be used."""
        ...


@runtime_checkable
class HasEnvironments(Protocol):
    """Potential that describes the environment of every atom by a vector; task=distill tells structures apart by it."""

    def environments(self, batch: Batch) -> Tensor:
        """Return vectors (N, F) of the N real atoms, system by system."""
        ...


@runtime_checkable
class HasArguments(Protocol):
    """Potential that can be published from a run, without the run's configuration."""

    @property
    def arguments(self) -> dict[str, Any]:
        """Arguments that build an equal, untrained model, in plain containers."""
        ...


@runtime_checkable
class Exportable(Protocol):
    """Potential that can be written for other programs, which do not need fusion (`fusion zoo export`)."""

    @property
    def export_formats(self) -> Sequence[str]:
        """Names of the formats: torchani, metatomic."""
        ...

    def export(self, form: str, path: Path, card: Card) -> str:
        """Write the model to a new file, read the file again and compare its numbers with those of the model.

        `card` has the facts that a file may state: name, citation, licence, calibration. Returns a sentence about the
        differences. Raises InputError if a package is missing, and CalculationError if the numbers differ.
        """
        ...


def elements(model: object) -> tuple[str, ...] | None:
    """Return the symbols of the model's elements; None if it does not state them."""
    return tuple(model.elements) if isinstance(model, HasElements) else None


def provides(model: object) -> frozenset[str]:
    """Return the names of what the model predicts beside the energy."""
    return frozenset(model.provides) if isinstance(model, PredictsMore) else frozenset()


def is_periodic(model: object) -> bool:
    """Return False for a model that ignores the cell."""
    return not isinstance(model, StatesPeriodicity) or model.periodic


def has_single_atoms(model: object) -> bool:
    """Return False for a model whose energies are relative to separate atoms."""
    return not isinstance(model, StatesSingleAtoms) or model.single_atoms


def is_size_consistent(model: object) -> bool:
    """Return True for a model that claims that energies of separate molecules add up."""
    return isinstance(model, StatesSizeConsistency) and model.size_consistent


def members(model: object) -> int:
    """Return the number of members of an ensemble, 1 for any other model."""
    return int(model.members) if isinstance(model, HasMembers) else 1

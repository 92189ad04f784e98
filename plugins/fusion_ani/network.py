"""ANI: one small network per element on the environment vector of each atom, several members at once. Atomic units.

Smith, Isayev, Roitberg, Chem. Sci. 8, 3192 (2017); members as in Smith et al., J. Chem. Phys. 148, 241733 (2018).
Further networks on the same vectors may give the charges of the atoms, see `fusion.potentials.charges`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from ase.data import atomic_numbers, chemical_symbols
from torch import Tensor, nn

from fusion.chemistry.units import BOHR_PER_ANGSTROM
from fusion.errors import InputError
from fusion.potentials import Batch, Prediction, neighbours
from fusion.potentials.charges import balanced, dipoles
from fusion.potentials.self_energies import SelfEnergies
from fusion_ani.activations import celu, gaussian
from fusion_ani.aev import Environment
from fusion_ani.fused import Energies
from fusion_ani.gathered import Gathered
from fusion_ani.inputs import Inputs
from fusion_ani.networks import Networks, check_layers

if TYPE_CHECKING:
    from fusion.datasets import Labelled
    from fusion.zoo.card import Card
    from fusion_ani.training import Passes

CHARGE_LAYERS = (64, 32)
"""Sizes of the hidden layers of charge networks, much smaller than those of energy networks."""


class ANI(nn.Module):
    """Ensemble of ANI networks, a `Potential`: energies are the members' mean plus self energies, in float64.

    `hidden` are the sizes of the hidden layers by element; further elements in it are ignored. The remaining arguments
    are those of `Environment` (Angstrom). The activation is CELU with `celu_alpha`. With `charges` every member
    has networks of atomic charges too, for charges and dipoles. Raises InputError for an element the model does not
    have.
    """

    size_consistent = True

    _species: Tensor

    def __init__(
        self,
        elements: Sequence[str],
        members: int,
        hidden: Mapping[str, Sequence[int]],
        radial_cutoff: float,
        radial_eta: float,
        radial_shifts: Sequence[float],
        angular_cutoff: float,
        angular_eta: float,
        angular_shifts: Sequence[float],
        zeta: float,
        angle_shifts: Sequence[float],
        celu_alpha: float = 0.1,
        charges: bool = False,
    ) -> None:
        super().__init__()
        if members < 1 or len(set(elements)) < len(elements):
            raise InputError("ANI needs at least one member, and different elements")
        for name in elements:
            check_layers(name, hidden.get(name))
        if not 0.0 < angular_cutoff <= radial_cutoff:
            raise InputError(f"the angular cutoff ({angular_cutoff}) must not exceed the radial one ({radial_cutoff})")
        self.elements, self.celu_alpha = tuple(elements), float(celu_alpha)
        self.environment = Environment(
            *(float(radial_cutoff), float(radial_eta), tuple(map(float, radial_shifts))),
            *(float(angular_cutoff), float(angular_eta), tuple(map(float, angular_shifts))),
            *(float(zeta), tuple(map(float, angle_shifts))),
        )
        size = self.environment.size(len(elements))
        self.networks = nn.ModuleDict({name: Networks(members, [size, *hidden[name], 1]) for name in elements})
        of_charges = {name: Networks(members, [size, *CHARGE_LAYERS, 1]) for name in elements if charges}
        self.charges = nn.ModuleDict(of_charges) if charges else None
        self.self_energies = SelfEnergies(len(elements))
        species = torch.full((len(chemical_symbols),), -1)
        species[[atomic_numbers[name] for name in elements]] = torch.arange(len(elements))
        self.register_buffer("_species", species, persistent=False)
        spread = {"energy_std"} if members > 1 else set()
        self.provides = frozenset(spread | ({"charges", "dipole"} if charges else set()))
        self._gathered = Gathered(self.environment, len(elements), self.celu_alpha)

    def activate(self, x: Tensor) -> Tensor:
        """Activation function of the hidden layers."""
        return celu(x, self.celu_alpha)

    def forward(self, batch: Batch) -> Prediction:
        """Energies (B,) and the members' energies (M, B), float64; with charge networks, also charges and dipoles."""
        pairs = neighbours(batch, self.environment.radial_cutoff * BOHR_PER_ANGSTROM)
        species = self.indices(pairs.numbers)
        inputs = Inputs(self.environment, pairs, species, len(self.elements))
        members = self._network_energies(inputs, len(batch))
        members = members + self.self_energies(species, pairs.system, len(batch))
        prediction = Prediction(energy=members.mean(dim=0), members=members)
        return prediction if self.charges is None else self._with_charges(prediction, inputs, batch)

    @property
    def members(self) -> int:
        """Number of members."""
        return len(self._of(self.elements[0]).biases[0])

    @property
    def alpha(self) -> float | None:
        """Parameter of CELU; None if the activation is exp(-x^2)."""
        return self.celu_alpha

    def indices(self, numbers: Tensor) -> Tensor:
        """Indices (N,) into the model's elements. Raises InputError for an element it does not have."""
        species = self._species[numbers]
        if int(species.min()) < 0:
            missing = sorted({chemical_symbols[number] for number in numbers[species < 0].tolist()})
            raise InputError(f"this model has {' '.join(self.elements)}, not {' '.join(missing)}")
        return species

    def _network_energies(self, inputs: Inputs, systems: int) -> Tensor:
        """Sums (M, B), float64, of the networks' outputs, by the fastest path that has the derivatives needed."""
        pairs = inputs.pairs

        def summed(vectors: Tensor) -> Tensor:
            atomic = self._outputs(self.networks, vectors, inputs)
            return atomic.new_zeros(len(atomic), systems).index_add(1, pairs.system[inputs.layout.order], atomic)

        if inputs.plain or not self._frozen():
            return summed(inputs.vectors)

        def plain(displacements: Tensor) -> Tensor:
            return summed(inputs.by_torch(displacements))

        def fast(differentiate: bool) -> tuple[Tensor, Tensor | None]:
            return self._gathered.energies(self.tensors, pairs, inputs.species, systems, differentiate)

        members: Tensor = Energies.apply(pairs.vectors, fast, plain, pairs)
        return members

    def _outputs(self, networks: nn.ModuleDict, vectors: Tensor, inputs: Inputs) -> Tensor:
        """Outputs (M, N), float64, by torch operations; atoms in the order of the layout."""
        layout = inputs.layout
        columns = self.environment.columns(layout.present, len(self.elements))
        rows = zip(layout.present, vectors.split(layout.counts), strict=True)
        return self.outputs(networks, rows, torch.tensor(columns, device=vectors.device))

    def outputs(self, networks: nn.ModuleDict, rows: Iterable[tuple[int, Tensor]], columns: Tensor) -> Tensor:
        """Outputs (M, N), float64, of `networks` for `rows`: pairs of an element index and environment vectors with
        these `columns`."""
        values = [networks[self.elements[element]](x, columns, self.activate) for element, x in rows]
        return torch.cat(values, dim=1).double()

    def _with_charges(self, prediction: Prediction, inputs: Inputs, batch: Batch) -> Prediction:
        """Add charges (B, A) and dipoles (B, 3), means over the members, and the members' dipoles."""
        assert self.charges is not None
        system = inputs.pairs.system
        raw = self._outputs(self.charges, inputs.vectors, inputs)[:, inputs.layout.row]
        charges = balanced(raw, system, batch.charge)
        members = dipoles(charges, batch.positions[batch.mask], system, len(batch))
        padded = charges.new_zeros(batch.mask.shape).index_put((batch.mask,), charges.mean(dim=0))
        return replace(prediction, charges=padded, dipole=members.mean(dim=0), dipole_members=members)

    def _frozen(self) -> bool:
        """True if no parameter needs a gradient and the networks are of the kind that `layers` computes."""
        if not torch.is_grad_enabled():
            return True
        return not any(tensor.requires_grad for index in range(len(self.elements)) for tensor in self.tensors(index))

    def tensors(self, element: int) -> list[Tensor]:
        """Weights, then biases, by layer, of the element with this index; last the offset of the inputs, if any."""
        networks = self._of(self.elements[element])
        # Indexing nn.ParameterList takes as long as evaluating the networks of a small molecule.
        tensors = [*networks.weights._parameters.values(), *networks.biases._parameters.values()]
        offset = networks._parameters["offset"]
        return tensors if offset is None else [*tensors, offset]  # type: ignore[return-value, list-item]

    def _of(self, name: str) -> Networks:
        networks = self.networks[name]
        assert isinstance(networks, Networks)
        return networks

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> ANI:
        self._gathered.forget()
        super()._apply(fn, recurse)
        return self

    def train(self, mode: bool = True) -> ANI:
        """Set the mode as for every module, and discard packed weights, which may have changed."""
        self._gathered.forget()
        super().train(mode)
        return self

    @torch.no_grad()
    def environments(self, batch: Batch) -> Tensor:
        """Environment vectors (N, F) of the real atoms, system by system."""
        pairs = neighbours(batch, self.environment.radial_cutoff * BOHR_PER_ANGSTROM)
        inputs = Inputs(self.environment, pairs, self.indices(pairs.numbers), len(self.elements))
        return inputs.vectors[inputs.layout.row]

    def passes(self, labelled: Labelled, memory_gb: float) -> Passes:
        """Passes by which the core's training evaluates and differentiates this model on `labelled`."""
        from fusion_ani.training import Passes

        return Passes(self, labelled, memory_gb)

    @property
    def arguments(self) -> dict[str, Any]:
        """Arguments that build an equal, untrained model, in plain containers."""
        environment = {name: getattr(self.environment, name) for name in self.environment.__dataclass_fields__}
        plain = {name: list(value) if isinstance(value, tuple) else value for name, value in environment.items()}
        hidden = {name: [bias.shape[1] for bias in self._of(name).biases][:-1] for name in self.elements}
        more: dict[str, Any] = {} if self.alpha is None else {"celu_alpha": self.celu_alpha}
        more |= {} if self.charges is None else {"charges": True}
        return {"elements": list(self.elements), "members": self.members, "hidden": hidden, **plain, **more}

    @property
    def export_formats(self) -> tuple[str, ...]:
        """Formats of `fusion zoo export`."""
        return ("torchani", "metatomic")

    def export(self, form: str, path: Path, card: Card) -> str:
        """Write the energies of the model in one of the formats; charges and dipoles are left out."""
        from fusion_ani.export import export

        return export(self, form, path, card)

    def restricted(self, elements: Sequence[str]) -> ANI:
        """New, untrained model over some of the elements."""
        names = [name for name in self.elements if name in elements]
        arguments = self.arguments
        hidden = {name: arguments["hidden"][name] for name in names}
        return type(self)(**{**arguments, "elements": names, "hidden": hidden})

    @torch.no_grad()
    def extended(self, elements: Sequence[str]) -> ANI:
        """Model with further elements, whose networks start random and as large as those of the last element.

        Atoms without new neighbours keep their energies: weights of inputs from new elements start at zero.
        Raises InputError for elements that the model has already, or that do not exist.
        """
        for name in elements:
            if name in self.elements or name not in atomic_numbers:
                raise InputError(f"{name} cannot be added to a model of {' '.join(self.elements)}")
        arguments = self.arguments
        names = [*self.elements, *elements]
        last = arguments["hidden"][self.elements[-1]]
        hidden = {name: arguments["hidden"].get(name, last) for name in names}
        wider = type(self)(**{**arguments, "elements": names, "hidden": hidden}).to(self.tensors(0)[0])
        every = range(len(self.elements))
        columns, old_columns = (self.environment.columns(every, size) for size in (len(names), len(self.elements)))
        wider.self_energies.values[: len(self.elements)] = self.self_energies.values
        own_state, wider_state = self.state_dict(), wider.state_dict()
        for key in own_state.keys() - {"self_energies.values"}:
            if wider_state[key].shape == own_state[key].shape:
                wider_state[key].copy_(own_state[key])
            else:
                wider_state[key].zero_()
                wider_state[key][..., columns] = own_state[key][..., old_columns]
        return wider

    def with_charges(self) -> ANI:
        """Model with the same energies and random charge networks."""
        more = type(self)(**{**self.arguments, "charges": True}).to(self.tensors(0)[0])
        more.load_state_dict(self.state_dict(), strict=False)
        return more

    def learn_from(self, elements: Sequence[str], dipoles: bool = True) -> None:
        """Freeze the networks of all other elements; without `dipoles`, freeze all charge networks as well."""
        for name in self.elements:
            if name not in elements:
                self._of(name).requires_grad_(False)
            if self.charges is not None and not (dipoles and name in elements):
                self.charges[name].requires_grad_(False)

    def member(self, index: int) -> ANI:
        """Model of one member, with copies of its weights."""
        model = type(self)(**{**self.arguments, "members": 1})
        state = self.state_dict()
        model.load_state_dict(
            {key: value if key == "self_energies.values" else value[index : index + 1] for key, value in state.items()}
        )
        return model.to(self._of(self.elements[0]).weights[0]).train(self.training)


class ANI1(ANI):
    """The networks of Smith, Isayev, Roitberg (2017): Gaussian activations, and biases of the inputs.

    Weights start from a normal distribution truncated to (-1/d, 1/d), with d inputs of the layer; biases start at zero.
    """

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        for networks in self.modules():
            if not isinstance(networks, Networks):
                continue
            members, _, inputs = networks.weights[0].shape
            networks.offset = nn.Parameter(torch.zeros(members, inputs))
            for weight in networks.weights:
                bound = 1.0 / weight.shape[-1]
                nn.init.trunc_normal_(weight, std=bound, a=-bound, b=bound)

    alpha = None
    export_formats = ()
    """None: other programs have no biases of the inputs."""

    def activate(self, x: Tensor) -> Tensor:
        """exp(-x^2)."""
        return gaussian(x)

    def _frozen(self) -> bool:
        return False

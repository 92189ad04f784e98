"""A multilayer perceptron on binarised Coulomb matrices: Montavon et al. 2012.

Every entry x of the descriptor becomes tanh((x - k s) / s), k = 0, 1, ..., as many as the training data need. The
network sees soft binary digits instead of numbers dominated by the heaviest atoms. Atomic units.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

import torch
from ase.data import atomic_numbers, chemical_symbols
from torch import Tensor, nn

from fusion.errors import InputError
from fusion.potentials import Batch, Prediction
from fusion.potentials.self_energies import SelfEnergies
from fusion_coulomb.matrix import Descriptor, coulomb_matrix

CALIBRATION_DRAWS = 8
"""Number of sortings of the training data from which the largest entries are taken."""
SAME = 0.3
"""Neighbouring digits (-1 to 1) that differ by less than this in all training data are merged."""


class CoulombNetwork(nn.Module):
    """Atomisation energies (negative for bound molecules) of molecules of `elements`, a `Potential`.

    `descriptor` turns Coulomb matrices into vectors; `step` (hartree) is s above, `hidden` the sizes of the layers of
    tanh units; weights start as in Glorot and Bengio 2010. The energy is the network's scaled output plus a linear
    function of the composition. `calibrate` sets ranges and scales from training data; the network exists only then.
    """

    energy_zero = "atomization"
    periodic = False
    single_atoms = False

    entry: Tensor
    """(I,) int64, entry of the descriptor for each input."""
    place: Tensor
    """(I,) int64, k of each input."""
    mean: Tensor
    """(I,), mean of each input over the training data."""
    deviation: Tensor
    """Standard deviation of all inputs together."""
    scale: Tensor
    """Energy per unit of the network's output, hartree, float64."""

    def __init__(
        self, elements: Sequence[str], descriptor: Descriptor, step: float = 1.0, hidden: Sequence[int] = (400, 100)
    ) -> None:
        super().__init__()
        if not step > 0:
            raise InputError(f"method.model.step must be positive (hartree), not {step}")
        self.elements = tuple(elements)
        self.descriptor, self.step, self.hidden = descriptor, float(step), tuple(hidden)
        self.self_energies = SelfEnergies(len(self.elements))
        self.register_buffer("entry", torch.zeros(0, dtype=torch.int64))
        self.register_buffer("place", torch.zeros(0, dtype=torch.int64))
        self.register_buffer("mean", torch.zeros(0))
        self.register_buffer("deviation", torch.ones(()))
        self.register_buffer("scale", torch.ones((), dtype=torch.float64))
        self.layers = nn.ModuleList()
        self.register_load_state_dict_pre_hook(self._take_shape)

    def forward(self, batch: Batch) -> Prediction:
        """Energies (B,), means over a fixed set of sortings; in training mode, of one sorting drawn from torch's
        generator. Raises InputError for other elements, and before `calibrate`."""
        if not self.layers:
            raise InputError(
                "this Coulomb-matrix network is untrained and has no layers yet; train it with task=train data=qm7"
            )
        matrix = coulomb_matrix(batch, self.descriptor.size)
        generator = None if self.training else torch.Generator().manual_seed(0)
        draws = 1 if self.training else self.descriptor.draws
        values = [self._network(self.binarised(self.descriptor(matrix, generator))) for _ in range(draws)]
        return Prediction(self._of_composition(batch) + self.scale * torch.stack(values).double().mean(dim=0))

    def binarised(self, descriptors: Tensor) -> Tensor:
        """Binarised inputs (B, I) of the network from descriptors (B, F), centred and scaled."""
        soft = self._digits(descriptors, self.entry, self.place)
        return (soft - self.mean.to(soft.dtype)) / self.deviation.to(soft.dtype)

    @torch.no_grad()
    def calibrate(self, batches: Iterable[Batch], energies: Tensor) -> None:
        """Set ranges and scales from the training data, and reset the weights.

        A linear function of the composition is fitted to `energies` (M,), hartree, of the structures of all `batches`;
        the remainder is scaled by its standard deviation. The binary digits of every entry run from 0 to its largest
        value in some sortings, without those that distinguish no more molecules than their neighbours do. Inputs are
        centred by their means and divided by one common deviation.
        """
        batches = list(batches)
        counts = torch.cat([self._counts(batch) for batch in batches]).double()
        fitted = torch.linalg.lstsq(counts, energies.double()[:, None], driver="gelsd").solution[:, 0]
        self.self_energies.values.copy_(fitted)
        self.scale.copy_((energies.double() - counts @ fitted).std())
        drawn = [
            self.descriptor(coulomb_matrix(batch, self.descriptor.size))
            for _ in range(CALIBRATION_DRAWS if self.descriptor.draws > 1 else 1)
            for batch in batches
        ]
        largest = torch.stack([part.amax(dim=0) for part in drawn]).amax(dim=0)
        digits = (largest / self.step).ceil().clamp(min=0).long() + 1
        entry = torch.repeat_interleave(torch.arange(len(digits)), digits)
        place = torch.arange(len(entry)) - (torch.cumsum(digits, dim=0) - digits)[entry]
        some = torch.cat(drawn[: len(batches)])
        soft = self._digits(some, entry, place)
        told_apart = torch.ones(len(entry), dtype=torch.bool)
        told_apart[1:] = ((soft[:, 1:] - soft[:, :-1]).abs().amax(dim=0) > SAME) | (entry[1:] != entry[:-1])
        told_apart &= soft.amax(dim=0) - soft.amin(dim=0) > SAME
        self.entry, self.place, soft = entry[told_apart], place[told_apart], soft[:, told_apart]
        self.mean = soft.mean(dim=0)
        self.deviation = (soft - self.mean).square().mean().sqrt()
        self._build(len(self.entry), soft.dtype)

    def _digits(self, descriptors: Tensor, entry: Tensor, place: Tensor) -> Tensor:
        return torch.tanh(descriptors[:, entry] / self.step - place.to(descriptors.dtype))

    def _build(self, inputs: int, dtype: torch.dtype) -> None:
        self.layers = nn.ModuleList(
            nn.Linear(into, out, dtype=dtype) for into, out in pairwise((inputs, *self.hidden, 1))
        )
        for name, parameter in self.layers.named_parameters():
            (nn.init.xavier_normal_ if name.endswith("weight") else nn.init.zeros_)(parameter)

    def _network(self, values: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            values = torch.tanh(layer(values))
        output: Tensor = self.layers[-1](values)
        return output[:, 0]

    def _of_composition(self, batch: Batch) -> Tensor:
        return self._counts(batch).double() @ self.self_energies.values

    def _counts(self, batch: Batch) -> Tensor:
        """Number (B, E) of atoms of every element. Raises InputError for an element that the model does not have."""
        numbers = torch.tensor([atomic_numbers[element] for element in self.elements], device=batch.numbers.device)
        counts = (batch.numbers[:, :, None] == numbers).sum(dim=1)
        foreign = batch.mask & ~torch.isin(batch.numbers, numbers)
        if foreign.any():
            symbol = chemical_symbols[int(batch.numbers[foreign][0])]
            raise InputError(f"the model has {' '.join(self.elements)}, not {symbol}")
        return counts

    def _take_shape(self, module: nn.Module, state: dict[str, Tensor], prefix: str, *args: object) -> None:
        """Resize the layers to the inputs of the calibrated model that is loaded."""
        mean = state.get(f"{prefix}mean")
        if mean is not None and len(mean) != len(self.mean):
            self.entry, self.place = (torch.zeros(len(mean), dtype=torch.int64) for _ in range(2))
            self.mean = torch.zeros_like(mean)
            self._build(len(mean), mean.dtype)

"""`PotentialMethod`: a method from any potential, with batches, derivatives and ensemble spreads. Atomic units."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import copy, deepcopy
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fusion import zoo
from fusion.chemistry import energy_zeros
from fusion.chemistry.system import System
from fusion.config.checks import check_whole
from fusion.errors import CalculationError, InputError
from fusion.methods.about import About
from fusion.parallel import devices
from fusion.potentials import abilities
from fusion.potentials.abilities import Chargeable, Extendable, LearnsPartly, Restrictable
from fusion.potentials.batch import collate
from fusion.potentials.derivatives import evaluate
from fusion.potentials.domain import Domain
from fusion.potentials.protocol import Prediction
from fusion.runs.results import Result

_DIPOLES = frozenset({"dipole", "dipole_derivatives"})
_DTYPES = {"float32": torch.float32, "float64": torch.float64}


class PotentialMethod:
    """`Method` of kind potential around one `Potential`, given as an `nn.Module` or a config with `_target_`.

    `weights` names a model of the zoo, which replaces `model`. `dtype` is that of positions and floating-point
    parameters, `batch_size` the number of systems per forward pass, `device` one of `fusion.parallel.devices`. The
    model is built, and downloaded if missing, at its first use. `training` holds the settings of task=train. Raises
    InputError for an unknown dtype or device, or for weights of another method.
    """

    kind = "potential"

    def __init__(
        self,
        name: str,
        model: nn.Module | Mapping[str, Any],
        dtype: str = "float64",
        device: str = "auto",
        batch_size: int = 64,
        weights: str | None = None,
        training: Mapping[str, Any] | None = None,
        about: About | Mapping[str, Any] | None = None,
    ) -> None:
        if dtype not in _DTYPES:
            raise InputError(f"dtype must be float32 or float64, not {dtype!r}")
        check_whole("method.batch_size", batch_size)
        self.name, self.about = name, About.read(about)
        self._model, self._dtype, self._batch_size = model, _DTYPES[dtype], batch_size
        self._device = devices.device(device)
        self._card = None if weights is None else zoo.find_for(weights, self.kind, name)
        self.training = training
        self._trained: nn.Module | None = None
        self.title = self.about.title or name

    @property
    def label(self) -> str:
        """Name shown for a run: the zoo's model, or the method's title with the word untrained."""
        return f"{self.title}, untrained" if self._card is None else self._card.label

    @property
    def weights(self) -> dict[str, Any] | None:
        """Name, version and digest of the zoo's model; None without weights."""
        return None if self._card is None else self._card.identity

    @property
    def energy_zero(self) -> str:
        """The zero of its energies, one of `fusion.chemistry.energy_zeros`."""
        return energy_zeros.of_card(None if self._card is None else self._card.energy_zero, self.kind)

    @cached_property
    def domain(self) -> Domain:
        """Domain of the model, from its card or, without a card, its `elements`.

        `periodic` and `single_atoms` come from the model itself (`fusion.potentials.abilities`).
        """
        card, model = self._card, self.model
        domain = Domain(self.name, abilities.elements(model)) if card is None else Domain.of_card(card)
        return replace(domain, periodic=abilities.is_periodic(model), single_atoms=abilities.has_single_atoms(model))

    @property
    def spread_factor(self) -> float | None:
        """Calibration factor of `energy_std`, from the card; None without a calibration."""
        return self.domain.factor

    @cached_property
    def model(self) -> nn.Module:
        """The network in evaluation mode, on its device and in its dtype, without gradients of its parameters."""
        return self.rebuilt()

    def trainable(
        self, seed: int, elements: Sequence[str], new: Sequence[str] = (), dipoles: bool = False
    ) -> nn.Module:
        """Return the model to be trained on structures of `elements`: that of `weights`, or a random one from `seed`.

        Without weights a `Restrictable` model is reduced to the elements of the data. With weights an `Extendable` one
        gets the elements in `new`; parts that the data do not reach stay unchanged. If `dipoles` are learned, a model
        with weights but without charges gets charges. Raises InputError for data with elements or dipoles that the
        model does not have.
        """
        torch.manual_seed(seed)
        model = self._built()
        if new:
            if self._card is None or not isinstance(model, Extendable):
                raise InputError("method.training.new_elements needs weights=... of a model that can be extended")
            model = model.extended(new)
        elif self._card is None and isinstance(model, Restrictable):
            covered = set(abilities.elements(model) or ())
            model = model.restricted(elements) if set(elements) < covered else model
        model_elements = abilities.elements(model) or tuple(elements)
        missing = [symbol for symbol in elements if symbol not in model_elements]
        if missing:
            advice = "" if self._card is None else f"; method.training.new_elements=[{','.join(missing)}] adds them"
            raise InputError(
                f"{self.label} has {' '.join(model_elements)}; the data also have {' '.join(missing)}{advice}"
            )
        if dipoles and "dipole" not in abilities.provides(model):
            if self._card is None or not isinstance(model, Chargeable):
                raise InputError(f"{self.label} gives no dipoles to train; ANI does with method.model.charges=true")
            model = model.with_charges()
        model = model.to(self._device, self._dtype).train().requires_grad_(True)
        if isinstance(model, LearnsPartly):
            model.learn_from(elements, dipoles)
        return model

    def trained_further(
        self, model: nn.Module, spread: float | None, factor: float | None, forces_factor: float | None
    ) -> PotentialMethod:
        """Return this method with `model`, which comes from a training of its own, and the calibration of its spread
        as in `Domain`; None without one.

        A further training starts from that model.
        """
        other = copy(self)
        for name in ("model", "domain"):
            other.__dict__.pop(name, None)
        other._trained = model
        calibrated = replace(self.domain, spread=spread, factor=factor, forces_factor=forces_factor)
        other.__dict__["domain"] = calibrated
        return other

    def rebuilt(self) -> nn.Module:
        """Build another model like `model`, whose parameters may differ: random ones, or those of the weights."""
        return self._built().to(self._device, self._dtype).eval().requires_grad_(False)

    def _built(self) -> nn.Module:
        if self._trained is not None:
            return deepcopy(self._trained)
        if self._card is not None:
            from fusion import zoo

            return zoo.load(self._card.label)
        if isinstance(self._model, nn.Module):
            return self._model
        from hydra.utils import instantiate

        model: nn.Module = instantiate(self._model)
        return model

    @property
    def provides(self) -> frozenset[str]:
        """Properties from differentiation, and those that the model names in its own `provides`."""
        own = abilities.provides(self.model)
        members = frozenset({"energy_members", "forces_std", "hessian_members"} if "energy_std" in own else ())
        slopes = frozenset({"dipole_derivatives"} if "dipole" in own else ())
        return frozenset({"energy", "forces", "stress", "hessian"}) | own | members | slopes

    def check(self, systems: Sequence[System], properties: Iterable[str] = ()) -> None:
        """Raise InputError, before any work, for elements, states, overlapping atoms or properties it cannot treat."""
        for system in systems:
            self.domain.check(system)
        _check_periodic(systems, properties)

    def calculate(self, systems: Sequence[System], properties: Iterable[str]) -> list[Result]:
        """Return results in the order of `systems`, atomic units.

        Properties are forces (A, 3), stress (3, 3) and hessian (3A, 3A); for an ensemble energy_members (M,),
        forces_std (A, 3) and hessian_members (M, 3A, 3A); for a model with charges charges (A,), dipole (3,) and
        dipole_derivatives (3A, 3). The members of a calibrated ensemble are scaled about their mean by the factor of
        the `domain`, and `energy_std` is their deviation after that. `forces_std` has its own factor.
        """
        wanted = frozenset(properties)
        _check_periodic(systems, wanted)
        results: list[Result] = []
        for start in range(0, len(systems), self._batch_size):
            results += self._calculate_batch(systems[start : start + self._batch_size], wanted)
        return results

    def _calculate_batch(self, systems: Sequence[System], wanted: frozenset[str]) -> list[Result]:
        batch = collate(systems, self._dtype).to(self._device)
        with torch.no_grad():  # `evaluate` switches gradients on where it needs them
            properties = wanted | {"forces_members"} if "forces_std" in wanted else wanted
            prediction, derivatives = evaluate(self.model, batch, properties)
        _check_provided(prediction, abilities.provides(self.model))
        if "forces_members" in derivatives:
            std = derivatives.pop("forces_members").double().std(dim=0, correction=1)
            derivatives["forces_std"] = std * (self.domain.forces_factor or 1.0)
        members = prediction.members
        if members is not None:
            members = self.domain.scaled(members.detach().double()) if len(members) > 1 else None
        if "hessian_members" in derivatives:
            derivatives["hessian_members"] = self.domain.scaled(derivatives["hessian_members"].detach().double())
        tensors = dict(derivatives)
        tensors |= {key: getattr(prediction, key) for key in ("charges", "dipole") if key in wanted}
        rows = _Rows(
            _array(prediction.energy),
            None if members is None else _array(members),
            {key: _array(value) for key, value in tensors.items()},
        )
        return [self._result(row, system, rows, wanted) for row, system in enumerate(systems)]

    def _result(self, row: int, system: System, rows: _Rows, wanted: frozenset[str]) -> Result:
        result = Result(system, energy=float(rows.energy[row]), message=self.domain.remark(system))
        if rows.spread is not None and rows.members is not None:
            result.energy_std = float(rows.spread[row])
            result.details["domain"], warning = self.domain.judge(system, result.energy_std)
            result.message = result.message or warning
            if "energy_members" in wanted:
                result.properties["energy_members"] = rows.members[:, row].copy()
        for key, values in rows.arrays.items():
            value = values[:, row] if key == "hessian_members" else values[row]
            result.properties[key] = _unpadded(key, value, len(system.symbols)).copy()
        faults = [key for key, finite in rows.finite.items() if not finite[row]]
        if faults:
            result.status, result.message = "failed", f"{self.name} gives no finite {faults[0]} for {system.name}"
            result.energy, result.energy_std, result.properties = None, None, {}
        return result


class _Rows:
    """Results of a batch as float64 arrays: energies (B,), the members' energies (M, B), and padded properties."""

    def __init__(self, energy: np.ndarray, members: np.ndarray | None, arrays: dict[str, np.ndarray]) -> None:
        self.energy, self.members, self.arrays = energy, members, arrays
        self.spread = None if members is None else members.std(axis=0, ddof=1)
        values = {"energy": energy, **({} if self.spread is None else {"energy_std": self.spread})}
        values |= {key: np.moveaxis(v, 1, 0) if key == "hessian_members" else v for key, v in arrays.items()}
        self.finite = {key: np.isfinite(value).reshape(len(value), -1).all(axis=1) for key, value in values.items()}


def _array(tensor: Tensor) -> np.ndarray:
    return np.asarray(tensor.detach().double().cpu().numpy())


def _check_provided(prediction: Prediction, provides: frozenset[str]) -> None:
    """Raise CalculationError for what the model's `provides` names and its forward leaves out."""
    fields = {"energy_std": "members", "charges": "charges", "dipole": "dipole"}
    for name, field in fields.items():
        if name in provides and getattr(prediction, field) is None:
            raise CalculationError(f"the potential's provides has {name}, and its forward gives no {field}")


def _check_periodic(systems: Sequence[System], properties: Iterable[str]) -> None:
    for system in systems if "stress" in properties else ():
        if system.cell is None or not all(system.pbc):
            raise InputError(f"stress needs a system periodic in three directions; {system.name} is not")
    for system in systems if not _DIPOLES.isdisjoint(properties) else ():
        if any(system.pbc):
            raise InputError(f"the dipole of a crystal is not defined, and {system.name} is periodic")


def _unpadded(key: str, value: np.ndarray, atoms: int) -> np.ndarray:
    """The part of a batch's row that belongs to real atoms."""
    if key == "hessian":
        return value[:atoms, :, :atoms].reshape(3 * atoms, 3 * atoms)
    if key == "hessian_members":
        return value[:, :atoms, :, :atoms].reshape(len(value), 3 * atoms, 3 * atoms)
    if key == "dipole_derivatives":
        return value[:atoms].reshape(3 * atoms, 3)
    return value[:atoms] if key in ("forces", "forces_std", "charges") else value

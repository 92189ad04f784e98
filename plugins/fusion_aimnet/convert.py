"""Conversion of published AIMNet2 files, one for each member, to the tensors of `AIMNet2`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from ase.data import atomic_numbers
from torch import Tensor

from fusion.chemistry.units import EV_PER_HARTREE
from fusion.errors import CalculationError
from fusion.files import bounds
from fusion.zoo import Card

_NAMES: Final = {
    "conv_a.agh": "mix_features",
    "conv_q.agh": "mix_charges",
    "aev.rc_s": "cutoff",
    "aev.eta_s": "exponent",
    "aev.shifts_s": "shifts",
    "outputs.srcoulomb.rc": "screening",
}
_PREFIXES: Final = {"mlps.": "passes.", "outputs.energy_mlp.mlp.": "readout."}
_EXPECTED: Final = {"needs_coulomb": True, "coulomb_mode": "sr_embedded", "coulomb_sr_envelope": "exp"}
_DAMPING: Final = ("s6", "s8", "a1", "a2")


def convert(directory: Path, card: Card) -> dict[str, Tensor]:
    """Return the tensors of the published networks under the names of `AIMNet2`, members in the order of the files.

    Raises CalculationError for a file of another format, of other elements or with other long-range terms.
    """
    elements = [atomic_numbers[symbol] for symbol in card.model.arguments["elements"]]
    tensors: dict[str, Tensor] = {}
    for number, file in enumerate(card.files):
        published = _read(directory / file.path)
        damping = _damping(published, file.path)
        if not torch.equal(tensors.setdefault("dispersion.damping", damping), damping):
            raise CalculationError(f"{file.path} has other dispersion parameters than {card.files[0].path}")
        _check_elements(published, elements, file.path)
        member = _member(published["state_dict"], torch.tensor(elements))
        tensors |= {f"networks.{number}.{name}": tensor for name, tensor in member.items()}
    return tensors


def _read(path: Path) -> Mapping[str, Any]:
    """Read a published file, a dict of settings and tensors. A file whose pickle would run code is refused."""
    try:
        bounds.check_torch(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a wrong file can raise anything
        raise CalculationError(f"{path.name} holds more than tensors and settings, and is not read") from error
    if not isinstance(content, dict) or not isinstance(content.get("state_dict"), dict):
        raise CalculationError(f"{path.name} is no published AIMNet2 file: it has no state_dict")
    return content


def _damping(published: Mapping[str, Any], name: str) -> Tensor:
    """Dispersion parameters (4,) of a file; zeros for a network without dispersion. Checks the Coulomb terms."""
    for key, value in _EXPECTED.items():
        if published.get(key) != value:
            raise CalculationError(f"{name} has {key} = {published.get(key)!r}, and this converter reads {value!r}")
    if published.get("has_embedded_d3ts"):
        raise CalculationError(f"{name} predicts its dispersion coefficients, which this converter does not read")
    parameters = {"s6": 1.0, **(published.get("d3_params") or {})} if published.get("needs_dispersion") else {}
    missing = [key for key in _DAMPING if parameters and key not in parameters]
    if missing:
        raise CalculationError(f"{name} gives no {', '.join(missing)} of its dispersion")
    return torch.tensor([float(parameters.get(key, 0.0)) for key in _DAMPING], dtype=torch.float64)


def _check_elements(published: Mapping[str, Any], elements: list[int], name: str) -> None:
    weights = published["state_dict"].get("afv.weight")
    listed = published.get("implemented_species")
    if not isinstance(weights, Tensor) or (listed and sorted(listed) != sorted(elements)):
        raise CalculationError(f"{name} is of the elements {listed}, the card of {sorted(elements)}")


def _member(published: Mapping[str, Tensor], elements: Tensor) -> dict[str, Tensor]:
    """Tensors of one network under new names, without those of elements that the card leaves out."""
    tensors = {
        "embedding": published["afv.weight"][elements],
        "atoms.values": published["outputs.atomic_shift.shifts.weight"][elements, 0].double() / EV_PER_HARTREE,
    }
    for name, tensor in published.items():
        prefix = next((prefix for prefix in _PREFIXES if name.startswith(prefix)), None)
        if name in _NAMES:
            tensors[_NAMES[name]] = tensor
        elif prefix is not None:
            tensors[_PREFIXES[prefix] + name.removeprefix(prefix)] = tensor
    return tensors

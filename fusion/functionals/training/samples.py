"""Labelled densities on disk and in memory: made once, one file each, shared by all runs with the same settings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from fusion.functionals.features import DensityFeatures
from fusion.functionals.grid.differentiation import checked, energy_density
from fusion.functionals.protocol import is_pointwise
from fusion.functionals.training.dataset import Entry, Set
from fusion.functionals.training.labels import Level, label
from fusion.zoo import cache

FORMAT = 1
"""Raised when the same settings give other arrays."""


@dataclass(frozen=True)
class Orbitals:
    """What a potential is contracted with, S = 1 for a closed shell and 2 else; single precision on the grid."""

    basis: Tensor
    """(V, n, G): basis functions and their gradients."""
    exchange: Tensor
    """(W, S, n, G): F of local exchange."""
    core: Tensor
    """(n, n): one-electron and Coulomb matrix, hartree."""
    coefficients: Tensor
    """(S, n, m)."""
    energies: Tensor
    """(S, m): of the conventional functional, hartree."""
    occupations: Tensor
    """(S, m): from 0 to 1."""


class Sample:
    """One labelled density; `content` are the arrays that `labels.label` made, `dtype` that of the features."""

    def __init__(self, name: str, content: Mapping[str, np.ndarray], dtype: torch.dtype) -> None:
        self.name, self._content, self.dtype = name, content, dtype
        self.reference = float(content["reference"])
        self.source = str(content["source"])
        self.classical = float(content["classical"])
        self.conventional = float(content["conventional"])
        """Energy of the conventional functional, hartree."""

    @property
    def target(self) -> float:
        """The exchange-correlation energy that is learned, hartree."""
        return self.reference - self.classical

    @cached_property
    def features(self) -> DensityFeatures:
        """At the points that matter, weights and coordinates included."""
        content = self._content
        exchange = {float(key[4:]): self._tensor(content[key]) for key in content if key.startswith("hfx:")}
        return DensityFeatures(
            rho=self._tensor(content["rho"]),
            grad=self._tensor(content["grad"]) if "grad" in content else None,
            tau=self._tensor(content["tau"]) if "tau" in content else None,
            hfx={omega: exchange[omega] for omega in sorted(exchange)},
            coords=self._tensor(content["coords"].T),
            weights=self._tensor(content["weights"]),
        )

    def orbitals(self, device: torch.device | str = "cpu") -> Orbitals:
        """Read when asked for, and not kept: they are large."""
        names = ("basis", "exchange", "core", "coefficients", "orbital_energies", "occupations")
        return Orbitals(*(self._tensor(self._content[name]).to(device) for name in names))

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.dtype)


def xc_energy(functional: torch.nn.Module, features: DensityFeatures) -> Tensor:
    """The functional's energy of a density, hartree, with its graph."""
    model, weights = functional, features.weights
    assert weights is not None
    if is_pointwise(model):
        return weights @ energy_density(model, features, "the functional")
    return checked(model.energy(features), (), "the functional")  # type: ignore[operator]


def prepare(
    chosen: Set, level: Level, needs: frozenset[str], dtype: torch.dtype, update: Callable[[int, str], None]
) -> dict[str, Sample]:
    """All samples of a set, those that are not in the cache made and put there; `update` hears of each.

    Raises CalculationError where a label cannot be made; what was made before stays.
    """
    samples: dict[str, Sample] = {}
    energies: dict[str, float] = {}
    ordered = sorted(chosen.entries.values(), key=lambda entry: bool(entry.line))
    for count, entry in enumerate(ordered):
        update(count, entry.name)
        path = _path(entry, level, needs, {name: energies[name] for name in entry.line})
        content = _read(path)
        if content is None:
            with cache.locked(f"labels-{path.stem}"):
                content = _read(path)
                if content is None:
                    _write(path, label(entry, level, needs, energies))
                    content = _read(path)
        assert content is not None
        samples[entry.name] = Sample(entry.name, content, dtype)
        energies[entry.name] = samples[entry.name].reference
    update(len(ordered), "")
    return {name: samples[name] for name in chosen.entries}


def _path(entry: Entry, level: Level, needs: frozenset[str], line: Mapping[str, float]) -> Path:
    system = entry.system
    said = {
        "format": FORMAT,
        "level": [level.basis, level.density, level.grid_level],
        "needs": sorted(needs),
        "atoms": [list(system.symbols), np.asarray(system.positions).round(8).tolist(), system.charge, system.spin],
        "occupations": entry.occupations,
        "line": {name: [factor, round(line[name], 8)] for name, factor in sorted(entry.line.items())},
    }
    digest = hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]
    return cache.directory() / "labels" / f"{digest}.npz"


def _write(path: Path, content: Mapping[str, np.ndarray]) -> None:
    from fusion.files.atomic import replacing

    cache.create(path.parent)
    try:
        with replacing(path) as file:
            np.savez(file, **content)  # type: ignore[arg-type]
    except OSError as error:
        raise cache.unwritable(path, error) from error


def _read(path: Path) -> Mapping[str, np.ndarray] | None:
    """The arrays of a whole file, read from it when asked for; None where there is none."""
    with suppress(FileNotFoundError, BadZipFile, ValueError, EOFError):
        content: Mapping[str, np.ndarray] = np.load(path, allow_pickle=False)
        return content
    return None

"""Labelled densities on disk and in memory: computed once, one file each, shared by runs with equal settings."""

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
from fusion.functionals.protocol import OnWholeGrid
from fusion.functionals.training.dataset import Entry, Set
from fusion.functionals.training.labels import Level, label
from fusion.zoo import cache

FORMAT = 2
"""Version of the files; increase it when the same settings give other arrays."""


@dataclass(frozen=True)
class Orbitals:
    """Arrays that contract a potential, S = 1 for a closed shell, otherwise 2; single precision on the grid."""

    basis: Tensor
    """(V, n, G): basis functions and their gradients."""
    exchange: Tensor
    """(W, S, n, G): F of local exchange."""
    core: Tensor
    """(n, n): one-electron and Coulomb matrix, hartree."""
    coefficients: Tensor
    """(S, n, m) orbital coefficients."""
    energies: Tensor
    """(S, m): orbital energies of the conventional functional, hartree."""
    occupations: Tensor
    """(S, m): occupations from 0 to 1."""


class Sample:
    """One labelled density; `content` are the arrays from `labels.label`, `dtype` is that of the features."""

    def __init__(self, name: str, content: Mapping[str, np.ndarray], dtype: torch.dtype) -> None:
        self.name, self._content, self.dtype = name, content, dtype
        self.reference = float(content["reference"])
        self.source = str(content["source"])
        self.classical = float(content["classical"])
        self.conventional = float(content["conventional"])
        """Energy of the conventional functional, hartree."""

    @property
    def target(self) -> float:
        """Exchange-correlation energy to learn, hartree."""
        return self.reference - self.classical

    @cached_property
    def features(self) -> DensityFeatures:
        """Features at the relevant points, with weights and coordinates."""
        content = self._content
        exchange = {float(key[4:]): self._tensor(content[key]) for key in content if key.startswith("hfx:")}
        return DensityFeatures(
            rho=self._tensor(content["rho"]),
            grad=self._tensor(content["grad"]) if "grad" in content else None,
            tau=self._tensor(content["tau"]) if "tau" in content else None,
            hfx={omega: exchange[omega] for omega in sorted(exchange)},
            coords=self._tensor(content["coords"].T),
            weights=self._tensor(content["weights"]),
            nuclei=self._tensor(content["nuclei"]) if "nuclei" in content else None,
        )

    def orbitals(self, device: torch.device | str = "cpu") -> Orbitals:
        """Read the orbitals on every call; they are too large to keep."""
        names = ("basis", "exchange", "core", "coefficients", "orbital_energies", "occupations")
        return Orbitals(*(self._tensor(self._content[name]).to(device) for name in names))

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.dtype)


def xc_energy(functional: torch.nn.Module, features: DensityFeatures) -> Tensor:
    """Energy of a density by the functional, hartree, with its graph."""
    assert features.weights is not None
    if isinstance(functional, OnWholeGrid):
        return checked(functional.energy(features), (), "the functional")
    return features.weights @ energy_density(functional, features, "the functional")


def prepare(
    chosen: Set, level: Level, needs: frozenset[str], dtype: torch.dtype, update: Callable[[int, str], None]
) -> dict[str, Sample]:
    """Return all samples of a set; compute those that the cache lacks and store them. `update` gets every one.

    Raises CalculationError if a label cannot be computed; finished labels stay in the cache.
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
    inputs = {
        "format": FORMAT,
        "level": [level.basis, level.density, level.grid_level],
        "needs": sorted(needs),
        "atoms": [list(system.symbols), np.asarray(system.positions).round(8).tolist(), system.charge, system.spin],
        "occupations": entry.occupations,
        "line": {name: [factor, round(line[name], 8)] for name, factor in sorted(entry.line.items())},
    }
    digest = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:16]
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
    """Arrays of a complete file, read on access; None if there is no such file."""
    with suppress(FileNotFoundError, BadZipFile, ValueError, EOFError):
        content: Mapping[str, np.ndarray] = np.load(path, allow_pickle=False)
        return content
    return None

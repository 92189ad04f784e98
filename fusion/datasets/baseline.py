"""Delta-learning: labels less the results of a cheaper method for the same structures.

Ramakrishnan et al., J. Chem. Theory Comput. 11, 2087 (2015). The method's results are saved in the cache at intervals,
so that each is calculated once. A potential trained on the difference is used together with the method
(`+method=sum method.terms=[...]`).
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fusion.chemistry.energy_zeros import DIFFERENCE
from fusion.datasets.labelled import Labelled
from fusion.errors import CalculationError, InputError
from fusion.files import bounds
from fusion.files.atomic import replacing
from fusion.methods import abilities

_MORE = {"forces": "forces", "dipole": "dipoles"}
"""Labels besides the energy from which the method's values are subtracted."""
_SAVE_S, _CALL_S, _MOST = 20.0, 2.0, 1024


@dataclass
class _Results:
    """Results of the baseline: energies (M,), forces (N, 3) and dipoles (M, 3) in atomic units, and its failures."""

    path: Path
    energy: np.ndarray
    forces: np.ndarray | None
    dipole: np.ndarray | None
    done: np.ndarray
    failures: dict[int, str]

    def save(self) -> None:
        arrays = {"energy": self.energy, "done": self.done}
        arrays |= {name: array for name in _MORE if (array := getattr(self, name)) is not None}
        failures = json.dumps({str(index): text for index, text in self.failures.items()})
        with replacing(self.path) as file:
            np.savez(file, failures=np.array(failures), **arrays)  # type: ignore[arg-type]

    def load(self) -> None:
        if not self.path.is_file():
            return
        content = bounds.npz(self.path)
        self.energy, self.done = content["energy"], content["done"]
        self.forces, self.dipole = (content.get(name) for name in _MORE)
        self.failures = {int(index): text for index, text in json.loads(str(content["failures"])).items()}


def subtracted(data: Labelled, entry: Any) -> Labelled:
    """Subtract the energies, forces and dipoles of the method `entry`, written as in methods=[...]; None: no method.

    Structures that the method fails for are dropped and counted. Raises InputError for a method that does not exist or
    fails for all structures.
    """
    if entry is None:
        return data
    from fusion.methods import by_name, protocol
    from fusion.zoo import cache

    method_config = dict(entry) if isinstance(entry, Mapping) else entry
    method = by_name.method(method_config)
    protocol.require(method, {"energy"}, "data.baseline")
    wanted = {"energy"}
    wanted |= {name for name in _MORE if getattr(data, name) is not None and name in protocol.available(method)}
    key = _key(data, method_config, method, wanted)
    path = cache.create(cache.directory() / "data" / "baselines") / f"{key}.npz"
    forces = np.full((len(data.numbers), 3), np.nan) if "forces" in wanted else None
    dipole = np.full((len(data), 3), np.nan) if "dipole" in wanted else None
    results = _Results(path, np.full(len(data), np.nan), forces, dipole, np.zeros(len(data), dtype=bool), {})
    with cache.locked(f"baseline-{key[:16]}"):
        results.load()
        if not results.done.all():
            _calculate(data, method, wanted, results)
    return _difference(data, results, method.label)


def _key(data: Labelled, entry: Any, method: Any, wanted: set[str]) -> str:
    text = json.dumps([entry, sorted(wanted), abilities.weights(method)], default=str, sort_keys=True)
    return hashlib.sha256(text.encode() + np.asarray(data.ids).tobytes()).hexdigest()


def _calculate(data: Labelled, method: Any, wanted: set[str], results: _Results) -> None:
    """Calculate the missing results, largest structures first; save them at intervals and at the end."""
    from fusion.console.phases import phase

    remaining = np.flatnonzero(~results.done)
    todo = remaining[np.argsort(-data.sizes[remaining], kind="stable")].tolist()
    size, saved = 1, time.monotonic()
    with phase("baseline", len(data), len(data) - len(todo)) as bar:
        try:
            while todo:
                began = time.monotonic()
                _calculate_some(data, method, wanted, results, todo[:size])
                todo = todo[size:]
                bar(len(data) - len(todo), method.name)
                size = min(2 * size, _MOST) if time.monotonic() - began < _CALL_S else size
                if time.monotonic() - saved > _SAVE_S:
                    results.save()
                    saved = time.monotonic()
        finally:
            results.save()


def _calculate_some(data: Labelled, method: Any, wanted: set[str], baseline: _Results, chosen: Sequence[int]) -> None:
    """Calculate the structures in one call. If the call fails, try each half, to isolate the failing structure."""
    from fusion.methods import protocol

    try:
        calculated = protocol.calculate(method, [data.system(index) for index in chosen], wanted)
    except (CalculationError, InputError) as error:
        if len(chosen) > 1:
            middle = len(chosen) // 2
            _calculate_some(data, method, wanted, baseline, chosen[:middle])
            _calculate_some(data, method, wanted, baseline, chosen[middle:])
        else:
            baseline.failures[chosen[0]], baseline.done[chosen[0]] = str(error), True
        return
    for index, result in zip(chosen, calculated, strict=True):
        baseline.done[index] = True
        if result.status != "ok" or result.energy is None:
            baseline.failures[index] = result.message or result.status
            continue
        baseline.energy[index] = result.energy
        if baseline.forces is not None:
            baseline.forces[data.offsets[index] : data.offsets[index + 1]] = result.properties["forces"]
        if baseline.dipole is not None:
            baseline.dipole[index] = result.properties["dipole"]


def _difference(data: Labelled, baseline: _Results, name: str) -> Labelled:
    good = np.flatnonzero(np.isfinite(baseline.energy))
    if not len(good):
        raise InputError(f"data.baseline: {name} fails for all structures: {next(iter(baseline.failures.values()))}")
    labels: dict[str, Any] = {"stress": None}
    if data.stress is not None:
        data.report.checks.append("the stress is left out: the baseline's stress is not subtracted")
    for label_name, plural in _MORE.items():
        label, calculated = getattr(data, label_name), getattr(baseline, label_name)
        labels[label_name] = None if label is None or calculated is None else np.asarray(label) - calculated
        if label is not None and calculated is None:
            data.report.checks.append(f"the {plural} are left out: {name} gives none")
    difference = replace(data, energy=np.asarray(data.energy) - baseline.energy, energy_zero=DIFFERENCE, **labels)
    if baseline.failures:
        data.report.left_out += [(data.name(i), f"{name}: {text}") for i, text in sorted(baseline.failures.items())]
        difference = difference.select(good)
    difference.report.checks.append(f"labels are differences to {name}")
    return difference

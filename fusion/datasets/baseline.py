"""Delta-learning: labels less what a cheaper method says of the same structures.

Ramakrishnan et al., J. Chem. Theory Comput. 11, 2087 (2015). What the method says is kept in the cache, piece by piece,
so that it is calculated once; a potential that has learned the difference is used together with the method
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

_MORE = {"forces": "forces", "dipole": "dipoles"}
"""Labels beside the energy that are less the method's."""
_SAVE_S, _CALL_S, _MOST = 20.0, 2.0, 1024


@dataclass
class _Kept:
    """What is known of the baseline: energies (M,) hartree, forces (N, 3), dipoles (M, 3), and what it failed for."""

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
    """Energies, forces and dipoles less those of the method that `entry` names, as in methods=[...]; None: the data.

    Structures that the method fails for are left out and counted. Raises InputError for a method that does not exist,
    or that can do nothing with the data.
    """
    if entry is None:
        return data
    from fusion.methods import by_name, protocol
    from fusion.zoo import cache

    plain = dict(entry) if isinstance(entry, Mapping) else entry
    method = by_name.method(plain)
    protocol.require(method, {"energy"}, "data.baseline")
    wanted = {"energy"}
    wanted |= {name for name in _MORE if getattr(data, name) is not None and name in protocol.available(method)}
    key = _key(data, plain, method, wanted)
    place = cache.create(cache.directory() / "data" / "baselines") / f"{key}.npz"
    forces = np.full((len(data.numbers), 3), np.nan) if "forces" in wanted else None
    dipole = np.full((len(data), 3), np.nan) if "dipole" in wanted else None
    kept = _Kept(place, np.full(len(data), np.nan), forces, dipole, np.zeros(len(data), dtype=bool), {})
    with cache.locked(f"baseline-{key[:16]}"):
        kept.load()
        if not kept.done.all():
            _calculate(data, method, wanted, kept)
    return _less(data, kept, str(getattr(method, "label", method.name)))


def _key(data: Labelled, entry: Any, method: Any, wanted: set[str]) -> str:
    weights = getattr(method, "weights", None)
    text = json.dumps([entry, sorted(wanted), weights], default=str, sort_keys=True)
    return hashlib.sha256(text.encode() + np.asarray(data.ids).tobytes()).hexdigest()


def _calculate(data: Labelled, method: Any, wanted: set[str], kept: _Kept) -> None:
    """What is left, largest structures first; what is done is kept now and then, and at any end."""
    from fusion.console.phases import phase

    left = np.flatnonzero(~kept.done)
    todo = left[np.argsort(-data.sizes[left], kind="stable")].tolist()
    size, saved = 1, time.monotonic()
    with phase("baseline", len(data), len(data) - len(todo)) as bar:
        try:
            while todo:
                began = time.monotonic()
                _some(data, method, wanted, kept, todo[:size])
                todo = todo[size:]
                bar(len(data) - len(todo), method.name)
                size = min(2 * size, _MOST) if time.monotonic() - began < _CALL_S else size
                if time.monotonic() - saved > _SAVE_S:
                    kept.save()
                    saved = time.monotonic()
        finally:
            kept.save()


def _some(data: Labelled, method: Any, wanted: set[str], kept: _Kept, chosen: Sequence[int]) -> None:
    """One call for all; where it fails as a whole, halves of them: one bad structure costs no other."""
    from fusion.methods import protocol

    try:
        results = protocol.calculate(method, [data.system(index) for index in chosen], wanted)
    except (CalculationError, InputError) as error:
        if len(chosen) > 1:
            middle = len(chosen) // 2
            _some(data, method, wanted, kept, chosen[:middle])
            _some(data, method, wanted, kept, chosen[middle:])
        else:
            kept.failures[chosen[0]], kept.done[chosen[0]] = str(error), True
        return
    for index, result in zip(chosen, results, strict=True):
        kept.done[index] = True
        if result.status != "ok" or result.energy is None:
            kept.failures[index] = result.message or result.status
            continue
        kept.energy[index] = result.energy
        if kept.forces is not None:
            kept.forces[data.offsets[index] : data.offsets[index + 1]] = result.properties["forces"]
        if kept.dipole is not None:
            kept.dipole[index] = result.properties["dipole"]


def _less(data: Labelled, kept: _Kept, name: str) -> Labelled:
    good = np.flatnonzero(np.isfinite(kept.energy))
    if not len(good):
        raise InputError(f"data.baseline: {name} can do nothing with these data: {next(iter(kept.failures.values()))}")
    rest: dict[str, Any] = {"stress": None}
    if data.stress is not None:
        data.report.checks.append("the stress is left out: it is of the energies as they were")
    for what, plural in _MORE.items():
        label, said = getattr(data, what), getattr(kept, what)
        rest[what] = None if label is None or said is None else np.asarray(label) - said
        if label is not None and said is None:
            data.report.checks.append(f"the {plural} are left out: {name} gives none")
    found = replace(data, energy=np.asarray(data.energy) - kept.energy, energy_zero=DIFFERENCE, **rest)
    if kept.failures:
        data.report.left_out += [(data.name(i), f"{name}: {text}") for i, text in sorted(kept.failures.items())]
        found = found.select(good)
    found.report.checks.append(f"labels are differences to {name}")
    return found

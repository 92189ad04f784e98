"""Properties to request of a method for each labelled structure, and the structures it refuses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fusion.errors import InputError
from fusion.evaluation.tensors import labelled
from fusion.methods import protocol

if TYPE_CHECKING:
    from fusion.datasets import Labelled
    from fusion.methods.protocol import Method


def requested_properties(
    data: Labelled, method: Method, needs: frozenset[str]
) -> tuple[list[frozenset[str]], dict[int, str]]:
    """Properties to request for each structure, and the reasons for leaving structures out, by index.

    Requested are `needs`, forces where the data have any, and stress or dipole where the structure has a label and the
    method provides it. Structures of the same formula, state, periodicity and properties are checked only once.
    """
    provided = protocol.available(method)
    minimum = needs | {"forces"} if data.forces is not None and "forces" in provided else needs
    requests = [minimum] * len(data)
    for kind, label in labelled(data, provided):
        rows = zip(requests, kind.known(label), strict=True)
        requests = [properties | {kind.name} if has_label else properties for properties, has_label in rows]
    checked: dict[tuple[object, ...], tuple[frozenset[str], str | None]] = {}
    problems: dict[int, str] = {}
    for index, properties in enumerate(requests):
        numbers = np.sort(np.asarray(data.numbers[data.offsets[index] : data.offsets[index + 1]]))
        periodic = b"" if data.pbc is None else np.asarray(data.pbc[index]).tobytes()
        key = (numbers.tobytes(), int(data.charge[index]), int(data.spin[index]), periodic, properties)
        if key not in checked:
            checked[key] = _accepted(data, method, index, properties, minimum)
        requests[index], problem = checked[key]
        if problem is not None:
            problems[index] = problem
    return requests, problems


def _accepted(
    data: Labelled, method: Method, index: int, properties: frozenset[str], minimum: frozenset[str]
) -> tuple[frozenset[str], str | None]:
    """The `properties`, or `minimum` where the method refuses only the rest; and why it refuses even these."""
    problem = _objection(data, method, properties, index)
    if problem is not None and properties != minimum:
        properties, problem = minimum, _objection(data, method, minimum, index)
    return properties, problem


def _objection(data: Labelled, method: Method, properties: frozenset[str], index: int) -> str | None:
    """The reason why the method cannot calculate `properties` of the structure; None where it can."""
    try:
        protocol.require(method, properties, "this calculation", [data.system(index)], error_bars=True)
    except InputError as error:
        return str(error).replace(data.name(index), "it")
    return None

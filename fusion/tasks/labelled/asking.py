"""What a method is asked for each labelled structure, and what it objects to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fusion import methods
from fusion.errors import InputError
from fusion.tasks.labelled.tensors import labelled

if TYPE_CHECKING:
    from fusion.datasets import Labelled
    from fusion.methods import Method


def asked(data: Labelled, method: Method, needs: frozenset[str]) -> tuple[list[frozenset[str]], dict[int, str]]:
    """Properties of each structure: `needs`, forces where the data have any, its stress or dipole where it has a label
    of that and the method can; and why structures are left out. The method is asked once for all that are alike."""
    given = methods.available(method)
    least = needs | {"forces"} if data.forces is not None and "forces" in given else needs
    wanted = [least] * len(data)
    for kind, label in labelled(data, given):
        wanted = [one | {kind.name} if has else one for one, has in zip(wanted, kind.known(label), strict=True)]
    answers: dict[tuple[object, ...], tuple[frozenset[str], str | None]] = {}
    problems: dict[int, str] = {}
    for index, properties in enumerate(wanted):
        numbers = np.sort(np.asarray(data.numbers[data.offsets[index] : data.offsets[index + 1]]))
        periodic = b"" if data.pbc is None else np.asarray(data.pbc[index]).tobytes()
        key = (numbers.tobytes(), int(data.charge[index]), int(data.spin[index]), periodic, properties)
        if key not in answers:
            answers[key] = _answer(data, method, index, properties, least)
        wanted[index], problem = answers[key]
        if problem is not None:
            problems[index] = problem
    return wanted, problems


def _answer(
    data: Labelled, method: Method, index: int, properties: frozenset[str], least: frozenset[str]
) -> tuple[frozenset[str], str | None]:
    """The `properties`, or `least` where only the others are a problem; and the problem that is left."""
    problem = _objection(data, method, properties, index)
    if problem is not None and properties != least:
        properties, problem = least, _objection(data, method, least, index)
    return properties, problem


def _objection(data: Labelled, method: Method, properties: frozenset[str], index: int) -> str | None:
    try:
        methods.require(method, properties, "this calculation", [data.system(index)])
    except InputError as error:
        return str(error).replace(data.name(index), "it")
    return None

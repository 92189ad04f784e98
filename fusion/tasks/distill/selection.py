"""Selection of the geometries to label: those that the student is least certain of, and that differ most."""

from __future__ import annotations

import numpy as np
import torch

from fusion.chemistry.system import System
from fusion.potentials import PotentialMethod, abilities
from fusion.potentials.batch import collate

UNCERTAIN = 0.5
"""Share of the candidates with the largest spread that the selection starts from."""

_BATCH = 256


def chosen(
    vectors: np.ndarray, spreads: np.ndarray, labelled: np.ndarray, number: int, random: np.random.Generator
) -> np.ndarray:
    """Indices of `number` candidates with the descriptors `vectors` (n, F) and `spreads` (n,), NaN for unknown.

    Of the candidates with the larger spreads, each next one is the farthest from all descriptors `labelled` (m, F) and
    from those chosen before (Gonzalez 1985, Theor. Comput. Sci. 38, 293).
    """
    order = random.permutation(len(vectors))
    if np.isfinite(spreads).all():
        order = order[np.argsort(-spreads[order], kind="stable")]
        order = order[: max(number, round(UNCERTAIN * len(order)))]
    pool, picked = vectors[order], []
    nearest = np.full(len(pool), np.inf)
    for vector in labelled:
        nearest = np.minimum(nearest, np.square(pool - vector).sum(axis=1))
    for _ in range(min(number, len(pool))):
        index = int(np.argmax(nearest))
        picked.append(index)
        nearest = np.minimum(nearest, np.square(pool - pool[index]).sum(axis=1))
        nearest[index] = -1.0
    return order[picked]


def descriptors(method: PotentialMethod, system: System, positions: np.ndarray) -> np.ndarray:
    """Descriptors (B, F) of geometries (B, A, 3) of one molecule: the environment vectors of all atoms, atom by atom.

    For a potential without `HasEnvironments`, the inverse distances of all pairs of atoms, 1/bohr.
    """
    model = method.model
    if not isinstance(model, abilities.HasEnvironments):
        first, second = np.triu_indices(len(system.symbols), 1)
        return np.asarray(1.0 / np.linalg.norm(positions[:, first] - positions[:, second], axis=2))
    parts = []
    reference = next(model.parameters())
    for start in range(0, len(positions), _BATCH):
        systems = [system.moved(place) for place in positions[start : start + _BATCH]]
        with torch.no_grad():
            vectors = model.environments(collate(systems, reference.dtype).to(reference.device))
        parts.append(vectors.reshape(len(systems), -1).double().cpu().numpy())
    return np.concatenate(parts) if parts else np.zeros((0, 0))

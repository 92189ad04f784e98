"""Models by address: `weights=RUN_DIR` and `weights=URL` stand for a model that is put into the cache first.

From then on the model has a name, which the run's configuration and result state; a run resumes without its address.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from fusion.errors import InputError
from fusion.runs import trust
from fusion.runs.layout import CONFIG
from fusion.zoo import registry, store
from fusion.zoo.card import Card, Weights
from fusion.zoo.files import File

_LONGEST = 40


def named(weights: Any) -> Any:
    """Return NAME@VERSION of the model at the address `weights`, a URL or the directory of a run; names are returned
    unchanged.

    Raises InputError for an address of an untrusted configuration and for a run without a trained model, and
    CalculationError for a URL that does not answer.
    """
    if not isinstance(weights, str) or not weights:
        return weights
    if registry.is_url(weights):
        trust.refuse_address(weights)
        return _pulled(weights).label
    directory = Path(weights).expanduser()
    if not _is_path(weights) and not (directory / CONFIG).is_file():
        return weights
    if not _is_path(weights) and any(card.name == weights for card in registry.cards()):
        return weights
    trust.refuse_address(weights)
    if directory.is_file():
        raise InputError(
            f"weights={weights} is a file: weights are the name of a model (fusion zoo list), the directory of a run "
            "or the URL of a card; programs, such as TorchScript files, are not run"
        )
    if not (directory / CONFIG).is_file():
        raise InputError(f"weights={weights} is no directory of a run: it has no {CONFIG}")
    return imported(directory).label


def imported(directory: Path) -> Card:
    """Put the trained model of a run into the cache, under a name made of the directory's name and the digest."""
    from fusion.methods.trained_model import Facts, trained
    from fusion.zoo.tensors import SUFFIX, digest, serialised

    resolved = directory.resolve()
    trust.refuse_links(resolved)
    stem = re.sub(r"[^a-z0-9]+", "-", resolved.name.lower()).strip("-")[:_LONGEST] or "run"
    model = trained(directory, Facts(stem, summary=f"the model of {resolved}"), registry.user())
    content, tensors = serialised(model.tensors), digest(model.tensors)
    name = f"{stem}-{tensors[:8]}"
    card = replace(
        model.card,
        name=name,
        version=1,
        weights=Weights(tensors, len(content)),
        files=(File(f"{name}-1{SUFFIX}", len(content), hashlib.sha256(content).hexdigest(), ()),),
        source=str(resolved),
    )
    store.build(card, dict(model.tensors))
    if store.pulled(card) and any(known.label == card.label for known in registry.cards()):
        return registry.find(card.label)
    store.put(card, content)
    return card


def _pulled(url: str) -> Card:
    card = registry.find(url)
    store.pull(card)
    registry.save(card)
    return card


def _is_path(weights: str) -> bool:
    return "/" in weights or weights.startswith((".", "~"))

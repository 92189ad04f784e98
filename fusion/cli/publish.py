"""Publication of the model of a finished run, or of a checkpoint: a card and a safetensors file in a zoo."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fusion.cli.published_metrics import metrics
from fusion.config import overrides
from fusion.config.compose import compose
from fusion.errors import InputError
from fusion.methods.card_words import with_card
from fusion.methods.trained_model import NOT_CONVERGED as NOT_CONVERGED
from fusion.methods.trained_model import NOT_STATED, Facts, trained
from fusion.zoo import card_file, registry, store
from fusion.zoo.card import Card, Weights
from fusion.zoo.files import File
from fusion.zoo.tensors import SUFFIX, digest, serialised


def add(run: Path, about: Facts, into: Path, words: Sequence[str] = (), prefix: str | None = None) -> Card:
    """Publish the trained model of `run`, its directory or a checkpoint, in the zoo directory `into`.

    For a checkpoint outside a run, `words` configure its model, as on the command line of a run. `prefix` is the prefix
    of the model's tensors in the checkpoint; it is detected if there is only one possibility. The model is built from
    the card and loaded before anything is written. Raises InputError.
    """
    stated = compose(with_card(overrides.prepare(list(words), multirun=False)))[0] if words else None
    model = trained(run, about, into, stated, prefix)
    data = serialised(model.tensors)
    file = File(f"{about.name}-{model.card.version}{SUFFIX}", len(data), hashlib.sha256(data).hexdigest(), ())
    path = into / f"{about.name}-{model.card.version}.toml"
    published = replace(
        model.card,
        weights=Weights(digest(model.tensors), len(data)),
        files=(file,),
        metrics=tuple(metrics(model.document, model.config)),
        source=str(path),
    )
    published = card_file.parse(card_file.to_toml(published).encode(), str(path))  # as every user will read it
    store.build(published, dict(model.tensors))
    try:
        into.mkdir(parents=True, exist_ok=True)
        store.write(into / file.path, data)
        card_file.write(published, path)  # last: a card promises complete weights
    except OSError as error:
        raise InputError(f"{into} cannot be written to: {error.strerror}") from error
    return published


def not_stated(card: Card) -> list[str]:
    """Options of `fusion zoo add` whose values the card does not state."""
    values = {
        "licence": card.licence,
        "citation": card.citation,
        "data": card.training.data,
        "level-of-theory": card.training.level_of_theory,
    }
    return [option for option, value in values.items() if value == NOT_STATED]


def withdraw(card: Card) -> list[str]:
    """Remove a card and its weights from the user's own zoo. Raises InputError for a card of another zoo."""
    path = Path(card.source)
    if path.parent.absolute() != registry.user().absolute():
        raise InputError(f"{card.label} is a model of {card.source}, which is not your own zoo ({registry.user()})")
    weights = path.parent / card.files[0].path
    path.unlink(missing_ok=True)
    weights.unlink(missing_ok=True)
    return [str(path), str(weights)]

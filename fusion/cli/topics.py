"""Command `fusion help TOPIC`: a task, a method, a group of options, a place in the settings, or a command."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import replace

from fusion.cli import settings_help as shown
from fusion.cli.settings_help import Block
from fusion.config import comments, described
from fusion.config.comments import Setting
from fusion.config.described import Choice, Described
from fusion.config.options import suggestion
from fusion.errors import InputError

_LONG_LIST = 24
"""A group with more options than this lists their names alone."""
_FIRST = ("method", "task", "system", "data", "trainer", "executor", "logger")
VARIABLES: dict[str, str] = {
    "FUSION_CACHE": "folder of downloaded models and data; default: the cache of the user",
    "FUSION_MIRROR": "mirror of the models, a URL, tried before their own sources",
    "FUSION_OFFLINE": "1: no downloads",
    "FUSION_ZOO": "further zoos: folders or URLs with cards",
    "OMP_NUM_THREADS": "threads of a calculation",
    "HYDRA_FULL_ERROR": "1: errors with their traceback",
}


def explain(words: Sequence[str], commands: Sequence[str], command_help: Callable[[str], object]) -> None:
    """Print help on the topics `words`, `task=ts`, `method=ani method.training`, `system`; without words, list them.

    `commands` are the names of the commands, on which `command_help` prints help. Raises InputError for no topic.
    """
    if not words:
        _overview()
        return
    groups = _groups()
    context = [word for word in words if word.partition("=")[0].lstrip("+") in groups and "=" in word]
    places = [word for word in words if word not in context]
    for number, word in enumerate(places or context):
        if number:
            print()
        if "=" in word:
            group, _, name = word.lstrip("+").partition("=")
            _option(group, name, context)
        elif word in groups:
            _group(word)
        elif "." in word:
            _place(word, context)
        elif word in commands:
            command_help(word)
        else:
            _option(*_found(word, groups, commands), context)


def _overview() -> None:
    texts = shown.group_comments()
    print("fusion help TOPIC explains a task, a method, a group of options, a setting or a command:\n")
    examples = ("task=ts", "method=ani", "system", "optimiser=kfac", "method=ani method.training", "table")
    shown.print_rows([(f"fusion help {example}", "", "") for example in examples], indent=2)
    tasks = [(name, "", _sentence(_about("task", name))) for name in shown.options_of("task")]
    methods = ", ".join(name for name in shown.options_of("method") if "/" not in name)
    groups = [group for group in _groups() if group not in ("task", "method") and shown.is_choosable(group)]
    shown.print_blocks(
        [
            Block("task=", "", tasks),
            Block("method=", "", [("names", "", f"{methods}: fusion methods, fusion methods show NAME")]),
            Block(
                "groups", "", [(group, "", texts.get(group) or ", ".join(shown.options_of(group))) for group in groups]
            ),
            Block("environment", "", [(name, "", text) for name, text in VARIABLES.items()]),
        ]
    )
    print("\nfusion --help lists the commands; fusion +method=NAME task=T --help shows all settings of a run.")


def _option(group: str, name: str, context: Sequence[str]) -> None:
    """Explain an option with its settings, all of them."""
    if group in ("method", "task"):
        found = shown.composed([word for word in context if not word.startswith(f"{group}=")] + [f"{group}={name}"])
        choice = found.choices[group]
        shown.print_rows([(f"{group}={name}", "", shown.about(found, choice))])
        shown.print_blocks(
            shown.method_blocks(found) if group == "method" else _or_none(shown.task_blocks(found), name)
        )
        print()
        if group == "method":
            print(f"fusion methods show {name} tells more; fusion +method={name} --help shows all settings of a run")
        else:
            example = "" if name == "compare" else " +method=NAME"
            print(f"fusion{example} task={name} --help shows all settings of a run")
        return
    shown.refuse_unknown(group, name)
    found = described.option(group, name)
    choice = found.choices[group]
    shown.print_rows([(f"{group}={name}", "", choice.about)])
    shown.print_blocks(_or_none(_blocks(found, choice), name))


def _or_none(blocks: list[Block], name: str) -> list[Block]:
    return blocks or [Block("", "", [(f"{name} has no settings", "", "")])]


def _blocks(found: Described, choice: Choice) -> list[Block]:
    return shown.blocks(replace(found, choices={}), choice.package)


def _group(group: str) -> None:
    """Explain a group: its options, and the settings of those that have explained ones."""
    text, names = shown.group_comments().get(group, ""), shown.options_of(group)
    shown.print_rows([(f"{group}=", "", text)])
    print()
    if len(names) > _LONG_LIST:
        plain = [name for name in names if not _own_settings(group, name)]
        print("\n".join(textwrap.wrap(", ".join(plain), shown.width(), break_on_hyphens=False)))
    else:
        shown.print_rows([(name, "", _sentence(_about(group, name))) for name in names], indent=2)
    if group in ("method", "task"):
        print(f"\nfusion help {group}=NAME explains one with its settings")
        return
    for name in names:
        if _own_settings(group, name):
            found = described.option(group, name)
            heading = f"{group}={name}   {_about(group, name)}"
            print("\n" + "\n".join(textwrap.wrap(heading, shown.width(), subsequent_indent="   ")))
            shown.print_blocks(_blocks(found, found.choices[group]))


def _own_settings(group: str, name: str) -> bool:
    """True if the file of an option itself explains settings."""
    settings = comments.read(described.files()[f"{group}/{name}"]).settings
    return any(leaf.comment for _, leaf in settings.leaves())


def _place(place: str, context: Sequence[str]) -> None:
    """Explain the settings at and below a dotted place of the settings that `context` chooses."""
    found = shown.composed(context)
    blocks = shown.blocks(found, place)
    if not blocks and not any(word.startswith("method=") for word in context) and place.startswith("method."):
        owners = [name for name in _methods() if shown.composed([f"method={name}"]).settings.at(place) is not None]
        if owners:
            raise InputError(
                f"{place} belongs to a method: fusion help method={owners[0]} {place}  ({', '.join(owners)})"
            )
    if not blocks and place.startswith("task."):
        names = [name for name in shown.options_of("task") if shown.composed([f"task={name}"]).settings.at(place)]
        if names:
            raise InputError(f"{place} belongs to a task: fusion help task={names[0]} {place}  ({', '.join(names)})")
    if not blocks:
        known = [path for path, _ in found.settings.leaves()]
        raise InputError(f"no setting '{place}'.{suggestion(place, known)}  fusion help TASK or METHOD lists settings")
    shown.print_blocks(blocks)


def _methods() -> list[str]:
    return [name for name in shown.options_of("method") if "/" not in name]


def _found(word: str, groups: Sequence[str], commands: Sequence[str]) -> tuple[str, str]:
    """Return the group of the option `word`. Raises InputError if there is none."""
    for group in groups:
        if word in shown.options_of(group):
            return group, word
    names = [*groups, *commands, *(name for group in groups for name in shown.options_of(group))]
    raise InputError(f"no topic '{word}'.{suggestion(word, names)}  fusion help lists the topics")


def _groups() -> list[str]:
    """Names of the groups, those of every run first."""
    names = {option.partition("/")[0] for option in described.files() if "/" in option}
    return [*(name for name in _FIRST if name in names), *sorted(names - set(_FIRST))]


def _about(group: str, name: str) -> str:
    file = comments.read(described.files()[f"{group}/{name}"])
    stated: Setting | None = file.settings.at("method.about.summary")
    return file.about or (stated.text if stated else "")


def _sentence(text: str) -> str:
    """Return the first sentence of a text, without the example that may follow it."""
    first = re.split(r":?\s\s|:\s+(?=\+?method=|task=)", text, maxsplit=1)[0]
    for end in re.finditer(r"\. (?=[A-Z])", first):
        if first.count("(", 0, end.start()) == first.count(")", 0, end.start()):  # no citation
            return first[: end.start()]
    return first.rstrip(". ")

"""Command `fusion completion`: scripts for bash, zsh and fish, and the words that they offer."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from fusion.cli import settings_help as shown
from fusion.config import described
from fusion.config.described import Described
from fusion.errors import InputError

WORDS = "words"
"""Subcommand by which a shell asks for words: `fusion completion words LINE`, the line up to the cursor."""
SHELLS = ("bash", "zsh", "fish")
_SCRIPTS = Path(__file__).with_name("completion_scripts")
_FLAGS = ("-m", "--dry-run", "--help", "--cfg", "--multirun")
_NAMES_MODEL = ("show", "pull", "verify", "path", "remove", "export")
"""Commands of `fusion zoo` that are followed by the name of a model."""


def main(words: Sequence[str], commands: Mapping[str, Sequence[str]]) -> int:
    """Print a script, or the words that may follow those of a line; `commands` are the commands and theirs."""
    if len(words) == 2 and words[0] == WORDS:
        for candidate in candidates(words[1], commands):
            print(candidate)
        return 0
    if len(words) != 1 or words[0] not in SHELLS:
        raise InputError(
            f"fusion completion {' '.join(words)}: name a shell, bash, zsh or fish; "
            'eval "$(fusion completion bash)" in ~/.bashrc turns completion on'
        )
    print((_SCRIPTS / f"fusion.{words[0]}").read_text(encoding="utf-8"), end="")
    return 0


def candidates(line: str, commands: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the words that complete the last word of a line, in their order. Never raises, never uses the network."""
    os.environ["FUSION_OFFLINE"] = "1"
    words = _split(line)[1:] or [""]
    *before, current = words
    before = before[1:] if before[:1] == ["run"] else before
    try:
        found = dict.fromkeys(_following(before, current, commands))
    except Exception:  # completion is silent: the shell would print the message into the line
        return []
    return [each for each in found if each.startswith(current)]


def _split(line: str) -> list[str]:
    """Words of a line, the last of which may be empty or lack its closing quote."""
    for closing in ("", "'", '"'):
        try:
            words = shlex.split(line + closing)
        except ValueError:
            continue
        return [*words, ""] if not line or (line[-1].isspace() and not closing) else words
    return line.split()


def _following(before: Sequence[str], current: str, commands: Mapping[str, Sequence[str]]) -> Iterator[str]:
    first = before[0] if before else ""
    if not before:
        yield from commands
        yield from _run_words([], current)
    elif first in commands and first not in ("run", "serve"):
        yield from _command_words(first, before[1:], current, commands)
    else:
        yield from _run_words([word for word in before if word != first or first not in commands], current)


def _command_words(
    first: str, before: Sequence[str], current: str, commands: Mapping[str, Sequence[str]]
) -> Iterator[str]:
    if first == "help":
        groups = dict.fromkeys(option.partition("/")[0] for option in described.files() if "/" in option)
        key, equals, _ = current.partition("=")
        yield from (f"{key}={name}" for name in (shown.options_of(key) if equals else ()))
        yield from ("task=", "method=", *groups, *shown.options_of("task"), *commands)
    elif first == "methods" and list(before) == ["show"]:
        yield from shown.options_of("method")
    elif first == "zoo" and before and before[0] in _NAMES_MODEL:
        yield from _models("")
    elif not before:
        yield from commands[first]
    if current.startswith("-"):
        yield "--help"


def _run_words(before: Sequence[str], current: str) -> Iterator[str]:
    """Yield settings of the run that the words `before` choose, or the values of the one that is being typed."""
    key, equals, value = current.partition("=")
    name = key.lstrip("+")
    chosen = {word.partition("=")[0].lstrip("+"): word.partition("=")[2] for word in before if "=" in word}
    if current.startswith("-"):
        yield from _FLAGS
    elif equals:
        start = value[: max(value.rfind("["), value.rfind(",")) + 1]
        yield from (f"{key}={start}{each}" for each in _values(name, chosen, before))
    else:
        yield from _keys(_composed(before), key, chosen)


def _values(key: str, chosen: dict[str, str], before: Sequence[str]) -> Iterator[str]:
    if key in ("methods", "task.against", "task.teacher", "data.baseline"):
        yield from shown.options_of("method")
        yield from _models("")
    elif key == "weights":
        yield from _models(chosen.get("method", ""))
        yield "null"
    elif any(option.startswith(f"{key}/") for option in described.files()):
        yield from shown.options_of(key)
    else:
        found = _composed(before)
        setting = found.settings.at(key)
        value = found.value(setting) if setting is not None else ""
        yield from ("true", "false") if value in ("true", "false") else filter(None, (value,))


def _keys(found: Described, key: str, chosen: dict[str, str]) -> Iterator[str]:
    """Yield the settings one level below the dotted place that `key` begins with, groups with a dot at their end."""
    place, dot, _ = key.rpartition(".")
    if not dot:
        groups = ["task", "system", "data", *(group for group in found.choices if shown.is_choosable(group))]
        if "method" not in chosen and "methods" not in (found.settings.children or {}):
            yield from ("+method=", "method=")
        yield from (f"{group}=" for group in groups if group not in (*chosen, "method"))
        yield from (f"+{group}=" for group in shown.addable(found))
        yield "systems="
    node = found.settings.at(place.lstrip("+")) if dot else found.settings
    for name, child in (node.children or {}).items() if node is not None else ():
        if name in ("_target_", "_partial_", "about") or (not dot and child.children == {}):
            continue
        yield f"{place}{dot}{name}{'.' if child.children else '='}"


def _composed(words: Sequence[str]) -> Described:
    """Settings of the run that `words` choose, without the words that are wrong."""
    kept: list[str] = []
    for word in words:
        try:
            described.compose([*kept, word])
        except InputError:
            continue
        kept.append(word)
    return described.compose(kept)


def _models(method: str) -> list[str]:
    """Names of the models of a method, or of all models."""
    from fusion.zoo import registry

    cards = registry.cards()
    own = [card.name for card in cards if card.method == method.partition("/")[0]]
    return own or [card.name for card in cards]

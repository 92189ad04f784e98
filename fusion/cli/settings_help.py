"""Help on the settings of a run, `fusion +method=NAME task=T --help`, and on single topics, `fusion help TOPIC`."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from fusion.config import comments, described, overrides
from fusion.config.comments import Setting
from fusion.config.described import Choice, Described, UnknownOption, UnusedGroup
from fusion.console import streams
from fusion.console.format import PLAIN_WIDTH
from fusion.errors import InputError

_RUN = ("system", "data", "executor", "trainer", "logger", "callbacks")
"""Groups that every run has, shown in a line each."""
_UNSEEN = ("_target_", "_partial_", "name", "about")
_LARGEST = 12
"""Number of settings of a nested group that are shown; a larger one is a line, which names the topic that shows it."""
_LEARNING = ("train", "distill")
_VALUE = 24
_WIDEST = 120
_NAME, _LONGEST_NAME = 16, 26

_INLINE = 4
"""Number of settings of a nested group that are listed among those of the group around it, `learning_rate.rate`."""

Row = tuple[str, str, str]
"""Name, value and comment."""


@dataclass
class Block:
    """Settings below one place, their names relative to it."""

    place: str
    remark: str
    rows: list[Row] = field(default_factory=list)


def of_run(words: Sequence[str]) -> None:
    """Print the settings of the method and the task that `words` choose, with their resolved values and comments."""
    words = [word for word in words if not word.startswith("-")]
    found = composed(overrides.prepare(words, multirun=False))
    print(" ".join(["fusion", *words]), end="\n\n")
    print_rows([(f"{group}={choice.option}", "", about(found, choice)) for group, choice in titles(found)])
    print_blocks(task_blocks(found))
    choice = found.choices.get("method")
    if choice is not None:
        learning = found.choices["task"].option in _LEARNING
        expanded = ("method.training",) if learning else ()
        print_blocks(method_blocks(found, f"fusion help method={choice.option}", expanded))
    print_blocks([Block("choices", "", [*_choice_rows(found)]), Block("every run", "", [*_run_rows(found)])])
    print(
        "\nPLACE.KEY=VALUE sets a value. fusion help TOPIC explains a task, a method, or a choice: fusion help task=ts"
    )
    print("--dry-run checks a run without starting it. -m sweeps: -m seed=0,1,2. --cfg job prints the bare settings.")


def composed(words: Sequence[str]) -> Described:
    """Compose settings with their comments. Raises InputError for an unknown option, with its alternatives."""
    try:
        return described.compose(words)
    except UnknownOption as error:
        refuse_unknown(error.group, error.name)
        raise
    except UnusedGroup as error:
        from fusion.config.messages import elsewhere

        raise InputError(elsewhere(error.group)) from None


def refuse_unknown(group: str, name: str) -> None:
    """Raise InputError with the alternatives if the group has no option of this name."""
    options = options_of(group)
    if name not in options:
        from fusion.config.messages import no_option

        raise InputError(no_option(group, name, [each for each in options if "/" not in each or "/" in name]))


def about(found: Described, choice: Choice) -> str:
    """Return what an option says of itself: title and summary of a method, the first comment of its file."""
    stated = found.settings.at("method.about") if choice.group == "method" else None
    texts = {key: found.value(leaf) for key, leaf in (stated.children or {}).items()} if stated else {}
    title = ": ".join(texts[key] for key in ("title", "summary") if texts.get(key, "null") != "null")
    return ". ".join(text.rstrip(".") for text in (title, choice.about) if text)


def titles(found: Described) -> list[tuple[str, Choice]]:
    """List the chosen method and task, as far as they are chosen."""
    return [(group, found.choices[group]) for group in ("method", "task") if group in found.choices]


def task_blocks(found: Described) -> list[Block]:
    """Return the settings of the task and of the groups that it brings, such as the ensemble."""
    brought = {choice.package for choice in found.choices.values() if choice.group not in (*_RUN, "method", "task")}
    places = ["methods", "task", *(root for root in found.settings.children or {} if root in brought)]
    return [block for place in places for block in blocks(found, place)]


def method_blocks(found: Described, topic: str = "", expanded: Iterable[str] = ()) -> list[Block]:
    """Return the settings of the method, first those of the run itself that it refers to.

    A large group is one row, which names the `topic` to ask for, unless it is `expanded` or there is no topic.
    """
    if found.settings.at("method") is None:
        return []
    shared = {leaf.text[2:-1]: leaf for _, leaf in _method_leaves(found) if _is_shared(found, leaf)}
    root = found.settings.children or {}
    named = [(name, root[name]) for name in ("weights", "dtype") if name in shared and name in root]
    return [
        Block("method", "", [(name, found.value(leaf), leaf.comment or shared[name].comment) for name, leaf in named]),
        *blocks(found, "method", topic, tuple(expanded)),
    ]


def blocks(found: Described, place: str, topic: str = "", expanded: tuple[str, ...] = ()) -> list[Block]:
    """Return the settings at and below a place, without names of classes, as blocks that are not empty."""
    node = found.settings.at(place)
    if node is None:
        return []
    if node.children is None:
        return [Block("", "", [(place, shortened(found.value(node)), node.comment)])]
    own, nested = Block(place, _remark(found, place, node)), []
    for key, child in node.children.items():
        path, below = f"{place}.{key}", [*_rows(found, key, child)]
        count = sum(1 for _, value, _ in below if value)
        if key in _UNSEEN or not count:
            continue
        if topic and count > _LARGEST and path not in expanded:
            remark = _remark(found, path, child)
            own.rows.append((f"{key}.*", f"{count} settings", f"{remark}{': ' if remark else ''}{topic} {path}"))
        elif child.children and (count > _INLINE or any(len(name) > _LONGEST_NAME for name, _, _ in below)):
            nested += blocks(found, path, topic, expanded)
        else:
            own.rows += _rows(found, key, child, _remark(found, path, child))
    return [block for block in (own, *nested) if block.rows]


def _rows(found: Described, name: str, node: Setting, remark: str = "") -> Iterator[Row]:
    """Yield rows of a setting and of all below it."""
    children = node.children
    if not children:
        value = found.value(node)
        if not (_is_shared(found, node) or value.startswith(("[{_target_", "${"))):
            yield name, shortened(value), node.comment
    elif set(children) == {"_target_"}:
        if node.comment:
            yield f"{name}._target_", children["_target_"].text, node.comment
    else:
        below = [row for key in children if key not in _UNSEEN for row in _rows(found, f"{name}.{key}", children[key])]
        if below and (remark or node.comment):
            yield name, "", remark or node.comment
        yield from below


def _remark(found: Described, place: str, node: Setting) -> str:
    """Return the comment on a group of settings, with the alternatives of a choice whose settings stand there."""
    choice = next((each for each in found.choices.values() if each.package == place and _is_free(each)), None)
    own = choice is not None and "task" != place.rpartition(".")[2] == choice.group
    return ". ".join(filter(None, (node.comment, _alternatives(choice) if choice and own else "")))


def _method_leaves(found: Described) -> Iterator[tuple[str, Setting]]:
    method = found.settings.at("method")
    return iter(()) if method is None else method.leaves()


def _is_shared(found: Described, setting: Setting) -> bool:
    """True for a value that refers to a setting of the run itself, such as ${weights}, which is shown instead."""
    name = setting.text[2:-1] if setting.text.startswith("${") else ""
    target = found.settings.at(name) if name and "." not in name else None
    return target is not None and target.children is None


def _is_free(choice: Choice) -> bool:
    """True for a choice that can be made on the command line: several options, at the place of their group."""
    file = comments.read(described.files()[f"{choice.group}/{choice.option}"])
    return len(options_of(choice.group)) > 1 and (file.package is not None or choice.package == choice.group)


def is_choosable(group: str) -> bool:
    """True for a group of several options of which a user may choose one, GROUP=NAME."""
    first = options_of(group)[0]
    return group != "kind" and _is_free(described.option(group, first).choices[group])


def _alternatives(choice: Choice) -> str:
    others = [name for name in options_of(choice.group) if name != choice.option]
    return f"{choice.group}={'|'.join([choice.option, *others])}"


def options_of(group: str) -> list[str]:
    """Names of the options of a group, presets included."""
    return sorted(option.removeprefix(f"{group}/") for option in described.files() if option.startswith(f"{group}/"))


def shortened(text: str) -> str:
    """Return a value, of a long list only its beginning."""
    return text if len(text) <= _VALUE else f"{text[: _VALUE - 3].rstrip(' ,')}..."


def _choice_rows(found: Described) -> Iterator[Row]:
    """Yield a row for every group in use that is not one of every run, and for groups that can be added."""
    texts = group_comments()
    for group, choice in found.choices.items():
        if group in (*_RUN, "method", "task", "kind") or not _is_free(choice):
            continue
        yield _alternatives(choice), "", texts.get(group) or choice.about
    for group in addable(found):
        yield f"+{group}={'|'.join(options_of(group))}", "", texts.get(group, "")


def addable(found: Described) -> list[str]:
    """Return the groups of which options can be added, +estimator=density."""
    groups = sorted({option.partition("/")[0] for option in described.files() if "/" in option})
    return [group for group in groups if group not in found.choices and _can_be_added(found, group)]


def _can_be_added(found: Described, group: str) -> bool:
    """True for a group whose options add nodes of their own to an existing one: +estimator=density."""
    for name in options_of(group):
        place = comments.read(described.files()[f"{group}/{name}"]).package or ""
        parent, _, last = place.rpartition(".")
        node = found.settings.at(parent) if parent else None
        if last != name or node is None or node.children is None:
            return False
    return True


def _run_rows(found: Described) -> Iterator[Row]:
    texts = group_comments()
    for group in _RUN:
        if group == "callbacks":
            continue
        choice = found.choices.get(group)
        option = choice.option if choice else "null"
        yield f"{group}={option}", "", f"{texts.get(group) or (choice.about if choice else '')}: fusion help {group}"
    shown = {leaf.text[2:-1] for _, leaf in _method_leaves(found) if _is_shared(found, leaf)} - {"seed"}
    for name, setting in (found.settings.children or {}).items():
        if setting.children is None and name not in shown and name not in ("method", "methods", "data"):
            yield name, found.value(setting), setting.comment


def group_comments() -> dict[str, str]:
    """Return what the defaults lists of all trees say of their groups."""
    texts: dict[str, str] = {}
    for option, file in described.files().items():
        if option.partition("/")[0] in ("config", "kind", "method", "task"):
            with suppress(InputError):  # a broken file is reported where it is used
                texts = {**comments.read(file).groups, **texts}
    return texts


def print_blocks(content: Iterable[Block]) -> None:
    """Print blocks that are not empty, those of the same place below one heading."""
    merged: list[Block] = []
    for block in content:
        if merged and block.place and block.place == merged[-1].place:
            merged[-1].rows += block.rows
        elif block.rows:
            merged.append(block)
    for block in merged:
        heading = f"{block.place}   {block.remark}".strip()
        print("\n" + "\n".join(textwrap.wrap(heading, width(), subsequent_indent="   ")) if heading else "")
        print_rows(block.rows, indent=2 if block.place else 0)


def print_rows(content: Sequence[Row], indent: int = 0) -> None:
    """Print names, values and comments in columns; long comments are wrapped within theirs."""
    names = [len(name) for name, _, _ in content]
    name_width = max([_NAME, *(length for length in names if length <= _LONGEST_NAME)])
    value_width = max([_VALUE // 2, *(len(value) for _, value, _ in content)]) if any(v for _, v, _ in content) else 0
    column = indent + name_width + 2 + (value_width + 2 if value_width else 0)
    for name, value, comment in content:
        start = " " * indent + (f"{name:<{name_width}}  {value}" if value else name)
        lines = textwrap.wrap(comment, max(24, width() - column), break_long_words=False, break_on_hyphens=False) or [
            ""
        ]
        if len(start) + 2 > column and lines != [""]:
            _print(start)
            start = ""
        _print(f"{start:<{column}}{lines[0]}")
        for line in lines[1:]:
            _print(" " * column + line)


def _print(text: str) -> None:
    print(streams.visible(text).rstrip())


def width() -> int:
    """Return the number of columns that help fills."""
    return min(_WIDEST, shutil.get_terminal_size((PLAIN_WIDTH, 24)).columns)

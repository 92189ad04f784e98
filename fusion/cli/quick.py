"""Commands that answer at once, without Typer and without large packages: help, methods, doctor, completion."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from fusion.errors import InputError

_FIRST: dict[str, tuple[str, ...]] = {
    "completion": ("bash", "zsh", "fish"),
    "doctor": ("--test",),
    "methods": ("show",),
}
"""First words of commands, for completion."""


def answer(words: Sequence[str], commands: Mapping[str, Sequence[str]], command_help: Callable[[str], object]) -> int:
    """Run one of these commands. Returns the exit status.

    `commands` are all commands of the program with their own commands, `command_help` prints help on one of them.
    Raises InputError.
    """
    first, *rest = words
    if first == "help":
        from fusion.cli import topics

        topics.explain(rest, list(commands), command_help)
        return 0
    if first == "methods":
        return _methods(rest)
    if first == "doctor":
        from fusion.cli import doctor

        if rest not in ([], ["--test"]):
            raise InputError(f"fusion {' '.join(words)}: use fusion doctor, or fusion doctor --test")
        return doctor.examine(test=bool(rest))
    from fusion.cli import completion

    return completion.main(rest, {name: _FIRST.get(name, own) for name, own in commands.items()})


def _methods(words: Sequence[str]) -> int:
    from fusion.cli import listing, method_card

    if not words:
        listing.methods()
    elif words[0] == "show" and len(words) == 2:
        method_card.show(words[1])
    else:
        raise InputError(f"fusion methods {' '.join(words)}: use fusion methods, or fusion methods show NAME")
    return 0

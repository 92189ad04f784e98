"""Groups of commands, `fusion zoo ...` and `fusion plugins ...`."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup

from fusion.errors import InputError


class Group(TyperGroup):
    """Group of commands that suggests the right one for a misspelt name."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        from fusion.config.options import suggestion

        names = list(self.commands)
        if args and not args[0].startswith("-") and args[0] not in names:
            hint = suggestion(args[0], names)
            raise InputError(f"no command '{self.name} {args[0]}'.{hint}  Commands: {', '.join(names)}")
        return super().resolve_command(ctx, args)

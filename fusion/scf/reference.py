"""Kinds of determinants by name: restricted, unrestricted, restricted open-shell, in every usual spelling."""

from __future__ import annotations

from typing import Final

from fusion.errors import InputError

RESTRICTED: Final = "restricted"
UNRESTRICTED: Final = "unrestricted"
RESTRICTED_OPEN: Final = "restricted_open"
_SHORT: Final = {
    RESTRICTED: ("r", "rhf", "rks"),
    UNRESTRICTED: ("u", "uhf", "uks"),
    RESTRICTED_OPEN: ("ro", "rohf", "roks"),
}
_KINDS: Final = {name: kind for kind, names in _SHORT.items() for name in (kind, *names)}


def read(setting: object, allowed: tuple[str, ...] = tuple(_SHORT)) -> str | None:
    """Return the kind of determinant that `method.reference` names, None for null: the spin decides.

    Raises InputError for a name that is not one of the `allowed` kinds.
    """
    if setting is None:
        return None
    kind = _KINDS.get(str(setting).lower().replace("-", "_"))
    if kind not in allowed:
        listed = ", ".join(f"{kind} ({', '.join(_SHORT[kind][1:])})" for kind in allowed)
        raise InputError(f"method.reference={setting!r} is not one of {listed} and null")
    return kind

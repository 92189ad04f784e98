"""Conversion of the command line's `key=value` words to Hydra's grammar."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatch
from glob import glob
from pathlib import Path

from fusion.errors import InputError

# Settings that hold free text. Hydra refuses ; = ( + ~ in a bare value, so these are quoted for the user.
_STRUCTURES = frozenset({"system.path", "system.paths", "task.product", "task.guess", "task.frames"})
_TEXT = (
    _STRUCTURES
    | {"system.atoms", "method.basis", "ckpt"}
    | {f"data.{key}" for key in ("path", "energy", "forces.key", "stress.key", "dipole.key", "subtract", "split.file")}
)
# Settings whose glob(...) in a sweep matches files.
_FILES = _STRUCTURES | {"system", "data", "data.path", "ckpt"}
# Settings that are lists of free text, or of groups of settings: 'methods=[hf,{method: dft, basis: 6-31G(d,p)}]'.
_LISTS = frozenset({"methods", "task.reaction", "data.baseline"})
_DIRECTORIES = frozenset({"hydra.run.dir", "hydra.sweep.dir"})
# In these settings a comma is part of the value (a sweep over them must quote its values).
_ONE_VALUE = frozenset({"system.atoms"}) | _DIRECTORIES
# Short forms of method.solvent, whose value is the name of a solvent or a group of settings.
_SOLVENTS = frozenset({"solvent", "method.solvent"})
_QUOTED = re.compile(r"""\s*(['"]).*\1\s*""", re.DOTALL)
_STRUCTURED = re.compile(r"\s*(null|\[.*\]|\{.*\})\s*", re.DOTALL)
_NOT_BARE = re.compile(r"[()=;+~*]")
_SWEEPS = re.compile(r"\s*(choice|glob|range|interval|sort|shuffle|tag)\(")
_PLAIN = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|true|false|null", re.IGNORECASE)
_WORD = re.compile(r"[+~]{0,2}[A-Za-z_][\w./@:-]*=|~\w|-m$|--multirun$")


def is_override(word: str) -> bool:
    """True if a word of the command line is a setting of a run, not the name of a command."""
    return bool(_WORD.match(word))


def prepare(words: Sequence[str], multirun: bool) -> list[str]:
    """Expand short forms and quote free text.

    `method=x` becomes `+method=x`, and `system=file.xyz` becomes `system=file system.path=...`.
    """
    prepared: list[str] = []
    for word in words:
        key, equals, value = word.partition("=")
        value = _swept(key, value) if multirun else value
        if not equals or word.startswith("-"):
            prepared.append(word)
        elif key == "method":
            prepared.append(f"+method={value}")
        elif key == "system" and (files := _files(value, multirun)):
            prepared += ["system=file", f"system.path={','.join(map(quote, files))}"]
            if len(files) == 1 and not any(other.startswith("system.name=") for other in words):
                prepared.append(
                    f"system.name={quote(Path(files[0]).stem)}"
                )  # it is part of the names of run directories
        elif key == "systems":
            prepared += _systems(value, words, multirun)
        elif key == "data" and (chosen := _data(value, multirun)):
            prepared += chosen
        elif key in _SOLVENTS or key.startswith("solvent."):
            prepared.append(_solvent(key, value, multirun))
        elif key == "system.ecp":  # a setting of every system, which few of their files state
            prepared.append(f"++{key}={_text(key, value, multirun)}")
        elif key in _LISTS:
            prepared.append(f"{key}={_list(value, multirun)}")
            if key == "task.reaction" and not any(other.startswith(("system=", "system.name=")) for other in words):
                prepared.append("system.name=reaction")
        elif key.lstrip("+") in _TEXT | _DIRECTORIES:
            prepared.append(f"{key}={_text(key.lstrip('+'), value, multirun)}")
        else:
            prepared.append(word)
    return prepared


def quote(value: str) -> str:
    """Quote a value for Hydra's grammar, in which backslashes matter only before a quote and at the end."""
    escaped = re.sub(r"(\\*)'", lambda match: match[1] * 2 + r"\'", value)
    escaped = re.sub(r"(\\+)$", lambda match: match[1] * 2, escaped)
    return f"'{escaped}'"


def _text(key: str, value: str, multirun: bool) -> str:
    if not value or (multirun and _SWEEPS.match(value)):
        return value
    if not multirun and key in _FILES and value != "null" and Path(value).is_file():
        return quote(value)
    if multirun and (key not in _ONE_VALUE or value.lstrip()[0] in "'\""):
        return ",".join(_quote_bare(part) for part in split(value))
    return _quote_bare(value)


def _list(value: str, multirun: bool) -> str:
    """Quote the text in a list. Its brackets are optional, except in a sweep, whose commas separate lists."""
    if not value or (multirun and _SWEEPS.match(value)):
        return value
    parts = split(value)
    if multirun or len(parts) == 1:
        return ",".join(_quote_inside(part) for part in parts)
    return f"[{','.join(_quote_inside(part) for part in parts)}]"


def _quote_inside(value: str) -> str:
    """Quote the text in a value's lists and groups; numbers, true, false and null stay unquoted."""
    value = value.strip()
    if value[:1] == "[" and value[-1:] == "]":
        return f"[{','.join(_quote_inside(part) for part in split(value[1:-1]) if part.strip())}]"
    if value[:1] == "{" and value[-1:] == "}":
        pairs = (part.partition(":") for part in split(value[1:-1]) if part.strip())
        return "{" + ",".join(f"{_unquote(key).strip()}:{_quote_inside(item)}" for key, _, item in pairs) + "}"
    return value if _PLAIN.fullmatch(value) or _QUOTED.fullmatch(value) else quote(value)


def _quote_bare(value: str) -> str:
    if _STRUCTURED.fullmatch(value):
        return _quote_inside(value) if _NOT_BARE.search(value) else value
    return value if _QUOTED.fullmatch(value) else quote(value)


def split(value: str) -> list[str]:
    """Split a sweep at the commas outside brackets and quotes: `6-31G(d,p),sto-3g` has two parts."""
    parts, depth, quoting, current, backslashes = [], 0, "", "", 0
    for character in value:
        escaped = backslashes % 2 == 1
        backslashes = backslashes + 1 if character == "\\" else 0
        if quoting:
            quoting = "" if character == quoting and not escaped else quoting
        elif character in "'\"":
            quoting = character
        elif character in "([{":
            depth += 1
        elif character in ")]}":
            depth -= 1
        elif character == "," and depth == 0:
            parts.append(current)
            current = ""
            continue
        current += character
    return [*parts, current]


def _files(value: str, multirun: bool) -> list[str]:
    """Files that `system=VALUE` names; an empty list if it names options.

    A file has a suffix or a folder, or exists and is not the name of an option, like POSCAR.
    """
    if _SWEEPS.match(value) and not Path(value).exists():
        return []
    parts = _parts(value, multirun)
    files = [part for part in parts if Path(part).suffix or _is_path(part, "system")]
    if files and len(files) < len(parts):
        names = next(part for part in parts if part not in files)
        raise InputError(
            f"system={value}: {files[0]} is a file and {names} a name; sweep either over files or over names"
        )
    return files


def _systems(value: str, words: Sequence[str], multirun: bool) -> list[str]:
    """Words for systems=FILE|FOLDER|PATTERN: all structures of these files in one run."""
    chosen = ["system=many", f"system.paths={_text('system.paths', value, multirun)}"]
    if multirun or any(word.startswith("system.name=") for word in words):
        return chosen
    name = re.sub(r"[^\w.-]+", "_", Path(_unquote(value)).stem).strip("_")
    return [*chosen, f"system.name={quote(name or 'many')}"]


def _solvent(key: str, value: str, multirun: bool) -> str:
    """Word for solvent=NAME, solvent={name: NAME, model: MODEL} and solvent.KEY=VALUE."""
    setting = f"method.{key.removeprefix('method.')}"
    if key in _SOLVENTS and value.lstrip()[:1] == "{":
        return f"{setting}={_quote_inside(value)}"
    if key in _SOLVENTS:
        setting = f"{setting}.name"
    return f"{setting}={value if setting.endswith('.epsilon') else _text(setting, value, multirun)}"


def _data(value: str, multirun: bool) -> list[str]:
    """Words for data=FILE and for a mixture, data=[NAME, FILE, ...]; an empty list for the name of an option."""
    if value.strip()[:1] == "[" and value.strip()[-1:] == "]" and not multirun and not Path(value).exists():
        return ["data=mixture", f"data.entries={_quote_inside(value)}"]
    if _SWEEPS.match(value) and not Path(value).exists():
        return []
    parts = _parts(value, multirun)
    if all(Path(part).suffix or _is_path(part, "data") for part in parts):
        return ["data=file", f"data.path={','.join(map(quote, parts))}"]
    return []


def _parts(value: str, multirun: bool) -> list[str]:
    """Values of a sweep, or the value of a run, without quotes, unless these belong to the name of a file."""
    if not multirun and value and Path(value).exists():
        if "${" in value:
            raise InputError(
                f"the name of the file {value!r} contains ${{, which means a reference to a setting; rename the file"
            )
        return [value]
    return [_unquote(part).strip() for part in (split(value) if multirun else [value])]


def _is_path(name: str, group: str) -> bool:
    """True if `name` is a path, not an option of the group; an option takes precedence over a file of its name."""
    if "/" in name:
        return name not in _options(group)
    return bool(name) and Path(name).exists() and name not in _options(group)


def _swept(key: str, value: str) -> str:
    """Replace a sweep's `glob(mols/*)` by the matching files; Hydra handles a glob that matches names of options.

    Raises InputError if it matches nothing: Hydra would silently run no job.
    """
    choice = re.fullmatch(r"\s*choice\((.*)\)\s*", value, re.DOTALL)
    if choice and key in ("system", "data"):
        return choice[1]
    if not re.match(r"\s*glob\(", value):
        return value
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import Glob
    from hydra.errors import HydraException

    try:
        pattern = OverridesParser.create().parse_overrides([f"{key}={value}"])[0].value()
    except HydraException:  # Hydra reports it itself
        return value
    options = [name for name in _options(key) if "/" not in name]
    if key not in _FILES or not isinstance(pattern, Glob) or pattern.filter(options):
        return value
    matches = {name for include in pattern.include for name in glob(include) if Path(name).is_file()}
    files = sorted(name for name in matches if not any(fnmatch(name, exclude) for exclude in pattern.exclude))
    if not files:
        raise InputError(f"{key}={value} matches no file{' and no name' if options else ''}: the sweep has no job")
    return ",".join(map(quote, files))


def _options(group: str) -> list[str]:
    from fusion.config.options import available

    return available(group)


def _unquote(value: str) -> str:
    """Return the text of a quoted string of Hydra's grammar, see `quote`; any other value unchanged."""
    if not _QUOTED.fullmatch(value):
        return value
    mark, text = value.strip()[0], value.strip()[1:-1]
    text = re.sub(rf"(\\*)\\{mark}", lambda match: match[1][::2] + mark, text)
    return re.sub(r"(\\+)$", lambda match: match[1][::2], text)

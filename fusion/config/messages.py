"""One-line messages for wrong input, including errors that Hydra or OmegaConf raise."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from fusion import plugins
from fusion.config.options import available, option_files, read_yaml, suggestion
from fusion.console import streams

WITH_SOLVENT = "hf, dft, mp2, ccsd, ccsd_t and learned functionals such as dm21"
"""Methods that take `solvent=`, for messages."""
HYDRA_ERRORS = (HydraException, OmegaConfBaseException, YAMLError)


def one_line(error: BaseException) -> str:
    """Return the message of an exception on one line, without details for programmers."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    shown = [line for line in lines if not line.startswith(("full_key:", "object_type=", "reference_type="))]
    return streams.visible(" ".join(shown)) or type(error).__name__


def no_option(group: str, name: str | None, options: Sequence[str]) -> str:
    """Return `no method 'x'. Did you mean 'y'?  Available: ...`."""
    if name is None:
        start = f"no {group} given: {'+' if group == 'method' else ''}{group}=NAME."
    else:
        start = f"no {group} '{name}'.{suggestion(name, options)}"
    tail = ""
    if group == "method":
        broken = [plugin.name for plugin in plugins.discover().plugins if plugin.error]
        tail = (
            f"   not loaded: {', '.join(broken)} (fusion plugins shows why)"
            if broken
            else "   (fusion methods shows more)"
        )
    return f"{start}  Available: {', '.join(options) or 'none; fusion plugins shows why'}{tail}"


def no_setting(key: str, known: Iterable[str]) -> str:
    """Return `no setting 'task.stepz'. Did you mean 'task.steps'?`."""
    known = list(known)
    guess = suggestion(key, known)
    if not guess:
        parent = key.rpartition(".")[0]
        siblings = [name for name in known if name.rpartition(".")[0] == parent]
        guess = f"  Settings: {', '.join(siblings)}" if siblings else ""
    return f"no setting '{key}'.{guess}"


def elsewhere(group: str) -> str:
    """Describe which tasks and kinds of method have a group that the current configuration lacks."""
    words = {"task": "task={}", "kind": "methods of the kind {}"}
    homes = [
        form.format(name)
        for owner, form in words.items()
        for name, file in option_files(owner).items()
        if _brings(read_yaml(file), group)
    ]
    return f"{group}= has no meaning here" + (f"; it belongs to {' and '.join(homes)}" if homes else "")


def _brings(content: dict[str, Any], group: str) -> bool:
    """True if the defaults of a configuration file name an option of the group, or the file has the key itself."""
    entries = content.get("defaults", [])
    keys = [str(key) for entry in entries if isinstance(entry, dict) for key in entry]
    named = any(re.fullmatch(rf"(override |optional )*/?{re.escape(group)}(@.*)?", key) for key in keys)
    return named or (group == "methods" and group in content)


def of_hydra(error: BaseException, known: Iterable[str], groups: Iterable[str]) -> str:
    """Explain a failed composition to the user.

    `known` are the existing settings, `groups` the configuration groups.
    """
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, name = str(error.missing_cfg_file).lstrip("/").partition("/")
        if name and error.options is not None:
            presets = available(group) if "/" in name else []
            return no_option(group, name, sorted({*error.options, *presets}))
    if isinstance(error, OverrideParseException):
        word, _, value = error.override.partition("=")
        wrong = f"the value {value!r}" if value else f"{word!r}, which is not key=value,"
        return f"{error.override}: {wrong} is not understood; quote text with special characters, \"{word}='...'\""
    text = str(error)
    key = re.search(r"Could not (?:override|delete[^']*) '([^']+)'", text)
    if key:
        if key[1] in groups or key[1] == "methods":
            return elsewhere(key[1])
        inner = re.search(r"Key '([^']+)' is not in struct", f"{text} {error.__cause__}")
        if inner and key[1] in (known := list(known)):  # {Cu: [64]} for a group that has no Cu
            return f"{no_setting(f'{key[1]}.{inner[1]}', known)}  +{key[1]}.{inner[1]}=VALUE adds it"
        if key[1].partition("method.solvent")[:2] == ("", "method.solvent") and "method.solvent.name" not in known:
            return f"{key[1].removeprefix('method.')}: this method has no solvent; {WITH_SOLVENT} have one"
        return no_setting(key[1], known)
    return one_line(error)

"""Trust in the settings of a run, and refusal of untrusted ones.

Settings from the command line and from Python are the user's own, and so are configurations that the user's own runs
have signed. Any other config.yaml is untrusted: it may name only classes and programs from the lists in `places`, and
nothing is written through links that lead out of its directory.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from fusion.config import moved_names, places, signature
from fusion.errors import InputError
from fusion.files import bounds
from fusion.runs.layout import CONFIG

if TYPE_CHECKING:
    from omegaconf import DictConfig


_stranger: ContextVar[Path | None] = ContextVar("stranger", default=None)
"""The untrusted configuration that the current run uses; None if all settings are the user's own."""


@runtime_checkable
class RunsPrograms(Protocol):
    """Class of methods of which some settings name programs to run or modules to import."""

    @property
    def own_words(self) -> tuple[str, ...]:
        """Names of these settings, an attribute of the class; untrusted configurations must not set them."""
        ...


@contextmanager
def settings(config: DictConfig, file: Path) -> Iterator[None]:
    """Use `config`, read from `file`, inside the block; a valid signature makes it trusted.

    Raises InputError for a class, a program or a path that an untrusted configuration may not name.
    """
    if signed(config, file):
        yield
        return
    from fusion.config.options import sources

    refused = places.of(sources()).refusal(_plain(config))
    if refused is not None:
        raise InputError(f"{file}: {refused} is refused, {_advice(file)}")
    token = _stranger.set(file)
    try:
        yield
    finally:
        _stranger.reset(token)


def signed(config: DictConfig, file: Path) -> bool:
    """True if `file` holds `config` with the user's signature, except for names of moved classes."""
    content = _signed_content(file)
    return content is not None and moved_names.current(content) == _plain(config)


def refuse_interpolations(config: DictConfig, where: str = "") -> None:
    """Raise InputError for a setting with `${`: stored settings must be plain values."""
    for place, value in places.strings(_plain(config)):
        if "${" in value:
            raise InputError(f"{where}{place}: '${{' begins an interpolation, which the settings of a run cannot hold")


def refuse_environment(config: DictConfig) -> None:
    """Raise InputError for a setting from the environment: it may be a secret, and the run's files would contain it."""
    for place, value in places.strings(_plain(config)):
        if "oc.env" in value and "${" in value:
            raise InputError(
                f"{place}={value}: a value from the environment would be written into the run's files; "
                f"if it may be, let the shell fill it in: {place}=$NAME"
            )


def text(config: DictConfig) -> str:
    """Return `config` as YAML, with the user's signature if all settings are the user's own."""
    from omegaconf import OmegaConf

    line = "" if _stranger.get() else signature.line(_plain(config))
    return line + OmegaConf.to_yaml(config)


def refuse_address(weights: str) -> None:
    """Raise InputError if an untrusted configuration names a model by a URL or a path, not by its name."""
    file = _stranger.get()
    if file is not None:
        raise InputError(f"{file}: weights={weights} is refused, {_advice(file)}")


def refuse_programs(config: Mapping[str, Any]) -> None:
    """Raise InputError if an untrusted configuration sets a method's `own_words`: programs and modules."""
    file = _stranger.get()
    if file is None:
        return
    from hydra.utils import get_class

    kind: object = get_class(str(config["_target_"]))
    for key in kind.own_words if isinstance(kind, RunsPrograms) else ():
        if config.get(key) is not None:
            raise InputError(
                f"{file}: method.{key}={config[key]} of +method={config.get('name')} is refused, {_advice(file)}"
            )


def task_class(target: Any, file: Path) -> Any:
    """Return the class of the task that the configuration `file` names.

    None if it is neither the task of an installed package nor signed by the user, or if it cannot be imported.
    """
    from hydra.utils import get_class

    from fusion.config.options import sources

    target = moved_names.current({"_target_": target})["_target_"]
    if not places.of(sources()).task(target) and _signed_content(file) is None:
        return None
    try:
        return get_class(target)
    except Exception:  # importing a module may fail in any way
        return None


def refuse_links(directory: Path, to_write: bool = False) -> None:
    """Raise InputError for a link in `directory` that leads out of it: a run would read and write through it.

    With `to_write`, hard links are refused as well, because a run truncates files and appends to them, and so are pipes
    and devices. A directory whose configuration the user has signed may have such links.
    """
    if _signed_content(directory / CONFIG) is not None:
        return
    inside = os.path.realpath(directory) + os.sep
    for folder, folders, files in os.walk(directory):
        for name in (*folders, *files):
            path = Path(folder, name)
            if path.is_symlink() and not os.path.realpath(path).startswith(inside):
                raise InputError(
                    f"{path} is a link out of the run's directory, which a run without your signature does not follow: "
                    "put the file there instead"
                )
            if not to_write or path.is_symlink() or name in folders:
                continue
            if not path.is_file():
                raise InputError(f"{path} is not a regular file: a run would wait for it forever; remove it")
            if path.stat().st_nlink > 1:
                raise InputError(
                    f"{path} has another name elsewhere (a hard link), which a run without your signature does not "
                    "write to: put a copy there instead"
                )


def _signed_content(file: Path) -> dict[str, Any] | None:
    """The content of a configuration that bears the user's signature; None for any other file."""
    import io

    from omegaconf import DictConfig, OmegaConf

    try:
        text = bounds.text(file)
        if not signature.present(text):
            return None
        config = OmegaConf.load(io.StringIO(bounds.checked_yaml(text)))
    except Exception:  # the file may be missing or damaged in any way
        return None
    if not isinstance(config, DictConfig):
        return None
    content = _plain(config)
    return content if signature.valid(text, content) else None


def _plain(config: DictConfig) -> dict[str, Any]:
    from omegaconf import OmegaConf

    content = OmegaConf.to_container(config, resolve=False)
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items()}


def _advice(file: Path) -> str:
    return (
        "because the file does not have your signature; if the run is yours, repeat its command with "
        f"ckpt=last hydra.run.dir={file.parent}"
    )

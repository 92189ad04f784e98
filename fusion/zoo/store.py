"""Weights of models in the cache: fetch, convert, verify and load. A file in the cache is always complete."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusion.errors import CalculationError, InputError
from fusion.files import bounds
from fusion.parallel.default_dtype import default_dtype
from fusion.parallel.processes import GLOBAL_STATE, rank
from fusion.zoo import cache, convert, installed, registry
from fusion.zoo.card import WALKERS, Card
from fusion.zoo.fetch import fetch
from fusion.zoo.files import File, offline, withheld
from fusion.zoo.tensors import LONGEST_HEADER, SUFFIX, file_digest, read, recorded, serialised, whole, with_record

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


def place(card: Card) -> Path:
    """Path of the model's safetensors file in the cache, which may not exist yet; its name is the card's digest."""
    return cache.directory() / "models" / f"{card.weights.sha256}{SUFFIX}"


def pulled(card: Card) -> bool:
    """Return True if the model is in the cache."""
    return whole(place(card))


def pull(card: Card) -> Path:
    """Return the model's safetensors file in the cache; fetch, convert and verify it if it is missing.

    At any time the cache holds either nothing of the model, a download that can be resumed, or the complete file.
    Raises InputError (offline, a converter of no plugin, a Python package that is missing or has other files, a cache
    that cannot be written to) or CalculationError (no source has the files, or their contents do not match the card).
    """
    target = place(card)
    if whole(target):
        return target
    converter = convert.converter(card)
    staging, part = cache.staging(card.label), target.with_name(f".{target.name}.part")
    beside, package = _beside(card), card.origin.package
    if withheld() and beside is None and not package:
        fetch(card.label, files(card), staging)  # raises before a lock is taken
    with cache.locked(card.label):
        if whole(target):  # another process has written it meanwhile
            return target
        if beside is None and not package:
            fetch(card.label, files(card), staging)
        try:
            if package:
                _write(staging, lambda: installed.copy(card.label, card.origin, card.files, staging))
            if converter is None:
                _write(part, lambda: shutil.copyfile(beside or staging / card.files[0].path, part))
            else:
                content = _converted(card, converter, staging)
                _write(part, lambda: write(part, content))
            _check(card, part)
            _write(target, lambda: os.replace(part, target))
            registry.keep(card)
        finally:
            part.unlink(missing_ok=True)
            shutil.rmtree(staging, ignore_errors=True)
    return target


def put(card: Card, content: bytes) -> None:
    """Write a model's safetensors file, `content`, and its card into the cache. Raises InputError if that fails."""
    target = place(card)
    part = target.with_name(f".{target.name}.part")
    with cache.locked(card.label):
        try:
            if not whole(target):
                _write(part, lambda: write(part, content))
                _check(card, part)
                _write(target, lambda: os.replace(part, target))
            registry.save(card)
        finally:
            part.unlink(missing_ok=True)


def _converted(card: Card, converter: Callable[[Path, Card], dict[str, Tensor]], staging: Path) -> bytes:
    """Convert the files in `staging` to the contents of a safetensors file. Raises CalculationError."""
    try:
        tensors = converter(staging, card)
        return with_record(tensors) if card.weights.converted else serialised(tensors)
    except Exception as error:  # a converter can raise anything for a wrong file
        reason = next(iter(str(error).splitlines()), "")
        if not isinstance(error, InputError | CalculationError):
            reason = f"its files cannot be converted: {type(error).__name__}: {reason}"
        raise CalculationError(f"{card.label}: {reason}; nothing was kept") from error


def _check(card: Card, path: Path) -> None:
    """Raise CalculationError unless `path` holds the tensors of the card."""
    try:
        digest = file_digest(path)
    except CalculationError as error:
        raise CalculationError(f"{card.label}: {card.files[0].path} {error}; nothing was kept") from error
    if digest != expected(card, path):
        raise CalculationError(
            f"{card.label}: the digest of its tensors is {digest}, the card has {card.weights.sha256}; nothing was kept"
        )


def expected(card: Card, path: Path) -> str:
    """Return the digest that the tensors in the file `path` must have: the card's, or that recorded at conversion."""
    return recorded(path) if card.weights.converted else card.weights.sha256


def _write(path: Path, action: Callable[[], object]) -> None:
    """Run `action`, which writes `path` in the cache. Raises InputError if the cache cannot be written to."""
    cache.create(path.parent)
    try:
        action()
    except OSError as error:
        raise cache.unwritable(path, error) from error


def files(card: Card) -> list[File]:
    """Files to download with their URLs: `FUSION_MIRROR` first, then the card's URLs or else the card's directory."""
    mirror = os.environ.get("FUSION_MIRROR")
    bases = [f"{mirror.rstrip('/')}/{card.origin.mirror}"] if mirror else []
    bases += card.origin.urls or [f"{card.source.rpartition('/')[0]}/"]
    return [replace(file, urls=tuple(base + file.path for base in bases)) for file in card.files]


def _beside(card: Card) -> Path | None:
    """Path of weights beside the card on this machine, which need no download; None if there are none.

    Raises CalculationError for a file there that does not match the card.
    """
    if card.origin.converter or card.origin.urls or card.origin.package or "://" in card.source:
        return None
    path, size = Path(card.source).parent / card.files[0].path, card.files[0].size
    try:
        actual_size = bounds.regular(path).stat().st_size
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise CalculationError(f"{card.label}: {path} cannot be read: {error}; nothing was kept") from error
    if actual_size != size:
        raise CalculationError(
            f"{card.label}: {path} has {actual_size:,} bytes, the card says {size:,}; nothing was kept"
        )
    return path


def verify(card: Card) -> None:
    """Read the model's tensors in the cache and compare their digest. Raises CalculationError."""
    remedy = f"fusion zoo remove {card.label} && fusion zoo pull {card.label}"
    try:
        digest = file_digest(place(card))
    except CalculationError as error:
        raise CalculationError(f"{card.label}: its file {error}; {remedy}") from error
    if digest != expected(card, place(card)):
        raise CalculationError(f"{card.label}: the tensors are not those of the card; {remedy}")


def remove(card: Card) -> bool:
    """Remove the model and its unfinished downloads from the cache; return True if there was anything to remove."""
    target, staging = place(card), cache.staging(card.label)
    exists = target.exists() or staging.exists()
    if exists:
        with cache.locked(card.label):
            try:
                target.unlink(missing_ok=True)
                target.with_name(f".{target.name}.part").unlink(missing_ok=True)
                registry.forget(card)
                if staging.exists():
                    shutil.rmtree(staging)
            except OSError as error:
                raise cache.unwritable(target, error) from error
    return exists


def state(card: Card) -> dict[str, Tensor]:
    """Return the model's tensors by name, on the CPU; pull them if missing. Raises the errors of `pull`.

    Their digest is verified each time. A damaged file is replaced by pulling the model again; offline that raises
    InputError.
    """
    tensors, fault = _read(card, pull(card))
    if fault:
        _discard(card, fault)
        tensors, fault = _read(card, pull(card))
        if fault:
            raise CalculationError(f"{card.label}: {place(card)} {fault}, although it was just written: check the disk")
    return tensors


def _read(card: Card, path: Path) -> tuple[dict[str, Tensor], str]:
    """Read the tensors in the file `path`, and describe a fault; the text is empty if they match the card."""
    try:
        tensors, digest = read(path, card.weights.size + LONGEST_HEADER)
    except CalculationError as error:
        return {}, str(error)
    return tensors, "" if digest == expected(card, path) else "is damaged: its tensors are not those of the card"


def _discard(card: Card, fault: str) -> None:
    """Remove the damaged file of a model, to pull it again. Raises InputError if that is not possible."""
    from fusion.console.format import console

    path = place(card)
    if offline() and not card.origin.package and _beside(card) is None:
        raise InputError(
            f"{card.label}: {path} {fault}. FUSION_OFFLINE forbids downloading it again: unset it, or copy the file "
            "from a machine that has the model"
        )
    if rank() == 0:
        console().print(f"{card.label}: {path} {fault}; pulling it again", soft_wrap=True)
    with cache.locked(card.label):
        if _read(card, path)[1]:  # another process may have replaced it meanwhile
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise cache.unwritable(path, error) from error


def load(name: str) -> nn.Module:
    """Return the published model NAME or NAME@VERSION in evaluation mode, without gradients of its parameters.

    It is pulled if missing. Raises InputError for an unknown name, and for weights that do not fit the model.
    """
    card = registry.find(name)
    return build(card, state(card))


def build(card: Card, tensors: dict[str, Tensor]) -> nn.Module:
    """Build the model of `card` with `tensors`, in their dtypes. Raises InputError if they do not fit.

    Walkers beside the parameters of a wavefunction are left out.
    """
    if card.kind == "ansatz":
        tensors = {name: tensor for name, tensor in tensors.items() if name != WALKERS}
    model = blank(card, {tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()})
    try:
        # Copy the tensors: those of a file share one block of memory and may not be aligned.
        model.load_state_dict({name: tensor.clone() for name, tensor in tensors.items()}, strict=True, assign=True)
    except RuntimeError as error:
        reasons = [line.strip() for line in str(error).splitlines()[1:]]
        reason = next(iter(reasons), bounds.reason(error))
        raise InputError(f"{card.label}: the weights do not fit {card.model.target}: {reason}") from error
    return model.eval().requires_grad_(False)


def blank(card: Card, dtypes: set[torch.dtype]) -> nn.Module:
    """Build the model of `card` without its weights, whose floating-point types are `dtypes`."""
    target = convert.module_class(card.model.target, card.label)
    # Other tensors, such as nuclear positions, get the dtype of the weights.
    dtype = next(iter(dtypes)) if len(dtypes) == 1 else None
    with GLOBAL_STATE:
        try:
            arguments: dict[str, Any] = convert.built(card.model.arguments, card.label)
            if card.system is not None:
                arguments["system"] = card.system.system(card.name)
            with default_dtype(dtype):
                return target(**arguments)
        except InputError:
            raise
        except (TypeError, ValueError, RuntimeError, MemoryError, OverflowError) as error:
            reason = bounds.reason(error)
            raise InputError(f"{card.label}: {card.model.target} cannot be built: {reason}") from error


def write(path: Path, content: bytes) -> None:
    """Write a file of weights and flush it to the disk. No reader may use `path` yet."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())

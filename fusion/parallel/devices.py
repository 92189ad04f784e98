"""Device of a calculation: `trainer=gpu` sets it for every kind of method, `method.device` for a single method."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusion.errors import InputError

if TYPE_CHECKING:
    import torch

UNCHOSEN = ("auto", "cpu")
"""Accelerators that need no GPU."""
_SETTINGS = "trainer.accelerator (trainer=gpu) or method.device"
_REMEDY = "leave it out, or set cpu"


def device(name: str) -> torch.device:
    """Return the torch device of that name; `gpu` is the first CUDA device, `auto` the CPU.

    Raises InputError for an unknown name, or for a GPU that this machine does not have.
    """
    import torch

    if name in UNCHOSEN:
        return torch.device("cpu")
    try:
        chosen = torch.device("cuda" if name == "gpu" else name)
    except RuntimeError:
        raise InputError(f"{_SETTINGS}: {name!r} is not a device; use auto, cpu, gpu, cuda or cuda:1, ...") from None
    if chosen.type == "cpu":
        return chosen
    if chosen.type != "cuda":
        raise InputError(f"{_SETTINGS}: {name} is not supported; fusion computes on CPUs and on CUDA GPUs")
    if not torch.cuda.is_available():
        raise InputError(f"{_SETTINGS}: {name} is asked for, and there is no GPU here that torch can use; {_REMEDY}")
    if (chosen.index or 0) >= torch.cuda.device_count():
        raise InputError(f"{_SETTINGS}: no {name}; the GPUs here are cuda:0 ... cuda:{torch.cuda.device_count() - 1}")
    return chosen


def check(accelerator: str, kind: str | None, name: str, trains: bool) -> None:
    """Raise InputError unless a method of the `kind` (None: several methods) can use `trainer.accelerator`.

    Only potentials, wavefunctions and the training of functionals compute on GPUs.
    """
    if accelerator in UNCHOSEN:
        return
    if kind in ("potential", "ansatz") or (kind == "functional" and trains):
        device(accelerator)
        return
    entry = "; a potential may have its own, {method: ani, device: gpu}" if kind in (None, "composite") else ""
    raise InputError(f"trainer.accelerator={accelerator}: {name} is calculated on CPUs only; {_REMEDY}{entry}")

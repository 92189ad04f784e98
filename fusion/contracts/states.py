"""Checks that models of all kinds share: gradients of parameters, and saved states."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from fusion.contracts.findings import Broken, Inapplicable, Noted
from fusion.zoo.tensors import serialised

_NAMED = 4
"""Most parameters that a message names."""


def parameters_reached(model: nn.Module, loss: Callable[[], Tensor]) -> str:
    """Say whether the gradient of `loss` reaches all trainable parameters of `model`. Raises Broken if not."""
    trainable = {name: value for name, value in model.named_parameters() if value.requires_grad}
    if not trainable:
        raise Inapplicable("the model has no trainable parameters")
    with torch.enable_grad():
        value = loss()
        if not value.requires_grad:
            raise Broken("the output depends on no parameter: is it detached, or computed under no_grad or with NumPy?")
        gradients = torch.autograd.grad(value, list(trainable.values()), allow_unused=True)
    missing = [name for name, gradient in zip(trainable, gradients, strict=True) if gradient is None]
    if missing:
        raise Broken(f"no gradient reaches {_listed(missing)}: training would never change them")
    unsound = [n for n, g in zip(trainable, gradients, strict=True) if g is not None and not torch.isfinite(g).all()]
    if unsound:
        raise Broken(f"the gradient of {_listed(unsound)} is not finite")
    zero = [n for n, g in zip(trainable, gradients, strict=True) if g is not None and not g.any()]
    text = f"all {len(trainable)} parameters"
    return Noted(f"{text}; zero at the start for {_listed(zero)}") if zero else text


def same_after_saving(model: nn.Module, fresh: nn.Module, numbers: Callable[[nn.Module], Tensor]) -> str:
    """Load the state of `model`, written as safetensors, into `fresh` and compare their numbers. Raises Broken."""
    from safetensors.torch import load

    state = model.state_dict()
    content = serialised(state)
    try:
        fresh.load_state_dict(load(content), strict=True)
    except RuntimeError as error:
        reason = next((line.strip() for line in str(error).splitlines()[1:] if line.strip()), str(error))
        raise Broken(f"a new model cannot load the saved state: {reason}") from error
    with torch.no_grad():
        difference = float((numbers(fresh) - numbers(model)).abs().max())
    if not difference <= 1e-12:
        raise Broken(
            f"a new model with the saved state differs by {difference:.1e}: something that is trained or drawn at "
            "random is no parameter and no buffer"
        )
    return f"{len(state)} tensors, {len(content):,} bytes as safetensors"


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more

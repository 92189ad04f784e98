"""A device that computes with the CPU's numbers and refuses what a GPU refuses: operands on different devices.

Inside `ForeignDevice()`, tensors on the device `DEVICE` are `Foreign`: torch and the library see tensors of another
device than the CPU, while their numbers are those of a tensor on the CPU. All code runs therefore whole, with its
branches on values (`float(x)`, boolean masks, `nonzero`), its automatic differentiation and its random numbers, and
gives the same bits as on the CPU. torch's own `FakeTensorMode` cannot serve: without CUDA libraries, torch 2.13 aborts
the process when a fake CUDA tensor is differentiated, indexed or read.

The device is called `meta` since torch without CUDA differentiates no tensors on devices of other names. The rules are
those of CUDA: tensors of zero dimensions may come from the CPU in elementwise operations, indices may be on the CPU,
copies may go anywhere, and a generator draws on its own device alone. Not proved are that every operation exists on
GPUs in the dtype in use, and code that asks for a device of the type `cuda` by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any, ClassVar
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor
from torch.optim import optimizer
from torch.utils._python_dispatch import TorchDispatchMode

DEVICE = torch.device("meta")

_aten = torch.ops.aten
_COPIES = {_aten._to_copy.default, _aten.copy_.default}
_INDEXING = {
    _aten.index.Tensor,
    _aten.index_put.default,
    _aten.index_put_.default,
    _aten._unsafe_index.Tensor,
    _aten._index_put_impl_.default,
}


class MixedDevices(RuntimeError):
    """An operation on tensors of several devices, or with the generator of another device."""


class Foreign(Tensor):
    """Tensor on `DEVICE`; `numbers` is a tensor on the CPU."""

    numbers: Tensor
    __torch_function__: Any = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, numbers: Tensor) -> Foreign:
        layout: Any = {"strides": numbers.stride(), "storage_offset": numbers.storage_offset(), "dtype": numbers.dtype}
        tensor: Foreign = Tensor._make_wrapper_subclass(cls, numbers.shape, device=DEVICE, **layout)
        tensor.numbers = numbers
        return tensor

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        raise MixedDevices(f"{func} outside ForeignDevice()")

    def __getitem__(self, index: Any) -> Tensor:
        """Part of the tensor; torch would leave an index of Python's numbers without content on the device `meta`."""
        parts = index if isinstance(index, tuple) else (index,)
        return super().__getitem__(tuple(map(_as_index, parts)))

    def __setitem__(self, index: Any, value: Any) -> None:
        parts = index if isinstance(index, tuple) else (index,)
        super().__setitem__(tuple(map(_as_index, parts)), value)

    @property
    def data(self) -> Tensor:
        """The tensor without its graph; set to another one, it takes the numbers over, as torch does by itself for
        tensors of its own."""
        return torch._C.TensorBase.data.__get__(self)  # type: ignore[attr-defined]

    @data.setter  # type: ignore[override]
    def data(self, other: Foreign) -> None:
        torch._C.TensorBase.data.__set__(self, other)  # type: ignore[attr-defined]
        self.numbers = other.numbers

    def tolist(self) -> Any:
        """Numbers as nested lists; torch refuses it for every subclass."""
        return self.cpu().tolist()

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
        return f"Foreign({self.numbers})"


class ForeignGenerator(torch.Generator):
    """Generator on `DEVICE`, which draws the numbers of one on the CPU; on other devices, torch's own."""

    device = DEVICE
    known: ClassVar[dict[int, ForeignGenerator]] = {}
    """Generators on `DEVICE` by their addresses: torch passes new Python objects on."""

    def __new__(cls, device: torch.device | str = "cpu") -> torch.Generator:  # type: ignore[misc]
        if torch.device(device) != DEVICE:
            return torch._C.Generator(device)
        generator = super().__new__(cls)
        cls.known[generator._cdata] = generator  # type: ignore[attr-defined]
        return generator

    def __init__(self, device: torch.device | str = "cpu") -> None: ...


class ForeignDevice(TorchDispatchMode):
    """Context in which `DEVICE` exists."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """False: nothing is compiled here, and skipping costs as much time as a small operation."""
        return False

    def __enter__(self) -> ForeignDevice:
        fused = [*optimizer._get_fused_kernels_supported_devices(), DEVICE.type]
        changes: list[tuple[Any, str, Any]] = [
            (torch, "Generator", ForeignGenerator),
            (optimizer, "_get_fused_kernels_supported_devices", lambda: fused),
        ]
        for owner, name in ((torch, "tensor"), (torch, "as_tensor"), (Tensor, "new_tensor")):
            changes.append((owner, name, _moved(getattr(owner, name))))
        self._patches = ExitStack()
        for owner, name, value in changes:
            self._patches.enter_context(patch.object(owner, name, value))
        # `module.to` leaves the parameters the same objects, as it does for a GPU.
        self._swaps = torch.__future__.get_swap_module_params_on_conversion()
        torch.__future__.set_swap_module_params_on_conversion(True)
        super().__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        torch.__future__.set_swap_module_params_on_conversion(self._swaps)
        self._patches.close()
        ForeignGenerator.known.clear()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        leaves = _leaves((args, kwargs))
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        foreign = [tensor for tensor in tensors if isinstance(tensor, Foreign)]
        if foreign and len(foreign) < len(tensors):
            _check(func, args, tensors)
        there = bool(foreign)
        if kwargs.get("device") is not None:
            there, kwargs["device"] = kwargs["device"] == DEVICE, torch.device("cpu")
        generators = [leaf for leaf in leaves if isinstance(leaf, torch._C.Generator)]
        if any((generator._cdata in ForeignGenerator.known) != there for generator in generators):  # type: ignore[attr-defined]
            raise MixedDevices(f"{func}: the generator is on another device than the tensor")
        wrappers = {id(tensor.numbers): tensor for tensor in foreign}
        output = func(*_mapped(_numbers, args), **_mapped(_numbers, kwargs))
        return _mapped(lambda leaf: _wrapped(leaf, wrappers), output) if there else output


def _check(func: Any, args: Sequence[Any], tensors: Sequence[Tensor]) -> None:
    """Raise MixedDevices unless CUDA would do this operation on tensors of two devices."""
    if func in _COPIES:
        return
    if func in _INDEXING:
        values = args[2:3]
        good = isinstance(args[0], Foreign) and all(_fits(value) for value in values)
    else:
        elementwise = torch.Tag.pointwise in func.tags
        good = elementwise and all(map(_fits, tensors)) and all(isinstance(t, Foreign) for t in _written(func, args))
    if not good:
        places = ", ".join(dict.fromkeys(f"{tuple(t.shape)} on {t.device}" for t in tensors))
        raise MixedDevices(f"{func}: tensors on different devices: {places}")


def _leaves(tree: Any) -> list[Any]:
    """Arguments of an operation without the containers; torch's own function for any tree is much slower."""
    if isinstance(tree, tuple | list):
        return [leaf for part in tree for leaf in _leaves(part)]
    return _leaves(tuple(tree.values())) if isinstance(tree, dict) else [tree]


def _mapped(function: Callable[[Any], Any], tree: Any) -> Any:
    """The same containers with the function's values of the leaves."""
    if isinstance(tree, tuple | list):
        return type(tree)(_mapped(function, part) for part in tree)
    if isinstance(tree, dict):
        return {key: _mapped(function, part) for key, part in tree.items()}
    return function(tree)


def _fits(tensor: Any) -> bool:
    return isinstance(tensor, Foreign) or (isinstance(tensor, Tensor) and tensor.dim() == 0)


def _written(func: Any, args: Sequence[Any]) -> list[Any]:
    """Positional tensors that the operation overwrites."""
    pairs = zip(args, func._schema.arguments, strict=False)
    return [value for value, argument in pairs if argument.alias_info is not None and argument.alias_info.is_write]


def _as_index(part: Any) -> Any:
    return torch.tensor(part) if isinstance(part, list | np.ndarray) else part


def _numbers(leaf: Any) -> Any:
    return leaf.numbers if isinstance(leaf, Foreign) else leaf


def _wrapped(leaf: Any, wrappers: Mapping[int, Foreign]) -> Any:
    """The tensor that an operation worked on in place, or a new one."""
    if not isinstance(leaf, Tensor):
        return leaf
    return wrappers[id(leaf)] if id(leaf) in wrappers else Foreign(leaf)


def _moved(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Constructor from Python's numbers, which torch leaves without content on the device `meta`."""

    def made(*args: Any, device: torch.device | str | None = None, **kwargs: Any) -> Tensor:
        own = args[0].device if make.__name__ == "new_tensor" else "cpu"
        place = torch.device(own if device is None else device)
        if isinstance(args[0], Foreign):
            args = (args[0].cpu(), *args[1:])
        return make(*args, **kwargs, device="cpu").to(place)

    return made


def on_cpu(tree: Any) -> Any:
    """Copy of a state of containers with all tensors on the CPU."""
    return _mapped(lambda leaf: leaf.detach().cpu().clone() if isinstance(leaf, Tensor) else leaf, tree)

"""The foreign device refuses what CUDA refuses, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

from fusion.contracts.foreign_device import DEVICE, ForeignDevice, MixedDevices


@pytest.fixture(autouse=True)
def device() -> Iterator[None]:
    with ForeignDevice():
        yield


@pytest.mark.parametrize(
    "operation",
    [
        lambda own, other: own + other,
        lambda own, other: other.add_(own),
        lambda own, other: own @ other,
        lambda own, other: torch.cat((own, other)),
        lambda own, other: torch.where(other > 0, own, 0.0),
        lambda own, other: own.gather(0, other.long()),
        lambda own, other: own.index_select(0, other[0].long()),
        lambda own, other: other[own.long()],
        lambda own, other: own.index_put((torch.arange(3),), other),
        lambda own, other: torch.zeros(()).add_(own[0, 0]),
        lambda own, other: nn.Linear(3, 3)(own),
        lambda own, other: torch.randn(3, generator=torch.Generator(), device=own.device),
        lambda own, other: torch.randn(3, generator=torch.Generator(own.device)),
        lambda own, other: torch.func.vmap(lambda row: row * other[0])(own),
    ],
)
def test_operations_on_two_devices_are_refused(operation: Callable[[Tensor, Tensor], Tensor]) -> None:
    with pytest.raises(MixedDevices):
        operation(torch.ones(3, 3, device=DEVICE), torch.ones(3, 3))


@pytest.mark.parametrize(
    "operation",
    [
        lambda own, other: own * other[0, 0],
        lambda own, other: own[other[0].long()],
        lambda own, other: own.index_put((torch.arange(3),), other[0, 0]),
        lambda own, other: own.clone().copy_(other),
        lambda own, other: own + other.to(own),
        lambda own, other: own[[2, 0]],
        lambda own, other: own[own > 0] + torch.tensor([1.0], device=own.device),
        lambda own, other: torch.randn(3, generator=torch.Generator(own.device), device=own.device),
        lambda own, other: torch.autograd.grad((own.requires_grad_() ** 2).sum(), own)[0],
        lambda own, other: nn.Linear(3, 3).to(own.device)(own),
    ],
)
def test_operations_that_a_gpu_allows_stay_on_the_device(operation: Callable[[Tensor, Tensor], Tensor]) -> None:
    assert operation(torch.ones(3, 3, device=DEVICE), torch.ones(3, 3)).device == DEVICE


def test_a_gradient_by_a_tensor_left_on_the_cpu_is_refused() -> None:
    weight = nn.Parameter(torch.ones(3))
    with pytest.raises(MixedDevices, match=r"mul.Tensor: tensors on different devices: \(3,\) on meta, \(3,\) on cpu"):
        (torch.ones(3, device=DEVICE) * weight).sum().backward()  # type: ignore[no-untyped-call]


def test_numbers_are_those_of_the_cpu() -> None:
    numbers = torch.randn(4, generator=torch.Generator(DEVICE).manual_seed(1), device=DEVICE)
    assert numbers.tolist() == torch.randn(4, generator=torch.Generator().manual_seed(1)).tolist()
    assert float(numbers.sum()) == sum(numbers.cpu()) and len(torch.nonzero(numbers > 0)) == int((numbers > 0).sum())
    with pytest.raises(RuntimeError):
        numbers.numpy()


def test_a_moved_module_keeps_its_parameters() -> None:
    module = nn.Linear(2, 2)
    optimiser = torch.optim.SGD(module.parameters(), lr=1.0)
    weight, before = module.weight, module.weight.tolist()
    module.to(DEVICE)
    assert module.weight is weight and weight.device == DEVICE and weight.tolist() == before
    module(torch.ones(1, 2, device=DEVICE)).sum().backward()
    optimiser.step()
    assert module.weight.tolist() == (torch.tensor(before) - 1).tolist()

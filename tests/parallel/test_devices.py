"""Choice of a device for every kind of method, with a one-line message if it is missing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import fusion
from fusion.errors import InputError
from fusion.methods import by_name
from fusion.parallel import devices
from fusion.potentials import PotentialMethod
from processes import Program

ABSENT = "there is no GPU here that torch can use"


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.parametrize("words", [("trainer=gpu",), ("method.device=cuda",), ("trainer.accelerator=cuda",)])
@pytest.mark.parametrize("method", ["coulomb", "ferminet"])
def test_a_missing_gpu_is_one_line(program: Program, tmp_path: Path, method: str, words: tuple[str]) -> None:
    done = program(f"+method={method}", *words)
    assert done.status == 2 and ABSENT in done.err and done.err.count("\n") == 1 and not list(tmp_path.iterdir())


@pytest.mark.parametrize("words", [("+method=hf",), ("+method=dm21",), ("task=compare", "methods=[hf,coulomb-qm7]")])
def test_methods_for_cpus_only_refuse_a_gpu(program: Program, words: tuple[str, ...]) -> None:
    done = program(*words, "trainer=gpu")
    assert done.status == 2 and "is calculated on CPUs only" in done.err and done.err.count("\n") == 1


def test_python_has_the_same_messages() -> None:
    for name in ("gpu", "cuda:0"):
        with pytest.raises(InputError, match=ABSENT):
            fusion.calculator("coulomb-qm7", device=name)
    with pytest.raises(InputError, match="'abacus' is not a device"):
        fusion.calculator("coulomb-qm7", device="abacus")
    with pytest.raises(InputError, match="fusion computes on CPUs and on CUDA GPUs"):
        devices.device("mps")


def test_an_available_gpu_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [str(devices.device(name)) for name in ("auto", "cpu", "gpu", "cuda:1")] == ["cpu", "cpu", "cuda", "cuda:1"]
    with pytest.raises(InputError, match=r"no cuda:2; the GPUs here are cuda:0 \.\.\. cuda:1"):
        devices.device("cuda:2")
    devices.check("gpu", "functional", "dm21", trains=True)

    method = by_name.method({"method": "coulomb", "device": "gpu"})
    assert isinstance(method, PotentialMethod) and str(method._device) == "cuda"


def test_the_trainer_chooses_for_calculations_as_well() -> None:
    from fusion.config import compose

    for words, device in ((["trainer=gpu"], "gpu"), (["trainer=gpu", "method.device=cpu"], "cpu"), ([], "auto")):
        assert compose.compose(["+method=coulomb", *words])[0].method.device == device

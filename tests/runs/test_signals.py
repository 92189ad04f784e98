"""Signals: a short step is completed, a long one is interrupted."""

import ctypes
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import fusion
from fusion.errors import Stopped
from fusion.runs.signals import between_steps, raised
from fusion_conventional.method import PySCFMethod


@pytest.fixture(autouse=True)
def handled_by_default() -> Iterator[None]:
    """Give signals the default handlers: under nohup, for example, the tests inherit an ignored SIGHUP."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def work(steps: int) -> None:
    """Long work in short pieces of Python."""
    for _ in range(steps):
        time.sleep(0.01)


@pytest.mark.parametrize("patience", [0.0, 0.05])
def test_a_long_step_is_stopped(patience: float, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Stopped) as stopped, between_steps(patience):
        os.kill(os.getpid(), signal.SIGTERM)
        work(100_000)
    assert stopped.value.number == signal.SIGTERM
    assert ("stopping" in capsys.readouterr().err) == bool(patience)


def test_a_short_step_ends_first() -> None:
    done = False
    with pytest.raises(Stopped), between_steps(patience=600.0) as stop_if_asked:
        os.kill(os.getpid(), signal.SIGTERM)
        work(3)
        done = True
        stop_if_asked()
    assert done
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_outside_of_steps_is_raised(number: signal.Signals) -> None:
    for block in (raised, lambda: between_steps(0.0)):
        with pytest.raises(Stopped) as stopped, block():
            os.kill(os.getpid(), number)
            work(100_000)
        assert stopped.value.number == number and signal.getsignal(number) is signal.SIG_DFL


@pytest.mark.parametrize("block", [raised, lambda: between_steps(0.0)])
def test_a_signal_in_a_callback_of_compiled_code_is_raised_after_it(
    block: Callable[[], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    callback = ctypes.CFUNCTYPE(None)(lambda: os.kill(os.getpid(), signal.SIGTERM) or work(1))
    with pytest.raises(Stopped), block():
        callback()
        work(500)
    assert "ignored" not in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_an_ignored_hangup_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # nohup
    try:
        with raised(), between_steps(0.0) as stop_if_asked:
            os.kill(os.getpid(), signal.SIGHUP)
            stop_if_asked()
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_the_same_signal_again_stops_at_once() -> None:
    with pytest.raises(Stopped), between_steps(patience=600.0):
        os.kill(os.getpid(), signal.SIGINT)
        work(2)
        os.kill(os.getpid(), signal.SIGINT)
        work(100_000)


def test_a_single_scf_is_stopped_and_tells_how_to_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def endless(*args: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        work(100_000)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(PySCFMethod, "_calculate", endless)
    with pytest.raises(Stopped) as stopped:
        fusion.run(["+method=hf", "method.basis=sto-3g", "system=h2", "hydra.run.dir=run"])
    assert stopped.value.number == signal.SIGTERM
    assert "fusion resume" in capsys.readouterr().err

"""Kernels: what is said while they are compiled, and where they cannot be kept."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from numba.core import caching

from fusion import compilation
from fusion.console.format import console
from fusion.parallel import processes


def kernel(cache: bool = False) -> Callable[[float], float]:
    def twice(x: float) -> float:
        return 2.0 * x

    made: Callable[[float], float] = compilation.njit(cache=cache)(twice)
    return made


@pytest.fixture(autouse=True)
def silent_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compilation._announcer, "announced", False)
    monkeypatch.setattr(compilation._announcer, "often", "once")
    console.cache_clear()


def test_a_library_user_gets_one_line_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert [kernel()(2.0), kernel()(3.0)] == [4.0, 6.0]
    out, err = capsys.readouterr()
    assert out == "" and err == "fusion: compiling kernels for this processor, once: usually 15 to 30 s\n"


def test_a_run_gets_a_line_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    with processes.running():
        assert kernel()(2.0) == 4.0
    out, err = capsys.readouterr()
    assert err == "" and out.startswith("compiling  ") and out.count("\n") == 1


def test_nothing_is_said_of_other_peoples_kernels_or_of_what_is_compiled(capsys: pytest.CaptureFixture[str]) -> None:
    from numba import njit

    made = kernel()
    with processes.running():
        made(2.0)
    capsys.readouterr()
    compilation._announcer.announced = False
    made(3.0)
    njit(lambda x: x)(1.0)
    assert capsys.readouterr() == ("", "")


def test_kernels_work_where_nothing_can_be_kept(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caching.CompileResultCacheImpl, "_locator_classes", [])
    assert kernel(cache=True)(2.0) == 4.0
    assert "every time, for want of a directory to keep them in (NUMBA_CACHE_DIR=DIR)" in capsys.readouterr().err

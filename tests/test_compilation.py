"""Kernels: messages during compilation, and work without a writable cache."""

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
    assert out == "" and err == "fusion: compiling kernels for this processor, once: usually 20 to 60 s\n"


def test_a_run_prints_a_line_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    with processes.running():
        assert kernel()(2.0) == 4.0
    out, err = capsys.readouterr()
    assert err == "" and out.startswith("compiling  ") and out.count("\n") == 1


def test_foreign_or_compiled_kernels_print_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    from numba import njit

    made = kernel()
    with processes.running():
        made(2.0)
    capsys.readouterr()
    compilation._announcer.announced = False
    made(3.0)
    njit(lambda x: x)(1.0)
    assert capsys.readouterr() == ("", "")


def test_kernels_work_without_a_writable_cache(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caching.CompileResultCacheImpl, "_locator_classes", [])
    assert kernel(cache=True)(2.0) == 4.0
    assert "every time, because no cache directory is writable (set NUMBA_CACHE_DIR=DIR)" in capsys.readouterr().err

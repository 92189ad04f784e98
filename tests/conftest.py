"""Fixtures that run the program with the toy plugin, in this process or in a new one."""

from __future__ import annotations

import contextlib
import os
import pickle
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from processes import Done, Program, blank, fusion
from resuming import Resumes, Stop, assert_same_result, killed_and_resumed, placed

TESTS = Path(__file__).parent
TOY = TESTS / "toy_plugin"


@pytest.fixture
def double_precision() -> Iterator[None]:
    """Use float64 for exactness, and the same random parameters and walkers in every run."""
    import torch

    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(before)


@pytest.fixture
def with_toy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Install the toy plugin in this process."""
    from fusion import plugins
    from fusion.console.format import console

    monkeypatch.syspath_prepend(str(TOY))
    monkeypatch.setattr(plugins, "_discovery", None)
    console.cache_clear()  # it holds the standard output of its first use
    yield
    console.cache_clear()


@pytest.fixture
def program(
    with_toy: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Program:
    """Function `program("+method=toy", ...)` that runs in this process, in an empty directory."""
    from fusion.cli import main
    from fusion.console.format import console

    monkeypatch.chdir(tmp_path)

    def call(*words: str) -> Done:
        console.cache_clear()
        capsys.readouterr()
        status = None
        with contextlib.suppress(SystemExit):
            try:
                main.main(words)
            except SystemExit as end:
                status = end.code
                raise
        assert isinstance(status, int)
        return Done(status, *capsys.readouterr())

    return call


@pytest.fixture
def environment() -> dict[str, str]:
    """Environment of a process with the toy plugin."""
    path = os.pathsep.join([str(TOY), str(TESTS.parent), str(TESTS.parent / "plugins")])
    return os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}


@pytest.fixture
def process(tmp_path: Path, environment: dict[str, str]) -> Program:
    """`process("+method=toy", ...)` in a process of its own, started in an empty directory."""

    def call(*words: str) -> Done:
        return fusion(tmp_path, *words, environment=environment)

    return call


@pytest.fixture
def resumes(program: Program, environment: dict[str, str], tmp_path: Path) -> Resumes:
    """`resumes(words, Stop(...))`: kill the run `run` at each stop and resume it; compare it with the run `whole`."""

    def check(
        words: Sequence[str],
        *stops: Stop,
        files: Sequence[str] = (),
        rel: float = 0.0,
        until_done: bool = False,
        note: str = "resuming ",
    ) -> list[Done]:
        resumed = killed_and_resumed(tmp_path, words, stops, until_done, environment)
        assert resumed[-1].status == 0 and all(note in done.out for done in resumed), resumed
        whole = program(*placed(words, "whole"))
        assert whole.status == 0, whole
        assert_same_result(tmp_path / "run", tmp_path / "whole", files, rel)
        return resumed

    return check


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Cache with the published ANI models, pulled from the test data as from any mirror."""
    data = os.environ.get("FUSION_TEST_DATA")
    if not data:
        pytest.skip("FUSION_TEST_DATA is not set: the published weights are not at hand")
    from fusion import zoo

    place = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FUSION_MIRROR", f"file://{data}/weights")
        patch.setenv("FUSION_CACHE", str(place))
        for name in ("ani-1x", "ani-1ccx", "ani-2x"):
            zoo.pull(zoo.find(name))
    return place


@pytest.fixture
def zoo_cache(published: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Set FUSION_CACHE to the published ANI models, and work offline."""
    monkeypatch.setenv("FUSION_CACHE", str(published))
    monkeypatch.setenv("FUSION_OFFLINE", "1")
    return published


@pytest.fixture(scope="session", autouse=True)
def signing_key(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Directory of the tests' own signing key, for this process and those it starts."""
    place = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_DATA_HOME", str(place))
        yield place


@pytest.fixture(scope="session", autouse=True)
def configuration_files() -> Iterator[None]:
    """Read each configuration file once per process: a third of the time that Hydra takes to compose settings."""
    from hydra.core.plugins import Plugins

    Plugins.instance()  # executes the modules with the sources again, so that their classes are others than before
    from hydra._internal.core_plugins.file_config_source import FileConfigSource
    from hydra._internal.core_plugins.importlib_resources_config_source import ImportlibResourcesConfigSource

    read: dict[tuple[object, ...], bytes] = {}

    def once(load: Callable[..., Any]) -> Callable[..., Any]:
        def loaded(self: Any, config_path: str) -> Any:
            file = Path(self.path, self._normalize_file_name(config_path))
            state = file.stat() if file.is_file() else None  # those of Hydra's own package do not change
            key = (type(self), self.provider, self.path, config_path, state and (state.st_mtime_ns, state.st_size))
            if key not in read:
                read[key] = pickle.dumps(load(self, config_path))
            return pickle.loads(read[key])  # a copy, which Hydra changes

        return loaded

    with pytest.MonkeyPatch.context() as patch:
        for source in (FileConfigSource, ImportlibResourcesConfigSource):
            patch.setattr(source, "load_config", once(source.load_config))
        yield


@pytest.fixture(scope="session", autouse=True)
def savefig() -> Iterator[Callable[..., None]]:
    """Leave all pictures blank; matplotlib's function, which draws them."""
    original = Figure.savefig
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", blank)
        yield original


@pytest.fixture
def pictures(savefig: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw the pictures of this test."""
    monkeypatch.setattr(Figure, "savefig", savefig)


@pytest.fixture(autouse=True)
def default_dtype() -> Iterator[None]:
    """Restore torch's default dtype after each test."""
    yield
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_default_dtype(torch.float32)

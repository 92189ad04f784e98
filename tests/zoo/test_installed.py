"""Files that an installed Python package brings: copied, verified and converted, without imports and downloads."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import fusion
from fusion import zoo
from fusion.cli import main
from fusion.console.format import console
from fusion.errors import CalculationError
from fusion.zoo.card import Card, Origin, Weights
from tiny_models import left_in_cache, publish, surroundings

FILE = "bearer/pretrained/pair.txt"


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    yield from surroundings(tmp_path, monkeypatch)


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Directory with the package `bearer`, which cannot be imported and brings no file yet; downloads are forbidden."""
    place = tmp_path / "packages"
    (place / "bearer/pretrained").mkdir(parents=True)
    (place / "bearer/__init__.py").write_text("raise SystemExit('imported')")
    (place / "bearer-1.5.dist-info").mkdir()
    (place / "bearer-1.5.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: bearer\nVersion: 1.5\n")
    monkeypatch.syspath_prepend(str(place))
    monkeypatch.setenv("FUSION_OFFLINE", "1")
    return place


def brought(zoo_: Path, packages: Path, package: str = "bearer==1.5", file: str = FILE) -> Card:
    """Publish the tiny model with its file, as text or safetensors, in the package."""
    from tiny import model

    state = model.state()
    text = " ".join(str(value) for name in ("bias", "strength") for value in state[name].ravel().tolist()).encode()
    foreign = not file.endswith(".safetensors")
    origin = Origin(converter="tiny.model:convert" if foreign else None, package=package)
    (zoo_ / file).parent.mkdir(parents=True)
    card = publish(zoo_, text if foreign else None, origin=origin, path=file)
    shutil.move(zoo_ / file, packages / file)
    return card


def pulled(capsys: pytest.CaptureFixture[str]) -> tuple[int | str | None, str]:
    """Exit status and errors of `fusion zoo pull pair`."""
    console.cache_clear()
    status: int | str | None = None
    with contextlib.suppress(SystemExit):
        try:
            main.main(["zoo", "pull", "pair"])
        except SystemExit as end:
            status = end.code
            raise
    return status, capsys.readouterr().err


@pytest.mark.parametrize("file", [FILE, "bearer/pretrained/pair.safetensors"])
def test_the_file_of_the_package_is_pulled_once(tiny: Path, packages: Path, file: str) -> None:
    card = brought(tiny, packages, file=file)
    path = zoo.pull(card)
    assert left_in_cache() == [f"models/{card.weights.sha256}.safetensors"]
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert set(fusion.load("pair").state_dict()) == {"bias", "strength"}  # a damaged copy is replaced
    shutil.rmtree(packages)
    assert zoo.pull(card) == path


@pytest.mark.parametrize("fault", ["digest", "longer", "absent", "directory"])
def test_another_file_is_refused_before_it_is_converted(
    tiny: Path, packages: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    brought(tiny, packages)
    path = packages / FILE
    content = path.read_bytes()
    path.unlink()
    if fault == "directory":
        path.mkdir()
    elif fault != "absent":
        path.write_bytes(content.replace(b"5", b"6", 1) if fault == "digest" else content + b" ")
    monkeypatch.setattr("fusion.zoo.store._converted", lambda *_: pytest.fail("converted"))
    said = {"digest": "its sha256 is", "longer": "longer than", "absent": "No such file", "directory": "not a regular"}
    status, errors = pulled(capsys)
    assert status == 2 and errors.count("\n") == 1 and left_in_cache() == []
    assert f"pair@1: {FILE} of the installed bearer 1.5: " in errors and said[fault] in errors
    assert "pip install --force-reinstall --no-deps bearer==1.5" in errors


def test_a_missing_package_is_one_line(tiny: Path, packages: Path, capsys: pytest.CaptureFixture[str]) -> None:
    brought(tiny, packages, package="absent-bearer")
    assert pulled(capsys) == (
        2,
        "error: pair@1: its weights come with the Python package absent-bearer, which is not installed: "
        "pip install absent-bearer\n",
    )
    assert left_in_cache() == []


def test_the_file_itself_must_hold_the_tensors_of_the_card(tiny: Path, packages: Path) -> None:
    card = replace(brought(tiny, packages), weights=Weights("1" * 64, 636))
    with pytest.raises(CalculationError, match=r"the digest of its tensors is .*nothing was kept"):
        zoo.pull(card)
    assert left_in_cache() == []


def test_show_names_the_package(tiny: Path, packages: Path, capsys: pytest.CaptureFixture[str]) -> None:
    brought(tiny, packages)
    with pytest.raises(SystemExit):
        main.main(["zoo", "show", "pair"])
    assert "of the Python package bearer==1.5" in capsys.readouterr().out

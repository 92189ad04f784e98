"""Plugins that cannot be loaded, and plugins that claim the same option."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from processes import Program

Install = Callable[..., None]

SOUND = """
from fusion import hookimpl
fusion_api = 1

@hookimpl
def fusion_config_path():
    return "pkg://{name}.conf"
"""
BROKEN = {
    "import": (
        "import a_package_that_is_not_there",
        "ModuleNotFoundError: No module named 'a_package_that_is_not_there'",
    ),
    "exit": ("raise RuntimeError('no GPU\\nno fun')", "RuntimeError: no GPU"),
    "leaves": ("raise SystemExit(3)", "SystemExit: 3"),
    "api": ("fusion_api = 99", "states fusion_api = 99; this fusion speaks 1"),
    "silent": ("", "states fusion_api = None"),
    "hook": (SOUND.format(name="elsewhere"), "ModuleNotFoundError"),
    "folder": (SOUND.format(name="bad"), "its fusion_config_path pkg://bad.conf is not a directory"),
}


@pytest.fixture
def install(with_toy: None, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Return a function that installs a package with its code and the options of its configuration tree."""

    def make(name: str, code: str, options: dict[str, str] | None = None) -> None:
        site: Path = tmp_path_factory.mktemp("site")
        (site / name).mkdir()
        (site / name / "__init__.py").write_text(code)
        for option, text in (options or {}).items():
            file = site / name / "conf" / f"{option}.yaml"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        info = site / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[fusion.plugins]\n{name} = {name}\n")
        monkeypatch.syspath_prepend(str(site))
        monkeypatch.delitem(__import__("sys").modules, name, raising=False)

    return make


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_plugin_is_listed_and_does_no_harm(install: Install, program: Program, case: str) -> None:
    code, reason = BROKEN[case]
    install("bad", code)
    listed = program("plugins")
    assert listed.status == 0
    (line,) = (line for line in listed.out.splitlines() if line.startswith(" bad "))
    assert reason in line and "bad 1.0" in line
    methods = program("methods")
    assert methods.status == 0 and "toy" in methods.out and "not loaded: bad" in methods.out
    assert program("+method=toy").status == 0


@pytest.mark.parametrize("option", ["method/toy", "task/fit", "system/lih", "trainer/cpu", "method/toy/far"])
def test_two_packages_claiming_one_option_are_refused_by_name(
    install: Install, program: Program, tmp_path: Path, option: str
) -> None:
    install("rival", SOUND.format(name="rival"), {option: "name: x"})
    done = program("+method=toy")
    assert done.status == 2 and len(done.err.strip().splitlines()) == 1
    assert f"{option} is defined by" in done.err and "rival" in done.err
    assert ("toy" if "toy" in option or option == "task/fit" else "fusion") in done.err
    assert list(tmp_path.iterdir()) == []
    assert f"conflict: {option}" in program("plugins").out


def test_commands_that_cannot_be_added_are_reported(install: Install, program: Program) -> None:
    code = SOUND + "\n@hookimpl\ndef fusion_commands(app):\n    raise KeyError('x')\n"
    install("rude", code.format(name="rude"), {"method/rude": "method: {about: {summary: x}}"})
    done = program("toy-hello")
    assert done.status == 0 and done.out == "hello from toy\n" and "rude" in done.err


def test_methods_with_missing_packages_are_listed_as_such(install: Install, program: Program) -> None:
    text = "method: {about: {summary: x, cost: y, requires: [not-there-torch>=1, numpy]}}"
    install("more", SOUND.format(name="more"), {"method/more": text, "method/wrong": "a: [b"})
    lines = program("methods").out.splitlines()
    assert any("more" in line and "not installed: pip install not-there-torch>=1" in line for line in lines)
    assert any("wrong" in line and "is not YAML" in line for line in lines)

"""Command line: refusals in one line, no files after bad input, and fast listings."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hydra._internal.hydra import Hydra

from processes import Program

BAD_INPUT = {
    "unknown method": (["+method=toi"], "no method 'toi'. Did you mean 'toy'?"),
    "unknown preset": (["+method=toy/fra"], "Did you mean 'toy/far'?"),
    "no method": (["system=h2"], "no method given: +method=NAME."),
    "nothing at all": ([], "no method given: +method=NAME."),
    "unknown task": (["+method=toy", "task=enrgy"], "no task 'enrgy'. Did you mean 'energy'?"),
    "unknown system": (["+method=toy", "system=lihh"], "no system 'lihh'. Did you mean 'lih'?"),
    "unknown key": (["+method=toy", "method.energi=3"], "no setting 'method.energi'. Did you mean 'method.energy'?"),
    "group of another task": (["+method=toy", "ensemble=nve"], "ensemble= has no meaning here; it belongs to task=md"),
    "unknown key of a group": (
        ["+method=morse", "method.model={depht: 1}"],
        "no setting 'method.model.depht'. Did you mean 'method.model.depth'?  +method.model.depht=VALUE adds it",
    ),
    "unknown root key": (["+method=toy", "seeds=3"], "no setting 'seeds'. Did you mean 'seed'?"),
    "unknown key with plus": (["+methd=toy"], "no setting 'methd'. Did you mean 'method'?"),
    "key the method refuses": (["+method=toy", "method.basis=none"], "no basis none"),
    "bad grammar": (["+method=toy", "seed=["], "'['"),
    "seed of more than 64 bits": (
        ["+method=toy", "seed=9223372036854775808"],
        "seed must be a number of at most 64 bits",
    ),
    "seed that is no number": (["+method=toy", "seed=one"], "seed must be a whole number, not one"),
    "dtype": (["+method=toy", "dtype=float16"], "dtype must be float32 or float64"),
    "interpolation": (["+method=toy", "seed=${nothing}"], "nothing"),
    "missing file": (["+method=toy", "system=nowhere.xyz"], "nowhere.xyz"),
    "missing checkpoint": (["+method=toy", "ckpt=nowhere.ckpt"], "no checkpoint"),
    "spin": (["+method=toy", "system=h2", "system.spin=1"], "0 or 2, not 1"),
    "threads": (["+method=toy", "trainer.threads=0"], "trainer.threads must be a whole number of at least 1, not 0"),
    "group without an option": (["+method=toy", "system=null"], "no system 'null'"),
    "method without a name": (["+method="], "no method ''"),
    "directory that cannot be created": (["+method=toy", "hydra.run.dir=/dev/null/x"], "/dev/null/x cannot be created"),
    "module that is not there": (["+method=toy", "method._target_=nothere.X"], "Error locating target 'nothere.X'"),
    "unknown option": (["+method=toy", "--multirunn"], "no option --multirunn. Did you mean '--multirun'?"),
    "unknown command": (["plugin"], "no command 'plugin'. Did you mean 'plugins'?"),
    "missing argument": (["resume"], "RUN_DIR"),
    "no run": (["resume", "nowhere"], "nowhere is not the directory of a run"),
    "sweep with an unknown option": (["-m", "+method=toy", "system=h2,lihh"], "no system 'lihh'"),
    "sweep of refused jobs": (["-m", "+method=toy", "seed=1,2", "method.basis=none"], "no basis none"),
    "help of an unknown method": (["+method=toi", "--help"], "no method 'toi'"),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_one_line_and_leaves_nothing(program: Program, tmp_path: Path, case: str) -> None:
    words, message = BAD_INPUT[case]
    done = program(*words)
    assert done.status == 2
    assert message in done.err
    lines = done.err.strip().splitlines()
    assert len(lines) == (2 if case == "sweep of refused jobs" else 1) and lines[0].startswith("error: ")
    assert list(tmp_path.iterdir()) == []


def test_bad_input_creates_no_run_directory(program: Program, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for name in ("new/deep", "there"):
        assert program("+method=toy", "method.basis=none", f"hydra.run.dir={name}").status == 2
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_a_file_that_is_not_yaml_is_refused(program: Program, tmp_path: Path) -> None:
    group = tmp_path / "mine" / "system"
    group.mkdir(parents=True)
    (group / "broken.yaml").write_text("name: [h2\ncharge: 0")
    done = program("--config-dir", "mine", "+method=toy", "system=broken")
    assert done.status == 2 and len(done.err.strip().splitlines()) == 1 and "broken.yaml" in done.err


def test_full_error_shows_the_traceback(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    done = program("+method=toi")
    assert done.status == 2 and "Traceback" in done.err and "MissingConfigException" in done.err


def test_methods_without_plus_and_presets(program: Program) -> None:
    assert "-2.000000 Ha" in program("method=toy").out
    assert "-3.000000 Ha" in program("run", "+method=toy/far").out


@pytest.mark.parametrize("position", [0, 1, 2])
def test_the_sweep_flag_may_stand_anywhere(program: Program, position: int) -> None:
    words = ["+method=toy", "seed=1,2"]
    words.insert(position, "-m")
    done = program(*words)
    assert done.status == 0 and done.out.count("-2.000000 Ha") == 2


def test_settings_are_composed_once(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    compose, calls = Hydra.compose_config, 0

    def counting(self: Hydra, *args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        return compose(self, *args, **kwargs)

    monkeypatch.setattr(Hydra, "compose_config", counting)
    assert program("+method=toy", "system=h2").status == 0
    assert calls == 1


def test_help_lists_the_commands(program: Program) -> None:
    done = program("--help")
    assert done.status == 0
    for command in ("methods", "plugins", "resume", "report", "new-plugin", "toy-hello"):
        assert command in done.out


def test_a_plugin_adds_a_command(program: Program) -> None:
    assert program("toy-hello").out == "hello from toy\n"


def test_methods_lists_kind_and_cost(program: Program) -> None:
    lines = program("methods").out.splitlines()
    assert any(line.split()[:2] == ["toy", "conventional"] and "nothing" in line for line in lines)


@pytest.mark.parametrize(
    "words",
    [
        ("--help",),
        ("methods",),
        ("plugins",),
        ("doctor",),
        ("help", "optimiser"),
        ("+method=ferminet", "task=relax", "--help"),
        ("completion", "bash"),
        ("completion", "words", "fusion +method=ani weights="),
    ],
)
def test_listings_start_quickly(environment: dict[str, str], tmp_path: Path, words: tuple[str, ...]) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "fusion", *words]
    listed = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True).stderr
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in listed.splitlines()}
    assert not imported & {"torch", "hydra", "omegaconf", "pytorch_lightning", "pyscf", "numpy", "matplotlib"}
    assert listed.count("import time:") < 450  # modules: what start-up costs, whatever else the machine does


@pytest.mark.parametrize(
    "words",
    [
        ("--shell-completion",),
        ("--shell-completion", "install=nosh"),
        ("--resolve",),
        ("--experimental-rerun", "nothing"),
    ],
)
def test_wrong_hydra_options_are_one_line(program: Program, words: tuple[str, ...]) -> None:
    done = program(*words)
    assert done.status == 2 and done.err.startswith("error: ") and done.err.count("\n") == 1 and words[0] in done.err


def test_an_unknown_method_names_plugins_that_could_not_be_loaded(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fusion import plugins

    discovery = plugins.discover()
    broken = plugins.Plugin("mypot", "mypot", "1", error="ImportError: no module named nosuch")
    monkeypatch.setattr(plugins, "_discovery", plugins.Discovery((*discovery.plugins, broken), discovery.hooks))
    done = program("+method=mypot")
    assert done.status == 2 and "not loaded: mypot (fusion plugins shows why)" in done.err

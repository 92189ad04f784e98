"""Help on settings: what `fusion +method=NAME --help`, `fusion help` and `fusion methods show` print."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fusion.config import described
from fusion.config.options import available
from processes import Program


def test_help_of_a_run_shows_settings_with_values_and_comments(program: Program) -> None:
    done = program("+method=ani", "task=relax", "task.fmax=2e-4", "--help")
    assert done.status == 0
    out = re.sub(r"\s+", " ", done.out)
    assert "fmax 2e-4 force threshold, hartree/bohr (1e-4 is 0.005 eV/Angstrom), or twice the error if larger" in out
    assert "weights ani-2x a model of the zoo" in out and "device auto device of calculations" in out
    assert "optimiser._target_ null an ASE optimiser" in out
    assert "fusion help method=ani method.training" in out and "seed 0" in out
    assert "2.2075" not in done.out and "symbols" not in done.out  # atoms of ethanol


@pytest.mark.parametrize("words", [["+method=ani", "task=relax"], ["+method=hf", "task=md"], ["+method=ferminet"]])
def test_help_of_a_run_is_at_most_two_screens(
    program: Program, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    lines = program(*words, "--help").out.splitlines()
    assert len(lines) <= 110 and max(map(len, lines)) <= 120


def test_help_names_the_alternatives_of_choices(program: Program) -> None:
    out = program("+method=ferminet", "--help").out
    assert "optimiser=spring|adam|kfac" in out and "envelope=isotropic|diagonal|full" in out
    assert "+estimator=density|density_matrix|pair_density|quadrupole" in out
    assert "ensemble=langevin|npt|nve" in program("+method=hf", "task=md", "--help").out


def test_help_of_a_training_shows_its_settings(program: Program) -> None:
    assert "final_learning_rate" in program("+method=ani", "task=train", "--help").out
    assert "final_learning_rate" not in program("+method=ani", "--help").out


def test_help_of_a_plugin_has_the_comments_of_its_files(program: Program) -> None:
    out = program("+method=toy", "--help").out
    assert re.search(r"energy +-2\.0 +hartree, the answer for every system", out)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["+method=toi", "--help"], "no method 'toi'. Did you mean 'toy'?"),
        (["+method=toy", "task=enrgy", "--help"], "no task 'enrgy'. Did you mean 'energy'?"),
        (["+method=toy", "method.energi=3", "--help"], "no setting 'method.energi'. Did you mean 'method.energy'?"),
        (["+method=toy", "ensemble=nve", "--help"], "ensemble= has no meaning here; it belongs to task=md"),
        (["help", "rlax"], "no topic 'rlax'. Did you mean 'relax'?"),
        (["help", "task=rlax"], "no task 'rlax'. Did you mean 'relax'?"),
        (["help", "task.images"], "task.images belongs to a task: fusion help task=ts task.images"),
        (["help", "method.walkers"], "method.walkers belongs to a method: fusion help method=ferminet"),
        (["methods", "show", "toi"], "no method 'toi'. Did you mean 'toy'?"),
        (["methods", "shw", "toy"], "use fusion methods, or fusion methods show NAME"),
    ],
)
def test_unknown_topics_are_one_line(program: Program, tmp_path: Path, words: list[str], message: str) -> None:
    done = program(*words)
    assert done.status == 2 and message in done.err and done.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("topics", "expected"),
    [
        ([], ["task=", "method=", "optimiser", "FUSION_CACHE", "relax"]),
        (["task=ts"], ["Search for a transition state", "path_fmax", "images of the band"]),
        (["ts"], ["Search for a transition state"]),
        (["method=ani"], ["batch_size", "plateau.patience", "radial_cutoff"]),
        (["system"], ["ethanol", "system=inline", "symbols and positions", "Wigner-Seitz radius"]),
        (["optimiser"], ["optimiser=adam", "optimiser=kfac", "optimiser=spring", "momentum"]),
        (["optimiser=kfac"], ["Kronecker", "decay"]),
        (["method=ani", "method.training"], ["final_learning_rate"]),
        (["training"], ["training=functional", "training=potential", "method.training"]),
        (["table"], ["Tabulate the results"]),
        (["toy-hello"], ["toy-hello"]),
    ],
)
def test_topics(program: Program, topics: list[str], expected: list[str]) -> None:
    done = program("help", *topics)
    assert done.status == 0 and [text for text in expected if text not in done.out] == []


def test_help_of_one_place_shows_only_that(program: Program) -> None:
    out = program("help", "method=ani", "method.training.loss").out
    assert "forces" in out and "patience" not in out


def test_a_method_is_shown_with_models_settings_and_examples(program: Program) -> None:
    out = program("methods", "show", "ani").out
    for text in (
        "potential: a learned energy",
        "weights=ani-2x",
        "10.1021/acs.jctc.0c00121",
        "0.411 kcal/mol",
        "H C N O S F Cl",
    ):
        assert text in out, text
    assert "batch_size" in out and out.count("fusion +method=ani ") == 3


def test_a_method_is_shown_with_its_measured_accuracy(program: Program) -> None:
    out = re.sub(r"\s+", " ", program("methods", "show", "ferminet").out)
    assert "within 0.6 mHa" in out and "benchmarks/vmc_accuracy.md" in out and "+method=ferminet/paper" in out


@pytest.mark.parametrize("name", available("method"))
def test_examples_of_a_method_are_settings_that_exist(program: Program, name: str) -> None:
    import shlex

    lines = program("methods", "show", name).out.partition("\nexamples\n")[2].splitlines()
    assert len(lines) == 3
    for line in lines:
        words = [word.replace("FILE.xyz", "ethanol") for word in shlex.split(line)[1:]]
        described.compose(words)


def test_a_broken_file_of_another_plugin_does_not_hide_help(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fusion import plugins

    group = tmp_path / "conf" / "method"
    group.mkdir(parents=True)
    (group / "broken.yaml").write_text("a: [1\nb: 2")
    discovery = plugins.discover()
    broken = plugins.Plugin("mypot", "mypot", "1", conf=tmp_path / "conf")
    monkeypatch.setattr(plugins, "_discovery", plugins.Discovery((*discovery.plugins, broken), discovery.hooks))
    assert program("+method=toy", "--help").status == 0
    done = program("+method=broken", "--help")
    assert done.status == 2 and "broken.yaml is not YAML" in done.err and done.err.count("\n") == 1

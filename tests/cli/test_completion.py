"""Completion: words offered for a line, and a real bash that completes with them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from processes import Program

LINES = {
    "fusion +m": ["+method="],
    "fusion meth": ["methods", "method="],
    "fusion methods show fermi": ["ferminet", "ferminet/excited", "ferminet/paper"],
    "fusion +method=ferm": ["+method=ferminet", "+method=ferminet/excited", "+method=ferminet/paper"],
    "fusion run method=dm": ["method=dm21"],
    "fusion +method=ani task=re": ["task=relax"],
    "fusion +method=ani system=eth": ["system=ethanol"],
    "fusion +method=ani task=relax task.f": ["task.fmax=", "task.fixed="],
    "fusion +method=ani task=relax task.cell=": ["task.cell=true", "task.cell=false"],
    "fusion +method=ani task=ts task.path_steps=": ["task.path_steps=300"],
    "fusion +method=ani task=md ensemble=n": ["ensemble=npt", "ensemble=nve"],
    "fusion +method=ani weights=ani-1": ["weights=ani-1ccx", "weights=ani-1x"],
    "fusion +method=ferminet method.opt": ["method.optimiser.", "method.optimisation."],
    "fusion +method=ferminet optimiser=kfac method.optimiser.": [
        "method.optimiser.learning_rate.",
        "method.optimiser.damping=",
        "method.optimiser.decay=",
        "method.optimiser.max_norm=",
    ],
    "fusion +method=ferminet +est": ["+estimator="],
    "fusion +method=ferminet +estimator=quad": ["+estimator=quadrupole"],
    "fusion task=compare methods=[hf,ani-1": ["methods=[hf,ani-1ccx", "methods=[hf,ani-1x"],
    "fusion task=compare 'methods=[hf,dm21m": ["methods=[hf,dm21m", "methods=[hf,dm21mc", "methods=[hf,dm21mu"],
    "fusion zoo pull coulo": ["coulomb-qm7"],
    "fusion zoo ver": ["verify"],
    "fusion help task=r": ["task=relax"],
    "fusion help opt": ["optimiser"],
    "fusion +method=toy method.ener": ["method.energy="],
    "fusion +method=toy --dr": ["--dry-run"],
    "fusion completion f": ["fish"],
    "fusion +method=nosuch task=re": ["task=relax"],
    "fusion resume ": [],
    "fusion +method=ani system=./mol": [],
}


@pytest.mark.parametrize("line", LINES)
def test_words_that_complete_a_line(program: Program, monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    monkeypatch.setenv("FUSION_ZOO", "http://127.0.0.1:9/")  # would take seconds if it were asked
    monkeypatch.setenv("FUSION_OFFLINE", "0")
    done = program("completion", "words", line)
    assert done.status == 0 and done.err == "" and done.out.split() == LINES[line]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_has_a_script(program: Program, shell: str) -> None:
    done = program("completion", shell)
    assert done.status == 0 and "completion words" in done.out


def test_another_shell_is_refused(program: Program) -> None:
    done = program("completion", "csh")
    assert done.status == 2 and "bash, zsh or fish" in done.err and done.err.count("\n") == 1


def test_hydra_points_to_it(program: Program) -> None:
    for words in (["--shell-completion"], ["-sc", "install=bash"]):
        done = program(*words)
        assert done.status == 2 and "fusion completion bash" in done.err and done.err.count("\n") == 1


BASH = r"""
eval "$(fusion completion bash)"
complete_line() {
    COMP_LINE="$1" COMP_POINT=${#1} COMPREPLY=()
    # as readline splits a line: also before and behind = and :
    COMP_WORDS=($(sed -E 's/([=:])/ \1 /g' <<< "$1"))
    [[ "$1" == *" " ]] && COMP_WORDS+=("")
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
    compopt() { :; }
    _fusion
    echo "${COMPREPLY[*]}"
}
complete_line "fusion +method=ferminet optimiser=k"
complete_line "fusion +method=toy task=rel"
complete_line "fusion +method=toy task="
complete -p fusion
"""


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_completes(environment: dict[str, str], tmp_path: Path) -> None:
    script = tmp_path / "fusion"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -m fusion "$@"\n')
    script.chmod(0o755)
    place = {"PATH": f"{tmp_path}:{environment['PATH']}"}
    done = subprocess.run(
        ["bash", "--norc", "-c", BASH], env=environment | place, capture_output=True, text=True, timeout=600
    )
    lines = done.stdout.splitlines()
    assert done.stderr == "" and lines[0].strip() == "kfac" and lines[1].strip() == "relax"
    assert {"relax", "md", "energy"} <= set(lines[2].split())
    assert lines[3] == "complete -o bashdefault -o default -F _fusion fusion"

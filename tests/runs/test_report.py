"""Output of a run: numbers with their errors, summaries of all outcomes, `report` on any directory."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fusion.console import format
from fusion.errors import InputError
from fusion.runs import report


def a_result(**changes: Any) -> dict[str, Any]:
    """Document of a finished FermiNet run on LiH."""
    document = {
        "schema": 1,
        "method": "ferminet",
        "task": "train",
        "system": {"formula": "LiH", "charge": 0, "spin": 0, "symbols": ["Li", "H"]},
        "status": "ok",
        "energy": {"value": -8.07005, "stderr": 0.00024},
        "reference": {"value": -8.070548, "source": "exact, Cencek 2000", "difference_mhartree": 0.498},
        "timing": {"wall_s": 113.0},
        "vmc": {
            "variance_hartree2": 0.0071,
            "spin_squared": {"value": -0.00001, "stderr": 0.001},
            "hartree_fock": {"energy_hartree": -7.98733, "basis": "cc-pVQZ", "method": "RHF"},
            "correlation_percent": {"value": 99.4, "stderr": 0.3},
            "verdict": "the evaluation agrees",
        },
    }
    return document | changes


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (-8.07, 0.0004, "-8.0700(4)"),
        (-8.07, 0.000996, "-8.070(1)"),
        (1.0, 0.0, "1.000000(0)"),
        (1.0, None, "1.000000"),
        (1.0, math.nan, "1.000000(?)"),
        (math.nan, 0.1, "nan"),
        (0.01, 2.5, "0(2)"),
        (-5.3, 25.0, "-5(25)"),
        (-0.5, 3e-11, "-0.50000000(0)"),
        (-0.00001, 0.001, "0.000(1)"),
    ],
)
def test_value_with_error(value: float, error: float | None, text: str) -> None:
    assert format.with_error(value, error) == text


def test_plus_minus() -> None:
    assert format.plus_minus(-8.070049, 0.00024) == "-8.07005 ± 0.00024"
    assert format.plus_minus(-8.0, None) == "-8.000000"
    assert format.plus_minus(-8.0, math.inf) == "-8.000000 ± ?"
    assert format.plus_minus(0.1, 123.0) == "0 ± 123"


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (0.498, 0.24, "+0.5 ± 0.2 mHa above"),
        (-0.7, 0.2, "-0.7 ± 0.2 mHa below"),
        (-0.1, 0.2, "-0.1 ± 0.2 mHa, within the error"),
        (-0.001, 0.2, "+0.0 ± 0.2 mHa, within the error"),
        (0.498, None, "+0.50 mHa above"),
        (0.0, 0.0, "+0.00 mHa"),
        (math.nan, 0.2, "nan mHa"),
    ],
)
def test_difference(value: float, error: float | None, text: str) -> None:
    assert format.difference(value, error) == text


def test_formats_of_durations_counts_and_memory() -> None:
    assert [format.duration(s) for s in (0.61, 41.2, 59.7, 185, 7500)] == [
        "0.6 s", "41 s", "1 min 00 s", "3 min 05 s", "2 h 05 min",
    ]  # fmt: skip
    assert [format.memory(b) for b in (12, 1500, 2.1e9, 999.6e6)] == ["12 B", "1.5 kB", "2.1 GB", "1.0 GB"]
    assert format.count(1, "determinant") == "1 determinant"
    assert format.system_title("HO", 10, 0, -1) == "HO (10 electrons, singlet, charge -1)"


def test_summary_of_a_good_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "result.json").touch()
    report.summary(a_result(), tmp_path)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("energy           -8.07005 ± 0.00024 Ha    variance 0.0071    ⟨S²⟩ 0.000(1)")
    assert lines[2].split("  ")[-1].strip() == "+0.5 ± 0.2 mHa above"
    assert "99.4 ± 0.3 %" in lines[3] and "of -0.0832 Ha" in lines[3]
    assert lines[-2:] == ["converged        yes: the evaluation agrees", "files            result.json"]
    assert "\x1b" not in "".join(lines)


@pytest.mark.parametrize("status", ["not_converged", "failed"])
def test_a_failed_run_is_marked_as_failed(status: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report.summary(a_result(status=status, message="it went wrong"), tmp_path)
    shout = status.upper().replace("_", " ")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split("  ")[0] == shout and "it went wrong" in lines[0]
    assert lines[1].startswith("last energy") and shout in lines[1]
    assert any(line.startswith("converged        NO") for line in lines)


def test_missing_or_non_finite_energies_are_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report.summary(a_result(energy={"value": math.nan, "stderr": None}, reference=None), tmp_path)
    assert capsys.readouterr().out.startswith("FAILED")
    report.summary({"status": "failed", "energy": None, "message": "SCF"}, tmp_path)
    assert "last energy      none" in capsys.readouterr().out


def test_summary_of_a_potential(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = {
        "status": "ok",
        "energy": {"value": -155.8211, "stderr": None},
        "energy_std_hartree": 0.0009,
        "forces_hartree_per_bohr": [[0.0, 0.0, 0.01], [0.0, 0.03, 0.04]],
        "system": {"symbols": ["C", "O"]},
    }
    report.summary(document, tmp_path)
    out = capsys.readouterr().out
    assert "-155.821100 Ha" in out and "± 0.0009 Ha model" in out
    assert "0.05000 Ha/bohr" in out and "on O (atom 2)" in out
    assert "converged" not in out and "variance" not in out


def test_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "result.json").write_text(json.dumps(a_result()))
    (tmp_path / "metrics.csv").write_text("step,phase,energy,stderr,variance\n0,optimise,-8.0,0.01,0.1\n")
    (tmp_path / "config.yaml").write_text("task:\n  _target_: fusion.tasks.train.Train\n")
    report.report(tmp_path)
    out = capsys.readouterr().out
    assert out.startswith("ferminet · LiH (4 electrons, singlet) · train · 1 min 53 s\n")
    assert "energy.png" in out and (tmp_path / "energy.png").is_file()


@pytest.mark.parametrize("name", ["\x1b[2J", "\x1b]0;title\x07", "\x9b31m", "\u202e", "two\nlines", "\u2028"])
def test_control_characters_in_names_are_not_printed(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = a_result()
    document |= {"method": name, "message": name, "warnings": [name]}
    (tmp_path / "result.json").write_text(json.dumps(a_result()))
    report.report(tmp_path)
    plain = capsys.readouterr().out
    (tmp_path / "result.json").write_text(json.dumps(document))
    report.report(tmp_path)
    out = capsys.readouterr().out
    assert all(letter.isprintable() or letter == "\n" for letter in out)
    assert out.count("\n") == plain.count("\n") + 2  # the message and the warning


def test_report_of_an_unfinished_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "metrics.csv").write_text("step,phase,energy,stderr\n839,optimise,-8.0,0.01\n840,optimise,-8.07,0.")
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.ckpt").touch()
    report.report(tmp_path)
    out = capsys.readouterr().out
    assert out.startswith("UNFINISHED") and "optimise step 840" in out and f"fusion resume {tmp_path}" in out


def test_report_refuses_other_directories(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not the directory of a run: it holds none of"):
        report.report(tmp_path)
    with pytest.raises(InputError, match="is not a directory"):
        report.report(tmp_path / "typo")
    (tmp_path / "result.json").write_text("{")
    with pytest.raises(InputError, match="cannot be read"):
        report.report(tmp_path)


def test_a_report_imports_no_large_packages() -> None:
    heavy = "{'torch', 'matplotlib', 'pytorch_lightning', 'numpy', 'rich'}"
    subprocess.run(
        [sys.executable, "-c", f"import sys, fusion.runs.report; assert not {heavy} & set(sys.modules)"], check=True
    )


@pytest.mark.parametrize(("stderr", "text"), [([2e-4, 3e-4, 1e-3], "1.0031(3) 0.007(1)"), (None, "1.003 0.007")])
def test_frontier_occupations_are_printed(
    stderr: list[float] | None, text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = a_result()
    result["vmc"]["density_matrix"] = {
        "occupations": {"value": [1.9941, 1.0031, 0.0068], "stderr": stderr},
        "hartree_fock_occupations": [2.0, 1.0, 0.0],
    }
    report.summary(result, tmp_path)
    assert re.search(rf"occupations +{re.escape(text)} +last occupied and first virtual", capsys.readouterr().out)


@pytest.mark.parametrize(("energy", "text"), [(-8.07, "below Hartree–Fock"), (-7.9, "ABOVE Hartree–Fock")])
def test_without_a_reference_the_energy_is_compared_with_hartree_fock(
    energy: float, text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = a_result(energy={"value": energy, "stderr": 0.001}, reference=None)
    del result["vmc"]["correlation_percent"]
    report.summary(result, tmp_path)
    shown = capsys.readouterr().out
    assert text in shown and "correlation" not in shown

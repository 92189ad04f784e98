"""`fusion table`: results of runs and sweeps, and the settings in which they differ, as Markdown and CSV."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fusion.cli.table import overview, table
from fusion.errors import InputError
from fusion.runs.collected import CollectedRun, collect, differing_settings
from fusion.runs.main_numbers import main_numbers
from processes import Program

OLD = Path(__file__).parents[1] / "old_runs"


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_sweep_has_a_column_for_each_setting_that_differs(program: Program, tmp_path: Path) -> None:
    words = ["-m", "+method=hf", "system=h2", "method.basis=sto-3g,3-21g", "system.distance=1.401,1.5"]
    assert program(*words, "hydra.sweep.dir=sweep").status == 0
    done = program("table", "sweep", "--output", "all.csv")
    assert done.status == 0 and "4 runs" in done.out
    table = rows(tmp_path / "all.csv")
    assert [row["directory"] for row in table] == [f"sweep/{number}" for number in range(4)]
    assert [(row["method.basis"], row["system.distance"]) for row in table] == [
        (basis, distance) for basis in ("sto-3g", "3-21g") for distance in ("1.401", "1.5")
    ]
    settings = {name for name in table[0] if "." in name}
    assert settings == {"method.basis", "system.distance"}
    assert [bool(row["difference_mhartree"]) for row in table] == [True, False] * 2
    for row in table:
        document = json.loads((tmp_path / row["directory"] / "result.json").read_text())
        assert float(row["energy_hartree"]) == document["energy"]["value"]
        difference = "" if document["reference"] is None else str(document["reference"]["difference_mhartree"])
        assert row["difference_mhartree"] == difference
        assert float(row["wall_s"]) == document["timing"]["wall_s"]
        assert (row["method"], row["task"], row["formula"], row["status"]) == ("hf", "energy", "H2", "ok")


def test_seeds_have_their_own_column_and_error_bars_follow_the_energy(program: Program) -> None:
    assert program("-m", "+method=noisy", "seed=9,10", "hydra.sweep.dir=sweep").status == 0
    lines = program("table", "sweep").out.splitlines()
    header, _, *body = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    table = [dict(zip(header, line, strict=True)) for line in body]
    assert [row["seed"] for row in table] == ["9", "10"]
    assert not [name for name in header if "." in name] and "stderr_hartree" not in header
    assert all(row["energy_hartree"].endswith("(3)") for row in table)
    assert len({len(line) for line in lines}) == 1  # aligned in a terminal


def test_unfinished_and_damaged_runs_are_listed_and_other_folders_are_not(program: Program, tmp_path: Path) -> None:
    shutil.copytree(OLD, tmp_path / "old")
    (tmp_path / "old" / "energy" / "result.json").write_text('{"schema": 1, "status"')
    (tmp_path / "old" / "other").mkdir()
    (tmp_path / "old" / "other" / "config.yaml").write_text("name: not a run\n")
    (tmp_path / "old" / "other" / "result.json").write_text('{"status": "fine"}')
    done = program("table", "old", "old/sum", "--format", "csv")
    assert done.status == 0
    table = {row["directory"]: row for row in csv.DictReader(done.out.splitlines())}
    assert set(table) == {f"old/{path.parent.name}" for path in OLD.glob("*/config.yaml")}
    assert table["old/energy"]["status"] == "unreadable" and table["old/sum"]["status"] == "ok"
    assert table["old/relax"]["status"] == "unfinished" and table["old/relax"]["method.basis"] == "sto-3g"
    assert table["old/compare"]["method"] == "hf, mp2"


def test_settings_of_different_methods_are_no_columns(program: Program, tmp_path: Path) -> None:
    for number, words in enumerate((["+method=hf", "method.basis=sto-3g"], ["+method=morse", "system=h2o"])):
        assert program(*words, f"hydra.run.dir=runs/{number}").status == 0
    assert differing_settings(collect([tmp_path / "runs"])) == []
    assert program("+method=morse", "method.model.depth=0.2", "hydra.run.dir=runs/2").status == 0
    assert differing_settings(collect([tmp_path / "runs"])) == ["method.model.depth"]


def test_main_numbers_of_tasks() -> None:
    document = {
        "frequencies_cm1": [-120.5, 30.0],
        "relaxation": {"steps": 7},
        "excited": {"states": [{"states": 1}, {"gap_ev": 1.5}]},
        "md": {"temperature_k": None},
    }
    assert main_numbers(document) == {"lowest_frequency_cm1": -120.5, "relaxation_steps": 7, "first_gap_ev": 1.5}


def test_errors_of_main_numbers_stand_beside_them() -> None:
    quantity = {"hartree": 0.9, "ev": 24.5, "stderr_hartree": 0.001, "stderr_ev": 0.027}
    document = {
        "ionisation": {"ionisation_potential": quantity},
        "scan": {"barrier_hartree": 0.1, "barrier_stderr_hartree": 0.002},
    }
    run = CollectedRun(Path("run"), "ok", document, {})
    header, (cells,) = overview([run])
    shown = dict(zip(header, cells, strict=True))
    assert shown["ionisation_potential_ev"] == "24.50(3)" and shown["scan_barrier_hartree"] == "0.100(2)"
    assert not any("stderr" in name for name in header)
    assert main_numbers(document)["ionisation_potential_stderr_ev"] == 0.027


def test_tasks_write_the_numbers_that_the_table_reads(program: Program, tmp_path: Path) -> None:
    for task in ("relax", "vibrations"):
        assert program("+method=morse", f"task={task}", f"hydra.run.dir=runs/{task}").status == 0
    relaxed, vibrating = (main_numbers(run.document) for run in collect([tmp_path / "runs"]))
    assert relaxed["relaxation_steps"] > 0
    assert vibrating["lowest_frequency_cm1"] > 0 and vibrating["imaginary_modes"] == 0


def test_parquet_has_the_values_of_csv_with_their_types(program: Program, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    assert program("table", str(OLD), "--output", "all.csv").status == 0
    assert program("table", str(OLD), "--output", "all.parquet").status == 0
    table = parquet.read_table(tmp_path / "all.parquet").to_pylist()
    expected = rows(tmp_path / "all.csv")
    assert [{name: "" if value is None else str(value) for name, value in row.items()} for row in table] == expected
    assert {type(row["energy_hartree"]) for row in table} == {float, type(None)}


def test_parquet_without_its_package_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match=r"aiqm-fusion\[parquet\]"):
        table([OLD / "energy"], None, tmp_path / "all.parquet")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["empty"], "no runs in empty"),
        (["nowhere"], "nowhere is not a directory"),
        (["empty", "--format", "cvs"], "Did you mean 'csv'?"),
        ([], "RUN_DIR"),
        ([str(OLD / "energy"), "--format", "parquet"], "--output FILE.parquet"),
        ([str(OLD / "energy"), "--output", "nowhere/table.md"], "nowhere/table.md cannot be written"),
    ],
)
def test_wrong_input_is_one_line(program: Program, tmp_path: Path, words: list[str], message: str) -> None:
    (tmp_path / "empty").mkdir()
    done = program("table", *words)
    assert done.status == 2 and message in done.err and done.err.count("\n") == 1 and not done.out


def test_the_table_imports_no_large_packages() -> None:
    program = f"""
import sys
from fusion.cli import main
try: main.main(["table", {str(OLD)!r}])
except SystemExit: pass
print([name for name in ("torch", "ase", "numpy", "scipy", "hydra", "omegaconf", "rich") if name in sys.modules])
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"

"""The setting `units`: on screen, in reports and tables of finished runs, and not in files."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

from processes import Program

FILES = {"hydra.run.dir=runs/ev": "eV", "hydra.run.dir=runs/ha": "hartree"}


def without_time(document: dict[str, object]) -> dict[str, object]:
    return {key: value for key, value in document.items() if key not in ("timing", "settings", "versions")}


def test_a_run_prints_in_its_units_and_its_files_stay_atomic(program: Program, tmp_path: Path) -> None:
    outputs = {}
    for word, name in FILES.items():
        done = program("+method=morse", "task=relax", "system=h2o", f"units={name}", word)
        assert done.status == 0
        outputs[name] = done.out
    assert not re.search(r"\d (m?Ha|kcal/mol|kJ/mol)\b", outputs["eV"])
    assert "eV/Å, asked for" in outputs["eV"] and "Ha/bohr, asked for" in outputs["hartree"]
    documents = [json.loads((tmp_path / f"runs/{name}/result.json").read_text()) for name in ("ev", "ha")]
    assert without_time(documents[0]) == without_time(documents[1])
    assert "Ha/bohr" in documents[0]["relaxation"]["verdict"]
    energy = documents[0]["energy"]["value"]
    assert f"{energy * 27.211386024367243:.5f} eV" in outputs["eV"]

    assert f"{energy * 27.211386024367243:.5f} eV" in program("report", "runs/ev").out
    assert f"{energy:.6f} Ha" in program("report", "runs/ev", "--units", "hartree").out
    assert "kcal/mol/Å, asked for" in program("report", "runs/ha", "--units", "kcal/mol").out

    assert "energy_ev" in program("table", "runs/ev").out
    assert "energy_hartree" in program("table", "runs").out  # the runs differ
    (row,) = csv.DictReader(program("table", "runs/ev", "--format", "csv").out.splitlines())
    assert float(row["energy_hartree"]) == energy
    rows = list(csv.DictReader(program("table", "runs", "--units", "kJ/mol", "--format", "csv").out.splitlines()))
    assert {round(float(row["energy_kj_mol"]) / energy, 3) for row in rows} == {2625.5}
    assert "units" not in rows[0]


def test_wrong_units_are_refused_before_anything_is_written(program: Program, tmp_path: Path) -> None:
    for words in (("+method=morse", "units=Ry"), ("table", ".", "--units", "Ry"), ("report", ".", "--units", "Ry")):
        done = program(*words)
        assert done.status == 2 and "must be hartree, eV, kcal/mol or kJ/mol, not 'Ry'" in done.err
        assert len(done.err.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_the_units_of_the_screen_do_not_make_another_run(program: Program) -> None:
    words = ("+method=morse", "system=h2o", "hydra.run.dir=run", "ckpt=last")
    assert program(*words).status == 0
    again = program(*words, "units=eV")
    assert again.status == 0 and " eV\n" in again.out and "starting" not in again.out

"""Pictures are drawn from whatever a run has left, however little."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fusion.errors import InputError
from fusion.plots import energy as plots
from fusion.plots import spectrum
from fusion.tasks.harmonic.lines import broadened

COLUMNS = ["step", "phase", "energy", "stderr", "variance", "loss"]


def write_metrics(directory: Path, pretrain: int = 0, optimise: int = 0, evaluate: int = 0, **changes: Any) -> None:
    rng = np.random.default_rng(0)
    with (directory / "metrics.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, COLUMNS)
        table.writeheader()
        table.writerows({"step": i, "phase": "pretrain", "loss": 0.1} for i in range(pretrain))
        for phase, number in (("optimise", optimise), ("evaluate", evaluate)):
            for i in range(number):
                row = {"energy": -8.07 + 0.1 * math.exp(-i) + 0.005 * rng.normal(), "stderr": 0.005, "variance": 0.007}
                table.writerow({"step": i, "phase": phase} | row | changes)


def write_result(directory: Path) -> None:
    result = {
        "status": "ok",
        "method": "ferminet",
        "system": {"formula": "LiH"},
        "energy": {"value": -8.07, "stderr": 0.0002},
        "reference": {"value": -8.0705, "source": "a very long source " * 10, "difference_mhartree": 0.5},
        "vmc": {"hartree_fock": {"energy_hartree": -7.98733, "basis": "cc-pVQZ"}},
    }
    (directory / "result.json").write_text(json.dumps(result))


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize(
    "phases",
    [
        {"pretrain": 5, "optimise": 100, "evaluate": 60},
        {"optimise": 3},
        {"optimise": 1, "evaluate": 1},
        {"evaluate": 40},
        {"optimise": 10, "variance": 0.0, "stderr": 0.0, "energy": -0.5},
        {"optimise": 10, "variance": "", "stderr": "nan"},
    ],
)
@pytest.mark.filterwarnings("error")
def test_a_picture_is_drawn(phases: dict[str, Any], finished: bool, tmp_path: Path) -> None:
    write_metrics(tmp_path, **phases)
    if finished:
        write_result(tmp_path)
    path = plots.energy_curve(tmp_path)
    assert path == tmp_path / "energy.png" and path.read_bytes().startswith(b"\x89PNG")


def test_nothing_to_draw(tmp_path: Path) -> None:
    for write in (lambda: None, lambda: write_metrics(tmp_path, pretrain=3)):
        write()
        assert not plots.has_energies(tmp_path)
        with pytest.raises(InputError, match="records no energies"):
            plots.energy_curve(tmp_path)


def test_metrics_of_a_killed_and_resumed_run(tmp_path: Path) -> None:
    lines = ["step,phase,energy,stderr", "0,evaluate,3,1", "0,optimise,1,1", "1,optimise,9,1", "1,optimise,2,1"]
    (tmp_path / "metrics.csv").write_text("\n".join([*lines, "oops", "2,optimise,nan,1", "1,evaluate,4"]))
    rows = plots.read_metrics(tmp_path)
    assert [(row["phase"], row["step"]) for row in rows] == [
        ("optimise", 0), ("optimise", 1), ("optimise", 2), ("evaluate", 0),
    ]  # fmt: skip
    assert [row["energy"] for row in rows[:2]] == [1.0, 2.0] and math.isnan(rows[2]["energy"])


def test_smoothing_ignores_single_bad_iterations() -> None:
    energy = np.full(300, -8.0)
    energy[[5, 100]] = -20.0, np.nan
    curve = plots.Curve("optimise", np.arange(300.0), energy, np.full(300, 0.01), np.ones(300))
    smooth = plots._smooth(curve)
    assert np.all(smooth.energy == -8.0)
    assert smooth.error[-150] == pytest.approx(0.01 / math.sqrt(11), rel=0.1)


def test_a_broadened_spectrum_keeps_its_intensities(tmp_path: Path) -> None:
    axis = np.linspace(-20000.0, 25000.0, 200_001)
    curve = broadened(axis, np.array([1600.0, 3800.0]), np.array([50.0, 20.0]), 10.0)
    assert float(curve.sum() * (axis[1] - axis[0])) == pytest.approx(70.0, rel=1e-3)
    assert float(curve.max()) == pytest.approx(50.0 / (10.0 * np.pi), rel=1e-3)
    found = {"status": "ok", "method": "toy", "frequencies_cm1": [-300.0, 1600.0]}
    for name, more in (("without", {}), ("with", {"ir_intensities_km_per_mol": [1.0, 50.0]})):
        (tmp_path / name).mkdir()
        (tmp_path / name / "result.json").write_text(json.dumps(found | more))
        spectrum.draw(tmp_path / name, tmp_path / f"{name}.png")
    assert (tmp_path / "with.png").is_file() and not (tmp_path / "without.png").exists()

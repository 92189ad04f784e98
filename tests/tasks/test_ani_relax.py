"""ANI's minima and frequencies against values of its authors' program in double precision."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fusion.chemistry import units
from processes import Program

MODELS = {"ani1x": "ani-1x", "ani1ccx": "ani-1ccx", "ani2x": "ani-2x"}
FILE = "reference/ani_opt_vib_reference.json"


def cases() -> list[Any]:
    data = os.environ.get("FUSION_TEST_DATA")
    if data is None or not Path(data, FILE).is_file():
        return [pytest.param({}, "", {}, marks=pytest.mark.skip(reason=f"needs FUSION_TEST_DATA with {FILE}"))]
    content = json.loads(Path(data, FILE).read_text())["cases"]
    return [
        pytest.param(
            case,
            model,
            expected,
            id=f"{name}-{model}",
            marks=[] if (name, model) == ("ethanol", "ani2x") else [pytest.mark.slow],
        )
        for name, case in content.items()
        for model, expected in case["models"].items()
    ]


@pytest.mark.parametrize(("case", "model", "expected"), cases())
def test_minima_and_frequencies(
    zoo_cache: Path, program: Program, tmp_path: Path, case: dict[str, Any], model: str, expected: dict[str, Any]
) -> None:
    rows = [f"{s} {x!r} {y!r} {z!r}" for s, (x, y, z) in zip(case["symbols"], case["start_positions"], strict=True)]
    (tmp_path / "start.xyz").write_text("\n".join([str(len(rows)), "", *rows, ""]))
    fmax = expected["fmax_eV_A"] / units.EV_ANGSTROM_PER_HARTREE_BOHR
    done = program(
        "+method=ani",
        f"weights={MODELS[model]}",
        "task=vibrations",
        "system=start.xyz",
        "dtype=float64",
        f"task.fmax={fmax}",
        "hydra.run.dir=run",
    )
    assert done.status == 0, done
    document = json.loads((tmp_path / "run" / "result.json").read_text())
    assert document["energy"]["value"] == pytest.approx(expected["energy"], abs=1e-8)
    np.testing.assert_allclose(document["frequencies_cm1"], expected["frequencies_cm1_projected"], atol=0.05)
    assert document["zero_point_energy_hartree"] == pytest.approx(expected["zpe_Ha"], abs=1e-8)
    vibrations = document["vibrations"]
    six = len(vibrations["residual_of_removed_cm1"])
    for key, reference in (
        ("reduced_masses_dalton", "torchani_reduced_masses_amu"),
        ("force_constants_mdyne_per_angstrom", "torchani_force_constants_mdyne_A"),
    ):
        np.testing.assert_allclose(vibrations[key], expected[reference][six:], rtol=1e-3)

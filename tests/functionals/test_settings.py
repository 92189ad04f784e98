"""Settings of an SCF that are refused in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import pytest

from fusion.errors import InputError
from fusion.functionals.scf.settings import Settings
from fusion.methods import by_name


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("conv_tol", "tight"),
        ("conv_tol", float("inf")),
        ("damp", "half"),
        ("level_shift", "x"),
        ("memory_mb", "1GB"),
        ("memory_mb", -5),
        ("density_fit", "no"),
        ("symmetrize", "no"),
        ("grid_level", True),
        ("ghosts", 5),
        ("start", 5),
    ],
)
def test_wrong_values_are_refused_by_the_name_of_the_setting(setting: str, value: Any) -> None:
    with pytest.raises(InputError, match=rf"^method\.{setting}\b"):
        Settings(**{setting: value})


@pytest.mark.parametrize(
    ("setting", "value"), [("conv_tol", "tight"), ("conv_tol", float("inf")), ("grid_level", True)]
)
def test_conventional_methods_refuse_them_too(setting: str, value: Any) -> None:
    with pytest.raises(InputError, match=rf"^method\.{setting}\b"):
        by_name.method({"method": "dft", "basis": "sto-3g", setting: value})


@pytest.mark.parametrize("empty", [True, False], ids=["another format", "without orbitals"])
def test_a_start_that_is_no_checkpoint_is_refused(empty: bool, tmp_path: Path) -> None:
    file = tmp_path / "start.chk"
    if empty:
        file.write_text("")
    else:
        h5py.File(file, "w").close()
    with pytest.raises(InputError, match=r"^method\.start=.*start\.chk is a file, but not a checkpoint"):
        Settings(start=str(file))

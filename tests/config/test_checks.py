"""Settings that are energies."""

from __future__ import annotations

from typing import Any

import pytest

from fusion.config.checks import energy_setting
from fusion.errors import InputError


@pytest.mark.parametrize(
    ("value", "hartree"),
    [(0.001, 1e-3), ("1mHa", 1e-3), ("0.5 mHa", 5e-4), ("1e-4", 1e-4), ("2e-3Ha", 2e-3), (None, None)],
)
def test_energies_in_hartree_or_with_a_unit(value: Any, hartree: float | None) -> None:
    assert energy_setting("method.until", value) == pytest.approx(hartree)


@pytest.mark.parametrize("value", [0, -1e-3, "1kcal/mol", "much", True, float("inf"), [1], "1e"])
def test_other_values_are_refused(value: Any) -> None:
    with pytest.raises(InputError, match=r"method\.until must be a positive energy such as 0\.001 \(hartree\) or 1mHa"):
        energy_setting("method.until", value)

"""The stated error of density fitting is the difference to the calculation with exact integrals."""

from __future__ import annotations

from typing import Any

import pytest

from functional_models import OXYGEN_HYDRIDE, WATER, SlaterExchange
from fusion.functionals import FunctionalMethod
from fusion.methods import by_name
from fusion.scf import fitting


@pytest.mark.parametrize("solvent", [None, "water"])
@pytest.mark.parametrize("system", [WATER, OXYGEN_HYDRIDE])
def test_of_a_learned_functional(system: Any, solvent: str | None) -> None:
    fitted, exact = (
        FunctionalMethod(
            "t", SlaterExchange(), basis="6-31g", grid_level=0, start=None, density_fit=fit, solvent=solvent
        ).calculate([system], {"energy"})[0]
        for fit in (True, False)
    )
    stated = fitted.details["kohn_sham"]["density_fit_error_hartree"]
    assert fitted.energy - exact.energy == pytest.approx(stated, rel=1e-2)
    assert abs(stated) > 1e-7 and "density_fit_error_hartree" not in exact.details["kohn_sham"]


@pytest.mark.parametrize("options", [{"method": "hf"}, {"method": "dft", "xc": "b3lyp", "grid_level": 0}])
def test_of_conventional_methods(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"basis": "6-31g", "density_fit": True, "solvent": "water"}
    (fitted,) = by_name.method({**options, **settings}).calculate([WATER], {"energy"})
    (exact,) = by_name.method({**options, **settings, "density_fit": False}).calculate([WATER], {"energy"})
    assert fitted.energy - exact.energy == pytest.approx(fitted.details["scf"]["density_fit_error_hartree"], rel=1e-2)
    monkeypatch.setattr(fitting, "MOST_FUNCTIONS", 5)
    (unknown,) = by_name.method({**options, **settings}).calculate([WATER], {"energy"})
    assert unknown.details["scf"]["density_fit_error"].startswith("not estimated")

"""D3(BJ) by the library: values, gradient and missing parameters."""

from __future__ import annotations

import numpy as np
import pytest

from fusion.errors import InputError
from fusion.functionals.scf.dispersion import dispersion

NUMBERS = [8, 1, 1, 8, 1, 1]
WATER_DIMER = np.array(  # bohr
    [
        [-2.7, 0.0, 0.2],
        [-3.2, 1.4, -0.8],
        [-0.9, 0.1, 0.0],
        [2.7, 0.1, -0.1],
        [3.3, -1.4, 0.8],
        [3.3, 1.4, 0.9],
    ]
)
B3LYP = {"s8": 1.9889, "a1": 0.3981, "a2": 4.4211}  # Grimme, Ehrlich, Goerigk (2011), table 2


def test_b3lyp_and_dm21_use_the_published_parameters() -> None:
    from dftd3.interface import DispersionModel, RationalDampingParam

    model = DispersionModel(np.array(NUMBERS), WATER_DIMER)
    expected = model.get_dispersion(RationalDampingParam(s6=1.0, s9=0.0, **B3LYP), grad=False)["energy"]
    energy, _ = dispersion(NUMBERS, WATER_DIMER)
    assert energy == pytest.approx(expected, abs=1e-12)
    assert energy < -1e-4
    assert dispersion(NUMBERS, WATER_DIMER, "dm21")[0] == pytest.approx(energy, abs=1e-12)


def test_dispersion_falls_with_the_sixth_power() -> None:
    near, far = (dispersion([2, 2], np.array([[0.0, 0.0, 0.0], [0.0, 0.0, r]]))[0] for r in (25.0, 50.0))
    assert near / far == pytest.approx(64.0, rel=0.05)  # C8 still counts a little


def test_gradient_matches_the_energy() -> None:
    _, gradient = dispersion(NUMBERS, WATER_DIMER, "pbe0")
    numerical = np.zeros_like(gradient)
    for place in np.ndindex(*gradient.shape):
        for sign in (1, -1):
            moved = WATER_DIMER.copy()
            moved[place] += sign * 1e-4
            numerical[place] += sign * dispersion(NUMBERS, moved, "pbe0")[0] / 2e-4
    np.testing.assert_allclose(gradient, numerical, rtol=0, atol=1e-9)
    np.testing.assert_allclose(gradient.sum(axis=0), 0.0, atol=1e-12)


def test_ghosts_do_not_contribute() -> None:
    with_ghost = np.vstack([WATER_DIMER[:3], WATER_DIMER[3:4]])
    energy, gradient = dispersion([8, 1, 1, 0], with_ghost)
    alone, of_alone = dispersion([8, 1, 1], WATER_DIMER[:3])
    assert energy == alone
    np.testing.assert_array_equal(gradient, np.vstack([of_alone, np.zeros((1, 3))]))
    assert dispersion([0], np.zeros((1, 3)))[0] == 0.0


def test_missing_parameters_are_errors() -> None:
    with pytest.raises(InputError, match=r"no parameters for Og; it has them up to Lr"):
        dispersion([118, 1], WATER_DIMER[:2])
    with pytest.raises(InputError, match=r"no parameters for the functional 'b3lip'"):
        dispersion([1, 1], WATER_DIMER[:2], "b3lip")

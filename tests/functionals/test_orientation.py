"""The orientation of open shells of atoms and linear molecules is kept without other changes of the Fock matrix."""

import numpy as np
import pytest
from pyscf import gto, scf
from scipy.spatial.transform import Rotation

from functional_models import PBEExchange
from fusion.functionals.scf.kohn_sham import kohn_sham
from fusion.functionals.scf.orientation import Orientation


def unrestricted(atom: str, spin: int) -> scf.uhf.UHF:
    return scf.UHF(gto.M(atom=atom, basis="6-31g", spin=spin, verbose=0)).run(conv_tol=1e-12)


def noisy(mean_field: scf.uhf.UHF) -> np.ndarray:
    noise = 1e-3 * np.random.default_rng(0).normal(size=np.shape(mean_field.mo_coeff))
    return np.asarray(mean_field.get_fock()) + noise + noise.transpose(0, 2, 1)


def tilted(mean_field: scf.uhf.UHF, axis: np.ndarray, slope: float) -> np.ndarray:
    """Noisy Fock matrix plus a term with a known slope (hartree) of the energy by rotation about a unit vector.

    The slope of the noise itself depends on the orientation of the degenerate shell, which differs between machines.
    """
    density = np.asarray(mean_field.make_rdm1())
    turns = [
        mean_field.mol.ao_rotation_matrix(Rotation.from_rotvec(sign * 1e-4 * axis).as_matrix()) for sign in (1, -1)
    ]
    change = np.stack([turns[0] @ spin @ turns[0].T - turns[1] @ spin @ turns[1].T for spin in density]) / 2e-4
    return noisy(mean_field) + slope * change / np.sum(change**2)


def energy_after(mean_field: scf.uhf.UHF, fock: np.ndarray, density: np.ndarray, turn: np.ndarray) -> float:
    """First-order energy tr(F D) of the density rotated by the matrix `turn` of the basis functions."""
    return float(sum(np.sum(matrix * (turn @ spin @ turn.T)) for matrix, spin in zip(fock, density, strict=True)))


@pytest.mark.parametrize(
    ("atom", "spin", "axis"), [("F 0 0 0", 1, [0.3, 0.5, 0.8]), ("O 0 0 0; H 0 0 1", 1, [0, 0, 1])]
)
def test_orientation_removes_the_torque(atom: str, spin: int, axis: list[float]) -> None:
    mean_field = unrestricted(atom, spin)
    unit = np.array(axis) / np.linalg.norm(axis)
    density, fock = np.asarray(mean_field.make_rdm1()), tilted(mean_field, unit, slope=0.1)
    held, torque = Orientation(mean_field.mol).held(fock, density)
    angle = 1e-4
    turns = []
    for sign in (1.0, -1.0):
        matrix = Rotation.from_rotvec(sign * angle * unit).as_matrix()
        turns.append(mean_field.mol.ao_rotation_matrix(matrix))
    slopes = [
        (energy_after(mean_field, f, density, turns[0]) - energy_after(mean_field, f, density, turns[1])) / (2 * angle)
        for f in (fock, held)
    ]
    assert slopes[0] > 0.05
    assert abs(slopes[1]) < 1e-7
    assert torque > 1e-3
    again, rest = Orientation(mean_field.mol).held(held, density)
    np.testing.assert_allclose(again, held, atol=1e-13)
    assert rest < 1e-12


@pytest.mark.parametrize(("atom", "spin"), [("Ne 0 0 0", 0), ("N 0 0 0", 3), ("O 0 0 0; H 0 0.7 0.7; H 0 -0.7 0.7", 0)])
def test_orientation_does_not_change_other_shells_and_molecules(atom: str, spin: int) -> None:
    mean_field = unrestricted(atom, spin)
    fock = noisy(mean_field)
    held, torque = Orientation(mean_field.mol).held(fock, np.asarray(mean_field.make_rdm1()))
    np.testing.assert_allclose(held, fock, atol=1e-12)
    assert torque == 0.0


def test_fluorine_converges_in_any_orientation() -> None:
    """On this grid the energy depends on the orientation by about 1e-4 Ha, and DIIS alone would never converge."""
    energies = []
    for axis in ([0.0, 0.0, 0.0], [0.4, 0.2, 0.1]):
        mean_field = kohn_sham(gto.M(atom="F 0 0 0", basis="6-31g", spin=1, verbose=0), PBEExchange(), grid_level=0)
        turn = mean_field.mol.ao_rotation_matrix(Rotation.from_rotvec(axis).as_matrix())
        density = np.stack([turn @ spin @ turn.T for spin in mean_field.get_init_guess(key="b3lyp")])
        energies.append(mean_field.kernel(density))
        assert [attempt.name for attempt in mean_field.attempts] == ["DIIS"]
        assert mean_field.converged
        assert mean_field.cycles < 10
    assert energies[1] == pytest.approx(energies[0], abs=5e-4)
    assert mean_field.torque > 1e-5

"""Torques by quadrature noise are removed from the forces for optimisers, and nothing else is."""

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.optimize import LBFGS

from fusion.tasks.geometry.structures import NoTorque, without_torque

PLACES = np.array([[0.0, 0.0, 0.1], [0.0, 1.4, 1.1], [0.3, -1.4, 1.0], [2.0, 0.1, -0.5]])


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_a_torque_is_removed_and_forces_between_atoms_stay(count: int) -> None:
    """Single atoms and lines of atoms rotate about fewer axes."""
    places = PLACES[:count]
    inner = sum(
        (places[i] - places[j])[None] * (np.eye(count)[i] - np.eye(count)[j])[:, None]
        for i in range(count)
        for j in range(i)
    ) + np.zeros((count, 3))
    turning = np.cross([0.3, -0.2, 0.5], places - places.mean(axis=0))
    np.testing.assert_allclose(without_torque(inner + turning + 0.7, places), inner + 0.7, atol=1e-12)


class Noisy(Calculator):
    """A spring whose energy depends on its direction in space."""

    implemented_properties = ("energy", "forces")

    def calculate(self, atoms: Atoms, properties: object = None, changes: object = all_changes) -> None:
        super().calculate(atoms, properties, changes)
        bond = atoms.positions[1] - atoms.positions[0]
        length = np.linalg.norm(bond)
        pull = 5.0 * (length - 1.0) * bond / length + 0.05 * np.array([-bond[1], bond[0], 0.0]) / length
        self.results = {"energy": 2.5 * (length - 1.0) ** 2, "forces": np.array([pull, -pull])}


def test_a_noisy_molecule_relaxes() -> None:
    atoms = Atoms("H2", [[0, 0, 0], [0.9, 0.3, 0.6]], calculator=Noisy())
    atoms.set_constraint(NoTorque())
    assert LBFGS(atoms, logfile=None).run(fmax=1e-5, steps=30)
    assert atoms.get_distance(0, 1) == pytest.approx(1.0, abs=1e-5)
    assert np.abs(atoms.get_forces(apply_constraint=False)).max() > 0.01

"""Charges and dipoles of ANI with random networks: sums, symmetries, derivatives, unchanged energies."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from test_ani import ARGUMENTS, ani, crystal, random_system

from fusion.chemistry.system import System
from fusion.errors import InputError
from fusion.methods import protocol
from fusion.potentials import PotentialMethod, collate
from fusion_ani.network import ANI, ANI1

PROPERTIES = frozenset({"energy", "charges", "dipole"})


def method(**changes: Any) -> PotentialMethod:
    return PotentialMethod("ani", ani(charges=True, **changes))


def ion(system: System, charge: int) -> System:
    return System("ion", system.symbols, system.positions, charge=charge, spin=(system.spin + charge) % 2)


def properties(system: System, *more: str) -> dict[str, Any]:
    (result,) = method().calculate([system], PROPERTIES | set(more))
    return result.properties


def test_charges_sum_to_the_total_and_give_the_dipole() -> None:
    systems = [ion(random_system(size, seed=size), charge) for size, charge in ((5, 1), (9, 0), (2, -2))]
    for system, result in zip(systems, method().calculate(systems, PROPERTIES), strict=True):
        charges, dipole = result.properties["charges"], result.properties["dipole"]
        assert np.sum(charges) == pytest.approx(system.charge, abs=1e-12) and np.ptp(charges) > 0.1
        np.testing.assert_allclose(charges @ system.positions, dipole, atol=1e-12)


def test_excess_charge_is_distributed_evenly() -> None:
    neutral = random_system(7)
    change = properties(ion(neutral, 2))["charges"] - properties(neutral)["charges"]
    np.testing.assert_allclose(change, 2.0 / 7.0, atol=1e-12)


@pytest.mark.parametrize("charge", [0, 1])
def test_dipole_follows_rotations_and_shifts_of_ions(charge: int) -> None:
    system = ion(random_system(8, seed=3), charge)
    before, turn = np.asarray(properties(system)["dipole"]), Rotation.random(rng=1).as_matrix()
    np.testing.assert_allclose(properties(system.moved(system.positions @ turn.T))["dipole"], turn @ before, atol=1e-10)
    shift = np.array([1.0, -2.0, 3.0])
    moved = properties(system.moved(system.positions + shift))["dipole"]
    np.testing.assert_allclose(moved, before + charge * shift, atol=1e-10)


def test_derivatives_match_the_dipole() -> None:
    system, step = random_system(5), 1e-4
    slopes = np.asarray(properties(system, "dipole_derivatives", "forces")["dipole_derivatives"])
    for row in (0, 4, 14):
        change = np.zeros(15)
        change[row] = step
        ends = [properties(system.moved(system.positions + sign * change.reshape(5, 3)))["dipole"] for sign in (1, -1)]
        np.testing.assert_allclose(slopes[row], (ends[0] - ends[1]) / (2 * step), atol=1e-6)
    np.testing.assert_allclose(slopes.reshape(5, 3, 3).sum(axis=0), 0.0, atol=1e-10)


def test_charge_networks_do_not_change_energies() -> None:
    plain = ani()
    more = plain.with_charges()
    batch = collate([random_system(size, seed=size) for size in (6, 3)])
    assert plain.provides == {"energy_std"} and more.provides == {"energy_std", "charges", "dipole"}
    assert torch.equal(plain(batch).members, more(batch).members)
    prediction = more(batch)
    assert prediction.charges is not None and prediction.charges[1, 3:].abs().max() == 0.0
    assert prediction.dipole_members is not None and prediction.dipole_members.shape == (3, 2, 3)
    assert prediction.dipole is not None and torch.allclose(prediction.dipole_members.mean(0), prediction.dipole)


@pytest.mark.parametrize("kind", [ANI, ANI1])
def test_a_model_is_rebuilt_from_its_arguments(kind: type[ANI]) -> None:
    model = ani(kind, charges=True)
    same = kind(**model.arguments).double().eval()
    same.load_state_dict(model.state_dict())
    batch = collate([random_system(6)])
    assert torch.equal(same(batch).dipole, model(batch).dipole)
    wider, one = model.extended(["S"]), model.member(1)
    torch.testing.assert_close(wider(batch).dipole, model(batch).dipole)
    torch.testing.assert_close(one(batch).dipole, model(batch).dipole_members[1])
    assert kind(**ARGUMENTS).arguments.keys() == model.arguments.keys() - {"charges"}


def test_a_crystal_has_no_dipole() -> None:
    periodic = crystal(random_system(8), np.diag([5.0, 6.0, 7.0]))
    with pytest.raises(InputError, match="dipole of a crystal"):
        protocol.calculate(method(), [periodic], {"dipole"})
    (result,) = method().calculate([periodic], {"energy", "charges"})
    assert np.sum(result.properties["charges"]) == pytest.approx(0.0, abs=1e-12)

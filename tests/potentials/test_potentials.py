"""Potentials: padding does not change results, and derivatives agree with the energy."""

import numpy as np
import pytest
import torch
from torch import nn

from fusion.chemistry.system import System
from fusion.errors import CalculationError, InputError
from fusion.methods import protocol
from fusion.methods.ase_calculator import FusionCalculator
from fusion.potentials import Batch, PotentialMethod, Prediction, neighbours
from fusion.potentials.domain import Domain


class Springs(nn.Module):
    """Ensemble of pair springs with force constants k and rest length 2 bohr; its mean is the energy."""

    provides = frozenset({"energy_std"})

    def __init__(self, constants: tuple[float, ...] = (0.2, 0.3, 0.4)) -> None:
        super().__init__()
        self.constants = nn.Parameter(torch.tensor(constants))

    def forward(self, batch: Batch) -> Prediction:
        near = neighbours(batch, cutoff=50.0)
        system, distance = near.system[near.centre], near.distances
        stretch = torch.zeros(len(batch), dtype=distance.dtype).index_add(0, system, 0.25 * (distance - 2.0) ** 2)
        members = self.constants[:, None] * stretch
        return Prediction(energy=members.mean(dim=0), members=members)


class Gas(nn.Module):
    """Energy k log(volume): pressure k / volume, stress -(-k / volume) on the diagonal."""

    def forward(self, batch: Batch) -> Prediction:
        return Prediction(energy=0.7 * torch.linalg.det(batch.cell).log() + 0.0 * batch.positions.sum((1, 2)))


class Undifferentiable(nn.Module):
    def forward(self, batch: Batch) -> Prediction:
        with torch.no_grad():
            return Prediction(energy=batch.positions.square().sum((1, 2)))


def molecule(*heights: float) -> System:
    positions = np.array([[0.1 * z**2, 0.2 * z, z] for z in heights])
    return System(f"h{len(heights)}", ("H",) * len(heights), positions, spin=len(heights) % 2)


def test_batches_of_different_sizes_equal_single_calculations() -> None:
    systems = [molecule(0.0, 1.5), molecule(0.0, 1.3, 3.1, 4.0), molecule(0.0), molecule(0.0, 2.0, 3.0)]
    wanted = {"energy", "forces", "hessian"}
    together = PotentialMethod("springs", Springs(), batch_size=3).calculate(systems, wanted)
    for system, result in zip(systems, together, strict=True):
        (alone,) = PotentialMethod("springs", Springs()).calculate([system], wanted)
        assert result.energy == pytest.approx(alone.energy, abs=1e-14)
        assert result.energy_std == pytest.approx(alone.energy_std, abs=1e-14)
        for key, shape in (("forces", (len(system.symbols), 3)), ("hessian", (3 * len(system.symbols),) * 2)):
            assert np.shape(result.properties[key]) == shape
            np.testing.assert_allclose(result.properties[key], alone.properties[key], atol=1e-13)


def test_the_spread_is_the_sample_deviation_of_total_energies() -> None:
    (result,) = PotentialMethod("springs", Springs()).calculate([molecule(0.0, 3.0)], {"energy"})
    stretch = 0.5 * (np.sqrt(0.9**2 + 0.6**2 + 3.0**2) - 2.0) ** 2
    assert result.energy == pytest.approx(0.3 * stretch, rel=1e-6)
    assert result.energy_std == pytest.approx(0.1 * stretch, rel=1e-6)


def test_a_calibrated_ensemble_is_scaled_by_its_factor_and_has_a_limit() -> None:
    near, far = molecule(0.0, 2.2), molecule(0.0, 4.0)
    wanted = {"energy", "energy_members", "hessian_members"}
    plain = PotentialMethod("springs", Springs()).calculate([near, far], wanted)
    method = PotentialMethod("springs", Springs())
    stds = [result.energy_std or 0.0 for result in plain]
    method.domain = Domain("springs", spread=float(1.8 * 1.5 * stds[0] / np.sqrt(2.0)), factor=1.8)
    for one, other, outside in zip(method.calculate([near, far], wanted), plain, (False, True), strict=True):
        assert one.energy == other.energy and one.energy_std == pytest.approx(1.8 * (other.energy_std or 0.0))
        for key in ("energy_members", "hessian_members"):
            moved, raw = (np.asarray(result.properties[key]) for result in (one, other))
            np.testing.assert_allclose(moved - moved.mean(0), 1.8 * (raw - raw.mean(0)), atol=1e-12)
            np.testing.assert_allclose(moved.mean(0), raw.mean(0), atol=1e-12)
        domain = one.details["domain"]
        assert domain["outside"] is outside and domain["calibration_factor"] == 1.8
        assert ("outside what the model was trained on" in (one.message or "")) is outside
    assert "calibration_factor" not in plain[0].details["domain"] and "outside" not in plain[0].details["domain"]


def test_the_spread_of_forces_is_that_of_the_members_times_its_factor() -> None:
    method = PotentialMethod("springs", Springs())
    systems = [molecule(0.0, 2.2), molecule(0.0, 1.3, 3.1)]
    for factor in (None, 2.5):
        method.domain = Domain("springs", factor=1.8, forces_factor=factor)
        for result in method.calculate(systems, {"forces", "forces_std"}):
            forces, std = (np.asarray(result.properties[key]) for key in ("forces", "forces_std"))
            np.testing.assert_allclose(std, (factor or 1.0) / 3.0 * np.abs(forces), rtol=1e-6)  # springs of 0.3 +- 0.1
    assert "forces_std" in FusionCalculator(method).implemented_properties


def test_derivatives_agree_with_finite_differences_of_the_energy() -> None:
    method = PotentialMethod("springs", Springs())
    system = molecule(0.0, 1.3, 3.1)
    (result,) = method.calculate([system], {"forces", "hessian"})
    np.testing.assert_allclose(result.properties["forces"], protocol.numerical_forces(method, system, 1e-3), atol=1e-7)
    hessian = np.asarray(result.properties["hessian"])
    np.testing.assert_allclose(hessian, hessian.T, atol=1e-12)
    step = np.zeros((3, 3))
    step[1, 2] = 1e-4
    plus, minus = method.calculate([system.with_positions(system.positions + s * step) for s in (1, -1)], {"forces"})
    row = (np.asarray(minus.properties["forces"]) - np.asarray(plus.properties["forces"])).ravel() / 2e-4
    np.testing.assert_allclose(hessian[5], row, atol=1e-6)


def test_stress_of_a_gas() -> None:
    cell = np.diag([5.0, 6.0, 7.0])
    system = System("gas", ("He",), np.ones((1, 3)), cell=cell, pbc=(True, True, True))
    (result,) = PotentialMethod("gas", Gas()).calculate([system], {"stress"})
    np.testing.assert_allclose(result.properties["stress"], 0.7 / 210.0 * np.eye(3), atol=1e-14)
    with pytest.raises(InputError, match="periodic"):
        PotentialMethod("gas", Gas()).calculate([molecule(0.0, 1.0)], {"stress"})


def test_a_potential_without_gradient_gets_no_zero_forces() -> None:
    with pytest.raises(CalculationError, match="not differentiable"):
        PotentialMethod("bad", Undifferentiable()).calculate([molecule(0.0, 1.0)], {"forces"})


def test_a_non_finite_energy_is_a_failure() -> None:
    (result,) = PotentialMethod("nan", Springs((float("nan"),))).calculate([molecule(0.0, 1.0)], {"energy"})
    assert (result.status, result.energy) == ("failed", None)

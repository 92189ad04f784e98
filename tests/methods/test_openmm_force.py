"""OpenMM: both ways to a method of fusion give its numbers, and dynamics and mixed systems work.

The tests need OpenMM 8.4 and OpenMM-ML, which are no dependencies of fusion.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import molecule

import fusion
from fusion.errors import InputError

pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("openmm", "openmmml")),
    reason="OpenMM is not installed: pip install openmm openmmml",
)
KJ_MOL = units.kJ / units.mol


def topology_of(atoms: Atoms, molecules: int = 1) -> Any:
    """Topology without bonds; a periodic box for a periodic structure."""
    from openmm import app, unit
    from openmm.vec3 import Vec3

    topology = app.Topology()
    chain = topology.addChain()
    size = len(atoms) // molecules
    for index, symbol in enumerate(atoms.get_chemical_symbols()):
        if index % size == 0:
            residue = topology.addResidue("HOH", chain)
        topology.addAtom(
            symbol if symbol == "O" else f"{symbol}{index % size}", app.Element.getBySymbol(symbol), residue
        )
    if any(atoms.pbc):
        topology.setPeriodicBoxVectors([Vec3(*row) for row in np.array(atoms.cell) / 10.0] * unit.nanometer)
    return topology


def simulation(topology: Any, system: Any, atoms: Atoms) -> Any:
    from openmm import LangevinMiddleIntegrator, Platform, app, unit

    integrator = LangevinMiddleIntegrator(300 * unit.kelvin, 5 / unit.picosecond, 0.5 * unit.femtosecond)
    integrator.setRandomNumberSeed(1)
    made = app.Simulation(topology, system, integrator, Platform.getPlatformByName("Reference"))
    made.context.setPositions(atoms.positions / 10.0 * unit.nanometer)
    return made


def energy_and_forces(running: Any) -> tuple[float, np.ndarray]:
    """Energy in eV and forces in eV/Angstrom of the present state."""
    from openmm import unit

    state = running.context.getState(energy=True, forces=True)
    energy = state.getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole)
    forces = state.getForces(asNumpy=True).value_in_unit(unit.kilojoule_per_mole / unit.nanometer)
    return energy * KJ_MOL, forces * KJ_MOL / 10.0


def water(seed: int = 0) -> Atoms:
    atoms = molecule("H2O")
    atoms.rattle(0.05, seed=seed)
    return atoms


@pytest.mark.parametrize("route", ["fusion", "ase"])
@pytest.mark.parametrize("periodic", [False, True])
def test_energies_and_forces_are_those_of_the_calculator(with_toy: None, route: str, periodic: bool) -> None:
    from openmmml import MLPotential

    atoms = water()
    if periodic:  # images interact
        atoms.set_cell([4.0, 4.5, 5.0])
        atoms.pbc = True
    topology, direct = topology_of(atoms), fusion.calculator("morse")
    if route == "fusion":
        system = MLPotential("fusion", weights="morse").createSystem(topology)
    else:
        system = MLPotential("ase").createSystem(topology, calculator=fusion.calculator("morse"))
    energy, forces = energy_and_forces(simulation(topology, system, atoms))
    assert energy == pytest.approx(direct.get_potential_energy(atoms), abs=1e-6)
    assert forces == pytest.approx(direct.get_forces(atoms), abs=1e-5)


@pytest.mark.parametrize("route", ["fusion", "ase"])
def test_a_published_model_runs_langevin_dynamics(zoo_cache: Path, route: str) -> None:
    from openmm import unit
    from openmmml import MLPotential

    atoms = molecule("CH3OH")
    topology, direct = topology_of(atoms), fusion.calculator("ani-1x")
    if route == "fusion":
        system = MLPotential("fusion", weights="ani-1x").createSystem(topology)
    else:
        system = MLPotential("ase").createSystem(topology, calculator=direct)
    running = simulation(topology, system, atoms)
    running.context.setVelocitiesToTemperature(300 * unit.kelvin, 1)
    running.step(100)
    state = running.context.getState(positions=True)
    atoms.positions = state.getPositions(asNumpy=True).value_in_unit(unit.angstrom)
    energy, forces = energy_and_forces(running)
    assert energy == pytest.approx(direct.get_potential_energy(atoms), abs=1e-4)
    assert forces == pytest.approx(direct.get_forces(atoms), abs=1e-3)
    assert abs(energy - direct.get_potential_energy(molecule("CH3OH"))) < 1.0  # eV: it has moved and not exploded


def test_a_mixed_system_replaces_the_interactions_inside_the_molecule_alone(with_toy: None) -> None:
    from openmm import app
    from openmmml import MLPotential

    pair = water(1) + water(2)
    pair.positions[3:] += [0.0, 0.0, 3.0]
    topology = topology_of(pair, molecules=2)
    topology.createStandardBonds()
    field = app.ForceField("tip3p.xml")
    plain = field.createSystem(topology, rigidWater=False)
    potential = MLPotential("fusion", weights="morse")
    mixed = potential.createMixedSystem(topology, plain, [0, 1, 2])
    alone = topology_of(pair[:3])
    alone.createStandardBonds()
    parts = [
        energy_and_forces(simulation(topology, plain, pair))[0],
        -energy_and_forces(simulation(alone, field.createSystem(alone, rigidWater=False), pair[:3]))[0],
        fusion.calculator("morse").get_potential_energy(pair[:3]),
    ]
    assert energy_and_forces(simulation(topology, mixed, pair))[0] == pytest.approx(sum(parts), abs=1e-6)
    interpolated = potential.createMixedSystem(topology, plain, [0, 1, 2], interpolate=True)
    running = simulation(topology, interpolated, pair)
    for value, expected in ((0.0, parts[0]), (1.0, sum(parts))):
        running.context.setParameter("lambda_interpolate", value)
        assert energy_and_forces(running)[0] == pytest.approx(expected, abs=1e-6)


def test_a_system_can_be_written_and_read(with_toy: None) -> None:
    from openmm import XmlSerializer
    from openmmml import MLPotential

    atoms, topology = water(), topology_of(water())
    system = MLPotential("fusion", weights="morse", **{"model.depth": 0.2}).createSystem(topology)
    copy = XmlSerializer.deserialize(XmlSerializer.serialize(system))
    expected = fusion.calculator("morse", **{"model.depth": 0.2}).get_potential_energy(atoms)
    assert energy_and_forces(simulation(topology, copy, atoms))[0] == pytest.approx(expected, abs=1e-6)


def test_wrong_input_is_refused_before_any_calculation(zoo_cache: Path, with_toy: None) -> None:
    from openmmml import MLPotential

    with pytest.raises(InputError, match="weights=NAME"):
        MLPotential("fusion")
    with pytest.raises(InputError, match="Did you mean 'ani-1x'"):
        MLPotential("fusion", weights="ani-1y")
    with pytest.raises(InputError, match="exact forces"):
        MLPotential("fusion", weights="noisy").createSystem(topology_of(water()))
    potential = MLPotential("fusion", weights="ani-1x")
    with pytest.raises(InputError, match="covers H C N O"):
        potential.createSystem(topology_of(molecule("SiH4")))
    with pytest.raises(InputError, match="charge"):
        potential.createSystem(topology_of(water()), charge=1)

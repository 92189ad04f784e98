"""Contract of a potential: an energy per system, invariant, smooth and differentiable, on any device. Atomic units."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from fusion.chemistry.system import System
from fusion.contracts import isolated, molecules
from fusion.contracts.findings import Broken, Check, Inapplicable, Noted
from fusion.contracts.potential_subject import Subject
from fusion.contracts.states import parameters_reached, same_after_saving
from fusion.errors import CalculationError, InputError
from fusion.potentials import abilities, collate
from fusion.potentials.derivatives import evaluate
from fusion.potentials.self_energies import self_energies

EXACT: Final = 1e-9
"""Largest change of an energy, relative to the energy or one hartree, that counts as none in float64."""
SLOPE: Final = 2e-6
"""Largest deviation of a derivative from finite differences, relative to the derivative or one atomic unit."""
JUMP: Final = 1e-4
"""Smallest jump of the energy (hartree) that is reported when an atom is pulled away."""
FAR_BOHR: Final = 120.0


def forward(subject: Subject) -> str:
    """Check the type, shapes and precision of what forward returns."""
    batch = collate(subject.systems)
    with torch.no_grad():
        prediction, _ = evaluate(subject.model, batch, ())
    if prediction.energy.dtype != torch.float64:
        raise Broken(
            f"energy is {str(prediction.energy.dtype).removeprefix('torch.')} although parameters and positions are "
            "float64: create tensors with dtype=batch.positions.dtype"
        )
    missing = {"energy_std": "members", "charges": "charges", "dipole": "dipole"}
    for name in sorted(abilities.provides(subject.model)):
        if name in missing and getattr(prediction, missing[name]) is None:
            raise Broken(f"`provides` has {name}, but forward gives no {missing[name]}")
    return f"a Prediction with energy (B,) for {subject.names}"


def finite(subject: Subject) -> str:
    """Check that energies and forces are finite, also of molecules that are compressed, stretched or far apart."""
    for factor in (1.0, 0.6, 3.0, 30.0):
        for system in subject.systems:
            scaled = system.moved(factor * system.positions)
            for name, values in (("energy", subject.energies([scaled])), ("force", subject.forces([scaled]))):
                if not np.isfinite(values).all():
                    at = "" if factor == 1.0 else f" with all coordinates times {factor:g}"
                    raise Broken(f"a {name} of {system.formula}{at} is {values[~np.isfinite(values)][0]}")
    return "energies and forces, also of compressed and separated atoms"


def batches(subject: Subject) -> str:
    """Check that a system's energy and forces are the same alone and in a padded batch, and at a second call."""
    together = subject.energies(subject.systems)
    _same(together, subject.energies(subject.systems), "a second call with the same batch gives other energies")
    alone = np.array([subject.energies([system])[0] for system in subject.systems])
    _same(alone, together, "energies in a padded batch differ from those of the systems alone: is padding left out?")
    forces = subject.forces(subject.systems)
    for row, system in enumerate(subject.systems):
        own = subject.forces([system])[0]
        _same(own, forces[row, : len(own)], f"forces of {system.formula} in a padded batch differ from those alone")
        if np.abs(forces[row, len(own) :]).max(initial=0.0) > 0.0:
            raise Broken("padding has forces: sum over real atoms only (batch.mask, or fusion.potentials.neighbours)")
    return "energies and forces of a batch are those of its systems alone"


def permutations(subject: Subject) -> str:
    """Check that the order of the atoms does not matter."""

    def shuffled(system: System, random: np.random.Generator) -> System:
        order = random.permutation(len(system.symbols))
        return System(system.name, tuple(system.symbols[i] for i in order), system.positions[order])

    return _invariant(subject, shuffled, "the order of the atoms")


def translations(subject: Subject) -> str:
    """Check that a shift of the molecule does not matter."""
    return _invariant(
        subject, lambda system, random: system.moved(system.positions + 5.0 * random.normal(size=3)), "a translation"
    )


def rotations(subject: Subject) -> str:
    """Check that a rotation or a reflection of the molecule does not matter."""

    def rotated(system: System, random: np.random.Generator) -> System:
        matrix, _ = np.linalg.qr(random.normal(size=(3, 3)))
        return system.moved(system.positions @ matrix)

    return _invariant(subject, rotated, "a rotation or reflection")


def _invariant(subject: Subject, change: Callable[[System, np.random.Generator], System], by: str) -> str:
    random, largest = np.random.default_rng(1), 0.0
    for system in subject.systems:
        before = subject.energies([system])
        for _ in range(3):
            after = subject.energies([change(system, random)])
            largest = max(largest, float(np.abs(after - before).max()))
            _same(before, after, f"the energy of {system.formula} changes under {by}")
    return f"energies change by at most {largest:.0e} Ha"


def forces(subject: Subject) -> str:
    """Compare the forces with central differences of the energy along random directions."""
    random, step, worst = np.random.default_rng(2), 2e-4, 0.0
    for system in subject.systems:
        analytic = subject.forces([system])[0]
        for _ in range(3):
            direction = random.normal(size=system.positions.shape)
            direction /= np.linalg.norm(direction)
            ends = [system.moved(system.positions + sign * step * direction) for sign in (1.0, -1.0)]
            plus, minus = subject.energies(ends)
            numeric, stated = -(plus - minus) / (2.0 * step), float((analytic * direction).sum())
            error = abs(numeric - stated)
            worst = max(worst, error)
            if error > SLOPE * max(1.0, abs(stated)):
                raise Broken(
                    f"a force on {system.formula} is {stated:.6f} Ha/bohr, the difference of energies gives "
                    f"{numeric:.6f}: forces must be minus the gradient of the energy"
                )
    return f"agree with differences of energies to {worst:.0e} Ha/bohr"


def hessian(subject: Subject) -> str:
    """Compare the Hessian with differences of the forces: the second derivatives that vibrations need."""
    system, step = min(subject.systems, key=lambda system: len(system.symbols)), 1e-4
    analytic = subject.hessian(system)
    random = np.random.default_rng(3)
    direction = random.normal(size=system.positions.shape)
    ends = [system.moved(system.positions + sign * step * direction) for sign in (1.0, -1.0)]
    plus, minus = (subject.forces([end])[0].reshape(-1) for end in ends)
    numeric, stated = -(plus - minus) / (2.0 * step), analytic @ direction.reshape(-1)
    error = float(np.abs(numeric - stated).max())
    if error > 10.0 * SLOPE * max(1.0, float(np.abs(stated).max())):
        raise Broken(
            f"second derivatives of {system.formula} differ from differences of forces by {error:.1e} Ha/bohr^2; "
            "they are needed for vibrations and for training on forces"
        )
    return f"agrees with differences of forces to {error:.0e} Ha/bohr^2"


def precision(subject: Subject) -> str:
    """Check that float64 calculations have float64 accuracy, and how far float32 is from them."""
    system, step = subject.systems[0], 1e-5
    slope = subject.forces([system])[0]
    random, noise = np.random.default_rng(4), 0.0
    for _ in range(4):
        direction = random.normal(size=system.positions.shape)
        ends = [system.moved(system.positions + sign * step * direction) for sign in (1.0, -1.0)]
        plus, minus = subject.energies(ends)
        noise = max(noise, abs(plus - minus + 2.0 * step * float((slope * direction).sum())))
    energy = float(subject.energies([system])[0])
    if noise > 1e-11 * max(1.0, abs(energy)):
        raise Broken(
            f"energies of {system.formula} scatter by {noise:.0e} Ha in float64: some part of the model computes in "
            "float32 (a constant or a conversion)"
        )
    single = deepcopy(subject.model).float()
    prediction, _ = evaluate(single, collate([system], torch.float32), ())
    difference = abs(float(prediction.energy.detach()[0]) - energy)
    return f"float64 energies scatter by {noise:.0e} Ha; float32 differs by {difference:.0e} Ha"


def smooth(subject: Subject) -> str:
    """Pull an atom out of a molecule and look for jumps of the energy, as at a cutoff without a switching function."""
    system = subject.systems[0]
    outward = system.positions[-1] - system.positions[:-1].mean(axis=0)
    outward /= np.linalg.norm(outward)
    step = 0.1
    distances = step * np.arange(0, 210)
    path = []
    for distance in distances:
        positions = system.positions.copy()
        positions[-1] += distance * outward
        path.append(system.moved(positions))
    energies = np.concatenate([subject.energies(path[start : start + 70]) for start in range(0, len(path), 70)])
    slopes = np.concatenate(
        [subject.forces(path[start : start + 70])[:, -1] @ outward for start in range(0, len(path), 70)]
    )
    jumps = np.abs(np.diff(energies) + 0.5 * step * (slopes[1:] + slopes[:-1]))
    far = distances[1:] > 2.0  # nearer, the trapezoidal rule itself is off
    worst = int(np.argmax(np.where(far, jumps, 0.0)))
    if jumps[worst] > JUMP:
        raise Broken(
            f"the energy of {system.formula} jumps by {jumps[worst]:.1e} Ha as an atom is pulled away by "
            f"{distances[worst]:.1f} bohr: a cutoff needs a function that goes smoothly to zero there"
        )
    return f"no jump above {JUMP:g} Ha as an atom is pulled {distances[-1]:.0f} bohr away"


def size_consistency(subject: Subject) -> str:
    """Compare the energy of two molecules far apart with the sum of their energies."""
    first, second = subject.systems[0], subject.systems[-1]
    both = System(
        "pair",
        first.symbols + second.symbols,
        np.concatenate([first.positions, second.positions + np.array([FAR_BOHR, 0.0, 0.0])]),
    )
    try:
        subject.method.check([both])
        energy = float(subject.energies([both])[0])
    except (InputError, CalculationError) as error:
        raise Inapplicable(f"two molecules at once are refused: {error}") from error
    excess = energy - float(subject.energies([first])[0] + subject.energies([second])[0])
    claimed = abilities.is_size_consistent(subject.model)
    if abs(excess) > 1e-6 and claimed:
        raise Broken(
            f"`size_consistent` is true, but two molecules {FAR_BOHR:.0f} bohr apart have {excess:+.1e} Ha more than "
            "the sum of their energies"
        )
    text = f"two molecules {FAR_BOHR:.0f} bohr apart have {excess:+.0e} Ha more than the sum of their energies"
    return text if claimed else Noted(f"{text}; the model does not claim size consistency (`size_consistent`)")


def periodicity(subject: Subject) -> str:
    """Check a crystal against its supercell, and its stress against differences of the energy."""
    if not abilities.is_periodic(subject.model):
        raise Inapplicable("`periodic` is false: the core refuses periodic systems")
    molecule = subject.systems[0]
    lengths = np.ptp(molecule.positions, axis=0) + 4.5
    crystal = System("crystal", molecule.symbols, molecule.positions, cell=np.diag(lengths), pbc=(True, True, True))
    energy = float(subject.energies([crystal])[0])
    if energy == float(subject.energies([molecule])[0]):
        raise Broken(
            "the energy does not depend on the cell: use batch.cell and batch.pbc, or state `periodic = False`"
        )
    shifted = molecule.positions.copy()
    shifted[0] += crystal.cell[1]  # type: ignore[index]
    _same(
        energy, subject.energies([crystal.moved(shifted)]), "an atom moved by a vector of the cell changes the energy"
    )
    double = np.diag(lengths * [2.0, 1.0, 1.0])
    images = np.concatenate([molecule.positions, molecule.positions + np.array([lengths[0], 0.0, 0.0])])
    supercell = System("supercell", molecule.symbols * 2, images, cell=double, pbc=(True, True, True))
    _same(2.0 * energy, subject.energies([supercell]), "a cell repeated twice has not twice the energy")
    step, worst, stress = 1e-4, 0.0, subject.stress(crystal)
    for strain in (np.diag([1.0, 0.0, 0.0]), 0.5 * (np.eye(3)[[1, 0, 2]] - np.diag([0.0, 0.0, 1.0]))):
        ends = []
        for sign in (1.0, -1.0):
            deform = np.eye(3) + sign * step * strain
            cell = np.diag(lengths) @ deform
            ends.append(replace(crystal, positions=crystal.positions @ deform, cell=cell))
        plus, minus = subject.energies(ends)
        stated = float((stress * strain).sum()) * lengths.prod()
        worst = max(worst, abs((plus - minus) / (2.0 * step) - stated))
    if worst > 100.0 * SLOPE:
        raise Broken(f"the stress differs from differences of the energy by {worst:.1e} Ha per unit of strain")
    return f"a supercell has the same energy per cell; stress agrees with differences to {worst:.0e} Ha"


def gradients(subject: Subject) -> str:
    """Check that the loss of a training reaches every parameter."""
    elements = abilities.elements(subject.model) or tuple(dict.fromkeys(subject.systems[0].symbols))
    model = subject.method.trainable(0, elements)
    systems = molecules.of_all(abilities.elements(model) or elements)

    def loss() -> Tensor:
        energy: Tensor = model(collate(systems)).energy
        return energy.double().sum()

    return parameters_reached(model, loss)


def on_another_device(subject: Subject) -> str:
    """Calculate on a simulated second device, which refuses operations that mix devices as a GPU does."""
    from fusion.contracts.foreign_device import DEVICE, ForeignDevice

    batch = collate(subject.systems)
    expected, slopes = evaluate(subject.model, batch, {"forces"})
    with ForeignDevice():
        model = deepcopy(subject.model).to(DEVICE)
        there, moved = evaluate(model, batch.to(DEVICE), {"forces"})
        if there.energy.device != DEVICE:
            raise Broken("forward returns an energy on the CPU for a batch on another device")
        energy, force = there.energy.detach().cpu(), moved["forces"].detach().cpu()
    _same(expected.energy.detach().numpy(), energy.numpy(), "energies on another device differ")
    _same(slopes["forces"].numpy(), force.numpy(), "forces on another device differ")
    return "runs on a simulated GPU with the same numbers"


def devices(subject: Subject) -> str:
    """Run `on_another_device` in a process of its own."""
    return isolated.devices(subject.method.name, "potential", subject.package)


def saving(subject: Subject) -> str:
    """Check that the state dict, saved and loaded into a new model, gives the same energies."""
    batch = collate(subject.systems)
    fresh = subject.method.rebuilt()

    def numbers(model: nn.Module) -> Tensor:
        energy: Tensor = model(batch).energy
        return energy

    return same_after_saving(subject.model, fresh, numbers)


def references(subject: Subject) -> str:
    """Say what training on total energies needs: elements and self energies."""
    if abilities.elements(subject.model) is None:
        return Noted("no `elements`: no element is refused, and self energies cannot be fitted to data")
    if self_energies(subject.model) is None and abilities.has_single_atoms(subject.model):
        return Noted("no fusion.potentials.SelfEnergies: a training on total energies has to learn those of the atoms")
    return f"elements {' '.join(abilities.elements(subject.model) or ())}"


def calculation(subject: Subject) -> str:
    """Calculate the system of the method's configuration."""
    subject.method.check([subject.default])
    (result,) = subject.method.calculate([subject.default], {"energy", "forces"})
    if result.status != "ok" or result.energy is None:
        raise Broken(result.message or result.status)
    return f"{subject.default.formula}: {result.energy:.6f} Ha"


def _same(expected: Any, values: Any, fault: str) -> None:
    difference = float(np.abs(np.asarray(values) - np.asarray(expected)).max(initial=0.0))
    if not difference <= EXACT * max(1.0, float(np.abs(expected).max(initial=0.0))):
        raise Broken(f"{fault} (by {difference:.1e})")


CHECKS: Final = (
    Check("forward returns a Prediction", forward, essential=True),
    Check("finite values", finite),
    Check("batch equals loop", batches),
    Check("order of atoms", permutations),
    Check("translation", translations),
    Check("rotation, reflection", rotations),
    Check("forces", forces),
    Check("Hessian", hessian),
    Check("precision", precision),
    Check("smooth energy", smooth),
    Check("size consistency", size_consistency),
    Check("periodic systems", periodicity),
    Check("gradients reach all parameters", gradients),
    Check("devices", devices),
    Check("state dict round trip", saving),
    Check("references for training", references),
    Check("calculation", calculation),
)

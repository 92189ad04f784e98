"""Checks of the units and the sign of labels against the labels' own sizes and differences.

A check refuses data only if they clearly contradict a setting and another setting explains them. An undecided check
is silent or reports that it is undecided. `data.check=false` skips all checks.
"""

from __future__ import annotations

import numpy as np
from ase.data import covalent_radii

from fusion.chemistry.units import BOHR_PER_ANGSTROM
from fusion.datasets import displacements, quantities
from fusion.datasets.labelled import Labelled
from fusion.datasets.settings import Settings, Units
from fusion.errors import InputError

_SAMPLE = 2000
_NOBLE = (2, 10, 18, 36, 54, 86)  # these have no bonds to measure
_HEAVIEST = 36  # heavier elements are often computed with effective core potentials
_BOUND = (0.02, 0.5)
"""Range of atomisation energies of molecules, hartree per atom: 0.05 to 0.3, with a margin (Na2 has 0.014)."""


def check(data: Labelled, settings: Settings, units: Units) -> None:
    """Add the results of all checks to `data.report.checks`. Raises InputError that names the setting to change."""
    _lengths(data, settings)
    _energies(data, settings, units)
    _forces(data, settings, units)


def _sample(data: Labelled) -> np.ndarray:
    """Indices of structures at equal intervals over the data."""
    return np.unique(np.linspace(0, len(data) - 1, min(len(data), _SAMPLE)).astype(np.int64))


def _lengths(data: Labelled, settings: Settings) -> None:
    """Check the length unit: distances of nearest atoms over sums of covalent radii have a median of about 1."""
    is_noble = np.isin(data.numbers, _NOBLE)
    chosen = [i for i in _sample(data)[:: max(1, min(len(data), _SAMPLE) // 200)] if data.sizes[i] > 1]
    ratios = [_nearest(data, i) for i in chosen if not is_noble[data.offsets[i] : data.offsets[i + 1]].any()]
    if not ratios:
        return
    median = float(np.median(ratios))
    spread = float(np.percentile(ratios, 90) - np.percentile(ratios, 10))
    for unit, length in quantities.LENGTHS.items():
        factor = length / quantities.length(settings.length_unit, "data.length_unit")
        if abs(factor - 1.0) > 0.1 and abs(median * factor - 1.0) < 0.12 and spread < 0.3 * median:
            raise InputError(
                f"data.length_unit: positions of '{settings.name}' look like {unit}, not {settings.length_unit}: "
                f"nearest atoms are {median:.2f} bond lengths apart. Set data.length_unit={unit}, "
                f"or data.check=false to keep {settings.length_unit}"
            )


def _nearest(data: Labelled, index: int) -> float:
    """Median of the atoms' distances to their nearest neighbours, in sums of covalent radii."""
    atoms = slice(int(data.offsets[index]), int(data.offsets[index + 1]))
    positions, radii = np.asarray(data.positions[atoms])[:300], covalent_radii[data.numbers[atoms]][:300]
    distances = np.linalg.norm(positions[:, None] - positions[None, :], axis=-1)
    ratios = distances / ((radii[:, None] + radii[None, :]) * BOHR_PER_ANGSTROM)
    np.fill_diagonal(ratios, np.inf)
    return float(np.median(ratios.min(axis=1)))


def _energies(data: Labelled, settings: Settings, units: Units) -> None:
    chosen = _sample(data)
    chosen = chosen[np.isfinite(data.energy[chosen])]
    if not len(chosen) or settings.subtract is not None:
        return
    energy, sizes = float(np.sum(data.energy[chosen])), int(data.sizes[chosen].sum())
    if settings.energy_zero == "atomization":
        _atomisation(energy / sizes, settings, units)
        return
    numbers = data.numbers[data.atoms(chosen)].astype(np.float64)
    if numbers.max() > _HEAVIEST:
        return
    ratio = energy / float(np.sum(-0.5 * numbers**2.39))  # the trend of the energies of atoms, within 6 %
    if 0.75 < ratio < 1.3:
        data.report.checks.append(f"energies agree in size with those of free atoms (ratio {ratio:.2f})")
        return
    for unit, value in quantities.ENERGIES.items():
        if 0.85 < ratio * value / units.energy < 1.2:
            raise InputError(
                f"data.energy_unit: energies of '{settings.name}' look like {unit}, not {units.name}: they are "
                f"{ratio:.4g} times those of free atoms. Set data.energy_unit={unit}, or data.check=false to keep "
                f"{units.name}"
            )
    data.report.checks.append("energies are not total energies of all electrons: their unit cannot be checked")


def _atomisation(per_atom: float, settings: Settings, units: Units) -> None:
    low, high = _BOUND
    if low < -per_atom < high:
        return
    if low < per_atom < high:
        raise InputError(
            f"the atomisation energies of '{settings.name}' are positive; energies relative to separate atoms must be "
            "negative for bound molecules. Change their sign in the file, or set data.check=false to keep them"
        )
    per_atom = abs(per_atom)
    fitting = [unit for unit, value in quantities.ENERGIES.items() if 0.05 < per_atom * value / units.energy < 0.3]
    if fitting:
        raise InputError(
            f"data.energy_unit: atomisation energies of '{settings.name}' look like {' or '.join(fitting)}, not "
            f"{units.name}: {per_atom:.3g} hartree per atom is not possible for molecules. Set data.energy_unit="
            f"{fitting[0]}, or data.energy_zero=total, or data.check=false to keep {units.name}"
        )


def _forces(data: Labelled, settings: Settings, units: Units) -> None:
    """Check sign and unit of the forces by their work between neighbouring conformations."""
    if data.forces is None or settings.subtract is not None:
        return
    comparison = displacements.compare(data)
    if comparison is None:
        data.report.checks.append("the sign of the forces cannot be told from the data: no two close conformations")
        return
    pairs = f"between {comparison.pairs} pairs of neighbouring conformations"
    size = abs(comparison.slope)
    if comparison.certain and comparison.correlation < -0.5:
        raise InputError(
            f"data.forces.sign: forces of '{settings.name}' look like gradients (+dE/dR), not forces: {pairs} "
            f"the energy changes by {comparison.slope:.2f} times their work (correlation {comparison.correlation:.2f})."
            f" Set data.forces.sign={-settings.forces.sign}, or data.check=false to keep them"
        )
    if not comparison.certain or comparison.correlation < 0.8:
        data.report.checks.append(
            f"the sign of the forces cannot be told from the data: {pairs} energy and work have the correlation "
            f"{comparison.correlation:.2f}"
        )
        return
    # dE = slope x work: the forces are too small by the slope, so their unit is that much larger.
    unit = quantities.named(quantities.forces(), abs(units.force) * size, 0.2)
    if not 0.75 < size < 1.33 and unit is not None:
        raise InputError(
            f"data.forces.unit: forces of '{settings.name}' look like {unit}: {pairs} the energy changes by "
            f"{comparison.slope:.4g} times their work. Set data.forces.unit={unit}, or data.check=false to keep them"
        )
    data.report.checks.append(
        f"forces agree with the energies: {pairs} dE is {comparison.slope:.2f} times their work "
        f"(correlation {comparison.correlation:.3f})"
    )

"""Whether labels are what their settings claim: their own size and differences tell units and the sign of forces.

Each check refuses only what the data contradict plainly and another setting explains; where they cannot tell, nothing
is said or that is. `data.check=false` leaves all of them out.
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
"""Hartree per atom between which atomisation energies of molecules lie: 0.05 (Na2: 0.014) to 0.3, with room."""


def check(data: Labelled, settings: Settings, units: Units) -> None:
    """Put into `data.report.checks` what was found. Raises InputError, naming the setting that mends it."""
    _lengths(data, settings)
    _energies(data, settings, units)
    _forces(data, settings, units)


def _sample(data: Labelled) -> np.ndarray:
    """Structures from all over the data."""
    return np.unique(np.linspace(0, len(data) - 1, min(len(data), _SAMPLE)).astype(np.int64))


def _lengths(data: Labelled, settings: Settings) -> None:
    """Distances of nearest atoms against sums of covalent radii: the median is 1 within a tenth or so."""
    alone = np.isin(data.numbers, _NOBLE)
    chosen = [i for i in _sample(data)[:: max(1, min(len(data), _SAMPLE) // 200)] if data.sizes[i] > 1]
    ratios = [_nearest(data, i) for i in chosen if not alone[data.offsets[i] : data.offsets[i + 1]].any()]
    if not ratios:
        return
    median = float(np.median(ratios))
    spread = float(np.percentile(ratios, 90) - np.percentile(ratios, 10))
    for unit, length in quantities.LENGTHS.items():
        factor = length / quantities.length(settings.length_unit, "data.length_unit")
        if abs(factor - 1.0) > 0.1 and abs(median * factor - 1.0) < 0.12 and spread < 0.3 * median:
            raise InputError(
                f"atoms of '{settings.name}' are {median:.2f} times as far from their neighbours as bonds are long: "
                f"the positions are in {unit}, it seems, not in {settings.length_unit}; data.length_unit={unit} "
                "(data.check=false to insist)"
            )


def _nearest(data: Labelled, index: int) -> float:
    """Median over the atoms of the distance to the nearest other, in sums of covalent radii."""
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
                f"the energies of '{settings.name}', read in {units.name}, are {ratio:.4g} times those of the free "
                f"atoms: they are in {unit}, it seems; data.energy_unit={unit} (data.check=false to insist)"
            )
    data.report.checks.append("energies are not total energies of all electrons: their unit cannot be checked")


def _atomisation(per_atom: float, settings: Settings, units: Units) -> None:
    low, high = _BOUND
    if low < -per_atom < high:
        return
    if low < per_atom < high:
        raise InputError(
            f"the atomisation energies of '{settings.name}' are positive: here they are energies relative to separate "
            "atoms, negative for what is bound; turn their sign round in the file (data.check=false to insist)"
        )
    per_atom = abs(per_atom)
    fitting = [unit for unit, value in quantities.ENERGIES.items() if 0.05 < per_atom * value / units.energy < 0.3]
    if fitting:
        raise InputError(
            f"the atomisation energies of '{settings.name}', read in {units.name}, are {per_atom:.3g} hartree per "
            f"atom, which no molecule has: they are in {' or '.join(fitting)}, it seems; data.energy_unit={fitting[0]} "
            "(or data.energy_zero=total; data.check=false to insist)"
        )


def _forces(data: Labelled, settings: Settings, units: Units) -> None:
    """Sign and unit of the forces by the work that they do between neighbouring conformations."""
    if data.forces is None or settings.subtract is not None:
        return
    found = displacements.compare(data)
    if found is None:
        data.report.checks.append("the sign of the forces cannot be told from the data: no two close conformations")
        return
    told = f"between {found.pairs} pairs of neighbouring conformations"
    size = abs(found.slope)
    if found.certain and found.correlation < -0.5:
        raise InputError(
            f"the forces of '{settings.name}' point uphill: {told} the energy changes by {found.slope:.2f} times their "
            f"work (correlation {found.correlation:.2f}); they are gradients, it seems; "
            f"data.forces.sign={-settings.forces.sign} turns them round (data.check=false to insist)"
        )
    if not found.certain or found.correlation < 0.8:
        data.report.checks.append(
            f"the sign of the forces cannot be told from the data: {told} energy and work have the correlation "
            f"{found.correlation:.2f}"
        )
        return
    # dE = slope x work: the forces are too small by the slope, so their unit is that much larger.
    unit = quantities.named(quantities.forces(), abs(units.force) * size, 0.2)
    if not 0.75 < size < 1.33 and unit is not None:
        raise InputError(
            f"the forces of '{settings.name}' do not fit its energies: {told} the energy changes by {found.slope:.4g} "
            f"times their work; they are in {unit}, it seems; data.forces.unit={unit} (data.check=false to insist)"
        )
    data.report.checks.append(
        f"forces agree with the energies: {told} dE is {found.slope:.2f} times their work "
        f"(correlation {found.correlation:.3f})"
    )

"""How an SCF is brought to convergence: one rung of a ladder after the other, as far up as it takes.

DIIS (Pulay, J. Comput. Chem. 3, 556 (1982)); damping of the first cycles; a level shift of the empty orbitals (Saunders
and Hillier, Int. J. Quantum Chem. 7, 699 (1973)); second order (Sun, arXiv:1610.08423). A learned functional may bind
an electron in an orbital above an empty one: one more diagonalisation without the shift would then leave the state,
so the shift stays to the end. Convergence is judged by the energy and by the gradient with the Fock matrix proper.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from pyscf import lib
from pyscf.scf import hf

from fusion.functionals import occupations

DRAFT_TOL = 1e-5
"""Change of the energy (hartree) from which on cycles are computed in full precision."""
PATIENCE = 12
"""Cycles without a smaller gradient after which a rung is given up; half of it where the energy has risen, too."""
RISEN = 1e-4
"""Hartree above the lowest energy so far."""
PROGRESS = 0.7
"""What counts as smaller: this fraction of the smallest so far."""
AUFBAU_TOL = 1e-4
"""Hartree by which an occupied orbital may lie above an empty one unmentioned: degenerate ones differ by noise."""


@dataclass(frozen=True)
class Attempt:
    """What one rung did."""

    name: str
    cycles: int
    converged: bool
    energy: float
    """Hartree, of the last cycle."""
    change: float
    """Hartree, of the energy in the last cycle."""
    gradient: float
    """Norm of the orbital gradient, hartree."""

    def __str__(self) -> str:
        return f"{self.name} ({self.cycles} cycle{'' if self.cycles == 1 else 's'})"


@dataclass
class State:
    """A determinant (or ensemble) and what was computed for it."""

    energy: float
    gradient: float
    change: float
    density: Any
    orbitals: Any = None
    numbers: Any = None
    fock: Any = None


@dataclass(frozen=True)
class Rung:
    """One way to converge: fraction of the last Fock matrix that is kept in early cycles, shift in hartree."""

    name: str
    damp: float = 0.0
    damped_cycles: int = 8
    shift: float = 0.0


@dataclass(frozen=True)
class Ladder:
    """The rungs' strengths: `damp` a fraction from 0 to 1, `shift` in hartree; `second_order` as the last resort."""

    damp: float = 0.5
    shift: float = 0.3
    second_order: bool = True

    def rungs(self, mean_field: Any) -> Iterator[Rung]:
        """The rungs without second order. Damping and shift that the object has itself come with the first."""
        own = [f"{word} {value:g}" for word in ("damp", "level_shift") if (value := getattr(mean_field, word))]
        yield Rung(", ".join(["DIIS", *own]), mean_field.damp, shift=mean_field.level_shift)
        yield Rung("damping", self.damp)
        yield Rung("level shift", self.damp, 3, self.shift)
        yield Rung("larger level shift", self.damp, 3, 3.0 * self.shift)

    def climb(self, mean_field: Any, density: Any) -> None:
        """Converge a PySCF mean-field object from `density`; fills what `kernel` fills, `attempts` and `remarks`."""
        best = State(np.inf, np.inf, np.inf, density)
        mean_field.attempts, mean_field.remarks = [], []
        found = None
        for rung in self.rungs(mean_field):
            watch = _climb(mean_field, rung, best.density)
            found, best = watch.last, min((best, watch.lowest), key=lambda state: state.energy)
            _note(mean_field, rung.name, watch.cycles, watch.converged, found)
            if watch.converged:
                break
        assert found is not None
        if not mean_field.attempts[-1].converged and self.second_order and _has_second_order(mean_field):
            found = _second_order(mean_field, best)
        _finish(mean_field, found)


class _Watch:
    """PySCF's convergence check of one rung: remembers states, and ends the rung when it is done or hopeless."""

    def __init__(self, mean_field: Any) -> None:
        self.mean_field, self.numint = mean_field, mean_field._numint
        self.gradient_tol = mean_field.conv_tol_grad or float(np.sqrt(mean_field.conv_tol))
        self.cycles = self.stuck = 0
        self.smallest = np.inf
        self.converged = False
        self.last = self.lowest = State(np.inf, np.inf, np.inf, None)

    def __call__(self, envs: dict[str, Any]) -> bool:
        change = envs["e_tot"] - envs["last_hf_e"]
        orbitals, numbers = envs["mo_coeff"], envs["mo_occ"]
        self.last = State(envs["e_tot"], envs["norm_gorb"], change, envs["dm"], orbitals, numbers, envs["fock"])
        self.cycles += 1
        if self.last.energy < self.lowest.energy:
            self.lowest = self.last
        self.stuck = 0 if self.last.gradient < PROGRESS * self.smallest else self.stuck + 1
        self.smallest = min(self.smallest, self.last.gradient)
        draft = getattr(self.numint, "draft", False)
        small = bool(abs(change) < self.mean_field.conv_tol and self.last.gradient < self.gradient_tol)
        self.converged = small and not draft
        if draft and abs(change) < DRAFT_TOL:
            self.numint.draft, self.stuck = False, 0
        risen = self.last.energy > self.lowest.energy + RISEN
        return bool(self.converged) or self.stuck >= (PATIENCE // 2 if risen else PATIENCE)


def _climb(mean_field: Any, rung: Rung, density: Any) -> _Watch:
    watch = _Watch(mean_field)
    numint = mean_field._numint
    settings = {
        "damp": rung.damp,
        "level_shift": rung.shift,
        "diis_start_cycle": rung.damped_cycles + 1 if rung.damp else mean_field.diis_start_cycle,
        "check_convergence": watch,
    }
    if hasattr(numint, "draft"):
        numint.draft = True
    try:
        with lib.temporary_env(mean_field, **settings):
            hf.kernel(
                mean_field, mean_field.conv_tol, mean_field.conv_tol_grad,
                dm0=density, callback=mean_field.callback, conv_check=False,
            )  # fmt: skip
    finally:
        if hasattr(numint, "draft"):
            numint.draft = False
    return watch


def _has_second_order(mean_field: Any) -> bool:
    return not getattr(mean_field, "fractional", False)


def _second_order(mean_field: Any, best: State) -> State:
    solver = mean_field.newton()
    solver.kernel(best.orbitals, best.numbers)
    density = solver.make_rdm1()
    potential = mean_field.get_veff(mean_field.mol, density)
    fock = mean_field.get_fock(vhf=potential, dm=density)
    energy = mean_field.energy_tot(density, vhf=potential)
    gradient = float(np.linalg.norm(mean_field.get_grad(solver.mo_coeff, solver.mo_occ, fock)))
    found = State(energy, gradient, energy - solver.e_tot, density, solver.mo_coeff, solver.mo_occ, fock)
    tolerance = mean_field.conv_tol_grad or float(np.sqrt(mean_field.conv_tol))
    _note(mean_field, "second order", 0, bool(solver.converged) and gradient < 3.0 * tolerance, found)
    return found


def _note(mean_field: Any, name: str, cycles: int, converged: bool, state: State) -> None:
    attempt = Attempt(name, cycles, converged, float(state.energy), float(state.change), float(state.gradient))
    mean_field.attempts.append(attempt)


def _finish(mean_field: Any, state: State) -> None:
    """Put a state into the object: orbitals canonical among those occupied alike, energies of the Fock matrix."""
    mean_field.converged, mean_field.e_tot = mean_field.attempts[-1].converged, float(state.energy)
    mean_field.cycles = sum(attempt.cycles for attempt in mean_field.attempts)
    restricted = np.ndim(state.numbers) == 1
    spins = zip(
        *(np.asarray(x)[None] if restricted else x for x in (state.orbitals, state.numbers, state.fock)), strict=True
    )
    energies, orbitals = zip(*(occupations.canonical(*spin) for spin in spins), strict=True)
    numbers = np.asarray(state.numbers)
    mean_field.mo_energy = energies[0] if restricted else np.array(energies)
    mean_field.mo_coeff = orbitals[0] if restricted else np.array(orbitals)
    mean_field.mo_occ = numbers
    broken = max(
        occupations.aufbau_broken_by(values, filled)
        for values, filled in zip(energies, numbers[None] if restricted else numbers, strict=True)
    )
    if broken > AUFBAU_TOL:
        mean_field.remarks.append(
            f"the occupied orbitals are not the lowest: one lies {broken:.4f} Ha above an empty one"
        )
    if mean_field.chkfile:
        mean_field.dump_chk(
            {"e_tot": mean_field.e_tot, "mo_energy": mean_field.mo_energy,
             "mo_coeff": mean_field.mo_coeff, "mo_occ": mean_field.mo_occ}
        )  # fmt: skip

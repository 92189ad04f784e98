"""Contract of a functional: finite, differentiable energies of any density and of any order of points. Atomic units."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from fusion.chemistry.system import System
from fusion.contracts import isolated
from fusion.contracts.findings import Broken, Check, Inapplicable, Noted
from fusion.contracts.states import parameters_reached, same_after_saving
from fusion.functionals import DensityFeatures, FunctionalMethod, is_pointwise
from fusion.functionals.features import check_needs, omegas
from fusion.functionals.grid.differentiation import VACUUM, differentiate
from fusion.functionals.grid.differentiation import checked as checked_values
from fusion.functionals.protocol import HasDerivatives, Pointwise, Symmetrizable, depends_on_origin

POINTS: Final = 24
NUCLEI: Final = 3
EXACT: Final = 1e-9
BASIS: Final = "sto-3g"
GRID: Final = 1


@dataclass(frozen=True)
class Subject:
    """Method whose functional is checked, in float64, with the system of `+method=NAME`."""

    method: FunctionalMethod
    default: System
    package: Path | None = None

    @cached_property
    def functional(self) -> Any:
        """The functional with constant parameters."""
        return self.method.functional

    @cached_property
    def features(self) -> DensityFeatures:
        """Features of random densities, as they are in molecules."""
        return features(self.functional.needs)

    def energy(self, of: DensityFeatures, functional: Any = None) -> Tensor:
        """Energy density (G,), or the energy () of a functional of the whole grid."""
        functional = functional or self.functional
        if is_pointwise(functional):
            return checked_values(functional.energy_density(of), of.rho.shape[1:], self.method.name)
        return checked_values(functional.energy(of), (), self.method.name)


def features(needs: frozenset[str], seed: int = 0, dtype: torch.dtype = torch.float64) -> DensityFeatures:
    """Return consistent random features: tau is at least |grad rho|^2 / (8 rho), exchange is negative."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    rho = torch.exp(8.0 * uniform(2, POINTS) - 6.0)
    grad = rho.pow(4.0 / 3.0)[:, None] * (4.0 * uniform(2, 3, POINTS) - 2.0)
    tau = grad.square().sum(dim=1) / (8.0 * rho) + rho.pow(5.0 / 3.0) * (0.2 + 3.0 * uniform(2, POINTS))
    exchange = {omega: -rho.pow(4.0 / 3.0) * (0.3 + uniform(2, POINTS)) / (1.0 + omega) for omega in omegas(needs)}
    made = DensityFeatures(
        rho=rho,
        grad=grad if "grad" in needs else None,
        tau=tau if "tau" in needs else None,
        hfx=exchange,
        coords=4.0 * uniform(POINTS, 3) - 2.0 if "coords" in needs else None,
        weights=0.1 * uniform(POINTS) if "weights" in needs else None,
        nuclei=4.0 * uniform(NUCLEI, 3) - 2.0 if "nuclei" in needs else None,
    )
    return made.map(lambda tensor: tensor.to(dtype))


def needs(subject: Subject) -> str:
    """Check that `needs` names features that exist, and that forward has one of its two forms."""
    functional = subject.functional
    if not isinstance(getattr(functional, "needs", None), (frozenset, set)):
        raise Broken('`needs` must be a set of the names of features, frozenset({"rho", "grad"})')
    check_needs(functional.needs, subject.method.name)
    if is_pointwise(functional) and not isinstance(functional, Pointwise):
        raise Broken("the model has neither `energy_density(features)` nor `energy(grid)`")
    return f"{', '.join(sorted(functional.needs))}; {'an energy density' if is_pointwise(functional) else 'an energy'}"


@torch.no_grad()
def forward(subject: Subject) -> str:
    """Check shape, precision and finiteness of the energy."""
    values = subject.energy(subject.features)
    parameters = [p.dtype for p in subject.functional.parameters()]
    if not parameters and values.dtype != torch.float64:
        raise Broken(f"the energy is {values.dtype} for features in float64")
    if not torch.isfinite(values).all():
        raise Broken(f"the energy is {values[~torch.isfinite(values)][0]:g} for an ordinary density")
    return f"finite, {'(G,)' if values.dim() else '()'}, {str(values.dtype).removeprefix('torch.')}"


@torch.no_grad()
def points(subject: Subject) -> str:
    """Check that the order of the points does not matter and that an energy density depends on its own point alone."""
    order = torch.randperm(POINTS, generator=torch.Generator().manual_seed(3))
    before, after = subject.energy(subject.features), subject.energy(subject.features.at(order))
    if not is_pointwise(subject.functional):
        _same(before, after, "the energy depends on the order of the grid points")
        return "the order of the grid points does not matter"
    _same(before[order], after, "the energy density depends on the order of the points")
    for point in range(3):
        alone = subject.energy(subject.features.at(slice(point, point + 1)))
        _same(before[point : point + 1], alone, "the energy density at a point depends on other points of its batch")
    return "each point alone gives the same"


@torch.no_grad()
def spins(subject: Subject) -> str:
    """Exchange the spins: the energy of a density does not depend on which spin is called up."""
    flipped = _variables(subject.features, lambda tensor: tensor.flip(0))
    change = float((subject.energy(flipped) - subject.energy(subject.features)).abs().max())
    if change <= EXACT:
        return "the same energy after an exchange of up and down"
    if isinstance(subject.functional, Symmetrizable):
        return Noted(f"changes by up to {change:.1e} Ha/bohr^3; method.symmetrize=true averages over both orders")
    raise Broken(f"the energy density changes by up to {change:.1e} Ha/bohr^3 when the spins are exchanged")


@torch.no_grad()
def orientation(subject: Subject) -> str:
    """Rotate the density with its gradients; if the functional sees the nuclei, move and reorder these too."""
    given = subject.features
    if given.grad is None and given.coords is None:
        raise Inapplicable("no gradients and no coordinates among the features")
    if depends_on_origin(subject.functional):
        return Noted("the functional takes coordinates without nuclei; whether it is invariant is not checked")
    matrix = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64))[0]
    shift = torch.tensor([0.3, -1.1, 0.7], dtype=torch.float64)
    rotated = replace(
        given,
        grad=None if given.grad is None else torch.einsum("ij,sjg->sig", matrix, given.grad),
        coords=None if given.coords is None else given.coords @ matrix.T + shift,
        nuclei=None if given.nuclei is None else given.nuclei.flip(0) @ matrix.T + shift,
    )
    _same(subject.energy(given), subject.energy(rotated), "a rotation of the density changes the energy")
    return "a rotation of the density does not matter" + (
        ", nor the order of the nuclei" if given.nuclei is not None else ""
    )


def limits(subject: Subject) -> str:
    """Check finite energies and potentials for one empty spin, tails of the density and a homogeneous density."""
    cases = {
        "one spin is empty": _variables(subject.features, _without_down),
        "the density is a tail (1e-10 of the ordinary one)": _scaled(subject.features, 1e-10),
        "the density is at the limit of vacuum": _scaled(subject.features, 10.0 * VACUUM),
        "the gradient is zero": replace(
            subject.features, grad=None if subject.features.grad is None else torch.zeros_like(subject.features.grad)
        ),
    }
    for name, case in cases.items():
        try:
            differentiate(subject.functional, case, subject.method.name)
        except Exception as error:  # a functional raises anything
            raise Broken(f"where {name}: {error}") from error
    return f"finite energies and potentials where {', '.join(cases)}"


def potential(subject: Subject) -> str:
    """Compare the derivatives by the features with central differences of the energy."""
    generator, step, worst = torch.Generator().manual_seed(4), 1e-5, 0.0
    _, slopes = differentiate(subject.functional, subject.features, subject.method.name)
    variables = subject.features.variables()
    for index, (variable, slope) in enumerate(zip(variables, slopes.variables(), strict=True)):
        direction = variable * torch.randn(variable.shape, generator=generator, dtype=torch.float64)
        ends = []
        for sign in (1.0, -1.0):
            moved = [*variables[:index], variable + sign * step * direction, *variables[index + 1 :]]
            with torch.no_grad():
                ends.append(float(subject.energy(subject.features.with_variables(moved)).sum()))
        numeric, stated = (ends[0] - ends[1]) / (2.0 * step), float((slope * direction).sum())
        error = abs(numeric - stated) / max(1.0, abs(stated))
        worst = max(worst, error)
        if not error < 1e-6:
            own = "its own `derivatives`" if isinstance(subject.functional, HasDerivatives) else "the derivative"
            raise Broken(
                f"{own} by {_names(subject.features)[index]} gives {stated:.6g}, differences of the energy give "
                f"{numeric:.6g}"
            )
    return f"derivatives by all features agree with differences to {worst:.0e}"


def matrix(subject: Subject) -> str:
    """Compare the potential matrix of water in PySCF with differences of its exchange-correlation energy."""
    mean_field = _method(subject)._mean_field(_WATER)
    mean_field.grids.build()
    density = np.asarray(mean_field.get_init_guess(key="minao"))
    density = np.array([0.5 * density, 0.5 * density]) if density.ndim == 2 else density
    change = np.random.default_rng(5).normal(size=density.shape)
    change, step = 0.02 * (change + change.transpose(0, 2, 1)), 1e-4
    _, _, potential_matrix = mean_field._numint.nr_uks(mean_field.mol, mean_field.grids, "", density)
    ends = []
    for sign in (1.0, -1.0):
        mean_field._numint.reset()
        ends.append(mean_field._numint.nr_uks(mean_field.mol, mean_field.grids, "", density + sign * step * change)[1])
    numeric, stated = (ends[0] - ends[1]) / (2.0 * step), float((potential_matrix * change).sum())
    error = abs(numeric - stated) / max(1.0, abs(stated))
    if not error < 1e-5:
        raise Broken(f"the potential matrix of water gives a slope of {stated:.6f} Ha, the energy {numeric:.6f}")
    return f"the potential matrix of water agrees with differences of the energy to {error:.0e}"


def gradients(subject: Subject) -> str:
    """Check that the gradient of the energy reaches every parameter."""
    model = subject.method.untrained(0, "float64")
    return parameters_reached(model, lambda: subject.energy(features(model.needs), model).sum())


def on_another_device(subject: Subject) -> str:
    """Calculate on a simulated second device, which refuses operations that mix devices as a GPU does."""
    from fusion.contracts.foreign_device import DEVICE, ForeignDevice

    expected, slopes = differentiate(subject.functional, subject.features, subject.method.name)
    with ForeignDevice():
        functional = deepcopy(subject.functional).to(DEVICE)
        there = subject.features.map(lambda tensor: tensor.to(DEVICE))
        values, moved = differentiate(functional, there, subject.method.name)
        energy, rho = values.cpu(), moved.rho.cpu()
    _same(expected, energy, "energies on another device differ")
    _same(slopes.rho, rho, "derivatives on another device differ")
    return "runs on a simulated GPU with the same numbers"


def devices(subject: Subject) -> str:
    """Run `on_another_device` in a process of its own."""
    return isolated.devices(subject.method.name, "functional", subject.package)


def saving(subject: Subject) -> str:
    """Check that the state dict, saved and loaded into a new functional, gives the same energies."""
    model = subject.method.untrained(0, "float64")

    def numbers(functional: nn.Module) -> Tensor:
        return subject.energy(features(model.needs), functional)

    return same_after_saving(model, subject.method.untrained(1, "float64"), numbers)


def calculation(subject: Subject) -> str:
    """Run an SCF of the method's system in a small basis on a coarse grid."""
    (result,) = _method(subject).calculate([subject.default], {"energy"})
    if result.status != "ok" or result.energy is None:
        raise Broken(f"the SCF of {subject.default.formula} in {BASIS}: {result.message or result.status}")
    return f"{subject.default.formula}: {result.energy:.6f} Ha, SCF in {BASIS}"


_WATER: Final = System("water", ("O", "H", "H"), np.array([[0.0, 0.0, 0.1], [0.0, 1.43, 1.11], [0.1, -1.43, 1.11]]))


def _method(subject: Subject) -> FunctionalMethod:
    return FunctionalMethod(subject.method.name, subject.functional, basis=BASIS, grid_level=GRID)


def _without_down(tensor: Tensor) -> Tensor:
    emptied = tensor.clone()
    emptied[1] = 0.0
    return emptied


def _scaled(of: DensityFeatures, factor: float) -> DensityFeatures:
    """Scale a density by `factor`, with gradients, kinetic energy and exchange of the same orbitals."""
    return _variables(of, lambda tensor: factor * tensor)


def _variables(of: DensityFeatures, change: Any) -> DensityFeatures:
    return of.with_variables([change(tensor) for tensor in of.variables()])


def _names(of: DensityFeatures) -> list[str]:
    def named() -> Iterator[str]:
        yield "rho"
        if of.grad is not None:
            yield "grad"
        if of.tau is not None:
            yield "tau"
        yield from (f"hfx:{omega:g}" for omega in sorted(of.hfx))

    return list(named())


def _same(expected: Tensor, value: Tensor, fault: str) -> None:
    difference = float((value - expected).abs().max())
    if not difference <= EXACT * max(1.0, float(expected.abs().max())):
        raise Broken(f"{fault} (by {difference:.1e})")


CHECKS: Final = (
    Check("features that it needs", needs, essential=True),
    Check("energy of a density", forward, essential=True),
    Check("grid points", points),
    Check("spin symmetry", spins),
    Check("rotation", orientation),
    Check("limits of the density", limits),
    Check("potential by features", potential),
    Check("potential in a basis", matrix),
    Check("gradients reach all parameters", gradients),
    Check("devices", devices),
    Check("state dict round trip", saving),
    Check("calculation", calculation),
)

"""Contract of a wavefunction: sign and log|psi| of each walker, antisymmetric, differentiable twice. Atomic units."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from typing import Any, Final

import torch
from torch import Tensor, nn

from fusion.chemistry.system import System
from fusion.console import logs
from fusion.contracts import isolated
from fusion.contracts.findings import Broken, Check, Inapplicable, Noted
from fusion.contracts.states import parameters_reached, same_after_saving
from fusion.contracts.wavefunction_subject import WALKERS, Subject
from fusion.methods import by_name
from fusion.wavefunctions.ansatz import HasLaplacian, HasNuclei, HasOrbitals, check_forward
from fusion.wavefunctions.jets import laplacian_by_autograd

EXACT: Final = 1e-9
"""Largest relative change of log|psi| that counts as none in float64."""
SHORT: Final = {
    "walkers": 32,
    "pretraining.steps": 0,
    "sampling.burn_in": 20,
    "optimisation.steps": 2,
    "evaluation.steps": 8,
}
"""Settings of the calculation, which shows only that all phases run."""


@torch.no_grad()
def forward(subject: Subject) -> str:
    """Check the number, shapes and precision of what forward returns."""
    check_forward(subject.ansatz, subject.electrons)
    sign, log = subject.ansatz(subject.electrons)
    if log.dtype != torch.float64:
        raise Broken(f"log|psi| is {log.dtype} for parameters and electrons in float64")
    if not torch.isfinite(log).all():
        raise Broken(f"log|psi| is {log[~torch.isfinite(log)][0]:g} for a walker with all electrons near the nuclei")
    if not (sign.abs() == 1.0).all():
        raise Broken(f"sign must be +1 or -1, not {sign[sign.abs() != 1.0][0]:g}")
    return f"sign and log|psi|, each (B,), for {subject.system.name}"


@torch.no_grad()
def independence(subject: Subject) -> str:
    """Check that a row of the output depends on the same row of the electrons alone."""
    sign, log = subject.ansatz(subject.electrons)
    for row in range(WALKERS):
        own_sign, own = subject.ansatz(subject.electrons[row : row + 1])
        if bool(own_sign[0] != sign[row]):
            raise Broken("the sign of a walker depends on the other walkers of the batch")
        _same(log[row], own[0], "log|psi| of a walker depends on the other walkers of the batch")
    return "each walker alone gives the same"


@torch.no_grad()
def antisymmetry(subject: Subject) -> str:
    """Exchange two electrons of the same spin: psi changes its sign and nothing else."""
    pairs = list(_pairs(subject.system))
    if not pairs:
        raise Inapplicable(f"{subject.system.name}, which it accepts, has no two electrons of the same spin")
    sign, log = subject.ansatz(subject.electrons)
    for first, second in pairs:
        order = list(range(subject.system.n_electrons))
        order[first], order[second] = second, first
        other_sign, other = subject.ansatz(subject.electrons[:, order])
        exchanged = f"electrons {first + 1} and {second + 1}, of the same spin, are exchanged"
        _same(log, other, f"|psi| changes when {exchanged}")
        if not bool((other_sign == -sign).all()):
            raise Broken(f"psi does not change its sign when {exchanged}")
    return f"{len(pairs)} exchanges of electrons of the same spin"


def derivatives(subject: Subject) -> str:
    """Compare the gradient and the Laplacian of automatic differentiation with finite differences."""
    exact = laplacian_by_autograd(subject.ansatz, subject.electrons)
    step, flat = 1e-3, subject.electrons.flatten(1)
    with torch.no_grad():
        gradient, laplacian = torch.zeros_like(flat), torch.zeros(WALKERS, dtype=torch.float64)
        centre = subject.ansatz(subject.electrons)[1]
        for column in range(flat.shape[1]):
            ends = []
            for sign in (1.0, -1.0):
                moved = flat.clone()
                moved[:, column] += sign * step
                ends.append(subject.ansatz(moved.view_as(subject.electrons))[1])
            gradient[:, column] = (ends[0] - ends[1]) / (2.0 * step)
            laplacian += (ends[0] + ends[1] - 2.0 * centre) / step**2
    slope = float((gradient - exact.gradient).abs().max() / (1.0 + exact.gradient.abs().max()))
    if slope > 1e-4:
        raise Broken(f"the gradient of log|psi| differs from finite differences by {slope:.0e} of its size")
    bend = float((laplacian - exact.laplacian).abs().max() / (1.0 + exact.laplacian.abs().max()))
    if bend > 1e-2:
        raise Broken(
            f"the Laplacian of log|psi| differs from finite differences by {bend:.0e} of its size: log|psi| must be "
            "differentiable twice (no ReLU, no detach)"
        )
    return "gradient and Laplacian of log|psi| by automatic differentiation agree with finite differences"


def forward_laplacian(subject: Subject) -> str:
    """Compare the forward Laplacian with automatic differentiation."""
    ansatz = subject.ansatz
    if not isinstance(ansatz, HasLaplacian):
        raise Inapplicable("no `laplacian`: the core differentiates twice, which is slower")
    with torch.no_grad():
        fast = ansatz.laplacian(subject.electrons)
    exact = laplacian_by_autograd(subject.ansatz, subject.electrons)
    for name in ("sign", "log", "gradient", "laplacian"):
        own, generic = getattr(fast, name), getattr(exact, name)
        if own.shape != generic.shape:
            raise Broken(f"`laplacian` returns {name} of the shape {tuple(own.shape)}, not {tuple(generic.shape)}")
        error = float((own - generic).abs().max() / (1.0 + generic.abs().max()))
        if not error <= 1e-8:
            raise Broken(f"{name} of `laplacian` differs from automatic differentiation by {error:.0e} of its size")
    return "the forward Laplacian is that of automatic differentiation"


@torch.no_grad()
def decay(subject: Subject) -> str:
    """Move one electron far away: psi must fall off, otherwise it cannot be normalised."""
    distances = torch.tensor([10.0, 20.0, 40.0], dtype=torch.float64)
    logs = []
    for distance in distances:
        electrons = subject.electrons.clone()
        electrons[:, -1] = torch.tensor([0.6, 0.0, 0.8], dtype=torch.float64) * distance
        logs.append(subject.ansatz(electrons)[1])
    falls = (logs[0] - logs[1], logs[1] - logs[2])
    if not all(bool((fall > 0.0).all()) for fall in falls):
        raise Broken("log|psi| does not fall as an electron moves from 10 to 40 bohr away: it cannot be normalised")
    return f"log|psi| falls by {float((falls[1] / 20.0).mean()):.2f} per bohr at large distances"


@torch.no_grad()
def cusps(subject: Subject) -> str:
    """State the cusps at coalescences; exact ones are -Z at a nucleus and 1/2 for two electrons of opposite spin."""
    system, texts = subject.system, []
    for index, (symbol, position) in enumerate(zip(system.symbols, system.positions, strict=True)):
        if symbol in system.symbols[:index]:
            continue
        place = torch.tensor(position, dtype=torch.float64)
        slope = _slope(subject, 0, lambda electrons, place=place: place)
        texts.append(f"{slope:+.2f} at {symbol} (exact: {-_charge(symbol):+d})")
    if system.n_up and system.n_down:
        texts.append(f"{_slope(subject, system.n_up, lambda electrons: electrons[:, 0]):+.2f} for two electrons (+0.5)")
    return Noted(f"slope of log|psi|: {', '.join(texts)}; wrong ones raise the variance, training may correct them")


def _slope(subject: Subject, electron: int, centre: Any) -> float:
    """Derivative of log|psi| by the distance of `electron` from `centre(electrons)`, averaged over directions."""
    radius = 1e-4
    directions = torch.eye(3, dtype=torch.float64)
    slopes = []
    for direction in (*directions, *-directions):
        logs = []
        for distance in (radius, 2.0 * radius):
            electrons = subject.electrons.clone()
            electrons[:, electron] = centre(electrons) + distance * direction
            logs.append(subject.ansatz(electrons)[1])
        slopes.append((logs[1] - logs[0]) / radius)
    return float(torch.stack(slopes).mean())


def precision(subject: Subject) -> str:
    """Compare log|psi| in float32 with float64."""
    with torch.no_grad():
        single = deepcopy(subject.ansatz).float()
        log = single(subject.electrons.float())[1]
        if log.dtype != torch.float32:
            raise Broken(f"log|psi| is {log.dtype} for parameters and electrons in float32, the default of runs")
        difference = float((log.double() - subject.ansatz(subject.electrons)[1]).abs().max())
    if not difference < 0.05:
        raise Broken(f"log|psi| in float32, the default of runs, differs from float64 by {difference:.1e}")
    return f"float32 differs by {difference:.0e} in log|psi|"


@torch.no_grad()
def abilities(subject: Subject) -> str:
    """Check the orbitals and the derivatives by nuclei that a wavefunction may bring."""
    ansatz, electrons, found = subject.ansatz, subject.electrons, []
    if isinstance(ansatz, HasOrbitals):
        n_up, n_down = subject.system.n_up, subject.system.n_down
        matrices = ansatz.orbitals(electrons)
        sizes = [tuple(matrix.shape[-2:]) for matrix in matrices]
        per_spin = [(n, n) for n in (n_up, n_down) if n]
        if sizes not in ([(n_up + n_down,) * 2], per_spin) or any(matrix.dim() != 4 for matrix in matrices):
            shapes = ", ".join(str(tuple(matrix.shape)) for matrix in matrices)
            raise Broken(f"`orbitals` returns {shapes}; it needs (B, K, N, N), or one (B, K, n, n) per spin")
        found.append("orbitals for pretraining")
    if isinstance(ansatz, HasNuclei):
        nuclei = torch.tensor(subject.system.positions, dtype=torch.float64).expand(len(electrons), -1, -1)
        _same(
            subject.ansatz(electrons)[1],
            ansatz.at_nuclei(electrons, nuclei)[1],
            "`at_nuclei` at the nuclei differs from forward",
        )
        shift = torch.tensor([0.3, -0.2, 0.5], dtype=torch.float64)
        _same(
            subject.ansatz(electrons)[1],
            ansatz.at_nuclei(electrons + shift, nuclei + shift)[1],
            "`at_nuclei` changes as nuclei and electrons move together: it does not follow the nuclei",
        )
        found.append("forces on the nuclei")
    return ", ".join(found) if found else Noted("no `orbitals`: no pretraining; no `at_nuclei`: no forces")


def gradients(subject: Subject) -> str:
    """Check that the gradient of log|psi| reaches every parameter, and that the optimiser takes all."""
    ansatz = subject.built(0)
    weights = torch.arange(1.0, WALKERS + 1.0, dtype=torch.float64)  # a plain sum may cancel
    text = parameters_reached(ansatz, lambda: (weights * ansatz(subject.electrons)[1]).sum())
    if any(parameter.requires_grad for parameter in ansatz.parameters()):
        subject.method.optimiser(ansatz, WALKERS)
    return text


def on_another_device(subject: Subject) -> str:
    """Calculate on a simulated second device, which refuses operations that mix devices as a GPU does."""
    from fusion.contracts.foreign_device import DEVICE, ForeignDevice

    expected = laplacian_by_autograd(subject.ansatz, subject.electrons)
    laplacian = expected.laplacian
    with ForeignDevice():
        ansatz = deepcopy(subject.ansatz).to(DEVICE)
        electrons = subject.electrons.to(DEVICE).flatten(1).requires_grad_(True)
        _, there = ansatz(electrons.view_as(subject.electrons))
        (slope,) = torch.autograd.grad(there.sum(), electrons)  # a second derivative crashes torch on this device
        log, gradient = there.detach().cpu(), slope.cpu()
        if isinstance(ansatz, HasLaplacian):
            with torch.no_grad():
                laplacian = ansatz.laplacian(electrons.detach().view_as(subject.electrons)).laplacian.cpu()
    _same(expected.log, log, "log|psi| on another device differs")
    _same(expected.gradient, gradient, "the gradient of log|psi| on another device differs", 1e-7)
    _same(expected.laplacian, laplacian, "the forward Laplacian on another device differs", 1e-7)
    return "runs on a simulated GPU with the same numbers"


def devices(subject: Subject) -> str:
    """Run `on_another_device` in a process of its own."""
    return isolated.devices(subject.method.name, "ansatz", subject.package)


def saving(subject: Subject) -> str:
    """Check that the state dict, saved and loaded into a new wavefunction, gives the same."""

    def numbers(ansatz: nn.Module) -> Tensor:
        sign, log = ansatz(subject.electrons)
        product: Tensor = sign * log
        return product

    return same_after_saving(subject.ansatz, subject.built(1), numbers)


def calculation(subject: Subject) -> str:
    """Run all phases of a calculation, a few steps each; the energy has no meaning."""
    method = by_name.method({"method": subject.method.name, "dtype": "float64", "device": "cpu", **SHORT})
    with logs.into(None):
        logs.hush_lightning()
        (result,) = method.calculate([subject.system], {"energy"})
    if result.energy is None:
        raise Broken(result.message or result.status)
    return f"{subject.system.name}: all phases ran, a few steps each"


def _pairs(system: System) -> Iterator[tuple[int, int]]:
    if system.n_up > 1:
        yield 0, system.n_up - 1
    if system.n_down > 1:
        yield system.n_up, system.n_electrons - 1


def _charge(symbol: str) -> int:
    from ase.data import atomic_numbers

    return int(atomic_numbers[symbol])


def _same(expected: Tensor, value: Tensor, fault: str, within: float = EXACT) -> None:
    difference = float((value - expected).abs().max())
    if not difference <= within * max(1.0, float(expected.abs().max())):
        raise Broken(f"{fault} (by {difference:.1e})")


CHECKS: Final = (
    Check("forward returns sign, log|psi|", forward, essential=True),
    Check("walkers are independent", independence),
    Check("antisymmetry", antisymmetry),
    Check("derivatives", derivatives),
    Check("forward Laplacian", forward_laplacian),
    Check("decay", decay),
    Check("cusps", cusps),
    Check("precision", precision),
    Check("optional abilities", abilities),
    Check("gradients reach all parameters", gradients),
    Check("devices", devices),
    Check("state dict round trip", saving),
    Check("calculation", calculation),
)

"""Check that a GPU gives the CPU's numbers, and time every kind of method on it, in one call.

`python benchmarks/gpu_check.py --out gpu_check.md` compares energies, forces, log|psi|, its Laplacian and a step of the
optimisation, in float64 and float32, then times the published wavefunctions, diffusion, ANI, a Coulomb-matrix network
and DM21 by torch operations, in under eight minutes. Weights are random: nothing is downloaded. Exit status 0 if all
numbers agree, 1 if not, 2 without a GPU. `--cpu` does the same with small networks on the CPU, a test of the script.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import ase.build
import torch
from hydra.utils import instantiate
from torch import Tensor

from fusion.chemistry.structures import from_atoms
from fusion.chemistry.system import System
from fusion.config.compose import compose
from fusion.functionals import DensityFeatures
from fusion.functionals.grid.differentiation import differentiate
from fusion.potentials import Batch, collate
from fusion.potentials.derivatives import evaluate
from fusion.wavefunctions.diffusion.module import DiffusionMonteCarlo, DiffusionSchedule
from fusion.wavefunctions.hamiltonians import Point, molecular
from fusion.wavefunctions.optimisers import Constant
from fusion.wavefunctions.optimisers.spring import Spring
from fusion.wavefunctions.sampler import initial_electrons
from fusion_coulomb.matrix import SortedMatrix
from fusion_coulomb.network import CoulombNetwork
from fusion_dm21.network import DM21
from runs import machine, write_table
from vmc_speed import built_in

TOLERANCES = {torch.float64: 1e-9, torch.float32: 1e-3}
"""Largest deviation from the CPU's numbers, relative to the largest of them."""

SYSTEMS = ("lih", "ch4", "n2")
ANSATZES = ("ferminet", "psiformer")
MOLECULES = ("H2O", "CH4", "NH3", "CH3OH", "C2H6")
Work = Callable[[], Any]


class Size(NamedTuple):
    """Sizes of the timed calculations; a preset is appended to the name of an ansatz."""

    preset: str
    walkers: int
    chunk: int
    structures: int
    points: int
    seconds: float


FULL = Size("/paper", 4096, 1024, 2560, 100_000, 8.0)
SMALL = Size("", 16, 16, 10, 500, 0.2)


def main(device: torch.device, size: Size, out: Path) -> int:
    """Write the table; return the exit status."""
    checked = [row for dtype in TOLERANCES for row in checks(device, dtype)]
    rows = [(*row[:3], "yes" if row[3] else "NO") for row in checked]
    for name, work in timings(device, size):
        rate = per_second(work, device, size.seconds)
        rows.append((name, "", f"{rate:.3g} per second ({1000 / rate:.3g} ms)", ""))
        print(rows[-1], flush=True)
    place = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU, reduced self-test"
    notes = f"{place}; {machine()}, torch {torch.__version__}. Deviations are relative to the largest number."
    write_table(out, "Numbers and speed of a GPU", notes, ("quantity", "dtype", "deviation or rate", "agrees"), rows)
    return 0 if all(row[3] for row in checked) else 1


def checks(device: torch.device, dtype: torch.dtype) -> Iterator[tuple[str, str, str, bool]]:
    """Quantity, dtype, deviation from the CPU, and whether it is small enough."""
    cpu = torch.device("cpu")
    for kind, make in (("wavefunction", wavefunctions), ("potential", potentials), ("functional", functional)):
        expected, computed = make(cpu, dtype), make(device, dtype)
        for name, value in expected.items():
            deviation = float((computed[name].cpu() - value).abs().max() / value.abs().max())
            yield f"{kind}: {name}", str(dtype)[6:], f"{deviation:.1e}", deviation <= TOLERANCES[dtype]


def wavefunctions(device: torch.device, dtype: torch.dtype) -> dict[str, Tensor]:
    """log|psi|, its derivatives, local energies and a step of SPRING for lithium hydride."""
    system, numbers = built_in("lih"), {}
    walkers = initial_electrons(system, 32, torch.Generator().manual_seed(0)).to(device, dtype)
    for name in ANSATZES:
        ansatz = method(name, torch.float64).ansatz(system).to(device, dtype)
        local = molecular(system).to(device).evaluate(ansatz, walkers, 32)
        spring = Spring(ansatz, 32, Constant(1e-2), 0.1, 0.9, 1e-2)
        with torch.no_grad():
            step = spring.step(walkers, local.total - local.total.mean(), 0)
        numbers |= {
            f"{name} log psi": Point(ansatz, walkers, 32).forward(walkers)[1],
            f"{name} Laplacian": local.psi.laplacian,
            f"{name} local energy": local.total,
            f"{name} optimisation step": torch.cat([change.flatten() for change in step.values()]),
        }
    return numbers


def potentials(device: torch.device, dtype: torch.dtype) -> dict[str, Tensor]:
    """Energies and forces of molecules."""
    batch, numbers = collate(molecules(len(MOLECULES)), dtype), {}
    for name, model in (("ANI", ani(dtype)), ("Coulomb", coulomb(batch))):
        prediction, derivatives = evaluate(model.to(device), batch.to(device), {"forces"})
        numbers |= {f"{name} energies": prediction.energy.detach(), f"{name} forces": derivatives["forces"]}
    return numbers


def functional(device: torch.device, dtype: torch.dtype) -> dict[str, Tensor]:
    """Energy density of DM21 and its derivatives."""
    features = densities(500, device, dtype)
    energy, derivatives = differentiate(dm21(device, dtype), features, "dm21")
    return {"DM21 energy density": energy, "DM21 potential": derivatives.rho}


def timings(device: torch.device, size: Size) -> Iterator[tuple[str, Work]]:
    """Name and work of every timed calculation."""
    for name in ANSATZES:
        for system in SYSTEMS:
            yield (
                f"{name}{size.preset} {system}: optimisation steps, {size.walkers} walkers",
                steps(name, system, device, size),
            )
    yield f"ferminet{size.preset} lih: blocks of 10 diffusion steps", diffusion(device, size)
    batch = collate(molecules(size.structures), torch.float32)
    network = coulomb(collate(molecules(len(MOLECULES)), torch.float32)).to(device)
    for kind, model in (("ANI-2x", ani(torch.float32).to(device)), ("Coulomb", network)):
        yield f"{kind}: energies and forces of {size.structures} molecules", forces(model, batch.to(device))
    features, functional_ = densities(size.points, device, torch.float32), dm21(device, torch.float32)
    yield f"DM21: derivatives at {size.points} points", lambda: differentiate(functional_, features, "dm21")


def steps(name: str, system: str, device: torch.device, size: Size) -> Work:
    """Optimisation steps of a published network."""
    module = method(name + size.preset, torch.float32, size).module(built_in(system), chunk=size.chunk).to(device)
    module.on_train_start()
    return torch.no_grad()(lambda: module.iterate("optimising"))


def diffusion(device: torch.device, size: Size) -> Work:
    """Blocks of diffusion steps, from walkers that moved a little."""
    arguments = method("ferminet" + size.preset, torch.float32, size).arguments(built_in("lih"), chunk=size.chunk)
    module = DiffusionMonteCarlo(*arguments, diffusion=DiffusionSchedule((0.01,), 20, 0)).to(device)
    module.on_train_start()
    with torch.no_grad():
        module.begin("diffusing 0.01")
    return torch.no_grad()(lambda: module.iterate("diffusing 0.01"))


def forces(model: torch.nn.Module, batch: Batch) -> Work:
    """Energies and forces of a batch."""
    return lambda: evaluate(model, batch, {"forces"})


def per_second(work: Work, device: torch.device, seconds: float) -> float:
    """Calls per second, after two that warm up."""
    for _ in range(2):
        work()
    count, began = 0, time.perf_counter()
    while count < 2 or time.perf_counter() - began < seconds:
        work()
        count += 1
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    return count / (time.perf_counter() - began)


def method(name: str, dtype: torch.dtype, size: Size = SMALL) -> Any:
    """Wavefunction method of this name, with the walkers of `size`."""
    torch.manual_seed(0)
    words = [f"+method={name}", f"dtype={str(dtype)[6:]}", f"method.walkers={size.walkers}"]
    return instantiate(compose(words)[0].method, _recursive_=False)


def molecules(number: int) -> list[System]:
    """Small molecules, in turn."""
    systems = [from_atoms(ase.build.molecule(name), name=name) for name in MOLECULES]
    return [systems[index % len(systems)] for index in range(number)]


def ani(dtype: torch.dtype) -> torch.nn.Module:
    """Untrained ANI network of the size of ANI-2x."""
    torch.manual_seed(0)
    model: torch.nn.Module = instantiate(compose(["+method=ani"])[0].method.model, _convert_="all")
    return model.to(dtype).eval().requires_grad_(False)


def coulomb(batch: Batch) -> torch.nn.Module:
    """Untrained Coulomb-matrix network with the ranges of these molecules."""
    torch.manual_seed(0)
    model = CoulombNetwork(("H", "C", "N", "O"), SortedMatrix(23)).to(batch.positions.dtype)
    model.calibrate([batch], -torch.rand(len(batch), generator=torch.Generator().manual_seed(0)))
    return model.eval().requires_grad_(False)


def dm21(device: torch.device, dtype: torch.dtype) -> torch.nn.Module:
    """Untrained functional of the size of DM21."""
    torch.manual_seed(0)
    return DM21().to(device, dtype)


def densities(points: int, device: torch.device, dtype: torch.dtype) -> DensityFeatures:
    """Random density features."""
    random = torch.Generator().manual_seed(0)

    def positive(*shape: int) -> Tensor:
        return (0.1 + torch.rand(*shape, generator=random, dtype=torch.float64)).to(device, dtype)

    exchange = {omega: -positive(2, points) for omega in (0.0, 0.4)}
    return DensityFeatures(positive(2, points), positive(2, 3, points), positive(2, points), exchange)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("gpu_check.md"))
    parser.add_argument("--cpu", action="store_true")
    options = parser.parse_args()
    if options.cpu:
        sys.exit(main(torch.device("cpu"), SMALL, options.out))
    if not torch.cuda.is_available():
        print("gpu_check: no CUDA GPU here that torch can use; --cpu tests the script itself", file=sys.stderr)
        sys.exit(2)
    sys.exit(main(torch.device("cuda"), FULL, options.out))

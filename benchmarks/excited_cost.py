"""Cost of excited states against their number: `python benchmarks/excited_cost.py`; writes excited_cost.md.

Seconds of one optimisation iteration of LiH with 256 walkers, split into its parts, for 1 to 8 states; beside them the
sampling that evaluates all electron sets after each move of one, as in the published program. Medians of some
repetitions, in which the numbers of states take turns.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from fusion.wavefunctions.clipping import clip
from fusion.wavefunctions.excited.local_matrix import StateHamiltonian
from fusion.wavefunctions.excited.sampler import SetMetropolis
from fusion.wavefunctions.excited.state_matrix import StateMatrix
from fusion.wavefunctions.hamiltonians import molecular
from fusion.wavefunctions.optimisers import Constant
from fusion.wavefunctions.optimisers.spring import Spring
from fusion.wavefunctions.proposals import ScaledElectrons
from fusion.wavefunctions.references import ConfigurationInteraction
from fusion.wavefunctions.resources import default_chunk
from fusion.wavefunctions.sampler import Metropolis, first_sets
from fusion_ferminet.network import FermiNet
from runs import machine, write_table
from vmc_speed import built_in

NUMBERS = (1, 2, 4, 8)
WALKERS, MOVES, REPEATS = 256, 10, 5


class Iteration:
    """One optimisation iteration of a number of states, in parts."""

    def __init__(self, number: int) -> None:
        torch.manual_seed(0)
        system = built_in("lih")
        network = FermiNet(system, 48, 16, 2, reference=ConfigurationInteraction, states=number)
        self.chunk = max(1, default_chunk(system) // number)
        stream = torch.Generator().manual_seed(0)
        proposals = [ScaledElectrons(system)]
        electrons = first_sets(system, number, WALKERS, stream).float()
        self.ansatz: nn.Module = network if number == 1 else StateMatrix(network, number)
        hamiltonian = molecular(system)
        if isinstance(self.ansatz, StateMatrix):
            self.hamiltonian: nn.Module = StateHamiltonian(hamiltonian)
            self.sampler: Metropolis = SetMetropolis(self.ansatz, stream, proposals)
        else:
            self.hamiltonian, self.sampler = hamiltonian, Metropolis(electrons, stream, proposals=proposals)
        self.sampler.electrons = electrons
        self.naive = Metropolis(electrons, stream, proposals=proposals)
        self.number = number
        self.spring = Spring(self.ansatz, 4 * self.chunk, Constant(1e-3), 1.0, 0.9, 1e-3)

    def parts(self) -> dict[str, Callable[[], None]]:
        return {"sampling": self.sample, "local energy": self.measure, "optimiser": self.step, "naive": self.all_sets}

    def log_density(self, electrons: torch.Tensor) -> torch.Tensor:
        return 2 * self.ansatz(electrons)[1]

    def sample(self) -> None:
        self.sampler.run(self.log_density, MOVES)

    def measure(self) -> None:
        self.local = clip(self.hamiltonian.local_energy(self.ansatz, self.sampler.electrons, self.chunk), 5.0)

    def step(self) -> None:
        self.spring.step(self.sampler.electrons, self.local.deviation, 0)

    def all_sets(self) -> None:
        """As many evaluations of all sets as there are moves of one set."""
        self.naive.run(self.log_density, MOVES * self.number)


def main() -> None:
    """Measure and write the table."""
    iterations = {number: Iteration(number) for number in NUMBERS}
    seconds: dict[tuple[int, str], list[float]] = {}
    for repeat in range(REPEATS + 1):
        for number, iteration in iterations.items():
            for part, work in iteration.parts().items():
                began = time.process_time()
                with torch.no_grad():
                    work()
                if repeat:  # the first warms up
                    seconds.setdefault((number, part), []).append(time.process_time() - began)
    rows = []
    for number in NUMBERS:
        own = {part: statistics.median(seconds[number, part]) for part in iterations[number].parts()}
        naive = own.pop("naive")
        total = sum(own.values())
        cells = [f"{value:.3f}" for value in (*own.values(), total, naive)]
        rows.append((str(number), *cells, f"{naive / own['sampling']:.1f}"))
    notes = (
        f"FermiNet 48/16/2 of LiH that starts at a configuration interaction, {WALKERS} walkers, {MOVES} moves of each "
        f"electron set, SPRING, float32. CPU seconds, threads: {torch.get_num_threads()}, medians of {REPEATS}; "
        f"{machine()}."
    )
    columns = ("states", "sampling", "local energy", "optimiser", "sum", "sampling of all sets at once", "ratio")
    write_table(Path(__file__).with_suffix(".md"), "Cost of excited states", notes, columns, rows)


if __name__ == "__main__":
    main()

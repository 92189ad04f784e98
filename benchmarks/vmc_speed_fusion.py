"""Worker of vmc_speed.py that runs fusion's optimisation in blocks.

`python benchmarks/vmc_speed_fusion.py NETWORK SYSTEM WALKERS` answers on standard output, see blocks.py. The iteration
is the complete one of a run: moves and the adaptation of their width, local energies term by term, the check of the
energy, SPRING, and the average of the parameters.
"""

from __future__ import annotations

import sys

import torch

from blocks import Blocks
from fusion.wavefunctions.optimisation import Optimisation
from vmc_speed import MOVES, Case, Iteration

WARM_UP = 3  # iterations
BURN_IN = 100  # moves
CLIP = 5.0


@torch.no_grad()
def main(case: Case) -> None:
    """Optimise until the other side closes the input."""
    parts = Iteration(case, torch.device("cpu"))
    blocks = Blocks(WARM_UP)
    optimisation = Optimisation(parts.ansatz, parts.hamiltonian, parts.sampler, parts.spring, MOVES, CLIP, parts.chunk)
    parts.sampler.burn_in(optimisation.log_density, BURN_IN)
    count = 0
    while True:
        measured = optimisation.step(count)
        if not measured.rejected:  # an undone iteration has no step of the optimiser: its time goes to the next one
            count += 1
            blocks.finish(measured.energy)


if __name__ == "__main__":
    network, system, walkers = sys.argv[1:]
    main(Case(network, system, int(walkers)))

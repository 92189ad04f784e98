"""Fixed-node diffusion Monte Carlo: the lowest energy of all functions with the nodes of a trained wavefunction.

exp(-tau H) projects out the ground state; walkers drift along grad ln|psi|, diffuse, and multiply where the local
energy is low. psi guides them and fixes the nodes, which no walker may cross: for the exact nodes the energy is exact,
for others it is an upper bound below that of psi itself.
"""

BLOCK = 10
"""Time steps per iteration of the LightningModule, which is one row of metrics.csv."""


RELAXATION = 1.0
"""Projection time (1/hartree) within which walkers forget the density of psi, and their energies one another: about the
inverse of the gap to the excited states of valence electrons."""


def phase_of(time_step: float) -> str:
    """Name of the phase with a time step (1/hartree)."""
    return f"diffusing {time_step:g}"

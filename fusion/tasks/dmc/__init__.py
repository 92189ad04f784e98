"""Fixed-node diffusion Monte Carlo with a trained wavefunction."""

from fusion.tasks import lazily

__getattr__ = lazily("DiffusionMonteCarlo", __name__)

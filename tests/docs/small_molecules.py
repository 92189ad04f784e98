"""Two molecules, and walkers of them."""

import numpy as np
import torch
from torch import Tensor

from fusion.chemistry.system import System

CH = System("CH", ("C", "H"), np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 2.1]]), spin=1)
LIH = System("LiH", ("Li", "H"), np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 3.0]]))


def walkers(system: System, number: int = 3) -> Tensor:
    """Electrons (number, N, 3), the same ones in every call."""
    return torch.randn(number, system.n_electrons, 3, generator=torch.Generator().manual_seed(1))

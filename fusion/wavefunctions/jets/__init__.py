"""Forward Laplacian: value, Jacobian and Laplacian of a network propagated together, layer by layer.

For ``y = f(x)`` with ``x`` a function of the electron coordinates ``r_d``, ``d = 1..D`` (D = 3N),

    dy/dr_d = f'(x) dx/dr_d,        lap y = f'(x) lap x + sum_d (dx/dr_d)^T f''(x) (dx/dr_d),

so one pass through the layers gives everything the kinetic energy needs (Li et al. 2023, arXiv 2307.08214, eqs. 6-9).
A function of one electron, or of one pair of electrons, has only its own three derivatives, and becomes
dense where electrons first mix.

`jet` has the types, `rules` the rule of every operation, `modules` layers that know their own rule, so that an ansatz
is written once as layers, and `oracle` the slow reverse-mode path: the reference of the tests, and the path for an
ansatz without its own Laplacian.
"""

from fusion.wavefunctions.jets.jet import Jet, LogPsi, dense
from fusion.wavefunctions.jets.oracle import laplacian_by_autograd
from fusion.wavefunctions.jets.rules import linear, tanh_residual_

__all__ = ["Jet", "LogPsi", "dense", "laplacian_by_autograd", "linear", "tanh_residual_"]

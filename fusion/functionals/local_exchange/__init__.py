"""Local exact exchange on grid points: integrals, their contractions, gradients and cache."""

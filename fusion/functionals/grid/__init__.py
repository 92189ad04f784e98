"""Integration of functionals on grids: quadrature, weights, potential matrices, response and gradients."""

"""Kohn-Sham calculations with learned functionals: mean field, convergence and gradients."""

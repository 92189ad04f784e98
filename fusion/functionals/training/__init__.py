"""Training of functionals: labelled densities from PySCF, regression with a stability term, and the results."""

"""Training of functionals: labelled densities made with PySCF, regression with a stability term, and what came out."""

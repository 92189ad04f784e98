"""Parts of self-consistent field calculations that learned functionals and conventional methods share."""

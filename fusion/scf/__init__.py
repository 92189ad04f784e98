"""Parts of self-consistent field calculations shared by learned functionals and conventional methods."""

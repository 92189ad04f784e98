"""Normal modes, point groups, thermochemistry."""

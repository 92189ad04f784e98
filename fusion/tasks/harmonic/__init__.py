"""Normal modes, point groups, vibrational spectra and thermochemistry."""

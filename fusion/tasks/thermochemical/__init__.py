"""Enthalpies and free energies of molecules and reactions, compared with experiment."""

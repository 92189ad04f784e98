"""Enthalpies and free energies of molecules and reactions, against experiment."""

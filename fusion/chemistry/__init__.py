"""Molecules and crystals: structure files, charge and spin, isotopes, constraints and cells."""

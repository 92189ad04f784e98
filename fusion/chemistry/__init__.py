"""Molecules: what a structure states of its nuclei."""

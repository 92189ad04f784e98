"""Molecular dynamics: integrators, what is recorded, averages."""

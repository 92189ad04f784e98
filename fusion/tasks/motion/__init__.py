"""Molecular dynamics: integrators, recorded quantities, averages."""

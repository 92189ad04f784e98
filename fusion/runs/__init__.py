"""Runs: their directories, results, reports, metrics and checkpoints."""

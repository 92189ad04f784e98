"""Terminal output: lines of a run, progress, logs and formats of numbers."""

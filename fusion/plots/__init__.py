"""Pictures, drawn from the files in a run's directory: one file per kind of picture."""

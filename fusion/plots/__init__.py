"""Pictures drawn from the files in a run's directory, one module per kind of picture."""

"""References of the methods, models, programs and data that a run used, as BibTeX."""

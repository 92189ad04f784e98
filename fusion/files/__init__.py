"""Files: atomic writes, and bounds on files that others may have made."""

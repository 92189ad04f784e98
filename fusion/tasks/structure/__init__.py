"""Atoms and how they are moved: relaxation, internal coordinates and scans of them, geomeTRIC."""

"""Atoms and how they are moved: relaxation, internal coordinates, geomeTRIC."""

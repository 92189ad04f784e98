"""Structures: relaxation, internal coordinates and their scans, and the interface to geomeTRIC."""

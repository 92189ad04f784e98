"""Structures that move: internal coordinates, normal modes, constraints, and the interface to geomeTRIC."""

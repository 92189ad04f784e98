"""Reaction paths: nudged elastic bands, transition states, barriers and intrinsic reaction coordinates."""

"""Processes, threads and devices of a calculation."""

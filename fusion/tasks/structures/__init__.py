"""Calculation of many structures: shared by workers, kept in records, written to one file and one table."""

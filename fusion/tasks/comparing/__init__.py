"""Comparison of methods: subjects, one process per method, and tables."""

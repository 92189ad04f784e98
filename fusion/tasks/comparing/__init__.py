"""Comparing methods: what is compared, every method in a process of its own, the tables."""

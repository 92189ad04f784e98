"""Interruption: a task can be stopped or killed at any moment and resumed."""

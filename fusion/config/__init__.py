"""Configurations: trees of options, composed settings, their checks and messages."""

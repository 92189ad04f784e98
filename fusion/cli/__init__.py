"""Command line: parsing of arguments, and commands that print lists and results."""

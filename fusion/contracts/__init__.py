"""Contracts of the kinds of methods, checked on anyone's model: `fusion plugins check NAME`."""

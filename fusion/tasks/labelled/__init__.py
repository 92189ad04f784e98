"""Labelled structures and how far predictions are from them."""

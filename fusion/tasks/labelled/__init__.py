"""Evaluation: predictions of a method compared with labelled structures."""

"""Evaluation of a method on labelled data: predictions, errors, calibration and uncertainty."""

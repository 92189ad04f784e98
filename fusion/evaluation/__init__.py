"""A method against labelled data: predictions, errors, calibration and uncertainty."""

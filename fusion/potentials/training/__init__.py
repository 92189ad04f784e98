"""Training of a potential on labelled structures: task=train data=NAME."""

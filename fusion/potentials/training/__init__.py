"""How a potential is fitted to labelled structures: task=train data=NAME."""

"""The terminal: the lines of a run and the forms of numbers in them."""

"""The two ways a run ends badly. Everything else that escapes is a bug and shows its traceback."""


class InputError(ValueError):
    """What the user asked for cannot be done: one line saying what is wrong and what would be right. Exit status 2."""


class CalculationError(RuntimeError):
    """The calculation failed or did not converge; what was computed is kept. Exit status 1."""

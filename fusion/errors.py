"""Errors of a run: wrong input, a failed calculation, and a stop. Any other exception is a bug, with a traceback."""


class InputError(ValueError):
    """The input is wrong: one line says what is wrong and what would be right. Exit status 2."""


class CalculationError(RuntimeError):
    """The calculation failed or did not converge; its files stay. Exit status 1."""


class Stopped(KeyboardInterrupt):
    """A signal (`number`) stopped the program in good order."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number

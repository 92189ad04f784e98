"""The two ways a run ends badly, and being stopped. Everything else that escapes is a bug and shows its traceback."""


class InputError(ValueError):
    """What the user asked for cannot be done: one line saying what is wrong and what would be right. Exit status 2."""


class CalculationError(RuntimeError):
    """The calculation failed or did not converge; what was computed is kept. Exit status 1."""


class Stopped(KeyboardInterrupt):
    """A signal (`number`) asked the program to stop, and it has done so in good order."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number

"""Program of a process of `fusion.methods.separate`: reads geometries from standard input until it ends.

Only the process that started it writes there, and reads the answers.
"""

from __future__ import annotations

import os
import pickle
import sys

from fusion.errors import CalculationError, InputError
from fusion.methods import protocol
from fusion.methods.separate import calculated


def main() -> None:
    """Build the method of the first message, then answer each further one by a result or an error."""
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print must not disturb the answers
    settings, memory = pickle.load(requests)
    method = protocol.build(settings)
    while True:
        try:
            system, properties = pickle.load(requests)
        except EOFError:
            return
        answer: object
        try:
            answer = calculated(method, memory, system, properties)
        except (CalculationError, InputError) as error:
            answer = error
        pickle.dump(answer, answers)
        answers.flush()


if __name__ == "__main__":
    main()

"""Standard output and error in any encoding, also if they are closed, full, or without a reader.

Output that cannot be written is dropped, because a calculation of days must not end with its terminal; the program
reports it at its end.
"""

from __future__ import annotations

import codecs
import errno
import io
import os
import sys
import unicodedata
from typing import Any, TextIO

_ERRORS = "fusion.plain"
_UNSEEN = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Unicode categories of control characters: escape sequences, changes of direction, line separators."""
_PLAIN = {
    **{
        "·": "-",
        "–": "-",
        "—": "-",
        "−": "-",
        "…": "...",
        "±": "+/-",
        "×": "x",
        "→": "->",
        "⇌": "<->",
        "∆": "D",
        "Δ": "D",
    },
    **{"⟨": "<", "⟩": ">", "²": "2", "³": "3", "Å": "A", "°": " deg", "µ": "u", "μ": "u", "α": "alpha", "χ": "chi"},
    **{
        "ρ": "rho",
        "ψ": "psi",
        "ω": "w",
        "σ": "sigma",
        "√": "sqrt",
        "≤": "<=",
        "≥": ">=",
        "≈": "~",
        "é": "e",
        "ö": "o",
        "ü": "u",
    },
}
"""Replacements of characters that a stream's encoding lacks; all other such characters become question marks."""


def open_any() -> None:
    """Make standard output and error of this process accept any text, and drop what cannot be written."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:  # closed: the next opened file would get this number and receive the output
            os.open(os.devnull, os.O_RDWR)
    sys.stdout, sys.stderr = _opened(sys.stdout, 1), _opened(sys.stderr, 2)


def any_text(stream: Any) -> None:
    """Make a stream accept characters that its encoding lacks."""
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors=_ERRORS)


def visible(text: str) -> str:
    """Replace control characters, which names in untrusted files may contain, by question marks.

    Line feeds and tabs stay.
    """
    if text.isprintable():
        return text
    return "".join(
        "?" if unicodedata.category(letter) in _UNSEEN and letter not in "\n\t" else letter for letter in text
    )


def lost() -> str:
    """Return the reason why standard output was not written; empty if it was, or if the reader (`| head`) stopped."""
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    if not isinstance(raw, _Lossy):
        return ""
    sys.stdout.flush()
    return "" if raw.error in (0, errno.EPIPE) else os.strerror(raw.error)


class _Lossy(io.FileIO):
    """File descriptor that drops what cannot be written; `error` is the number of the first error."""

    error = 0

    def write(self, content: Any) -> int:
        try:
            return super().write(content)
        except OSError as error:
            self.error = self.error or error.errno or errno.EIO
            return len(content)


def _opened(stream: TextIO | None, number: int) -> TextIO:
    raw = _Lossy(number, "w", closefd=False)
    if stream is None:
        raw.error = errno.EBADF
    else:
        stream.flush()
    encoding = "utf-8" if stream is None else stream.encoding
    buffered = io.BufferedWriter(raw)
    return io.TextIOWrapper(buffered, encoding, _ERRORS, line_buffering=number == 2 or raw.isatty())


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = "".join(_PLAIN.get(character, "?") for character in error.object[error.start : error.end])
    return text, error.end


codecs.register_error(_ERRORS, _plain)

"""Standard output and error of the program: any encoding, closed, full, or read by nobody any more.

What cannot be written is dropped, since a calculation of days must not end with its terminal; the program says so at
its end.
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
"""Unicode's categories of control characters: escape sequences, changes of direction, separators of lines."""
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
"""Replacements of characters that the encoding of a stream does not have; for all others a question mark does."""


def open_any() -> None:
    """Make standard output and error of this process print any text, and drop what they cannot take."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:  # closed: the next file that is opened would get its number, and be printed into
            os.open(os.devnull, os.O_RDWR)
    sys.stdout, sys.stderr = _opened(sys.stdout, 1), _opened(sys.stderr, 2)


def any_text(stream: Any) -> None:
    """Let a stream print characters that its encoding does not have."""
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors=_ERRORS)


def visible(text: str) -> str:
    """`text` with question marks for what a terminal would obey: a stranger's name may hold control characters.

    Line feeds and tabs stay.
    """
    if text.isprintable():
        return text
    return "".join(
        "?" if unicodedata.category(letter) in _UNSEEN and letter not in "\n\t" else letter for letter in text
    )


def lost() -> str:
    """Why standard output was not written, empty where it was; a reader that has read enough (`| head`) is no loss."""
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    if not isinstance(raw, _Lossy):
        return ""
    sys.stdout.flush()
    return "" if raw.error in (0, errno.EPIPE) else os.strerror(raw.error)


class _Lossy(io.FileIO):
    """A file descriptor that drops what cannot be written; `error` is the number of the first error."""

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

"""Signature of the user on configurations of the user's own runs.

A configuration with a valid signature holds the user's own settings. The key is in the user's data directory, readable
by nobody else, and is created when first needed; without a key nothing is signed and no signature is valid.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

_PURPOSE: Final = b"configuration of a run of fusion, 1\0"
_LINE: Final = re.compile(r"# signature: ([0-9a-f]{64})")
_KEY_BYTES: Final = 32


def line(content: Mapping[str, Any]) -> str:
    """Return the comment that signs `content`, with its line feed; empty without a key."""
    key = _key(create=True)
    return f"# signature: {_digest(key, content)}\n" if key else ""


def present(text: str) -> bool:
    """True if `text` begins with a signature, valid or not."""
    return _LINE.match(text) is not None


def valid(text: str, content: Mapping[str, Any]) -> bool:
    """True if `text`, a configuration file whose content is `content`, begins with this user's signature of it."""
    match = _LINE.match(text)
    key = _key(create=False) if match else None
    return bool(match and key and hmac.compare_digest(match[1], _digest(key, content)))


def _digest(key: bytes, content: Mapping[str, Any]) -> str:
    message = _PURPOSE + json.dumps(content, default=str).encode()
    return hmac.new(key, message, hashlib.sha256).hexdigest()


def _key(create: bool) -> bytes | None:
    import platformdirs

    file = Path(platformdirs.user_data_dir("fusion", appauthor=False), "signing.key")
    if not file.is_absolute():  # a user without a home
        return None
    try:
        if create and not file.exists():
            _create(file)
        with file.open("rb") as stream:
            mode = os.fstat(stream.fileno()).st_mode
            key = stream.read(_KEY_BYTES)
    except OSError:
        return None
    private = os.name != "posix" or not mode & 0o077
    return key if private and len(key) == _KEY_BYTES else None


def _create(file: Path) -> None:
    """Write a new key; the first of several processes wins."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    part = file.with_name(f".{file.name}.{os.getpid()}-{secrets.token_hex(4)}")
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(secrets.token_bytes(_KEY_BYTES))
        os.link(part, file)
    except FileExistsError:
        pass
    finally:
        part.unlink(missing_ok=True)

"""Reading a checkpoint file without trusting it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from fusion.errors import InputError


def read(path: Path) -> dict[str, Any]:
    """The content of a checkpoint: tensors and plain containers only, on the CPU.

    Raises:
        InputError: not a checkpoint, cut short, or holding anything else.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # torch raises a dozen kinds for a file that is not one of its own
        raise InputError(f"{path} is not a readable checkpoint: {str(error).splitlines()[0]}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} is not a checkpoint")
    return content

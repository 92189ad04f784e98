"""Style of all pictures, and the context that draws them: always with Agg, without display and global state.

matplotlib is only imported to draw.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusion.files.atomic import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, PURPLE, GREY = "#1f5fa8", "#b3541e", "#1b7a43", "#7a4fa0", "#8c8c8c"

_STYLE = {
    "font.size": 9,
    "axes.labelsize": 9,
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.6,
    "legend.frameon": True,
    "legend.framealpha": 0.85,
    "legend.edgecolor": "none",
    "legend.fontsize": 8,
}


@contextmanager
def picture(path: Path, size: tuple[float, float] = (7.0, 4.5)) -> Iterator[Figure]:
    """Yield a figure of `size` inches; write it to `path` (PNG, 150 dpi) if the block succeeds."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.text import Text

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)
        yield figure
        with replacing(path) as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # for numbers and letters that cannot be drawn
            try:
                figure.savefig(file, format="png", dpi=150)
            except ValueError:  # matplotlib took a name with dollar signs for a formula
                for text in figure.findobj(Text):
                    text.set_parse_math(False)
                file.seek(0)
                file.truncate()
                figure.savefig(file, format="png", dpi=150)


def title(result: dict[str, Any], directory: Path) -> str:
    """Title of a picture: `C2H6O · ani-2x`, with a status other than ok; without a result, the directory's name."""
    parts = [(result.get("system") or {}).get("formula"), _level(result)]
    text = " · ".join(str(part) for part in parts if part) or directory.resolve().name
    status = result.get("status", "unfinished")
    return text if status == "ok" else f"{text} · {status.replace('_', ' ').upper()}"


def _level(result: dict[str, Any]) -> str | None:
    """`ani-2x`, `hf/sto-3g`, `b3lyp/def2-svp`: model or method, or its functional, and the basis where there is one."""
    settings = (result.get("settings") or {}).get("method") or {}
    name, basis = (result.get("weights") or {}).get("name") or result.get("method"), settings.get("basis")
    return f"{settings.get('xc') or name}/{basis}" if isinstance(basis, str) and name else name

"""Drawing of a molecule as SVG, with bonds and atom numbers: for paper, and where scripts or WebGL do not run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusion.page.markup import Html, element, joined
from fusion.page.structures import Frame

if TYPE_CHECKING:
    import numpy as np

_WIDTH, _HEIGHT, _MARGIN = 420.0, 320.0, 28.0
_LARGEST_SCALE = 60.0  # pixels per Angstrom
_MOST_ATOMS = 200
_BONDED = 1.25  # times the sum of covalent radii
_RADIUS = 11.0


def svg(frame: Frame) -> Html:
    """Return a projection along the direction of least extent, nearer atoms in front; empty for large systems."""
    import numpy as np
    from ase.data import atomic_numbers, covalent_radii
    from ase.data.colors import jmol_colors

    if len(frame.positions) > _MOST_ATOMS or any(symbol not in atomic_numbers for symbol in frame.symbols):
        return Html("")
    numbers = [atomic_numbers[symbol] for symbol in frame.symbols]
    positions = np.array(frame.positions)
    projected = positions @ _axes(frame).T
    extent = max(
        float(np.ptp(projected[:, 0])) / (_WIDTH - 2 * _MARGIN),
        float(np.ptp(projected[:, 1])) / (_HEIGHT - 2 * _MARGIN),
    )
    scale = min(_LARGEST_SCALE, 1.0 / extent if extent > 0 else _LARGEST_SCALE)
    middle = (projected.max(axis=0) + projected.min(axis=0)) / 2
    places = (projected - middle) * scale * (1.0, -1.0, 1.0) + (_WIDTH / 2, _HEIGHT / 2, 0.0)
    radii = covalent_radii[numbers]
    distances = np.linalg.norm(positions[:, None] - positions[None], axis=-1)
    bonded = np.argwhere(np.triu(distances < _BONDED * (radii[:, None] + radii[None]), k=1))
    bonds = [_line(places[a], places[b]) for a, b in bonded]
    order = np.argsort(places[:, 2])
    atoms = [_atom(places[i], f"{frame.symbols[i]}{i + 1}", jmol_colors[numbers[i]]) for i in order]
    return element(
        "svg", joined(bonds), joined(atoms), viewBox=f"0 0 {_WIDTH:.0f} {_HEIGHT:.0f}", role="img", class_="drawing"
    )


def quaternion(frame: Frame) -> str:
    """Return the rotation of a drawing as a quaternion (x, y, z, w)."""
    from scipy.spatial.transform import Rotation

    return " ".join(f"{value:.5f}" for value in Rotation.from_matrix(_axes(frame)).as_quat())


def _axes(frame: Frame) -> np.ndarray:
    """Rotation (3, 3) to the principal axes, the largest extent first, and a little further: hidden atoms appear."""
    import numpy as np
    from scipy.spatial.transform import Rotation

    positions = np.array(frame.positions)
    axes = np.linalg.svd(positions - positions.mean(axis=0), full_matrices=True)[2]
    axes *= np.where(axes[range(3), np.abs(axes).argmax(axis=1)] < 0, -1.0, 1.0)[:, None]  # the same on every machine
    axes[2] *= np.sign(np.linalg.det(axes))
    return Rotation.from_euler("xy", (-15.0, 15.0), degrees=True).as_matrix() @ axes


def _line(a: np.ndarray, b: np.ndarray) -> Html:
    return element("line", x1=f"{a[0]:.1f}", y1=f"{a[1]:.1f}", x2=f"{b[0]:.1f}", y2=f"{b[1]:.1f}")


def _atom(place: np.ndarray, label: str, colour: np.ndarray) -> Html:
    x, y = place[:2]
    red, green, blue = (round(255 * float(part)) for part in colour)
    dark = 0.3 * red + 0.6 * green + 0.1 * blue < 110
    circle = element(
        "circle", cx=f"{x:.1f}", cy=f"{y:.1f}", r=f"{_RADIUS:.0f}", fill=f"#{red:02x}{green:02x}{blue:02x}"
    )
    text = element("text", label, x=f"{x:.1f}", y=f"{y + 3.5:.1f}", class_="light" if dark else None)
    return joined([circle, text])

"""`density.png`: electron density in a plane through the molecule, and the pair densities, from the files of a run."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import chemical_symbols

from fusion.chemistry import cube
from fusion.plotting import BLUE, ORANGE, picture, title
from fusion.runs.layout import DENSITY, PAIR_DENSITY
from fusion.runs.results import read_result

_DECADES = 6  # largest range of the colours
_NEAR = 0.5  # bohr; nuclei further from the plane are drawn as open circles
_PIXELS = 400  # along either side of the plane
_VISIBLE = 1e-3  # share of the largest value below which the tail of a pair density is not drawn
_KINDS = {"parallel": ORANGE, "antiparallel": BLUE}


def draw(directory: Path) -> Path | None:
    """Draw the density and the pair densities beside it, or one of them; return the path, None without either.

    Raises InputError for a damaged file.
    """
    files = [directory / name for name in (DENSITY, PAIR_DENSITY) if (directory / name).is_file()]
    if not files:
        return None
    path, result = directory / "density.png", read_result(directory) or {}
    with picture(path, (1.0 + 4.8 * len(files), 4.6)) as figure:
        figure.suptitle(title(result, directory), x=0.02, ha="left", fontsize=11)
        for axes, file in zip(figure.subplots(1, len(files), squeeze=False)[0], files, strict=True):
            if file.name == DENSITY:
                _draw_density(figure, axes, cube.read(file))
            else:
                _draw_pairs(axes, file)
    return path


def plane(positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centre (3,) of positions (A, 3), and axes (3, 3) of the plane nearest to them: two within it, then its normal.

    Where the positions leave a choice, for atoms and linear molecules, z and then x are within the plane.
    """
    centre = positions.mean(0)
    preference = 1e-6 * np.diag([2.0, 1.0, 3.0])
    axes = np.linalg.eigh((positions - centre).T @ (positions - centre) + preference)[1].T[::-1]
    signs = np.sign(axes[np.arange(3), np.abs(axes).argmax(1)])
    return centre, axes * signs[:, None]


def section(field: cube.Cube) -> tuple[np.ndarray, np.ndarray]:
    """Density (P, P) of the voxels in the plane through the nuclei, nan outside of the grid, and P coordinates (bohr)
    along each axis of the plane, (2, P), from the centre of the nuclei."""
    centre, axes = plane(field.positions)
    shape = np.array(field.values.shape)
    corners = (
        field.origin + np.stack(np.meshgrid(*([-0.5, n - 0.5] for n in shape)), axis=-1).reshape(-1, 3) @ field.steps
    )
    along = (corners - centre) @ axes[:2].T
    ticks = np.linspace(along.min(0), along.max(0), 2 * _PIXELS + 1)[1::2].T  # centres of the pixels
    points = centre + ticks[0][None, :, None] * axes[0] + ticks[1][:, None, None] * axes[1]
    places = np.rint((points - field.origin) @ np.linalg.inv(field.steps)).astype(int)
    inside = ((places >= 0) & (places < shape)).all(-1)
    values = field.values[tuple(np.where(inside[..., None], places, 0).T)].T
    return np.where(inside, values, np.nan), ticks


def _draw_density(figure: Any, axes: Any, field: cube.Cube) -> None:
    from matplotlib.colors import LogNorm

    values, ticks = section(field)
    positive = values[values > 0] if (values > 0).any() else np.ones(1)
    # The smallest density is that of one count in a voxel, which must differ from the black of empty voxels.
    lowest = max(positive.min() / 10, positive.max() / 10**_DECADES)
    norm = LogNorm(lowest, positive.max(), clip=True)
    image = axes.pcolormesh(*ticks, values, norm=norm, cmap="magma", shading="nearest", rasterized=True)
    figure.colorbar(image, ax=axes, label="electron density / (e/bohr³)", shrink=0.85)
    centre, directions = plane(field.positions)
    for number, position in zip(field.numbers, field.positions, strict=True):
        x, y, height = directions @ (position - centre)
        near = abs(height) < _NEAR
        axes.plot(x, y, "o", ms=4, mec="white", mew=0.8, mfc="black" if near else "none")
        axes.annotate(chemical_symbols[number], (x, y), (4, 4), textcoords="offset points", color="white")
    axes.set_aspect("equal")
    axes.grid(False)
    axes.set_xlabel(f"{_name(directions[0])} / bohr")
    axes.set_ylabel(f"{_name(directions[1])} / bohr")
    axes.set_title(f"{field.values.sum() * field.volume:.4f} electrons inside the grid", fontsize=9)


def _name(direction: np.ndarray) -> str:
    """Name of an axis of the plane: x, y or z, or its direction."""
    largest = int(np.abs(direction).argmax())
    if abs(direction[largest]) > 1 - 1e-6:
        return "xyz"[largest]
    return "({:.2f}, {:.2f}, {:.2f})".format(*direction)


def _draw_pairs(axes: Any, file: Path) -> None:
    with file.open(newline="") as table:
        rows = [{key: float(value or "nan") for key, value in row.items()} for row in csv.DictReader(table)]
    u, end = np.array([row["u_bohr"] for row in rows]), 1.0
    for kind, colour in _KINDS.items():
        h, error = (np.array([row[f"h_{kind}{part}_per_bohr3"] for row in rows]) for part in ("", "_stderr"))
        if h.any():
            radial = 4 * np.pi * u**2
            end = max(end, *u[radial * h > _VISIBLE * (radial * h).max()])
            axes.fill_between(u, radial * (h - error), radial * (h + error), color=colour, alpha=0.3, lw=0)
            axes.plot(u, radial * h, color=colour, lw=1.2, label=f"{kind} spins")
            axes.legend()
    axes.set_xlabel("distance $u$ of two electrons / bohr")
    axes.set_ylabel("pairs per distance, $4πu^2h(u)$ / bohr$^{-1}$")
    axes.set_xlim(0.0, end)
    axes.set_ylim(bottom=0.0)

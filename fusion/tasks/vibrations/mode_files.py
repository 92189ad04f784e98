"""Animations of normal modes: one extended XYZ file per mode."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fusion.chemistry.system import System
from fusion.tasks.geometry.normal_modes import NormalModes
from fusion.tasks.geometry.structures import constrained, header, write_frames

_FRAMES = 20  # of one period of a mode
_AMPLITUDE_ANGSTROM = 0.3  # of the atom that moves most


def write_modes(directory: Path, system: System, modes: NormalModes) -> None:
    """Write one period of each mode to an extxyz file named by its number: 07.xyz follows six rigid motions."""
    directory.mkdir(exist_ok=True)
    atoms = constrained(system)
    width = len(str(modes.removed + len(modes.frequencies)))
    for number, (frequency, mode) in enumerate(zip(modes.frequencies, modes.displacements, strict=True)):
        scale = _AMPLITUDE_ANGSTROM / np.linalg.norm(mode, axis=1).max()
        frames = []
        for phase in np.linspace(0.0, 2.0 * np.pi, _FRAMES, endpoint=False):
            moved = atoms.copy()
            moved.positions += scale * np.sin(phase) * mode
            moved.info = header(system) | {
                "mode": modes.removed + number + 1,
                "frequency_cm1": round(float(frequency), 3),
            }
            frames.append(moved)
        write_frames(directory / f"{modes.removed + number + 1:0{max(width, 2)}d}.xyz", frames)

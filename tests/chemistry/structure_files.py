"""Hydronium as ASE Atoms, and hydroxide in the text of several file formats."""

from pathlib import Path
from typing import Any

from ase import Atoms

from fusion.chemistry import system_input
from fusion.chemistry.system import System

HYDRONIUM = [[0, 0, 0], [0.94, 0, -0.3], [-0.47, 0.814, -0.3], [-0.47, -0.814, -0.3]]
LINES = "".join(f"{s} {x} {y} {z}\n" for s, (x, y, z) in zip("OHHH", HYDRONIUM, strict=True))
"""Its atoms as lines of an XYZ file."""
V2000 = """x
 x

  2  1  0  0  0  0  0  0  0  0999 V2000
    0.0000    0.0000    0.0000 O   0  5  0  0  0  0
    0.0000    0.0000    0.9700 H   1  0  0  0  0  0
  1  2  1  0
"""
V3000 = """x
 x

  0  0  0     0  0            999 V3000
M  V30 BEGIN CTAB
M  V30 COUNTS 2 1 0 0 0
M  V30 BEGIN ATOM
M  V30 1 O 0 0 0 0 CHG=-1
M  V30 2 H 0 0 0.97 0 MASS=2
M  V30 END ATOM
M  V30 END CTAB
M  END
"""
PDB = "HETATM    1  O   HOH A   1       0.000   0.000   0.000  1.00  0.00           O1-\n"
PDB += "HETATM    2  H   HOH A   1       0.000   0.000   0.970  1.00  0.00           H  \nEND\n"


def hydronium(**info: Any) -> Atoms:
    """Hydronium with these entries in `Atoms.info`."""
    return Atoms("OH3", positions=HYDRONIUM, info=info)


def read(folder: Path, name: str, text: str, **keys: Any) -> System:
    """Write the text into a file and read it as `system=NAME` does, with `keys` as further settings."""
    (folder / name).write_text(text)
    return system_input.read({"name": "file", "path": name, **keys}, folder)

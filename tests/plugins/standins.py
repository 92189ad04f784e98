"""Stand-ins for packages of learned potentials: calculators of the same names and arguments that echo their input."""

from __future__ import annotations

import stat
import sys
from pathlib import Path

CALCULATOR = '''
import os
import sys

import numpy as np
from ase.calculators.calculator import Calculator, SCFError, all_changes


class Echo(Calculator):
    """Energies (eV) are the received charge + 100 times the received spin; special elements fail in special ways."""

    implemented_properties = ["energy", "forces", "dipole", "charges"]
    keys = ("charge", "spin")
    calls = 0

    def __init__(self, charge=0, total_spin=0):
        super().__init__()
        self.charge, self.parameters = charge, {"total_spin": total_spin}

    def set(self, **keywords):
        self.parameters.update(keywords)

    def received(self):
        info, keys = self.atoms.info, self.keys
        charge = info.get(keys[0], self.charge) + self.atoms.get_initial_charges().sum()
        spin = info.get(keys[1], self.parameters["total_spin"]) + self.atoms.get_initial_magnetic_moments().sum()
        return charge + 100 * spin

    def calculate(self, atoms=None, properties=None, system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        print("this line is not part of the protocol")
        Echo.calls += 1
        symbols = set(self.atoms.get_chemical_symbols())
        if "He" in symbols:
            print("a first line\\nkilled by the memory limit", file=sys.stderr, flush=True)
            os._exit(3)
        if "Ne" in symbols:
            raise ValueError("no parameters\\nfor Ne")
        if "Ar" in symbols:
            raise SCFError("40 cycles")
        energy = float("nan") if "Kr" in symbols else self.received()
        positions = self.atoms.positions
        self.results = {
            "energy": energy, "forces": -2.0 * positions, "dipole": positions.sum(axis=0),
            "charges": np.full(len(positions), float(Echo.calls)),
        }
'''
"""Text of a module with one calculator."""

PACKAGES = {
    "so3krates_torch/calculator/so3.py": """
class SO3LRCalculator(Echo):
    def __init__(self, device="cpu", default_dtype=""):
        super().__init__()
""",
    "aimnet/calculators/__init__.py": """
class AIMNet2ASE(Echo):
    keys = ("charge", "mult")

    def __init__(self, base_calc="aimnet2", charge=0, mult=1, validate_species=True):
        super().__init__()
""",
    "mace/calculators/__init__.py": """
def mace_off(model=None, device="", default_dtype="float64", return_raw_model=False):
    return Echo()


def mace_omol(model=None, device="", default_dtype="float64", return_raw_model=False):
    return Echo()
""",
    "fairchem/core/__init__.py": """
class FAIRChemCalculator(Echo):
    @classmethod
    def from_model_checkpoint(cls, name_or_path, task_name=None, inference_settings="default", device=None):
        return cls()
""",
    "orb_models/forcefield/pretrained.py": """
def orb_v3_conservative_omol(weights_path="", device=None, precision="float32-high", compile=None):
    return "model", "adapter"
""",
    "orb_models/forcefield/inference/calculator.py": """
class ORBCalculator(Echo):
    def __init__(self, model, atoms_adapter, *, device=None):
        assert (model, atoms_adapter) == ("model", "adapter")
        super().__init__()
""",
    "sevenn/calculator.py": """
class SevenNetCalculator(Echo):
    def __init__(self, model="7net-0", file_type="checkpoint", device="auto", modal=None):
        super().__init__()
""",
}
"""Text of modules by path, after that of the calculator; the arguments are those of the packages' versions of 2026."""


def write(folder: Path, packages: dict[str, str] = PACKAGES) -> Path:
    """Write the packages below `folder`, which belongs on the path of a Python."""
    for name, text in packages.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        for package in file.relative_to(folder).parents[:-1]:  # without this file the real package would win
            (folder / package / "__init__.py").touch()
        file.write_text(CALCULATOR + text)
    return folder


def python(folder: Path, name: str = "python") -> str:
    """Write a program `name` that runs this Python with the packages in `folder`, as an environment's python does."""
    program = folder / name
    program.write_text(f'#!/bin/sh\nPYTHONPATH="{folder}" exec "{sys.executable}" "$@"\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return str(program)

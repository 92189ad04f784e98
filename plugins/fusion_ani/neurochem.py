"""Read the files in which the ANI models were published: NeuroChem's directories of parameters and networks.

A model is an .info file that names a .params file (environment vectors), a file of self energies and the members'
directories, each with one .nnf per element (a header and bz2-compressed text) and headerless little-endian float32
matrices. Everything is read as data. Only the keys needed are read; some others hold uninitialised memory.
"""

from __future__ import annotations

import math
import re
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from fusion.errors import InputError
from fusion.files import bounds

if TYPE_CHECKING:
    from torch import Tensor

_LINEAR, _CELU = 6, 9
CELU_ALPHA = 0.1
_LONGEST = 1 << 16  # bytes of a text file
_LONGEST_LAYERS = 1 << 14  # bytes of the text in a network's file; published files have about a thousand


def convert(directory: Path, card: object = None) -> dict[str, Tensor]:
    """State of `fusion_ani.network.ANI` from the model in `directory`. Raises InputError unless there is one."""
    import torch

    _, self_energies, networks = _model(directory)
    state = {"self_energies.values": torch.tensor(list(self_energies.values()), dtype=torch.float64)}
    for element in self_energies:
        members = [read_network(network / f"ANN-{element}.nnf") for network in networks]
        if len({tuple(weights.shape for weights, _ in member) for member in members}) > 1:
            raise InputError(f"the members in {directory} have networks of different sizes for {element}")
        for layer, _ in enumerate(members[0]):
            weights, biases = zip(*(member[layer] for member in members), strict=True)
            state[f"networks.{element}.weights.{layer}"] = torch.from_numpy(np.stack(weights))
            state[f"networks.{element}.biases.{layer}"] = torch.from_numpy(np.stack(biases))
    return state


def arguments(directory: Path) -> dict[str, Any]:
    """Arguments of `fusion_ani.network.ANI` for the model in `directory`."""
    parameters, self_energies, networks = _model(directory)
    hidden = {
        element: [len(bias) for _, bias in read_network(networks[0] / f"ANN-{element}.nnf")[:-1]]
        for element in self_energies
    }
    return {"elements": list(self_energies), "members": len(networks), "hidden": hidden} | read_parameters(parameters)


def _model(directory: Path) -> tuple[Path, dict[str, float], list[Path]]:
    """Path of the .params file, self energies by element and directories of the members' networks."""
    info_files = sorted(directory.glob("*.info"))
    if len(info_files) != 1:
        raise InputError(f"a NeuroChem model has one .info file; {directory} has {len(info_files)}")
    lines = _text(info_files[0]).split()
    if len(lines) != 4 or not re.fullmatch("[1-9][0-9]{0,3}", lines[3]):
        raise InputError(f"{info_files[0]} should name parameters, self energies, the members' prefix and their number")
    parameters, self_energies, prefix = (_inside(directory, line) for line in lines[:3])
    networks = [prefix.parent / f"{prefix.name}{member}" / "networks" for member in range(int(lines[3]))]
    energies = read_self_energies(self_energies)
    if list(energies) != read_lists(parameters).get("Atyp"):
        raise InputError(f"{parameters} and {self_energies} list different elements")
    return parameters, energies, networks


def _text(path: Path) -> str:
    try:
        return bounds.text(path, _LONGEST)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {bounds.reason(error)}") from error


def _inside(directory: Path, name: str) -> Path:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise InputError(f"{name!r} leads out of the model's directory")
    return directory / path


def read_lists(path: Path) -> dict[str, list[str]]:
    """Read the lines `key = value` or `key = [value, ...]` of a .params file, values as text."""
    pairs = (line.split("=", 1) for line in _text(path).splitlines() if "=" in line)
    return {key.strip(): [item.strip() for item in value.strip().strip("[]").split(",")] for key, value in pairs}


def read_parameters(path: Path) -> dict[str, Any]:
    """Parameters of the environment vectors by the names of `fusion_ani.aev.Environment`."""
    lists = read_lists(path)
    single = {"radial_cutoff": "Rcr", "radial_eta": "EtaR", "angular_cutoff": "Rca", "angular_eta": "EtaA"}
    several = {"radial_shifts": "ShfR", "angular_shifts": "ShfA", "angle_shifts": "ShfZ"}
    try:
        parameters: dict[str, Any] = {name: _single(lists[key]) for name, key in (single | {"zeta": "Zeta"}).items()}
        return parameters | {name: [float(value) for value in lists[key]] for name, key in several.items()}
    except (KeyError, ValueError) as error:
        raise InputError(f"{path} is not a NeuroChem parameter file: {error}") from error


def _single(values: list[str]) -> float:
    (value,) = values
    return float(value)


def read_self_energies(path: Path) -> dict[str, float]:
    """Self energies, hartree, by element in the order of the indices, from lines such as `H,0=-0.6`."""
    matches = re.findall(r"^\s*([A-Z][a-z]?)\s*,\s*(\d{1,3})\s*=\s*(\S+)[ \t]*$", _text(path), flags=re.MULTILINE)
    ordered = sorted(matches, key=lambda match: int(match[1]))
    try:
        energies = {symbol: float(value) for symbol, _, value in ordered}
    except ValueError as error:
        raise InputError(f"{path} is not a list of self energies: {bounds.reason(error)}") from error
    if not ordered or [int(match[1]) for match in ordered] != list(range(len(energies))):
        raise InputError(f"{path} is not a list of self energies")
    return energies


def read_network(path: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """Weights (out, in) and biases (out,), float32, of the layers of one .nnf file."""
    try:
        length, separator, packed = bounds.content(path, _LONGEST).partition(b"=\n")
        if not separator or not re.fullmatch(rb"\s*[0-9]{1,9}\s*", length):
            raise InputError(f"{path} is not a NeuroChem network")
        text = bounds.bunzipped(packed, _LONGEST_LAYERS)
    except InputError:
        raise
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {bounds.reason(error)}") from error
    if len(text) != int(length):
        raise InputError(f"{path} has {len(text)} characters of text, but its header says {int(length)}")
    blocks = re.findall(r"layer[ \t]*\[(.*?)\n[ \t]*\]", text.decode("ascii", errors="replace"), flags=re.DOTALL)
    layers = [_layer(path, block, last=block is blocks[-1]) for block in blocks]
    if not layers:
        raise InputError(f"{path} has no layers")
    return layers


def _layer(path: Path, block: str, last: bool) -> tuple[np.ndarray, np.ndarray]:
    numbers = dict(
        re.findall(r"^[ \t]*(nodes|blocksize|activation)[ \t]*=[ \t]*(\d{1,9})[ \t]*;", block, flags=re.MULTILINE)
    )
    files = dict(
        re.findall(r"^[ \t]*(weights|biases)[ \t]*=[ \t]*FILE:([\w.-]+)\[\d+\][ \t]*;", block, flags=re.MULTILINE)
    )
    if len(numbers) != 3 or len(files) != 2:
        raise InputError(f"{path}: a layer lacks its size, its activation or its files")
    if int(numbers["activation"]) != (_LINEAR if last else _CELU):
        raise InputError(f"{path}: activation {numbers['activation']} is neither hidden CELU nor a linear last layer")
    shape = int(numbers["nodes"]), int(numbers["blocksize"])
    return _matrix(path.parent / files["weights"], shape), _matrix(path.parent / files["biases"], shape[:1])


def _matrix(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    size = 4 * math.prod(shape)
    try:
        held = bounds.regular(path).stat().st_size
        content = bounds.content(path, size) if held == size else b""
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {bounds.reason(error)}") from error
    if held != size:
        raise InputError(f"{path} has {held} bytes, not those of {shape} numbers")
    return np.frombuffer(content, dtype="<f4").reshape(shape).astype(np.float32)

"""NeuroChem's files, read as data, and the cards made from them."""

from __future__ import annotations

import bz2
import os
import tomllib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fusion.errors import InputError
from fusion.zoo.tensors import digest
from fusion_ani import neurochem

DATA = os.environ.get("FUSION_TEST_DATA")
PARAMETERS = """
TM = 1
Rcr = 5.1000e+00
Rca = 3.5000e+00
EtaR = [1.9700000e+01]
ShfR = [8.0000000e-01,1.0687500e+00]
Zeta = [1.4100000e+01]
ShfZ = [3.9269908e-01]
EtaA = [1.2500000e+01]
ShfA = [8.0000000e-01]
Atyp = [H,Cl]
"""
LAYER = """layer [
nodes={nodes};
activation={activation};
type=0;
blocksize={inputs};
dropset=-nan;
maskupdate=17126972312471518572699431633393.000000;
weights=FILE:{name}.wparam[{count}];
biases=FILE:{name}.bparam[{nodes}];
]
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return write_model(tmp_path)


def write_model(tmp_path: Path) -> Path:
    """Write two members of a model of H and Cl, 3-2-1, with consecutive numbers."""
    (tmp_path / "m.info").write_text("m/p.params\nm/sae.dat\nm/train\n2\n")
    for member in range(2):
        networks = tmp_path / "m" / f"train{member}" / "networks"
        networks.mkdir(parents=True)
        for element in ("H", "Cl"):
            text = f"inputsize=3;\natom_net {element} $\n"
            for layer, (nodes, inputs, activation) in enumerate(((2, 3, 9), (1, 2, 6))):
                name = f"ANN-{element}.nnf-l{layer + 1}"
                text += LAYER.format(nodes=nodes, inputs=inputs, activation=activation, name=name, count=nodes * inputs)
                weights = np.arange(nodes * inputs, dtype="<f4") + 100 * member + 10 * layer
                (networks / f"{name}.wparam").write_bytes(weights.tobytes())
                (networks / f"{name}.bparam").write_bytes(np.full(nodes, layer, dtype="<f4").tobytes())
            content = (text + "\n $\0").encode()
            (networks / f"ANN-{element}.nnf").write_bytes(str(len(content)).encode() + b"=\n" + bz2.compress(content))
    (tmp_path / "m" / "p.params").write_text(PARAMETERS)
    (tmp_path / "m" / "sae.dat").write_text("Cl,1=-460.1681939421027\nH,0=-0.600952980000\n\n")
    return tmp_path


def test_a_model_is_read(directory: Path) -> None:
    arguments, state = neurochem.arguments(directory), neurochem.convert(directory)
    assert arguments["elements"] == ["H", "Cl"]
    assert arguments["hidden"] == {"H": [2], "Cl": [2]}
    assert (arguments["members"], arguments["zeta"], arguments["radial_shifts"]) == (2, 14.1, [0.8, 1.06875])
    assert state["self_energies.values"].tolist() == [-0.60095298, -460.1681939421027]
    weights = state["networks.Cl.weights.0"]
    assert weights.shape == (2, 2, 3)
    assert weights[1].tolist() == [[100.0, 101.0, 102.0], [103.0, 104.0, 105.0]]
    assert state["networks.H.biases.1"].tolist() == [[1.0], [1.0]]


def _write(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def apply(directory: Path) -> None:
        path = directory / name
        path.write_bytes(change(path.read_bytes()))

    return apply


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_write("m/train1/networks/ANN-H.nnf-l1.wparam", lambda content: content[:-4]), "bytes"),
        (_write("m/train0/networks/ANN-H.nnf", lambda content: b"7" + content), "characters"),
        (_write("m/train0/networks/ANN-H.nnf", lambda content: content[:3]), "not a NeuroChem network"),
        (_write("m.info", lambda content: content.replace(b"m/p", b"../m/p")), "leads out"),
        (_write("m.info", lambda content: content[:-2]), "should name"),
        (_write("m/p.params", lambda content: content.replace(b"H,Cl", b"Cl,H")), "different elements"),
        (_write("m/p.params", lambda content: content.replace(b"Zeta", b"Zebra")), "parameter file"),
        (_write("m/sae.dat", lambda content: content.replace(b"H,0", b"H,2")), "self energies"),
    ],
)
def test_damaged_files_raise_one_line_errors(directory: Path, damage: Callable[[Path], None], message: str) -> None:
    damage(directory)
    with pytest.raises(InputError, match=message) as error:
        neurochem.arguments(directory), neurochem.convert(directory)
    assert "\n" not in str(error.value)


@pytest.mark.skipif(not DATA, reason="FUSION_TEST_DATA names no directory with the published weights")
@pytest.mark.parametrize("name", ["ani-1x", "ani-1ccx", "ani-2x"])
def test_cards_match_the_published_files(name: str, tmp_path: Path) -> None:
    for file in (Path(DATA or "") / "weights" / "ani").glob(f"{name}_8x*"):
        (tmp_path / file.name).symlink_to(file)
    card = tomllib.loads((Path(__file__).parents[2] / "zoo" / f"{name}.toml").read_text())
    arguments = card["model"]["arguments"]
    assert arguments == neurochem.arguments(tmp_path) | {"celu_alpha": 0.1}
    assert card["domain"]["elements"] == arguments["elements"]
    assert card["weights"]["sha256"] == digest(neurochem.convert(tmp_path))
    assert all((tmp_path / path).stat().st_size == file["size"] for path, file in card["files"].items())

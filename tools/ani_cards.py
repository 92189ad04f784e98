"""Write the model cards zoo/ani-*.toml from the published NeuroChem directories.

python tools/ani_cards.py DIRECTORY      (holds ani-2x_8x.info, ani-2x_8x/, ... and their MANIFEST.sha256)
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from fusion.chemistry.units import KCAL_MOL_PER_HARTREE
from fusion.zoo.tensors import digest, serialised
from fusion_ani import neurochem

COMMIT = "3a3368bb1b6d3ae707235f7f1dedcbb7b8b8cbc2"
UPSTREAM = f"https://raw.githubusercontent.com/aiqm/ani-model-zoo/{COMMIT}/resources/"
SPREAD_KCAL_MOL = 0.23  # per sqrt(atom): above it active learning asked for new calculations (Smith et al. 2018)
CARDS: dict[str, dict[str, Any]] = {
    "ani-1x": {
        "summary": "ANI-1x: organic molecules of H, C, N, O, at DFT quality",
        "citation": "Smith, Nebgen, Lubbers, Isayev, Roitberg, J. Chem. Phys. 148, 241733 (2018)",
        "doi": "10.1063/1.5023802",
        "data": "ANI-1x: 5 million conformations of molecules of H, C, N, O, chosen by active learning",
        "level": "ωB97X/6-31G(d), Cartesian d functions",
        "metrics": [("S66x8, 88 points: MAE of energies", 1.588), ("S66x8, 88 points: RMSE of energies", 2.575)],
    },
    "ani-1ccx": {
        "summary": "ANI-1ccx: organic molecules of H, C, N, O, towards coupled cluster by transfer learning",
        "citation": "Smith, Nebgen, Zubatyuk, Lubbers, Devereux, Barros, Tretiak, Isayev, Roitberg, "
        "Nat. Commun. 10, 2903 (2019)",
        "doi": "10.1038/s41467-019-10827-4",
        "data": "ANI-1x, then 500 thousand of its conformations recomputed",
        "level": "CCSD(T)*/CBS",
        "metrics": [],
    },
    "ani-2x": {
        "summary": "ANI-2x: organic molecules of H, C, N, O, S, F, Cl, at DFT quality",
        "citation": "Devereux, Smith, Davis, Barros, Zubatyuk, Isayev, Roitberg, "
        "J. Chem. Theory Comput. 16, 4192 (2020)",
        "doi": "10.1021/acs.jctc.0c00121",
        "data": "ANI-2x: 8.9 million conformations of molecules of H, C, N, O, S, F, Cl, chosen by active learning",
        "level": "ωB97X/6-31G(d), Cartesian d functions",
        "metrics": [("S66x8, 88 points: MAE of energies", 0.411), ("S66x8, 88 points: RMSE of energies", 0.544)],
    },
}


def card(directory: Path, name: str) -> str:
    """Return the text of the card."""
    files = sorted(path for path in directory.rglob(f"{name}_8x*/**/*") if path.is_file())
    files = [directory / f"{name}_8x.info", *files]
    hashes = {}
    for line in (directory / "MANIFEST.sha256").read_text().splitlines():
        sha256, path = line.split(maxsplit=1)
        hashes[path.removeprefix("./")] = sha256
    with tempfile.TemporaryDirectory() as scratch:
        shutil.copy(files[0], scratch)
        shutil.copytree(directory / f"{name}_8x", Path(scratch) / f"{name}_8x")
        arguments, state = neurochem.arguments(Path(scratch)), neurochem.convert(Path(scratch))
    about = CARDS[name]
    hidden = arguments.pop("hidden")
    lines = [
        "# Written by tools/ani_cards.py.",
        "schema = 1",
        f"name = {quoted(name)}",
        "version = 1",
        'kind = "potential"',
        'method = "ani"',
        f"summary = {quoted(about['summary'])}",
        'licence = "MIT"',
        f"citation = {quoted(about['citation'])}",
        f"doi = {quoted(about['doi'])}",
        'energy_zero = "total"',
        "\n[training]",
        f"data = {quoted(about['data'])}",
        f"level_of_theory = {quoted(about['level'])}",
        "\n[domain]",
        f"elements = {quoted(arguments['elements'])}",
        "charges = [0]",
        "spins = [0]",
        f"spread = {SPREAD_KCAL_MOL / KCAL_MOL_PER_HARTREE:.6e}  # hartree per sqrt(atom): 0.23 kcal/mol",
        "\n[model]",
        'target = "fusion_ani.network.ANI"',
        "\n[model.arguments]  # Angstrom",
        *(f"{key} = {quoted(value)}" for key, value in arguments.items()),
        f"celu_alpha = {neurochem.CELU_ALPHA}",
        "\n[model.arguments.hidden]",
        *(f"{element} = {sizes}" for element, sizes in hidden.items()),
        "\n[weights]",
        f"sha256 = {quoted(digest(state))}",
        f"size = {len(serialised(state))}",
        "\n[origin]",
        'converter = "fusion_ani.neurochem:convert"',
        f"urls = {quoted([UPSTREAM])}",
        'mirror = "ani/"',
    ]
    for metric, value in about["metrics"]:
        command = "python benchmarks/ani_accuracy.py"
        lines += ["\n[[metrics]]", f"name = {quoted(metric)}", f"value = {value}", 'unit = "kcal/mol"']
        lines += [f"command = {quoted(command)}"]
    lines += ["\n[files]"]
    for file in files:
        path = file.relative_to(directory).as_posix()
        lines += [f"{quoted(path)} = {{ size = {file.stat().st_size}, sha256 = {quoted(hashes[path])} }}"]
    return "\n".join(lines) + "\n"


def quoted(value: object) -> str:
    """Quote a string, or a list of strings or numbers, for TOML, which writes them like JSON."""
    return json.dumps(value, ensure_ascii=False)


def main() -> None:
    """Write all cards."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    directory = parser.parse_args().directory
    for name in CARDS:
        path = Path(__file__).parents[1] / "zoo" / f"{name}.toml"
        path.write_text(card(directory, name), encoding="utf-8")
        print(path)


if __name__ == "__main__":
    main()

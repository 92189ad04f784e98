"""Write the model cards zoo/dm21*.toml from the published checkpoints.

python tools/dm21_cards.py DIRECTORY      (holds SHA256SUMS and checkpoints/DM21/, ...)
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from fusion.zoo.tensors import digest, serialised
from fusion_dm21.convert import convert

COMMIT = "f5de0ede8430809180254ee957abf36ed62579ef"
PACKAGE = "density_functional_approximation_dm21"
UPSTREAM = f"https://raw.githubusercontent.com/google-deepmind/deepmind-research/{COMMIT}/{PACKAGE}/{PACKAGE}/"
CITATION = (
    "Kirkpatrick, McMorrow, Turban, Gaunt, Spencer, Matthews, Obika, Thiry, Fortunato, Pfau, Román Castellanos, "
    "Petersen, Nelson, Kohli, Mori-Sánchez, Hassabis, Cohen, Science 374, 1385 (2021)"
)
MOLECULES = (
    "1161 energies of atomisation, ionisation, electron attachment and intermolecular binding of small main-group "
    "molecules, H to Kr"
)
MAIN_GROUP = (
    "H", "He", "Li", "Be", "B", "C", "N", "O", "F", "Ne", "Na", "Mg", "Al", "Si", "P", "S", "Cl", "Ar",
    "K", "Ca", "Ga", "Ge", "As", "Se", "Br", "Kr",
)  # fmt: skip
VARIANTS = {
    "DM21": (
        "knows fractional charges and fractional spins",
        f"{MOLECULES}, and 1074 of atoms H to Ar with fractional charges and spins",
    ),
    "DM21m": ("trained on molecules alone", MOLECULES),
    "DM21mc": ("knows fractional charges", f"{MOLECULES}, and atoms with fractional charges"),
    "DM21mu": ("knows the uniform electron gas", f"{MOLECULES}, and the uniform electron gas"),
}
FRACTIONAL = "python benchmarks/dm21_fractional.py"
HALF_ELECTRON, NO_SPIN = "H with half an electron, cc-pVDZ: error", "H without spin polarisation, cc-pVDZ: error"
THERMO = "python benchmarks/dm21_thermo.py FILE DIRECTORY"
METRICS = {
    "DM21": [
        (HALF_ELECTRON, -1.7, "mHa", FRACTIONAL),
        (NO_SPIN, -0.7, "mHa", FRACTIONAL),
        ("mean absolute error, SIE4x4 (8 of 16 reactions, def2-TZVP)", 4.95, "kcal/mol", THERMO),
        ("mean absolute error, BH76 (25 of 76, def2-TZVP)", 1.43, "kcal/mol", THERMO),
        ("mean absolute error, W4-11 (59 of 140, def2-TZVP)", 2.74, "kcal/mol", THERMO),
        ("mean absolute error, ISO34 (4 of 34, def2-TZVP)", 0.47, "kcal/mol", THERMO),
    ],
    "DM21m": [(HALF_ELECTRON, -29.8, "mHa", FRACTIONAL), (NO_SPIN, 70.3, "mHa", FRACTIONAL)],
}


def card(directory: Path, variant: str) -> str:
    """Return the text of the card."""
    folder = f"checkpoints/{variant}/variables"
    hashes = dict(reversed(line.split()) for line in (directory / "SHA256SUMS").read_text().splitlines())
    files = [f"{folder}/variables.data-00000-of-00001", f"{folder}/variables.index"]
    with tempfile.TemporaryDirectory() as scratch:  # the converter reads no other file
        for file in files:
            copy = Path(scratch) / file
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes((directory / file).read_bytes())
        state = convert(Path(scratch))
    summary, data = VARIANTS[variant]
    lines = [
        "# Written by tools/dm21_cards.py.",
        "schema = 1",
        f"name = {quoted(variant.lower())}",
        "version = 1",
        'kind = "functional"',
        'method = "dm21"',
        f"summary = {quoted(f'{variant}: exchange-correlation functional, {summary}')}",
        'licence = "CC BY 4.0"',
        f"citation = {quoted(CITATION)}",
        'doi = "10.1126/science.abj6511"',
        'energy_zero = "total"',
        "\n[training]",
        f"data = {quoted(data)}",
        'level_of_theory = "literature and CCSD(T)/CBS, on densities of B3LYP"',
        "\n[domain]",
        f"elements = {quoted(MAIN_GROUP)}",
        "charges = [-1, 0, 1]",
        "spins = [0, 1, 2, 3]",
        "\n[model]",
        'target = "fusion_dm21.network.DM21"',
        "\n[weights]",
        f"sha256 = {quoted(digest(state))}",
        f"size = {len(serialised(state))}",
        "\n[origin]",
        'converter = "fusion_dm21.convert:convert"',
        f"urls = {quoted([UPSTREAM])}",
        'mirror = "dm21/"',
    ]
    for name, value, unit, command in METRICS.get(variant, []):
        lines += ["\n[[metrics]]", f"name = {quoted(name)}", f"value = {value}", f"unit = {quoted(unit)}"]
        lines += [f"command = {quoted(command)}"]
    lines += [
        "\n[files]",
        *(
            f"{quoted(file)} = {{ size = {(directory / file).stat().st_size}, sha256 = {quoted(hashes[file])} }}"
            for file in files
        ),
    ]
    return "\n".join(lines) + "\n"


def quoted(value: object) -> str:
    """Quote a string or a list of strings for TOML, which writes them like JSON."""
    return json.dumps(value, ensure_ascii=False)


def main() -> None:
    """Write all cards."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    directory = parser.parse_args().directory
    for variant in VARIANTS:
        path = Path(__file__).parents[1] / "zoo" / f"{variant.lower()}.toml"
        path.write_text(card(directory, variant), encoding="utf-8")
        print(path)


if __name__ == "__main__":
    main()

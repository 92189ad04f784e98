"""Write the cards of AIMNet2 in zoo/ from the registry of its package: python tools/aimnet_cards.py REGISTRY.yaml.

The registry (`aimnet/calculators/model_registry.yaml` in the package) has the URL and the sha256 of each file, not its
size. It is read as text, so that the package need not be installed.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml

from fusion.zoo import card_file
from fusion.zoo.card import Card, Model, Origin, Training, Weights
from fusion.zoo.files import File

ELEMENTS = ("H", "B", "C", "N", "O", "F", "Si", "P", "S", "Cl", "As", "Se", "Br", "I")
CHARGES = tuple(range(-10, 11))
LARGEST = 12_000_000
"""Bytes; a network of this size has 8.8 million bytes of parameters."""
CITATION = "Anstine, Zubatyuk, Isayev, Chem. Sci. 16, 10228 (2025)"
CONVERTER = "fusion_aimnet.convert:convert"
DATA = "20 million molecules, ions and clusters of 14 elements"
MODELS: dict[str, dict[str, Any]] = {
    "aimnet2": {
        "family": "wb97m-d3",
        "summary": "AIMNet2: molecules and ions of 14 elements, closed shells",
        "training": Training(f"{DATA}, closed shells", "ωB97M-D3/def2-TZVPP"),
        "spins": (0,),
    },
    "aimnet2-nse": {
        "family": "nse",
        "summary": "AIMNet2-NSE: molecules, ions and radicals of 14 elements",
        "training": Training("molecules, ions and radicals of 14 elements, also of open shells", "ωB97M-D3/def2-TZVPP"),
        "spins": (0, 1, 2),
    },
    "aimnet2-b973c": {
        "family": "b973c-d3",
        "summary": "AIMNet2 at the level of B97-3c, as first published",
        "training": Training(f"{DATA}, closed shells", "B97-3c"),
        "spins": (0,),
    },
    "aimnet2-2025": {
        "family": "b973c-2025-d3",
        "summary": "AIMNet2 at the level of B97-3c, with better interactions between molecules",
        "training": Training(f"{DATA}, closed shells, and complexes", "B97-3c"),
        "spins": (0,),
    },
}


def card(name: str, registry: dict[str, Any]) -> Card:
    """Card of the model `name` with all members that the registry lists."""
    facts = MODELS[name]
    members = [entry for entry in registry["models"].values() if entry["family"] == facts["family"]]
    bases = {entry["url"].removesuffix(entry["file"]) for entry in members}
    files = tuple(File(entry["file"], LARGEST, entry["sha256"], (), exact=False) for entry in members)
    arguments = {"elements": list(ELEMENTS), "members": len(files), "spins": len(facts["spins"]) > 1}
    model = Model("fusion_aimnet.potential.AIMNet2", arguments)
    return Card(
        name=name,
        version=1,
        kind="potential",
        method="aimnet2",
        summary=facts["summary"],
        licence="MIT",
        citation=CITATION,
        doi="10.1039/D4SC08572H",
        energy_zero="total",
        training=facts["training"],
        elements=ELEMENTS,
        charges=CHARGES,
        spins=facts["spins"],
        model=model,
        weights=Weights.of_source(model, CONVERTER, files),
        files=files,
        origin=Origin(tuple(sorted(bases)), "aimnet2/", CONVERTER),
    )


if __name__ == "__main__":
    registry = yaml.safe_load(Path(sys.argv[1]).read_text())
    for name in MODELS:
        card_file.write(card(name, registry), Path(__file__).parents[1] / "zoo" / f"{name}-1.toml")

"""Overview of the measurements: the title and the first sentence of every table in benchmarks/."""

from __future__ import annotations

import re
from pathlib import Path

_SECTIONS = {
    "Potentials": r"ani_|ani1|qm7|training_time|md_|many_|labelling|distillation",
    "Density functionals": r"dm21_|functional_",
    "Wavefunctions": r"vmc_|excited_|wavefunction_",
    "Comparisons, thermochemistry and spectra": r"compare_|thermochemistry|spectra_|conventional_",
    "Others": r"",
}


def page(benchmarks: Path) -> str:
    """Text of the page; every table is in the first section whose names match."""
    entries: dict[str, list[str]] = {section: [] for section in _SECTIONS}
    for path in sorted(benchmarks.glob("*.md")):
        section = next(name for name, start in _SECTIONS.items() if re.match(start, path.name))
        title, _, rest = path.read_text(encoding="utf-8").partition("\n")
        entries[section].append(f"- [{title.lstrip('# ')}](../benchmarks/{path.name}): {_first_sentence(rest)}")
    lines = ["# Measurements", "", "Every table names the script in `benchmarks/` that writes it, and the machine.", ""]
    for section, listed in entries.items():
        lines += [f"## {section}", "", *listed, ""] if listed else []
    return "\n".join(lines)


def _first_sentence(text: str) -> str:
    """First sentence of the first paragraph, without links; empty if the page has none."""
    paragraph = next((part for part in text.split("\n\n") if part.strip() and part.strip()[0] not in "!|#<"), "")
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", " ".join(paragraph.split()))
    return re.split(r"(?<=[a-z0-9)%])[.:] (?=[A-Z])", plain)[0].rstrip(".:") + "."

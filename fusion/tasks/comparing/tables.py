"""The tables of a comparison, all made from the `comparison` of result.json: terminal, Markdown, CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fusion import zeros
from fusion.report import duration, memory, plus_minus
from fusion.units import KCAL_MOL_PER_HARTREE, MILLIHARTREE_PER_HARTREE

MARKDOWN = "comparison.md"
TABLE = "comparison.csv"
_COLUMNS = (
    "quantity",
    "coordinate",
    "method",
    "level",
    "status",
    "reason",
    "energy_hartree",
    "stderr_hartree",
    "std_hartree",
    "difference_hartree",
    "difference_stderr_hartree",
    "forces_max_difference_hartree_per_bohr",
    "forces_rms_difference_hartree_per_bohr",
    "wall_s",
    "cpu_s",
    "peak_memory_bytes",
)
_NONE = "–"
_MANY = 2  # sums of energies up to which each has columns among the methods; more have a table of their own


def rows(found: Mapping[str, Any]) -> Iterator[list[str]]:
    """Lines for the terminal, columns aligned; then what failed, and the notes."""
    yield from _aligned(*methods_table(found), left=2)
    if _apart(found) and "axis" not in found:  # points of a scan are many: they are in the file and in the picture
        yield from _aligned(*values_table(found), left=1)
    for method in found["methods"]:
        if method["status"] != "ok":
            yield [method["label"], method["status"].replace("_", " ").upper(), method["reason"]]
    for note in (_lead(found), *found["notes"], _parallel(found)):
        if note:
            yield ["", note]


def markdown(found: Mapping[str, Any]) -> str:
    """The table of the methods; that of many reactions or of the points of a scan; failures and notes below."""
    lines = [f"# {found['title']}", "", *_pipes(*methods_table(found)), ""]
    if _apart(found):
        what = f" relative to {found['zero']}" if "axis" in found else ""
        lines += [f"Energies / kcal mol⁻¹{what}:", "", *_pipes(*values_table(found)), ""]
    for method in found["methods"]:
        if method["status"] != "ok":
            lines.append(f"- {method['label']}: {method['status'].replace('_', ' ')}: {method['reason']}")
    lines += [f"- {note}" for note in (_lead(found), *found["notes"], _parallel(found)) if note]
    return "\n".join(lines) + "\n"


def comma_separated(found: Mapping[str, Any]) -> str:
    """One row per method and quantity, atomic units."""
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for quantity in found["quantities"]:
        for method in found["methods"]:
            value, forces = quantity["values"][method["label"]], method.get("forces_difference") or {}
            writer.writerow(
                method
                | {key: item for key, item in value.items() if key != "missing"}
                | {"quantity": quantity["label"], "coordinate": quantity.get("coordinate", "")}
                | {"method": method["label"], "reason": value.get("missing") or method.get("reason", "")}
                | {
                    f"forces_{which}_difference_hartree_per_bohr": forces.get(f"{which}_hartree_per_bohr", "")
                    for which in ("max", "rms")
                }
            )
    return text.getvalue()


def methods_table(found: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and rows, one per method: energies, differences to the reference, forces, cost. Columns in which nothing
    would stand are left out."""
    table = {"method": [m["label"] for m in found["methods"]], "level": [m["level"] for m in found["methods"]]}
    if "axis" in found:
        table |= {"highest − lowest / kcal mol⁻¹": _heights(found)}
    table |= _deviations(found) if _apart(found) else _energy_columns(found)
    for title, key in (("max |ΔF|", "max_hartree_per_bohr"), ("rms ΔF / mHa bohr⁻¹", "rms_hartree_per_bohr")):
        cells = [(method.get("forces_difference") or {}).get(key) for method in found["methods"]]
        table[title] = [_number(cell, MILLIHARTREE_PER_HARTREE, 3) for cell in cells]
    bounds = ["≥ " if method.get("lower_bound") else "" for method in found["methods"]]
    for title, key in (("wall", "wall_s"), ("CPU", "cpu_s")):
        cells = [method.get(key) for method in found["methods"]]
        table[title] = [_NONE if c is None else bound + _time(c) for bound, c in zip(bounds, cells, strict=True)]
    sizes = [method.get("peak_memory_bytes") for method in found["methods"]]
    table["memory"] = [_NONE if size is None else memory(size) for size in sizes]
    kept = {title: cells for title, cells in table.items() if any(cell != _NONE for cell in cells)}
    return list(kept), [list(line) for line in zip(*kept.values(), strict=True)]


def values_table(found: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and rows, one per reaction or point of a scan, with the energy by every method in kcal/mol; of reactions
    with the spread of an ensemble in brackets."""
    labels = [method["label"] for method in found["methods"]]
    body = []
    for quantity in found["quantities"]:
        values = [quantity["values"][label] for label in labels]
        cells = [_energy(value, "energy", KCAL_MOL_PER_HARTREE, 2) for value in values]
        if "axis" in found:
            body.append([f"{quantity['coordinate']:.6g}", *cells])
            continue
        spreads = [_number(value.get("std_hartree"), KCAL_MOL_PER_HARTREE, 2) for value in values]
        pairs = zip(cells, spreads, strict=True)
        body.append([quantity["label"], *(cell if spread == _NONE else f"{cell} [{spread}]" for cell, spread in pairs)])
    return [found.get("axis", "energy / kcal mol⁻¹"), *labels], body


def _apart(found: Mapping[str, Any]) -> bool:
    """Whether the energies have a table of their own."""
    return "axis" in found or len(found["quantities"]) > _MANY


def _aligned(header: Sequence[str], body: Sequence[Sequence[str]], left: int) -> Iterator[list[str]]:
    """Lines with aligned columns, the first `left` of them to the left, and an empty one."""
    lines = [header, *body]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    for line in lines:
        cells = [
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        yield ["  ".join(cells).rstrip(), ""]
    yield ["", ""]


def _energy_columns(found: Mapping[str, Any]) -> dict[str, list[str]]:
    """Of one or two sums the value, the spread of an ensemble and the difference."""
    table: dict[str, list[str]] = {}
    absolute, several = found["kind"] == "molecule", len(found["quantities"]) > 1
    scale, unit, decimals = (1.0, "Ha", 6) if absolute else (KCAL_MOL_PER_HARTREE, "kcal mol⁻¹", 2)
    for quantity in found["quantities"]:
        here = [quantity["values"][method["label"]] for method in found["methods"]]
        named = {zeros.called(method.get("energy_zero")) for method in found["methods"]}
        alone = named.pop() if len(named) == 1 else "energy"
        name = quantity["label"] if several or not absolute else alone
        table[f"{name} / {unit}"] = [_energy(value, "energy", scale, decimals) for value in here]
        spreads = [value.get("std_hartree") for value in here]
        small = MILLIHARTREE_PER_HARTREE if absolute else scale
        table[f"± model{'' if not several else f' ({name})'}"] = [_number(one, small, 2) for one in spreads]
        title = f"vs {found['against']}" + (" / mHa" if absolute else "") + (" " * len(table) if several else "")
        table[title] = [_signed(value, small) for value in here]
    return table


def _heights(found: Mapping[str, Any]) -> list[str]:
    """Highest above lowest point of a scan by every method, kcal/mol."""
    heights = []
    for method in found["methods"]:
        values = [quantity["values"][method["label"]] for quantity in found["quantities"]]
        known = [value for value in values if "energy_hartree" in value]
        if not known:
            heights.append(_NONE)
            continue
        ends = [pick(known, key=lambda value: value["energy_hartree"]) for pick in (max, min)]
        errors = [value["stderr_hartree"] for value in ends if "stderr_hartree" in value]
        height = ends[0]["energy_hartree"] - ends[1]["energy_hartree"]
        error = math.hypot(*errors) * KCAL_MOL_PER_HARTREE if errors else None
        heights.append(plus_minus(height * KCAL_MOL_PER_HARTREE, error, decimals=2))
    return heights


def _deviations(found: Mapping[str, Any]) -> dict[str, list[str]]:
    """Mean and largest absolute difference to the reference, kcal/mol."""
    means, largest, scale = [], [], KCAL_MOL_PER_HARTREE
    for method in found["methods"]:
        values = [quantity["values"][method["label"]] for quantity in found["quantities"]]
        sizes = [abs(value["difference_hartree"]) for value in values if "difference_hartree" in value]
        means.append(_number(sum(sizes) / len(sizes) if sizes else None, scale, 2))
        largest.append(_number(max(sizes) if sizes else None, scale, 2))
    return {f"mean |Δ| vs {found['against']} / kcal mol⁻¹": means, "max |Δ|": largest}


def _energy(value: Mapping[str, Any], key: str, scale: float, decimals: int) -> str:
    energy, error = value.get(f"{key}_hartree"), value.get("stderr_hartree")
    if energy is None:
        return _NONE
    return plus_minus(energy * scale, None if error is None else error * scale, decimals=decimals)


def _signed(value: Mapping[str, Any], scale: float) -> str:
    energy, error = value.get("difference_hartree"), value.get("difference_stderr_hartree")
    if energy is None:
        return _NONE
    text = plus_minus(energy * scale, None if error is None else error * scale, digits=2, decimals=2)
    return text if text.startswith("-") else f"+{text}"


def _number(value: float | None, scale: float, decimals: int) -> str:
    return _NONE if value is None else f"{value * scale:.{decimals}f}"


def _time(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms" if seconds < 0.1 else duration(seconds)


def _lead(found: Mapping[str, Any]) -> str:
    """What a scan's energies are relative to."""
    if "axis" not in found:
        return ""
    at = next((q["coordinate"] for q in found["quantities"] if q["label"] == found["zero"]), None)
    where = f"{found['axis'].partition(' /')[0]} {at:.4g}" if at is not None else found["zero"]
    return f"energies relative to {found['zero']} ({where})"


def _parallel(found: Mapping[str, Any]) -> str:
    """How the times came about."""
    threads = f"{found['threads']} thread{'s' if found['threads'] > 1 else ''}"
    if found["jobs"] == 1:
        return f"times: {threads} each, one method at a time; memory: of the whole process"
    return f"times: {threads} each, up to {found['jobs']} methods at a time; memory: of the whole process"


def _pipes(header: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    first, *others = ("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in (header, *body))
    return [first, "|" + "---|" * len(header), *others]

"""Tables of a comparison for terminal, Markdown and CSV, all made from the `comparison` of result.json."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fusion.chemistry import energy_zeros
from fusion.chemistry.units import MILLIHARTREE_PER_HARTREE
from fusion.console import units
from fusion.console.format import duration, memory, plus_minus
from fusion.tasks.compare.unit import Unit, unit_of

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
_MANY = 2  # up to this number energy sums are columns in the table of methods; more get a table of their own


def rows(comparison: Mapping[str, Any]) -> Iterator[list[str]]:
    """Lines for the terminal with aligned columns; then failures and notes."""
    yield from _aligned(*methods_table(comparison), left=2)
    if (
        _own_table(comparison) and "axis" not in comparison
    ):  # points of a scan are many: they are in the file and in the picture
        yield from _aligned(*values_table(comparison), left=1)
    for method in comparison["methods"]:
        if method["status"] != "ok":
            yield [method["label"], method["status"].replace("_", " ").upper(), method["reason"]]
    for note in (_lead(comparison), *comparison["notes"], _parallel(comparison)):
        if note:
            yield ["", note]


def markdown(comparison: Mapping[str, Any]) -> str:
    """Markdown with the table of methods, that of many reactions or of scan points, failures and notes.

    A file has the default units.
    """
    with units.using(units.HARTREE):
        return _markdown(comparison)


def _markdown(comparison: Mapping[str, Any]) -> str:
    lines = [f"# {comparison['title']}", "", *_pipes(*methods_table(comparison)), ""]
    if _own_table(comparison):
        reference = f" relative to {comparison['zero']}" if "axis" in comparison else ""
        lines += [f"Energies / {unit_of(comparison).symbol}{reference}:", "", *_pipes(*values_table(comparison)), ""]
    for method in comparison["methods"]:
        if method["status"] != "ok":
            lines.append(f"- {method['label']}: {method['status'].replace('_', ' ')}: {method['reason']}")
    lines += [f"- {note}" for note in (_lead(comparison), *comparison["notes"], _parallel(comparison)) if note]
    return "\n".join(lines) + "\n"


def comma_separated(comparison: Mapping[str, Any]) -> str:
    """CSV with one row per method and quantity, in atomic units."""
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for quantity in comparison["quantities"]:
        for method in comparison["methods"]:
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


def methods_table(comparison: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and rows, one per method: energies, differences to the reference, forces, cost. Empty columns are left
    out."""
    table = {
        "method": [m["label"] for m in comparison["methods"]],
        "level": [m["level"] for m in comparison["methods"]],
    }
    if "axis" in comparison:
        table |= {f"highest − lowest / {unit_of(comparison).symbol}": _heights(comparison)}
    table |= _deviations(comparison) if _own_table(comparison) else _energy_columns(comparison)
    differences = [method.get("forces_difference") or {} for method in comparison["methods"]]
    table["max |ΔF|"] = [_largest(difference) for difference in differences]
    rms = [difference.get("rms_hartree_per_bohr") for difference in differences]
    force = _unit_of_forces()
    table[f"rms ΔF / {force.symbol}"] = [_number(value, force.factor, force.decimals) for value in rms]
    bounds = ["≥ " if method.get("lower_bound") else "" for method in comparison["methods"]]
    for title, key in (("wall", "wall_s"), ("CPU", "cpu_s")):
        cells = [method.get(key) for method in comparison["methods"]]
        table[title] = [_NONE if c is None else bound + _time(c) for bound, c in zip(bounds, cells, strict=True)]
    sizes = [method.get("peak_memory_bytes") for method in comparison["methods"]]
    table["memory"] = [_NONE if size is None else memory(size) for size in sizes]
    filled = {title: cells for title, cells in table.items() if any(cell != _NONE for cell in cells)}
    return list(filled), [list(line) for line in zip(*filled.values(), strict=True)]


def values_table(comparison: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and rows, one per reaction or point of a scan, with the energy by every method. For reactions the
    spread of an ensemble follows in brackets."""
    labels, unit = [method["label"] for method in comparison["methods"]], unit_of(comparison)
    body = []
    for quantity in comparison["quantities"]:
        values = [quantity["values"][label] for label in labels]
        cells = [_energy(value, "energy", unit.factor, unit.decimals) for value in values]
        if "axis" in comparison:
            body.append([f"{quantity['coordinate']:.6g}", *cells])
            continue
        spreads = [_number(value.get("std_hartree"), unit.factor, unit.decimals) for value in values]
        pairs = zip(cells, spreads, strict=True)
        body.append([quantity["label"], *(cell if spread == _NONE else f"{cell} [{spread}]" for cell, spread in pairs)])
    return [comparison.get("axis", f"energy / {unit.symbol}"), *labels], body


def _own_table(comparison: Mapping[str, Any]) -> bool:
    """True if the energies get a table of their own."""
    return "axis" in comparison or len(comparison["quantities"]) > _MANY


def _aligned(header: Sequence[str], body: Sequence[Sequence[str]], left: int) -> Iterator[list[str]]:
    """Lines with aligned columns, the first `left` of them left-aligned, and an empty line."""
    lines = [header, *body]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    for line in lines:
        cells = [
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        yield ["  ".join(cells).rstrip(), ""]
    yield ["", ""]


def _energy_columns(comparison: Mapping[str, Any]) -> dict[str, list[str]]:
    """Columns for one or two energy sums: value, spread of an ensemble, and difference to the reference."""
    table: dict[str, list[str]] = {}
    absolute, several = comparison["kind"] == "molecule", len(comparison["quantities"]) > 1
    shown = units.current()
    scale, unit, decimals = (
        (shown.energy.factor, shown.energy.symbol, shown.energy.decimals) if absolute else unit_of(comparison)
    )
    for quantity in comparison["quantities"]:
        values = [quantity["values"][method["label"]] for method in comparison["methods"]]
        zero_names = {energy_zeros.called(method.get("energy_zero")) for method in comparison["methods"]}
        common_name = zero_names.pop() if len(zero_names) == 1 else "energy"
        name = quantity["label"] if several or not absolute else common_name
        table[f"{name} / {unit}"] = [_energy(value, "energy", scale, decimals) for value in values]
        spreads = [value.get("std_hartree") for value in values]
        small = shown.small.factor if absolute else scale
        table[f"± model{'' if not several else f' ({name})'}"] = [_number(spread, small, 2) for spread in spreads]
        title = (
            f"vs {comparison['against']}"
            + (f" / {shown.small.symbol}" if absolute else "")
            + (" " * len(table) if several else "")
        )
        table[title] = [_signed(value, small) for value in values]
    return table


def _largest(difference: Mapping[str, float]) -> str:
    """Largest difference of forces, with its error if it has one."""
    unit = _unit_of_forces()
    value, error = difference.get("max_hartree_per_bohr"), difference.get("max_stderr_hartree_per_bohr")
    if value is None or error is None:
        return _number(value, unit.factor, unit.decimals)
    return plus_minus(unit.factor * value, unit.factor * error, digits=1)


def _unit_of_forces() -> Unit:
    """Unit of differences of forces: mHa/bohr by default, meV/Å, or that of the setting `units`."""
    force = units.current().force
    if units.current().is_atomic:
        return Unit(MILLIHARTREE_PER_HARTREE, "mHa bohr⁻¹", 3)
    if force.symbol == "eV/Å":
        return Unit(1e3 * force.factor, "meV Å⁻¹", 2)
    return Unit(force.factor, force.symbol.replace("/mol/Å", " mol⁻¹ Å⁻¹"), 3)


def _heights(comparison: Mapping[str, Any]) -> list[str]:
    """Energy of the highest above the lowest point of a scan by every method."""
    heights, unit = [], unit_of(comparison)
    for method in comparison["methods"]:
        values = [quantity["values"][method["label"]] for quantity in comparison["quantities"]]
        calculated = [value for value in values if "energy_hartree" in value]
        if not calculated:
            heights.append(_NONE)
            continue
        ends = [pick(calculated, key=lambda value: value["energy_hartree"]) for pick in (max, min)]
        height = ends[0]["energy_hartree"] - ends[1]["energy_hartree"]
        error = error_of_height(ends, method.get("zero_stderr_hartree", 0.0))
        error = None if error is None else error * unit.factor
        heights.append(plus_minus(height * unit.factor, error, decimals=unit.decimals))
    return heights


def error_of_height(ends: Sequence[Mapping[str, Any]], zero: float) -> float | None:
    """Error of the difference of two relative energies, without that of their common zero (hartree); None without
    any."""
    errors = [value["stderr_hartree"] for value in ends if "stderr_hartree" in value]
    if not errors:
        return None
    shared = 0.0 if 0.0 in errors else 2.0 * zero**2  # the zero itself has no error relative to itself
    return math.sqrt(max(sum(error**2 for error in errors) - shared, 0.0))


def _deviations(comparison: Mapping[str, Any]) -> dict[str, list[str]]:
    """Mean and largest absolute difference to the reference."""
    means, largest, unit = [], [], unit_of(comparison)
    for method in comparison["methods"]:
        values = [quantity["values"][method["label"]] for quantity in comparison["quantities"]]
        sizes = [abs(value["difference_hartree"]) for value in values if "difference_hartree" in value]
        means.append(_number(sum(sizes) / len(sizes) if sizes else None, unit.factor, unit.decimals))
        largest.append(_number(max(sizes) if sizes else None, unit.factor, unit.decimals))
    return {f"mean |Δ| vs {comparison['against']} / {unit.symbol}": means, "max |Δ|": largest}


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


def _lead(comparison: Mapping[str, Any]) -> str:
    """Note that names the zero of a scan's energies; empty for other subjects."""
    if "axis" not in comparison:
        return ""
    value = next((q["coordinate"] for q in comparison["quantities"] if q["label"] == comparison["zero"]), None)
    place = f"{comparison['axis'].partition(' /')[0]} {value:.4g}" if value is not None else comparison["zero"]
    return f"energies relative to {comparison['zero']} ({place})"


def _parallel(comparison: Mapping[str, Any]) -> str:
    """Note on the threads and processes behind the times."""
    threads = f"{comparison['threads']} thread{'s' if comparison['threads'] > 1 else ''}"
    if comparison["jobs"] == 1:
        return f"times: {threads} each, one method at a time; memory: of the whole process"
    return f"times: {threads} each, up to {comparison['jobs']} methods at a time; memory: of the whole process"


def _pipes(header: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    first, *others = ("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in (header, *body))
    return [first, "|" + "---|" * len(header), *others]

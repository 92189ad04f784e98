"""Commands `fusion methods` and `fusion plugins`, from raw YAML files, without composition and slow imports."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fusion import plugins
from fusion.config.options import available, kind_of, option_files, read_yaml, sources
from fusion.console import streams
from fusion.errors import InputError
from fusion.methods.about import About, is_installed, refuse_beside

GIVES = {
    "potential": "energy forces stress hessian",
    "functional": "energy forces dipole",
    "ansatz": "energy forces dipole excitations, ± errors",
    "conventional": "energy",
}
"""Properties of the methods of a kind, unless a method's file states others."""


def methods() -> None:
    """Print a table of the methods of all plugins."""
    rows = [_method_row(name, file) for name, file in option_files("method").items()]
    if not rows:
        raise InputError("no methods are installed; fusion plugins lists plugins that could not be loaded")
    order = {kind: position for position, kind in enumerate(GIVES)}
    rows.sort(key=lambda row: (order.get(row[1], len(order)), row[0]))
    print_table(("method", "kind", "gives", "cost, 10 atoms", "summary"), rows)
    presets = [name for name in available("method") if "/" in name]
    if presets:
        print(f"\nwith settings: {', '.join(presets)}")
    broken = [plugin.name for plugin in plugins.discover().plugins if plugin.error]
    if broken:
        print(f"\nnot loaded: {', '.join(broken)} (fusion plugins shows why)")
    for conflict in plugins.conflicts(sources()):
        print(f"\nconflict: {conflict}")


def plugins_() -> None:
    """Print the plugins with their state, and the options that two of them define."""
    rows = [
        (plugin.name, f"{plugin.distribution} {plugin.version}", "ok" if plugin.error is None else plugin.error)
        for plugin in plugins.discover().plugins
    ]
    if not rows:
        print("no plugins are installed")
        return
    print_table(("plugin", "package", "state"), rows)
    for conflict in plugins.conflicts(sources()):
        print(f"\nconflict: {conflict}")


def _method_row(name: str, file: Path) -> tuple[str, str, str, str, str]:
    import yaml

    try:
        content = read_yaml(file)
    except (yaml.YAMLError, ValueError) as error:
        return name, "?", "", "", f"{file.name} is not YAML: {str(error).splitlines()[0]}"
    method, kind = content.get("method") or {}, kind_of(content)
    try:
        refuse_beside(method, name)
        about = About.read(method.get("about"))
    except InputError as error:
        return name, kind, "", "", str(error)
    missing = missing_packages(about)
    if missing:
        return name, kind, f"not installed: pip install {' '.join(missing)}", "", about.summary
    return name, kind, about.gives or GIVES.get(kind, ""), about.cost, about.summary


def missing_packages(about: About) -> list[str]:
    """Return the distributions that a method requires and that are not installed."""
    return [requirement for requirement in about.requires if not is_installed(requirement)]


def print_table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Print left-aligned columns; the width of the last column is not limited."""
    table = [header, *(tuple(streams.visible(" ".join(cell.split("\n"))) for cell in row) for row in rows)]
    # A cell followed only by empty cells may extend over them and does not widen its column.
    widths = [max(len(row[i]) for row in table if any(row[i + 1 :])) for i in range(len(header) - 1)]
    for row in table:
        print(
            " " + "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]).rstrip()
        )

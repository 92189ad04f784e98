"""Plugins and methods by name, the checks of a plugin's package, and those of each of its methods."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fusion import plugins
from fusion.config.options import core_directory, kind_of, option_files, read_yaml, sources, suggestion
from fusion.contracts import isolated
from fusion.contracts.findings import FAILS, NOTE, OK, SKIPPED, Broken, Check, Finding, described, findings, place
from fusion.errors import InputError
from fusion.methods.about import About, is_installed
from fusion.plugins import Plugin

HEAVY: Final = ("torch", "pytorch_lightning", "pyscf", "scipy", "numba", "matplotlib", "ase")
"""Packages whose import takes longer than `fusion methods` may take."""
_IMPORTED = "import importlib, sys; importlib.import_module({name!r}); print(*set({heavy!r}) & set(sys.modules))"


@dataclass(frozen=True)
class Chosen:
    """Plugin to check, None for a method of the core, and its methods: names with their YAML files."""

    plugin: Plugin | None
    methods: dict[str, Path]

    @property
    def directory(self) -> Path | None:
        """Directory of the package's code."""
        file = None if self.plugin is None or self.plugin.module is None else self.plugin.module.__file__
        return None if file is None else Path(file).parent


def choose(name: str) -> Chosen:
    """Find the plugin with the import name, distribution or method `name`. Raises InputError for an unknown name."""
    installed, files = plugins.discover().plugins, option_files("method")
    for plugin in installed:
        if _normal(name) in (_normal(plugin.name), _normal(plugin.distribution)):
            own = {method: file for method, file in files.items() if _inside(file, plugin)}
            return Chosen(plugin, own)
    if name in files:
        owner = next((plugin for plugin in installed if _inside(files[name], plugin)), None)
        return Chosen(owner, {name: files[name]})
    names = [*(plugin.name for plugin in installed), *files]
    raise InputError(
        f"no plugin or method '{name}' is installed.{suggestion(name, names)}  fusion plugins lists the plugins"
    )


def checked(chosen: Chosen) -> Iterator[tuple[str, Iterator[Finding]]]:
    """Yield headings with the findings below them: the package, then each method."""
    if chosen.plugin is not None:
        yield (
            f"{chosen.plugin.name} ({chosen.plugin.distribution} {chosen.plugin.version})",
            findings(PACKAGE, chosen.plugin, chosen.directory),
        )
        if chosen.plugin.error is not None:
            return
    for name, file in chosen.methods.items():
        yield f"+method={name}", _of_method(name, file, chosen.directory)


def _of_method(name: str, file: Path, package: Path | None) -> Iterator[Finding]:
    """Check one method: its settings, its model, and the contract of its kind."""
    from fusion.contracts import kinds

    try:
        content = read_yaml(file)
        about = About.read((content.get("method") or {}).get("about"))
    except Exception as error:  # YAML raises many types
        yield Finding("settings", FAILS, f"{file.name}: {described(error)}")
        return
    missing = [requirement for requirement in about.requires if not is_installed(requirement)]
    if missing:
        yield Finding("installation", SKIPPED, f"not installed: pip install {' '.join(missing)}")
        return
    kind = kind_of(content)
    if kind not in kinds.NAMES:
        yield Finding("kind", SKIPPED, f"{kind}: it has no learned model, so no contract is checked")
        return
    try:
        subject, checks = kinds.subject(name, kind, package)
    except Exception as error:  # code of others raises anything
        yield Finding("settings and model", FAILS, f"{described(_cause(error))}{place(_cause(error), package)}")
        return
    summary = about.summary or "no method.about.summary: fusion methods shows no description"
    yield Finding("settings and model", OK if about.summary else NOTE, f"{kind}: {summary}")
    yield from findings(checks, subject, package)


def _cause(error: BaseException) -> BaseException:
    """The first exception behind Hydra's."""
    while type(error).__module__.startswith("hydra") and error.__cause__ is not None:
        error = error.__cause__
    return error


def imported(plugin: Plugin) -> str:
    """Check that the plugin could be loaded."""
    if plugin.error is not None:
        raise Broken(plugin.error)
    return f"fusion_api = {plugins.API}"


def quick(plugin: Plugin) -> str:
    """Import the plugin in a process of its own and look for large packages."""
    code = _IMPORTED.format(name=plugin.name, heavy=HEAVY)
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], env=isolated.environment(), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise Broken(f"a fresh process cannot import it: {(done.stderr.strip().splitlines() or ['?'])[-1]}")
    heavy = sorted(done.stdout.split())
    if heavy:
        raise Broken(
            f"importing it imports {', '.join(heavy)}, which slows every fusion command down: import them in the "
            "modules that use them, not in __init__.py"
        )
    return "no large package is imported with it"


def options(plugin: Plugin) -> str:
    """Check that the plugin brings settings, and none that another package has."""
    if plugin.conf is None:
        raise Broken("no hook fusion_config_path: nothing of it can be named on the command line")
    conflicts = plugins.conflicts([("fusion", core_directory()), *((p, c) for p, c in sources() if p != "fusion")])
    own = [conflict for conflict in conflicts if plugin.name in conflict]
    if own:
        raise Broken(own[0])
    names = sorted(plugins.options([(plugin.name, plugin.conf)]))
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")


PACKAGE: Final = (Check("import", imported, essential=True), Check("quick import", quick), Check("options", options))


def _inside(file: Path, plugin: Plugin) -> bool:
    return plugin.conf is not None and file.is_relative_to(plugin.conf)


def _normal(name: str) -> str:
    return name.lower().replace("-", "_")


def summary(all_findings: list[Finding]) -> str:
    """Count the verdicts in one sentence."""
    counts: dict[str, Any] = {verdict: sum(f.verdict == verdict for f in all_findings) for verdict in (OK, FAILS)}
    fails = counts[FAILS]
    return f"{counts[OK]} checks passed, {fails} failed" if fails else f"{counts[OK]} checks passed"

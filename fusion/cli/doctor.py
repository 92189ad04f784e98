"""Command `fusion doctor`: what is installed, where it stores things, and what is broken; `--test` calculates too."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import fusion
from fusion import plugins
from fusion.cli import settings_help as shown
from fusion.config import comments, described
from fusion.config.options import sources
from fusion.errors import InputError

_DISTRIBUTION = "aiqm-fusion"
_SHOWN = ("torch", "pyscf", "ase", "pytorch-lightning", "hydra-core", "numba", "numpy", "scipy")
_DRIVER = Path("/proc/driver/nvidia/gpus")
_NAME = re.compile(r"[A-Za-z0-9._-]+")
_BOUND = re.compile(r"(>=|<)\s*([0-9][0-9.]*)")
_DEVELOPMENT = ("all", "dev")
"""Extras that are no feature of their own."""


@dataclass(frozen=True)
class Finding:
    """One line of the examination. `fault` says what to do about it; None if nothing is wrong."""

    name: str
    text: str
    fault: str | None = None


def examine(test: bool) -> int:
    """Print the findings and a verdict. Returns 1 if something is broken, otherwise 0."""
    faults = 0
    for check in (_program, _packages, _machine, _caches, _downloads, _plugins, _extras):
        found = [*check()]
        faults += _print(found)
    if test:
        faults += _print(_settings()) + _print(_tested())
    if faults:
        print(f"\n{faults} {'thing is' if faults == 1 else 'things are'} broken")
        return 1
    print("\nready" if test else "\nready; fusion doctor --test also calculates something of every kind (10 s)")
    return 0


def _print(found: Iterator[Finding] | list[Finding]) -> int:
    """Print findings at once, and return the number of faults."""
    faults = 0
    for finding in found:
        text = finding.text if finding.fault is None else f"BROKEN  {finding.text}: {finding.fault}"
        shown.print_rows([(finding.name, "", text)])
        faults += finding.fault is not None
    return faults


def _program() -> Iterator[Finding]:
    place = Path(fusion.__file__).parent
    yield Finding("fusion", f"{fusion.__version__}, {place}")
    yield Finding("Python", f"{platform.python_version()}, {platform.system()} {platform.machine()}")


def _packages() -> Iterator[Finding]:
    """Yield the versions of the large packages, and every required package that is missing or too old."""
    versions = {name: _version(name) for name in _SHOWN}
    yield Finding("packages", ", ".join(f"{name} {version}" for name, version in versions.items() if version))
    for requirement, extra in _requirements():
        name = _name(requirement)
        version = None if extra else _version(name)
        if extra or (version and _within(version, requirement)):
            continue
        stated = requirement.partition(";")[0].strip()
        state = f"{name} {version} is not {stated}" if version else f"{name} is missing"
        yield Finding("package", state, f"pip install '{stated}'")


def _machine() -> Iterator[Finding]:
    from fusion.console.format import memory
    from fusion.parallel.memory import available_memory

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = os.environ.get("OMP_NUM_THREADS")
    fault = "OMP_NUM_THREADS must be a whole number" if threads and not re.fullmatch(r"\d+(,\d+)*", threads) else None
    limit = f"OMP_NUM_THREADS={threads}" if threads else "no limit of threads (OMP_NUM_THREADS)"
    yield Finding("machine", f"{cores} cores, {limit}, {memory(available_memory())} of memory free", fault)
    gpus = len(list(_DRIVER.iterdir())) if _DRIVER.is_dir() else 0
    if gpus and "+cpu" in (_version("torch") or ""):
        yield Finding("devices", f"{gpus} GPU, but the installed torch computes on CPUs alone: install torch with CUDA")
    else:
        yield Finding("devices", f"{gpus} GPU (NVIDIA's driver)" if gpus else "CPU")


def _caches() -> Iterator[Finding]:
    from fusion.console.format import memory
    from fusion.zoo import cache

    try:
        place = cache.directory()
    except InputError as error:
        yield Finding("cache", "FUSION_CACHE", str(error))
        return
    size, models = _size(place), len(list(place.glob("models/*"))) if place.is_dir() else 0
    text = f"{place}: {memory(size)}, {models} models" if place.is_dir() else f"{place}, not created yet"
    yield Finding("cache", text, None if _is_writable(place) else "not writable; set FUSION_CACHE=DIR")
    kernels = os.environ.get("NUMBA_CACHE_DIR")
    if kernels:
        fault = None if _is_writable(Path(kernels)) else "not writable; kernels are compiled at every start"
        yield Finding("kernels", f"NUMBA_CACHE_DIR={kernels}", fault)
    else:
        own = _is_writable(Path(fusion.__file__).parent)
        yield Finding("kernels", "compiled once, beside the sources" if own else "compiled once, in the user's cache")


def _downloads() -> Iterator[Finding]:
    """Yield the sources of downloads: mirror, zoos, and whether there are any."""
    mirror, zoos = os.environ.get("FUSION_MIRROR"), os.environ.get("FUSION_ZOO")
    offline = os.environ.get("FUSION_OFFLINE", "0") not in ("", "0")
    yield Finding("downloads", "none (FUSION_OFFLINE)" if offline else "allowed; FUSION_OFFLINE=1 forbids them")
    if mirror:
        lost = mirror.startswith("file://") and not Path(mirror.removeprefix("file://")).is_dir()
        yield Finding("mirror", f"FUSION_MIRROR={mirror}", "there is no such folder" if lost else None)
    if zoos:
        from fusion.zoo import registry

        lost_zoos = [place for place in registry.named() if "://" not in place and not Path(place).is_dir()]
        fault = f"there is no folder {', '.join(lost_zoos)}" if lost_zoos else None
        yield Finding("zoos", f"FUSION_ZOO={zoos}", fault)


def _plugins() -> Iterator[Finding]:
    found = plugins.discover().plugins
    loaded = [plugin.name for plugin in found if plugin.error is None]
    yield Finding("plugins", ", ".join(loaded) or "none", None if loaded else "no method is installed")
    for plugin in found:
        if plugin.error is not None:
            remedy = f"repair it, or pip uninstall {plugin.distribution or plugin.name}"
            yield Finding("plugin", f"{plugin.name} of {plugin.distribution} {plugin.version}: {plugin.error}", remedy)
    for conflict in plugins.conflicts(sources()):
        yield Finding("plugins", conflict, "uninstall one of the packages or rename its option")


def _settings() -> Iterator[Finding]:
    """Yield the files of settings that are not YAML."""
    for option, file in described.files().items():
        try:
            comments.read(file)
        except InputError as error:
            yield Finding("settings", option, str(error))


def _extras() -> Iterator[Finding]:
    """Yield the extras whose packages are missing, with the command that installs them."""
    packages: dict[str, list[str]] = {}
    for requirement, extra in _requirements():
        if extra and extra not in _DEVELOPMENT and _name(requirement) != _DISTRIBUTION:
            packages.setdefault(extra, []).append(_name(requirement))
    missing = {extra: [name for name in names if _version(name) is None] for extra, names in packages.items()}
    for extra, names in missing.items():
        if names:
            yield Finding("extra", f"{extra}: {', '.join(names)} is missing: pip install '{_DISTRIBUTION}[{extra}]'")
    if not any(missing.values()):
        yield Finding("extras", ", ".join(packages) or "none")


def _tested() -> Iterator[Finding]:
    from fusion.cli import self_test

    try:
        yield Finding("devices", ", ".join(self_test.devices()))
    except Exception as error:  # a broken torch
        yield Finding("devices", "torch", f"{type(error).__name__}: {error}")
        return
    for outcome in self_test.run():
        text = f"{outcome.name}, {outcome.seconds:.1f} s: {outcome.text}"
        yield Finding("test", text, None if outcome.passed else "wrong: reinstall fusion and its packages")


def _requirements() -> Iterator[tuple[str, str | None]]:
    """Yield (requirement, extra) of this distribution, its extra None for what is always needed."""
    try:
        stated = metadata.requires(_DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        stated = []
    for requirement in stated:
        extra = re.search(r"""extra\s*==\s*['"]([^'"]+)['"]""", requirement)
        yield requirement, extra and extra[1]


def _name(requirement: str) -> str:
    match = _NAME.match(requirement)
    return match[0] if match else requirement


def _version(name: str) -> str | None:
    """Version of a distribution, None if it is not installed. Only the head of its metadata is read."""
    try:
        text = metadata.distribution(name).read_text("METADATA") or ""
    except (metadata.PackageNotFoundError, OSError):
        return None
    match = re.search(r"^Version:\s*(\S+)", text, re.MULTILINE)
    return match[1] if match else metadata.version(name)


def _within(version: str, requirement: str) -> bool:
    """True if a version satisfies the bounds of a requirement."""
    number = _numbers(version)
    for sign, bound in _BOUND.findall(requirement.partition(";")[0]):
        if (number < _numbers(bound)) == (sign == ">="):
            return False
    return True


def _numbers(version: str) -> tuple[int, ...]:
    match: Any = re.match(r"[0-9.]+", version)
    parts = [int(part) for part in (match[0] if match else "0").split(".") if part]
    return tuple(parts + [0] * (4 - len(parts)))


def _is_writable(place: Path) -> bool:
    while not place.exists() and place != place.parent:
        place = place.parent
    return place.is_dir() and os.access(place, os.W_OK | os.X_OK)


def _size(place: Path) -> int:
    """Bytes of all files below a folder."""
    total, waiting = 0, [place]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(Path(entry.path))
                    else:
                        total += entry.stat(follow_symlinks=False).st_size
        except OSError:
            continue
    return total

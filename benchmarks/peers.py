"""Environments of the programs that benchmarks compare with: `python benchmarks/peers.py NAME` prints NAME's Python.

It is made on first use in fusion's cache (FUSION_CACHE) from the exact versions in peers.toml, and sees the packages of
the interpreter that runs this script, so that both programs compute in one process. A benchmark without a peer runs in
that interpreter, as does one whose peer is not on PyPI, which is said.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import sysconfig
import tomllib
import venv
from collections.abc import Sequence
from pathlib import Path

from fusion.zoo import cache

PEERS = tomllib.loads(Path(__file__).with_suffix(".toml").read_text())


def interpreter(benchmark: str) -> str:
    """Path of the Python for `benchmark`."""
    for name, peer in PEERS.items():
        if benchmark in peer["benchmarks"]:
            if "packages" in peer:
                return str(environment(name, peer["packages"]))
            print(f"measured without {name}: {peer['missing']}", file=sys.stderr)
    return sys.executable


def environment(name: str, packages: Sequence[str]) -> Path:
    """Python that has `packages` beside those of this interpreter, made if it is not there yet.

    Raises CalledProcessError if pip fails; the next call begins anew.
    """
    ours = sysconfig.get_paths()["purelib"]
    digest = hashlib.sha256("\n".join([sys.version, ours, *packages]).encode()).hexdigest()[:12]
    place = cache.directory() / "peers" / f"{name}-{digest}"
    python = place / "bin" / "python"
    with cache.locked(f"peer-{name}-{digest}"):
        if not (place / "complete").is_file():
            print(f"making an environment with {name} in {place} (once)", file=sys.stderr)
            venv.create(place, clear=True, with_pip=False, symlinks=True)
            (site,) = place.glob("lib/python*/site-packages")
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site)]
            if packages:
                subprocess.run([*pip, *packages], check=True, stdout=sys.stderr)
            (site / "fusion_packages.pth").write_text(f"import site; site.addsitedir({ours!r})\n")
            (place / "complete").touch()
    return python


if __name__ == "__main__":
    print(interpreter(sys.argv[1]))

"""The check of devices in a process of its own: on a simulated device, torch may crash where a GPU would raise."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from fusion.contracts.findings import FAILS, SKIPPED, Broken, Finding, Inapplicable

_CODE = "from fusion.contracts import kinds; kinds.print_devices({name!r}, {kind!r}, {package!r})"


def environment() -> dict[str, str]:
    """Environment of a Python that imports the same packages as this one."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def devices(name: str, kind: str, package: Path | None) -> str:
    """Run the check of devices of the method `name`; returns its sentence or raises Broken or Inapplicable."""
    code = _CODE.format(name=name, kind=kind, package=None if package is None else str(package))
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], env=environment(), capture_output=True, text=True, check=False
    )
    if done.returncode < 0:
        raise Inapplicable("torch crashed on the simulated device, which proves nothing; try a real GPU")
    if done.returncode:
        raise Inapplicable(f"the check could not run: {(done.stderr.strip().splitlines() or ['?'])[-1]}")
    finding = Finding(**json.loads(done.stdout.strip().splitlines()[-1]))
    if finding.verdict == FAILS:
        raise Broken(finding.text)
    if finding.verdict == SKIPPED:
        raise Inapplicable(finding.text)
    return finding.text

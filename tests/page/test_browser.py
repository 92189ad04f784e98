"""A report page in headless Chromium: no message on the console, no request, molecules with their atom numbers."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from test_page import made, trajectory, write_run

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)


@pytest.mark.slow  # a browser starts and draws in software
@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
def test_a_browser_shows_molecules_and_asks_for_nothing(tmp_path: Path) -> None:
    assert BROWSER
    run = write_run(tmp_path / "runs" / "md", "md")
    trajectory(run / "md.extxyz", 5)
    write_run(tmp_path / "runs" / "energy")
    page, log = tmp_path / "page.html", tmp_path / "net.json"
    page.write_text(made(tmp_path / "runs"), encoding="utf-8")
    options = (
        "--headless=new", "--no-sandbox", "--disable-dev-shm-usage",
        "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
        "--host-resolver-rules=MAP * ~NOTFOUND",
        "--disable-background-networking", "--disable-component-update", "--no-first-run", "--disable-sync",
        f"--user-data-dir={tmp_path / 'profile'}", f"--log-net-log={log}", "--enable-logging=stderr",
        "--virtual-time-budget=3000", "--dump-dom",
    )  # fmt: skip
    done = subprocess.run([BROWSER, *options, page.as_uri()], capture_output=True, text=True, timeout=300, check=True)
    assert "CONSOLE" not in done.stderr, re.findall(r".*CONSOLE.*", done.stderr)
    figures = re.findall(r'<figure class="molecule"[^>]*>', done.stdout)
    assert [re.search(r'data-ready="(\d+)"', figure)[1] for figure in figures] == ["3", "3"]  # type: ignore[index]
    assert done.stdout.count("<canvas") == 2 and ">trajectory</option>" in done.stdout
    events = json.loads(log.read_text())["events"]
    started = [event["params"] for event in events if "initiator" in event.get("params", {})]
    requests = [start for start in started if start["initiator"] != "not an origin"]  # the others are the browser's own
    assert not [start["url"] for start in requests if start["url"].startswith("http")]

"""Pages of docs/tasks: one for each task, each with its settings."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs" / "tasks"
TASKS = sorted(path.stem for path in (ROOT / "conf" / "task").glob("*.yaml"))


@pytest.mark.parametrize("task", TASKS)
def test_a_task_has_a_page_with_its_settings(task: str) -> None:
    page = (PAGES / f"{task}.md").read_text(encoding="utf-8")
    assert page.count(f"<!-- settings: task/{task} -->") == 1
    assert f"[{task}]({task}.md)" in (PAGES / "index.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("task", TASKS)
def test_the_settings_that_a_page_names_exist(task: str) -> None:
    settings = (ROOT / "conf" / "task" / f"{task}.yaml").read_text(encoding="utf-8")
    page = (PAGES / f"{task}.md").read_text(encoding="utf-8")
    commands = re.findall(rf"^fusion (?=.*\btask={task}\b).*", page, re.MULTILINE)
    named = {name for line in commands for name in re.findall(r"\btask\.(\w+)", line)}
    assert not {name for name in named if not re.search(rf"^\s*{name}:", settings, re.MULTILINE)}

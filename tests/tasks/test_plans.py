"""Tasks hand on what they have checked in a plan and keep nothing of it themselves."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import fusion

ROOT = Path(fusion.__file__).parent
TASKS = sorted([*ROOT.glob("tasks/*/task.py"), *ROOT.glob("*/training/task.py")])
TASKS += [ROOT / "evaluation" / "task.py", ROOT / "wavefunctions" / "training.py"]


@pytest.mark.parametrize("path", TASKS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_task_sets_its_attributes_only_when_it_is_made(path: Path) -> None:
    tasks = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.ClassDef)]
    assert any(method.name == "check" for task in tasks for method in functions(task))
    for task in tasks:
        for method in functions(task):
            decorators = {ast.unparse(decorator) for decorator in method.decorator_list}
            assert not decorators & {"cached_property", "functools.cached_property"}, f"{task.name}.{method.name}"
            if method.name != "__init__":
                assert not list(set_on_self(method)), f"{task.name}.{method.name}"


def functions(task: ast.ClassDef) -> list[ast.FunctionDef]:
    return [node for node in task.body if isinstance(node, ast.FunctionDef)]


def set_on_self(method: ast.FunctionDef) -> Iterator[str]:
    """Yield the attributes of `self` that a method sets."""
    for node in ast.walk(method):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and ast.unparse(node.value) == "self":
            yield node.attr

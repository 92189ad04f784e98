"""Notebooks and Python code of the documentation."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
from omegaconf import OmegaConf

from fusion.app import functions
from fusion.app.settings import resolved
from fusion.config import compose, overrides
from fusion.methods.card_words import with_card

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
PAGE = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
_LARGEST = 200_000


def cells(notebook: Path) -> list[dict[str, Any]]:
    return [cell for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]


def source(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


def run_cell(text: str, namespace: dict[str, Any]) -> Any:
    """Execute a cell and return the value of its last expression, as a notebook does."""
    body = ast.parse(text).body
    last = body.pop() if isinstance(body[-1], ast.Expr) else None
    exec(compile(ast.Module(body, []), "cell", "exec"), namespace)
    return None if last is None else eval(compile(ast.Expression(last.value), "cell", "eval"), namespace)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_small_and_has_the_outputs_of_one_execution(notebook: Path) -> None:
    text = notebook.read_text(encoding="utf-8")
    assert len(text.encode()) < _LARGEST
    assert [cell["execution_count"] for cell in cells(notebook)] == list(range(1, len(cells(notebook)) + 1))
    for cell in cells(notebook):
        assert cell["outputs"] and cell["metadata"] == {}
        assert not [output for output in cell["outputs"] if output["output_type"] == "error"]
    assert not re.search(r"/(tmp|home|work|root)/", re.sub(r"[A-Za-z0-9+/=]{400,}", "", text))
    assert f"notebooks/{notebook.name}" in PAGE


@pytest.mark.slow
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_gives_the_energy_it_shows(
    notebook: Path,
    zoo_cache: Path,
    pictures: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("pandas", reason="the notebooks show data frames")
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {}
    for cell in cells(notebook):
        value = run_cell(source(cell), namespace)
        capsys.readouterr()
        kinds = {kind for output in cell["outputs"] for kind in output.get("data", {})}
        assert "text/html" not in kinds or value._repr_html_()
        assert "image/png" not in kinds or value._repr_png_().startswith(b"\x89PNG")
    main = namespace[notebook.stem]
    shown = next(float(match[1]) for match in re.finditer(r"energy=(-[\d.]+)", notebook.read_text(encoding="utf-8")))
    assert main.status == "ok" and main.energy == pytest.approx(shown, abs=max(1e-6, 5 * (main.energy_stderr or 0.0)))


def test_the_code_of_the_page_makes_valid_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    tasks = []

    def composed(words: list[str]) -> MagicMock:
        config, _ = compose.compose(with_card(overrides.prepare(words, multirun=False)))
        tasks.append(OmegaConf.to_container(resolved(config, Path.cwd()))["task"]["name"])
        result = MagicMock()
        result.atoms = namespace["atoms"]
        return result

    namespace: dict[str, Any] = {}
    monkeypatch.setattr(functions, "run", composed)
    for block in re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL):
        exec(compile(block, "docs/python.md", "exec"), namespace)
    assert tasks == ["relax", "vibrations", "energy", "scan", "ts", "md", "compare"]

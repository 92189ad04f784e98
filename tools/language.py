"""Check that no docstring begins with a word such as "Of" or "What", which hides its subject.

python tools/language.py [FILE ...]      default: every Python file of the project; exit status 1 if one does

A docstring begins with a verb ("Return", "Fit") or with the noun it describes.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("fusion", "plugins", "tests", "tools", "benchmarks")
FORBIDDEN = frozenset({"of", "that", "what", "whether", "where", "how", "when"})
DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def faults(path: Path) -> Iterator[str]:
    """Docstrings of a file that begin with a forbidden word, as `file:line: first line`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        for place in _docstrings(node):
            text = str(place.value).strip()
            if text and text.split()[0].lower().strip(",.:;") in FORBIDDEN:
                yield f"{path}:{place.lineno}: {text.splitlines()[0]}"


def _docstrings(node: ast.AST) -> Iterator[ast.Constant]:
    """Docstrings of a node, including those below attributes: strings that are statements on their own."""
    if isinstance(node, DOCUMENTED):
        constants = (statement.value for statement in node.body if isinstance(statement, ast.Expr))
        yield from (value for value in constants if isinstance(value, ast.Constant) and isinstance(value.value, str))


def main(names: list[str]) -> int:
    """Print the faults of the files; return 1 if there are any."""
    paths = [Path(name) for name in names]
    if not paths:
        paths = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
    lines = [line for path in paths for line in faults(path)]
    for line in lines:
        print(line)
    if lines:
        print(f"{len(lines)} docstrings begin with {', '.join(sorted(FORBIDDEN))}; begin with a verb or the noun")
    return int(bool(lines))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

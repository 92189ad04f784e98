"""Relative links of the documentation lead to files and headings that exist, and its equations can be typeset."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted((*(ROOT / "docs").rglob("*.md"), ROOT / "README.md"))
DISPLAY = re.compile(r"^\$\$\n(.*?)\n\$\$$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"(?<![\\$])\$(?!\$)([^$\n]+)\$(?!\$)")


def without_code(text: str) -> str:
    """Remove blocks and spans of code."""
    return re.sub(r"`[^`\n]+`", "code", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))


def prose(text: str) -> str:
    """Remove code and equations, in which brackets are no links."""
    return INLINE.sub("", DISPLAY.sub("", without_code(text)))


def equations(text: str) -> list[str]:
    """LaTeX of all equations of a page."""
    text = without_code(text)
    return DISPLAY.findall(text) + INLINE.findall(DISPLAY.sub("", text))


def anchors(text: str) -> set[str]:
    """Anchors of the headings of a page, as GitHub and MkDocs make them."""
    headings = re.findall(r"^#+ +(.+?) *$", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL), re.M)
    plain = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower() for heading in headings)
    return {re.sub(r"[^\w\- ]", "", heading).strip().replace(" ", "-") for heading in plain}


def broken(page: Path) -> Iterator[str]:
    """Relative links of a page that lead nowhere."""
    text = page.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(text)):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = unquote(link).partition("#")
        target = page.parent / name if name else page
        if not target.exists():
            yield f"{page.name}: {link}: no such file"
        elif anchor and target.suffix == ".md" and anchor not in anchors(target.read_text(encoding="utf-8")):
            yield f"{page.name}: {link}: no such heading"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_exist(page: Path) -> None:
    assert list(broken(page)) == []


def test_broken_links_are_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# A title: with `code`\n[1](other.md) [2](#a-title-with-code) [3](page.md#none) [4](https://example.org)\n"
        "`[5](code.md)` ![6](picture.png) $f[x](y)$\n\n$$\n\\left[z\\right](w)\n$$\n\n"
        "```\n[7](block.md)\n# comment\n```\n"
    )
    assert [line.split(": ")[1] for line in broken(page)] == ["other.md", "page.md#none", "picture.png"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_equations_are_complete(page: Path) -> None:
    """Every display block has one equation on one line, with matching delimiters and no macros of its own."""
    text = page.read_text(encoding="utf-8")
    assert text.count("\n$$\n") == 2 * len(DISPLAY.findall(text))
    for equation in equations(text):
        assert "\n" not in equation and "newcommand" not in equation, equation
        bare = re.sub(r"\\[{}]", "", equation)
        assert bare.count("{") == bare.count("}"), equation
        assert len(re.findall(r"\\left\b", equation)) == len(re.findall(r"\\right\b", equation)), equation
    for line in prose(text).splitlines() if "theory" in page.parts else ():
        assert "$" not in line, f"{page.name}: an equation without its end: {line}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_equations_become_mathml(page: Path) -> None:
    converter = pytest.importorskip("latex2mathml.converter", reason="latex2mathml is not installed")
    for equation in equations(page.read_text(encoding="utf-8")):
        mathml = converter.convert(equation)
        unknown = re.findall(r"<m[io]>(\\[^<]+)</m[io]>", mathml)
        assert not unknown, f"{page.name}: {unknown} in {equation}"

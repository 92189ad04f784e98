"""Hooks of MkDocs: pages made from the repository, links to its files, and formulas as MathML.

Pages in docs/ link to files by paths that also work in a checkout. The site gets a page for every table of
benchmarks/, and one for every source file or folder that a page links to; nothing is loaded from the network.
"""

from __future__ import annotations

import posixpath
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.structure.files import File, Files, InclusionLevel

sys.path.insert(0, str(Path(__file__).parent))
import measurements
import settings_pages

ROOT = Path(__file__).parents[2]
_LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)#\s]+)(?=[)#])")
_FENCE = re.compile(r"(^```.*?^```[ ]*$|`[^`\n]+`)", re.MULTILINE | re.DOTALL)
_DISPLAY, _INLINE = re.compile(r"\$\$(.+?)\$\$", re.DOTALL), re.compile(r"(?<![\\$\w])\$([^$\n]+?)\$(?!\w)")

_FORMULAS, _FORMULA = "formulas", re.compile("\ue000(\\d+)\ue001")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages of benchmarks/ and of the configuration, the change log, and the linked source files."""
    for path in sorted((ROOT / "benchmarks").iterdir()):
        if path.suffix in (".md", ".png"):
            _add(files, config, f"benchmarks/{path.name}", path, in_navigation=False)
    for name in ("CHANGELOG.md", "CONTRIBUTING.md"):
        _add(files, config, name, ROOT / name, in_navigation=True)
    files.append(File.generated(config, "reference/measurements.md", content=measurements.page(ROOT / "benchmarks")))
    for uri, text in settings_pages.pages():
        _write(files, config, uri, text, in_navigation=uri.endswith("index.md"))
    pages = [file for file in files if file.src_uri.endswith(".md")]
    for target in sorted({target for file in pages for target in _outside(file)}):
        uri = _source_page(target)
        if files.get_file_from_path(uri) is None:
            _write(files, config, uri, _listing(target), in_navigation=False)
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Resolve links out of docs/, fill in tables of settings, and convert formulas."""
    uri = page.file.src_uri
    parts = _FENCE.split(settings_pages.filled(markdown))
    for index in range(0, len(parts), 2):  # odd parts are code
        parts[index] = _LINK.sub(lambda match: _on_site(uri, match[1]), parts[index])
        parts[index] = _DISPLAY.sub(lambda match: _kept(page, convert(match[1].strip(), display="block")), parts[index])
        parts[index] = _INLINE.sub(lambda match: _kept(page, convert(match[1])), parts[index])
    return "".join(parts)


def on_page_content(html: str, page: Any, config: Any, files: Files) -> str:
    """Insert the formulas, which Markdown would take for blocks at the beginning of a line."""
    return _FORMULA.sub(lambda match: page.meta[_FORMULAS][int(match[1])], html)


def _kept(page: Any, formula: str) -> str:
    """Keep a formula of a page, and return the mark that stands for it."""
    formulas = page.meta.setdefault(_FORMULAS, [])
    formulas.append(formula)
    return f"\ue000{len(formulas) - 1}\ue001"


def _add(files: Files, config: Any, uri: str, path: Path, in_navigation: bool) -> None:
    inclusion = InclusionLevel.INCLUDED if in_navigation else InclusionLevel.NOT_IN_NAV
    files.append(File.generated(config, uri, abs_src_path=str(path), inclusion=inclusion))


def _write(files: Files, config: Any, uri: str, text: str, in_navigation: bool) -> None:
    inclusion = InclusionLevel.INCLUDED if in_navigation else InclusionLevel.NOT_IN_NAV
    files.append(File.generated(config, uri, content=text, inclusion=inclusion))


def _in_repository(uri: str, link: str) -> str:
    """Path in the repository of a link on the page `uri` of the site."""
    page = uri if uri.startswith(("benchmarks/", "CHANGELOG", "CONTRIBUTING")) else f"docs/{uri}"
    return posixpath.normpath(posixpath.join(posixpath.dirname(page), link))


def _place_on_site(path: str) -> str:
    """Path on the site of a path in the repository."""
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    if path == "benchmarks":
        return "reference/measurements.md"
    on_site = path in ("CHANGELOG.md", "CONTRIBUTING.md") or re.fullmatch(r"benchmarks/[^/]+\.(md|png)", path)
    return path if on_site else "index.md" if path == "README.md" else _source_page(path)


def _source_page(path: str) -> str:
    return f"source/{path}.md"


def _on_site(uri: str, link: str) -> str:
    place = _place_on_site(_in_repository(uri, link))
    return posixpath.relpath(place, posixpath.dirname(uri) or ".")


def _outside(file: File) -> Iterator[str]:
    """Paths of source files and folders that a page links to."""
    for index, part in enumerate(_FENCE.split(file.content_string)):
        for link in _LINK.findall(part) if index % 2 == 0 else ():
            path = _in_repository(file.src_uri, link)
            if _place_on_site(path).startswith("source/") and (ROOT / path).exists():
                yield path


def _listing(path: str) -> str:
    """Page of a source file, or of the first lines of the modules in a folder."""
    place = ROOT / path
    if place.is_file():
        language = {".py": "python", ".yaml": "yaml", ".toml": "toml"}.get(place.suffix, "text")
        return f"# {path}\n\n````{language}\n{place.read_text(encoding='utf-8')}\n````\n"
    rows = []
    for child in sorted(place.iterdir()):
        if child.suffix == ".py":
            first = re.match(r'"""(.+?)(?:"""|\n)', child.read_text(encoding="utf-8"))
            rows.append(f"| `{child.name}` | {first[1] if first else ''} |".replace("|ψ|", r"\|ψ\|"))
    return f"# {path}\n\n| module | contents |\n|---|---|\n" + "\n".join(rows) + "\n"

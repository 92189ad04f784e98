"""Comments of YAML files: which comment belongs to which setting."""

from __future__ import annotations

from pathlib import Path

import pytest

from fusion.config import comments
from fusion.config.comments import Setting
from fusion.errors import InputError

TEXT = """\
# @package _global_
# What the option is,
# in two lines.
defaults:
  - /kind/potential
  - /envelope: full   # decay of the orbitals
  - override /system: h2
  - _self_
method:               # of a method
  name: 'a # b'       # quoted; with a # inside
  # Above the key,
  # in two lines.
  steps: 3
  widths: [1, 2,
           3]         # after a list in two lines
  limits: {low: 0, high: 1.0e-3}   # after a group in one line
  state: null         # begins here
                      # and ends here
  plain: x
  terms:              # a list
    - one
    - two
"""


@pytest.fixture
def file(tmp_path: Path) -> comments.File:
    path = tmp_path / "option.yaml"
    path.write_text(TEXT)
    return comments.read(path)


def test_head_package_defaults_and_groups(file: comments.File) -> None:
    assert file.about == "What the option is, in two lines."
    assert file.package == "_global_"
    assert file.defaults == ("/kind/potential", {"/envelope": "full"}, {"override /system": "h2"}, "_self_")
    assert file.groups == {"envelope": "decay of the orbitals"}


@pytest.mark.parametrize(
    ("place", "text", "comment"),
    [
        ("method.name", "'a # b'", "quoted; with a # inside"),
        ("method.steps", "3", "Above the key, in two lines."),
        ("method.widths", "[1, 2, 3]", "after a list in two lines"),
        ("method.limits.high", "1.0e-3", ""),
        ("method.state", "null", "begins here and ends here"),
        ("method.plain", "x", ""),
        ("method.terms", "[one, two]", "a list"),
    ],
)
def test_values_and_their_comments(file: comments.File, place: str, text: str, comment: str) -> None:
    assert file.settings.at(place) == Setting(text, comment=comment)


def test_groups_have_comments_too(file: comments.File) -> None:
    method, limits = file.settings.at("method"), file.settings.at("method.limits")
    assert method is not None and method.comment == "of a method"
    assert limits is not None and limits.comment == "after a group in one line"


def test_a_later_value_keeps_the_comment_unless_it_has_its_own() -> None:
    first = Setting(children={"a": Setting("1", comment="of a"), "b": Setting("2", comment="of b")})
    later = Setting(children={"a": Setting("3"), "b": Setting("4", comment="new")})
    merged = first.merged(later)
    assert merged.at("a") == Setting("3", comment="of a") and merged.at("b") == Setting("4", comment="new")


def test_a_file_that_is_not_yaml_is_named(tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text("a: [1\nb: 2")
    with pytest.raises(InputError, match=r"broken\.yaml is not YAML"):
        comments.read(path)

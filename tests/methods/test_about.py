"""Description of a method: its node in a configuration, and configurations that have it at another place."""

from typing import Any

import pytest

from fusion.errors import InputError
from fusion.methods import by_name, protocol
from fusion.methods.about import About
from fusion.potentials import PotentialMethod


def test_a_description_is_read_from_plain_settings() -> None:
    about = About.read({"title": "T", "requires": ["numpy"]})
    assert about == About(title="T", requires=("numpy",)) == About.read(about)
    assert About.read(None) == About()


@pytest.mark.parametrize(
    ("stated", "message"),
    [({"sumary": "x"}, r"method.about has no sumary. Did you mean 'summary'"), ("x", "method.about must be")],
)
def test_wrong_descriptions_are_refused(stated: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        PotentialMethod("mine", {}, about=stated)


def test_a_plugin_of_an_earlier_version_is_told_where_the_description_goes() -> None:
    node = {"_target_": "fusion.potentials.PotentialMethod", "name": "mine", "summary": "s", "cost": "c", "model": {}}
    with pytest.raises(InputError, match=r"method mine has method.summary; .* about: \{summary: ..., cost: ...\}"):
        protocol.build(node)


def test_the_title_of_a_sum_is_its_label(with_toy: None) -> None:
    entry = {"method": "sum", "terms": ["toy", "toy"]}
    assert by_name.method(entry).label == "toy + toy"
    assert by_name.method({**entry, "about.title": "mine"}).label == "mine"

"""Cards: strict reading, one line per fault with file and key, and writing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fusion.errors import InputError
from fusion.zoo import card_file, index
from fusion.zoo.card import Metric, Model, Nuclei, Origin
from fusion.zoo.registry import bundled
from tiny_models import publish, surroundings


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    yield from surroundings(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('name = "pair"', 'name = "Pair"', "name must be lower-case letters"),
        ('name = "pair"', 'name = "../pair"', "name must be"),
        ("version = 1", "version = 0", "version must be a whole number of at least 1, not '0'"),
        ("version = 1", "version = true", "version must be a whole number"),
        ("version = 1\n", "", "version is missing"),
        ("schema = 1", "schema = 2", "update fusion"),
        ('licence = "MIT"', 'licence = ""', "licence must be text"),
        ('licence = "MIT"', 'license = "MIT"', "licence is missing"),
        ('licence = "MIT"', 'licence = "MIT"\ndio = "10.1/2"', "unknown key dio. Did you mean 'doi'?"),
        (
            'energy_zero = "total"',
            'energy_zero = "atomic"',
            "energy_zero must be total or atomization or diff",
        ),
        ('kind = "potential"', 'kind = ["potential"]', "kind must be potential or functional or ansatz"),
        ('"H",', '"hydrogen",', "domain.elements must be a list of symbols of elements"),
        ("charges = [", "spread = nan\ncharges = [", "domain.spread must be a number"),
        ("charges = [", "spread_factor = 0\ncharges = [", "domain.spread_factor must be a number greater than 0"),
        ('"tiny.model.Pair"', '"Pair"', 'model.target must be "package.module.Class"'),
        ('"tiny.model.Pair"', '"os;system.x"', "model.target must be"),
        ("[weights]\nsha256 = ", "[weights]\nsha256 = '12'\nother = ", "weights.sha256 must be 64 hexadecimal digits"),
        ('[files."pair.safetensors"]', '[files."../pair.safetensors"]', "files: '../pair.safetensors' cannot be"),
        ('[files."pair.safetensors"]', '[files."pair.pt"]', "files must be one .safetensors file"),
        ("[weights]", '[origin]\nurls = ["https://example.org"]\n[weights]', "origin.urls must be a list of URLs"),
        ("[weights]", '[origin]\nmirror = "../"\n[weights]', "origin.mirror must be a relative directory"),
        ("[weights]", '[origin]\npackage = "a; rm b"\n[weights]', "origin.package must be NAME or NAME==VERSION"),
        (
            "[weights]",
            '[origin]\npackage = "a"\nmirror = "b/"\n[weights]',
            "origin.package excludes origin.urls and origin.mirror",
        ),
        ("[weights]", '[[metrics]]\nname = "x"\nvalue = "y"\n[weights]', "metrics[0].value must be a number"),
        ("[weights]", "[weights", "is not TOML"),
    ],
)
def test_a_fault_is_one_line_that_names_file_and_key(tiny: Path, old: str, new: str, said: str) -> None:
    path = Path(publish(tiny).source)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(InputError) as caught:
        card_file.read(path)
    assert str(path) in str(caught.value) and said in str(caught.value) and "\n" not in str(caught.value)


def test_a_written_card_is_read_back(tiny: Path) -> None:
    full = replace(
        publish(tiny),
        doi="10.1/ω",
        spread=3.7e-4,
        spread_factor=1.8,
        forces_factor=2.1,
        charges=(-1, 0),
        metrics=(Metric("MAE", 0.1234567890123456, "kcal/mol", "fusion 'x'"),),
        system=Nuclei(("H", "O"), ((0.0, 0.0, 0.1), (1 / 3, 0.0, 0.0)), 1, 2),
        origin=Origin(converter="tiny.model:convert", package="tiny==1.0"),
        model=Model("tiny.model.Pair", {"elements": ["H"], "inner": {"_target_": "tiny.model.Pair", "x": [1.5]}}),
    )
    assert card_file.parse(card_file.to_toml(full).encode(), "text") == full


def test_bundled_cards_are_readable_and_their_index_page_is_up_to_date() -> None:
    cards = [card_file.read(path) for path in bundled().glob("*.toml")]
    assert {"ani-1x", "ani-1ccx", "ani-2x"} <= {card.name for card in cards}
    assert (bundled() / index.FILENAME).read_text(encoding="utf-8") == index.page(bundled())

"""Cards without a digest of the tensors: digests of the files before the conversion, a recorded digest after it."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
import tomli_w
import torch
from safetensors.torch import load_file, save_file

from fusion import zoo
from fusion.cli import main
from fusion.errors import CalculationError, InputError
from fusion.zoo import Card, card_file, registry, store
from fusion.zoo.card import Weights
from fusion.zoo.files import File
from fusion.zoo.tensors import recorded
from test_convert import numbers
from tiny_models import TEXT, left_in_cache, publish, surroundings


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    yield from surroundings(tmp_path, monkeypatch)


def unmeasured(zoo_directory: Path, content: bytes | None = None, largest: int = 100_000) -> Card:
    """Publish a model whose card states neither the digest of its tensors nor the size of its file."""
    right = numbers()
    file = File("pair.txt", largest, sha256(right).hexdigest(), (), exact=False)
    made = publish(zoo_directory, content or right, path="pair.txt", origin=TEXT, files=(file,))
    weights = Weights.of_source(made.model, str(made.origin.converter), made.files)
    card_file.write(replace(made, weights=weights), zoo_directory / "pair-1.toml")
    return registry.find("pair")


def test_the_digest_of_converted_tensors_is_recorded_and_checked(
    tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = unmeasured(tiny)
    with pytest.raises(SystemExit) as end:
        main.main(["zoo", "pull", "pair"])
    assert not end.value.code
    assert "digests of its files verified, that of its tensors recorded" in capsys.readouterr().out
    path = store.place(made)
    assert recorded(path) == zoo.digest(zoo.state(made)) and path.stem == made.weights.sha256 != recorded(path)
    store.verify(made)
    zoo.load("pair")


def test_a_changed_number_is_noticed_and_replaced(tiny: Path) -> None:
    made = unmeasured(tiny)
    right = zoo.state(made)
    content = bytearray(store.place(made).read_bytes())
    content[-1] ^= 1
    store.place(made).write_bytes(content)
    with pytest.raises(CalculationError, match="not those of the card"):
        store.verify(made)
    assert all(torch.equal(tensor, right[name]) for name, tensor in zoo.state(made).items())
    store.verify(made)


def test_a_file_without_a_record_is_replaced(tiny: Path) -> None:
    made = unmeasured(tiny)
    zoo.state(made)
    save_file(load_file(store.place(made)), store.place(made))
    assert not recorded(store.place(made))
    zoo.state(made)
    assert recorded(store.place(made))


@pytest.mark.parametrize("fault", ["other contents", "too long"])
def test_a_wrong_file_is_refused_in_one_line_and_nothing_is_kept(tiny: Path, fault: str) -> None:
    wrong = fault == "other contents"
    made = unmeasured(tiny, content=numbers() + b" " if wrong else None, largest=100_000 if wrong else 100)
    words = "wrong contents" if wrong else r"wrong size \([\d,]+ bytes, expected at most 100\)"
    with pytest.raises(CalculationError, match=words) as error:
        zoo.pull(made)
    assert "\n" not in str(error.value) and left_in_cache() == []


def test_the_card_survives_writing_and_reading(tiny: Path, tmp_path: Path) -> None:
    made = unmeasured(tiny)
    text = card_file.to_toml(made)
    assert "[weights]" not in text and "largest_size = 100000" in text
    assert card_file.parse(text.encode(), "again") == made


def test_the_digest_on_results_follows_the_files_and_the_model(tiny: Path) -> None:
    made = unmeasured(tiny)
    model = replace(made.model, arguments={"elements": ["H"]})
    files = (replace(made.files[0], sha256="0" * 64),)
    converter = str(made.origin.converter)
    digests = {
        Weights.of_source(*given).sha256
        for given in (
            (made.model, converter, made.files),
            (model, converter, made.files),
            (made.model, "other:convert", made.files),
            (made.model, converter, files),
        )
    }
    assert len(digests) == 4 and made.identity["sha256"] in digests


@pytest.mark.parametrize(
    ("part", "words"),
    [("weights", r"weights\.sha256 is missing"), ("files", r"files\.pair\.safetensors\.size is missing")],
)
def test_only_converted_files_may_lack_digest_or_size(tiny: Path, part: str, words: str) -> None:
    publish(tiny)
    content = tomllib.loads((tiny / "pair-1.toml").read_text())
    if part == "weights":
        del content["weights"]
    else:
        file = content["files"]["pair.safetensors"]
        file["largest_size"] = file.pop("size")
    with pytest.raises(InputError, match=words):
        card_file.parse(tomli_w.dumps(content).encode(), "card")

"""Progress messages during the SCF of a learned functional."""

from typing import ClassVar

import pytest

from functional_models import WATER, ExactExchange
from fusion.console import phases
from fusion.functionals import FunctionalMethod


class Recorded:
    """Progress line that records its texts."""

    texts: ClassVar[list[str]] = []

    def __init__(self, state: phases.State) -> None:
        pass

    def draw(self, state: phases.State) -> None:
        self.texts.append(f"{state.counter} {state.text}")

    def finish(self, state: phases.State) -> None:
        pass


def method(**settings: object) -> FunctionalMethod:
    return FunctionalMethod("exact", ExactExchange(), basis="sto-3g", grid_level=0, **settings)


def test_progress_reports_start_integrals_and_cycles_in_order() -> None:
    told: list[tuple[int, str]] = []
    chosen = method()
    with chosen.watched(lambda step, text: told.append((step, text))):
        chosen.calculate([WATER], ["energy"])
    texts = [text for _, text in told]
    first = [next(i for i, text in enumerate(texts) if word in text) for word in ("B3LYP start", "integrals", "change")]
    assert first == sorted(first) and first[0] == 0
    assert any(text.endswith("integrals on the grid 100 %") for text in texts)
    assert told[-1][0] > 1


def test_a_task_in_progress_shows_the_cycles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phases, "line", Recorded)
    monkeypatch.setattr(phases, "REFRESH_S", 0.0)
    with phases.phase("relaxing") as update:
        update(3, "largest force")
        method(start=None).calculate([WATER], ["energy"])
    assert any(text.startswith("3 largest force  SCF 2  E = ") for text in Recorded.texts)
    phases.detail(1, "no phase is in progress")


def test_coarse_grids_have_a_warning() -> None:
    coarse = method(start=None).calculate([WATER], ["energy"])[0]
    assert "method.grid_level=0 is coarse" in coarse.warnings[0]

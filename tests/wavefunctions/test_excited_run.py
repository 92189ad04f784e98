"""task=excited as users run it: the result, killed and resumed, on two ranks, and refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from killable import TINY, assert_same, at, fusion, ranks
from resuming import document, killed_and_resumed

HELIUM = (*(word for word in TINY if not word.startswith("system=")), "system=he")
EXCITED = (*HELIUM, "task=excited", "method.states=3", "method.evaluation.steps=24")
HYDROGEN = (*(word for word in EXCITED if not word.startswith(("system=", "method.states"))), "system=h")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("excited")
    ended = fusion(place, *EXCITED)
    assert ended.complete, ended
    assert "FermiNet · He (2 electrons, singlet) · 3 states" in ended.out
    assert "level 1" in ended.out and "triplet" in ended.out
    return place / "run"


def test_the_result_has_all_levels(finished: Path) -> None:
    excited = document(finished)["excited"]
    assert sum(level["states"] for level in excited["states"]) == 3
    lowest = excited["states"][0]
    assert document(finished)["energy"]["value"] == lowest["energy_hartree"] == pytest.approx(-2.9, abs=0.3)
    assert excited["sum_of_energies"]["hartree"] == pytest.approx(-2.9 - 2.17 - 2.14, abs=0.4)
    assert lowest["configuration"] == "1²" and lowest["configuration_share"] > 0.9
    number = len(excited["states"])
    assert len(excited["transitions"]) == number * (number - 1) // 2
    assert {path.name for path in finished.glob("*.png")} == {"energy.png", "levels.png"}


def test_several_states_are_not_published(finished: Path, tmp_path: Path) -> None:
    ended = fusion(tmp_path, "zoo", "add", str(finished), "--name", "states")
    assert ended.status == 2 and "a card has one state" in ended.err, ended


@pytest.mark.slow
@pytest.mark.parametrize("moment", [8, 20], ids=["optimisation", "evaluation"])
def test_killed_and_resumed(tmp_path: Path, moment: int) -> None:
    words = (*HYDROGEN, "method.states=5")
    assert fusion(tmp_path / "whole", *words).complete
    (resumed,) = killed_and_resumed(tmp_path, words, [at("step", moment)])
    assert resumed.status in (0, 1) and resumed.err == "", resumed
    assert_same(tmp_path / "whole" / "run", tmp_path / "run")


@pytest.mark.slow
def test_states_without_reference_are_pretrained_and_resumed(tmp_path: Path) -> None:
    words = (*HYDROGEN, "method.states=5", "reference=none", "method.pretraining.steps=6")
    ended = fusion(tmp_path / "whole", *words)
    assert ended.complete and "levels at the start: 0.00, 10.20 (4 states)" in ended.out, ended
    (resumed,) = killed_and_resumed(tmp_path, words, [at("step", 3)])
    assert resumed.status in (0, 1) and resumed.err == "", resumed
    assert_same(tmp_path / "whole" / "run", tmp_path / "run")


@pytest.mark.slow
def test_a_penalty_of_spins_leaves_out_the_triplets(tmp_path: Path) -> None:
    words = (*(word for word in EXCITED if not word.startswith("method.states")), "method.states=2")
    ended = fusion(tmp_path, *words, "method.spin_penalty=0.5")
    assert ended.complete and "levels at the start: 0.00, 20.57," in ended.out, ended
    levels = document(tmp_path / "run")["excited"]["states"]
    assert all(abs(level["spin_squared"]["value"]) < 0.5 for level in levels), levels
    assert document(tmp_path / "run")["excited"]["sum_of_energies"]["hartree"] == pytest.approx(-5.05, abs=0.4)


@pytest.mark.slow
def test_a_penalty_has_separate_states_and_is_resumed(tmp_path: Path) -> None:
    words = (*HYDROGEN, "method.states=2", "method.penalty=1")
    assert fusion(tmp_path / "whole", *words).complete
    excited = document(tmp_path / "whole" / "run")["excited"]
    assert document(tmp_path / "whole" / "run")["status"] == "not_converged" and "may be mixtures" in excited["verdict"]
    assert excited["transitions"] == [] and excited["largest_overlap"] < 0.5
    assert excited["sum_of_energies"]["hartree"] == pytest.approx(-0.5 - 0.125, abs=0.1)
    (resumed,) = killed_and_resumed(tmp_path, words, [at("step", 8)])
    assert resumed.status in (0, 1) and resumed.err == "", resumed
    assert_same(tmp_path / "whole" / "run", tmp_path / "run")


@pytest.mark.slow
def test_two_ranks_share_the_walkers(finished: Path, tmp_path: Path) -> None:
    """The ranks have other random numbers than one process; the sum of the energies agrees within its noise."""
    first, second = ranks(tmp_path / "ddp", *EXCITED, "trainer=ddp", "trainer.accelerator=cpu")
    assert first.complete and second.status == 0, first
    one, two = (document(run)["excited"]["sum_of_energies"]["hartree"] for run in (finished, tmp_path / "ddp" / "run"))
    assert two == pytest.approx(one, abs=0.3)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("method.states=1",), "calculates several states"),
        (("method.states=0",), "method.states must be"),
        (("method.penalty=2",), "needs method.states=2 or more"),
        (("method.states=3", "method.penalty=-1"), "method.penalty=-1 must be positive"),
        (("method.states=3", "method.spin_penalty=0"), "method.spin_penalty=0 must be positive"),
        (("method.states=3", "method.spin_penalty=0.5", "system.spin=2"), "has one spin"),
        (("method.states=3", "task=train"), "method.states is for task=excited"),
        (("method.states=3", "reference=hartree_fock"), "method.states needs reference=ci"),
        (("method.states=3", "system=li", "system.ecp=ccecp"), "remove system.ecp"),
        (("method.states=3000", "system=h"), "has only"),
        (("method.states=3", "method.optimisation.steps=1000000000000"), "it needs a GPU"),
        (("method.states=3", "weights=ferminet-he"), "leave out weights"),
    ],
)
def test_refusals(tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    ended = fusion(tmp_path, *HELIUM, "task=excited", *words)
    assert ended.status == 2 and message in ended.err and len(ended.err.splitlines()) == 1, ended


def test_a_method_without_excited_states_is_refused(tmp_path: Path) -> None:
    ended = fusion(tmp_path, "+method=coulomb", "system=h2o", "task=excited")
    assert ended.status == 2 and "needs excitations, which coulomb does not give" in ended.err, ended


def test_a_sum_of_methods_is_refused(tmp_path: Path) -> None:
    ended = fusion(tmp_path, "+method=sum", "method.terms=[hf,hf]", "system=he", "task=excited")
    assert ended.status == 2 and "needs one method" in ended.err, ended


@pytest.mark.slow
def test_a_cut_through_a_level_is_reported(tmp_path: Path) -> None:
    words = tuple(word for word in HELIUM if not word.startswith("system="))
    ended = fusion(tmp_path, *words, "system=be", "task=excited", "method.states=3", "method.optimisation.steps=1")
    assert "levels at the start: 0.00, 2.73 (3 states)" in ended.out
    assert "the last state belongs to a level with further states" in ended.out
    assert "method.states=4" in ended.out

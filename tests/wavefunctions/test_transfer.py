"""Wavefunctions that start at those of another geometry: electrons, runs from a checkpoint, scans."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from exact import molecule
from fusion.wavefunctions.references import ConfigurationInteraction
from fusion.wavefunctions.transfer import Start, warped
from fusion_ferminet.network import FermiNet
from killable import TINY, assert_same, at, fusion
from processes import Done
from resuming import assert_same_result, document, killed_and_resumed

pytestmark = pytest.mark.usefixtures("double_precision")

BEFORE = np.array([[0.0, 0, 0], [0, 0, 1.4]])
SCAN = (
    *TINY,
    "task=scan",
    "task.relaxed=false",
    "task.atoms=[1,2]",
    "task.start=0.74",
    "task.stop=0.9",
    "task.points=3",
    "method.optimisation.steps=40",
)


def test_an_electron_at_a_nucleus_moves_with_it() -> None:
    after = BEFORE + np.array([[0, 0, 0], [0.1, 0, 0.3]])
    electrons = torch.tensor(BEFORE).unsqueeze(0)
    torch.testing.assert_close(warped(electrons, BEFORE, after), torch.tensor(after).unsqueeze(0))


def test_a_molecule_that_moves_as_a_whole_takes_its_electrons_along() -> None:
    electrons, shift = torch.randn(5, 2, 3), np.array([0.3, -1.0, 2.0])
    torch.testing.assert_close(warped(electrons, BEFORE, BEFORE + shift), electrons + torch.tensor(shift))


def test_an_electron_between_two_nuclei_moves_half_as_far_as_one_of_them() -> None:
    after = BEFORE + np.array([[0, 0, 0], [0, 0, 0.4]])
    middle = torch.tensor([[[0.0, 0.5, 0.7]]])
    torch.testing.assert_close(warped(middle, BEFORE, after), torch.tensor([[[0.0, 0.5, 0.9]]]))


@pytest.mark.parametrize("moved", [False, True])
def test_coefficients_of_configurations_belong_to_a_geometry(moved: bool) -> None:
    """At another bond length, the network stays, and the orbitals and their configurations are those of the new one."""
    there, here = molecule("Li H", 3.0), molecule("Li H", 3.1 if moved else 3.0)
    first, second = (FermiNet(system, 4, 2, 1, reference=ConfigurationInteraction) for system in (there, here))
    for parameter in first.parameters():
        torch.nn.init.normal_(parameter)
    own = {name: value.clone() for name, value in second.state_dict().items()}
    parameters = dict(first.named_parameters())
    Start(parameters, torch.zeros(1, 4, 3), np.array(there.positions), dict(first.named_buffers())).give(
        second, here.positions
    )
    kept = {name for name, parameter in second.named_parameters() if torch.equal(parameter, own[name])}
    assert kept == ({"configurations.coefficients.change"} if moved else set())
    x = torch.randn(3, 4, 3)
    assert torch.allclose(first(x)[1], second(x)[1]) != moved


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Directory and output of a scan."""
    place = tmp_path_factory.mktemp("scanned")
    done = fusion(place, *SCAN)
    assert done.status in (0, 1)
    return place / "run", done.out


@pytest.fixture(scope="module")
def scanned(printed: tuple[Path, str]) -> Path:
    return printed[0]


@pytest.mark.slow
def test_the_spin_of_every_point_is_in_the_table_and_printed(printed: tuple[Path, str]) -> None:
    run, text = printed
    scan = document(run)["scan"]
    with (run / "scan.csv").open(newline="") as table:
        rows = list(csv.DictReader(table))
    assert [float(row["spin_squared"]) for row in rows] == scan["spin_squared"]
    errors = [float(row["spin_squared_stderr"]) if row["spin_squared_stderr"] else None for row in rows]
    assert errors == scan.get("spin_squared_stderr", [None] * len(rows))
    lowest = scan["energies_hartree"].index(min(scan["energies_hartree"]))
    measured = document(run)["vmc"]["spin_squared"]
    assert (scan["spin_squared"][lowest], errors[lowest]) == (measured["value"], measured["stderr"])
    assert text.count("⟨S²⟩") >= len(rows)


@pytest.mark.slow
def test_a_killed_scan_goes_on_from_the_wavefunction_of_its_last_point(scanned: Path, tmp_path: Path) -> None:
    """Points take 64, 17 and 17 iterations; the run is stopped in the third."""
    (resumed,) = killed_and_resumed(tmp_path, SCAN, [at("step", 64 + 17 + 8)])
    assert "resuming after 2 calculations" in resumed.out
    assert_same_result(scanned, tmp_path / "run", ["scan.csv"])


def energies(run: Path) -> list[str]:
    with (run / "scan.csv").open(newline="") as table:
        return [row["energy_hartree"] for row in csv.DictReader(table)]


@pytest.mark.slow
def test_the_share_of_one_optimises_every_point_from_the_beginning(scanned: Path, tmp_path: Path) -> None:
    assert fusion(tmp_path, *SCAN, "method.optimisation.transfer=1").status in (0, 1)
    own, others = energies(tmp_path / "run"), energies(scanned)
    assert own[0] == others[0] and own[1] != others[1]


@pytest.mark.slow
def test_a_rigid_scan_of_a_wavefunction_can_go_both_ways(tmp_path: Path) -> None:
    assert fusion(tmp_path, *SCAN, "task.both_ways=true", "task.points=2").status in (0, 1)
    scan = document(tmp_path / "run")["scan"]
    both = list(zip(scan["forward_hartree"], scan["backward_hartree"], strict=True))
    assert all(energy in pair for energy, pair in zip(scan["energies_hartree"], both, strict=True))
    assert all(there != back for there, back in both)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("trained")
    assert fusion(place, *TINY).complete
    return place / "run"


def moved(place: Path, trained: Path, *words: str) -> Done:
    return fusion(place, *TINY, "system.distance=1.5", "method.optimisation.steps=40", f"ckpt={trained}", *words)


def test_a_training_starts_at_the_checkpoint_of_another_geometry(trained: Path, tmp_path: Path) -> None:
    ended = moved(tmp_path, trained)
    assert ended.complete and "of another geometry, with the last 5 steps of optimisation" in ended.out
    with (tmp_path / "run" / "metrics.csv").open(newline="") as table:
        phases = [row["phase"] for row in csv.DictReader(table)]
    assert phases == ["optimise"] * 5 + ["evaluate"] * 12


@pytest.mark.slow
def test_a_moved_run_is_resumed(trained: Path, tmp_path: Path) -> None:
    moved(tmp_path / "whole", trained)
    words = (*TINY, "system.distance=1.5", "method.optimisation.steps=40", f"ckpt={trained}")
    killed_and_resumed(tmp_path, words, [at("step", 12)])
    assert_same(tmp_path / "whole" / "run", tmp_path / "run")


@pytest.mark.parametrize("task", ["evaluate", "dmc"])
def test_only_an_optimisation_can_follow_at_another_geometry(trained: Path, tmp_path: Path, task: str) -> None:
    refused = moved(tmp_path, trained, f"task={task}")
    assert refused.status == 2
    assert "H2 with another geometry; optimise it here first: task=train" in refused.err


@pytest.mark.parametrize("share", ["0", "1.5", "some"])
def test_a_share_outside_of_0_to_1_is_refused(tmp_path: Path, share: str) -> None:
    refused = fusion(tmp_path, *TINY, f"method.optimisation.transfer={share}")
    assert refused.status == 2
    assert "method.optimisation.transfer must be a share above 0 and up to 1" in refused.err

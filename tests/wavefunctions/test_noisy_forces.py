"""Forces of a wavefunction as a property of its method: refusals, and relaxations that resume."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from exact import molecule
from fusion.chemistry.core_potentials import read
from fusion.chemistry.system import System
from fusion.console import phases, progress
from fusion.errors import InputError
from fusion.methods import protocol
from killable import TINY, at, fusion
from processes import Program
from resuming import assert_same_result, killed_and_resumed
from test_method import method

RELAX = (*TINY, "system.distance=1.8", "task=relax", "task.steps=2", "method.optimisation.steps=40")


class WithoutNuclei(nn.Module):
    """exp(-sum r) with nuclei that cannot move."""

    def __init__(self, system: System) -> None:
        super().__init__()
        self.exponent = nn.Parameter(torch.ones(()))

    def forward(self, electrons: Tensor) -> tuple[Tensor, Tensor]:
        log = -self.exponent * torch.linalg.vector_norm(electrons, dim=-1).sum(-1)
        return torch.ones_like(log), log


def test_forces_and_dipole_are_provided_with_errors() -> None:
    expected = {"energy", "energy_stderr", "forces", "forces_stderr", "dipole", "dipole_stderr"}
    assert method().provides == expected
    left_out = method(evaluation__estimators={"forces": None}).provides
    assert left_out == expected - {"forces", "forces_stderr"}


def test_core_potentials_have_energies_but_no_forces() -> None:
    lithium = molecule("Li")
    system = lithium.with_cores(read("ccecp", lithium.symbols, Path()))
    with pytest.raises(InputError, match="no forces with effective core potentials; remove"):
        protocol.require(method(), {"forces"}, "task relax", [system], error_bars=True)
    assert protocol.offered(method(), {"forces", "forces_stderr", "dipole"}, [system]) == {"dipole"}


def test_an_ansatz_that_cannot_move_its_nuclei_has_no_forces() -> None:
    incomplete = method(model={"_target_": f"{__name__}.WithoutNuclei"})
    with pytest.raises(InputError, match=r"incomplete: its wavefunction has no at_nuclei"):
        protocol.require(incomplete, {"forces"}, "task relax", [molecule("He")], error_bars=True)
    assert protocol.offered(incomplete, {"forces"}, [molecule("He")]) == frozenset()


def test_asking_for_forces_leaves_the_random_numbers_alone() -> None:
    torch.manual_seed(1)
    method().check([molecule("He")], {"forces"})
    drawn = torch.rand(())
    torch.manual_seed(1)
    assert drawn == torch.rand(())


def test_a_calculation_shows_its_progress_within_the_phase_of_its_task(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []

    class Recorded:
        def __init__(self, state: phases.State) -> None: ...

        def draw(self, state: phases.State) -> None:
            shown.append(state.text)

        finish = draw

    monkeypatch.setattr(phases, "line", Recorded)
    monkeypatch.setattr(phases, "REFRESH_S", 0.0)
    monkeypatch.setattr(progress, "_TELL_S", 0.0)
    with phases.phase("relaxing") as update:
        update(3, "largest force")
        method().calculate([molecule("He")], {"energy"})
    assert any(text.startswith("largest force  optimising 2/") and "E = " in text for text in shown)
    assert any(text.startswith("largest force  evaluating ") for text in shown)


def test_free_energies_of_reactions_of_a_wavefunction_are_refused(program: Program) -> None:
    refused = program(*TINY, "task=thermochemistry")
    assert refused.status == 2 and "needs exact forces, and those of ferminet have error bars" in refused.err
    ecp = program(*TINY, "task=relax", "system=lih", "system.ecp={Li: ccecp}")
    assert ecp.status == 2 and "no forces with effective core potentials" in ecp.err


@pytest.mark.slow
def test_a_killed_relaxation_goes_on_from_the_wavefunction_of_its_last_step(tmp_path: Path) -> None:
    """Steps take 64, 17 and 17 iterations; the run is stopped in the third."""
    assert fusion(tmp_path, *RELAX, "hydra.run.dir=whole").status == 1  # two steps do not reach the noise
    (resumed,) = killed_and_resumed(tmp_path, RELAX, [at("step", 64 + 17 + 8)])
    assert "resuming after 2 calculations" in resumed.out
    assert_same_result(tmp_path / "run", tmp_path / "whole", ["relax.extxyz", "relaxed.xyz"])

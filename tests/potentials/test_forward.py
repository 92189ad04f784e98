"""Models with a wrong forward: each fault is named in one line at the first call, for all three kinds."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from fusion.chemistry.system import System
from fusion.errors import CalculationError
from fusion.functionals.features import DensityFeatures
from fusion.functionals.grid.differentiation import differentiate
from fusion.functionals.training.samples import xc_energy
from fusion.potentials import Batch, PotentialMethod, Prediction, collate
from fusion.potentials.training import passes
from fusion.potentials.training.passes import Differentiated
from fusion.runs import report, results
from fusion.runs.results import Result
from fusion.wavefunctions.ansatz import check_forward

H2 = System("h2", ("H", "H"), [[0.0, 0.0, 0.0], [0.0, 0.0, 1.4]])  # type: ignore[arg-type]
NAN = float("nan")


class Potential(nn.Module):
    """Spring of strength 1; `spoil` converts its energies (B,) into the output of forward."""

    def __init__(self, spoil: Callable[[Tensor], Any], provides: frozenset[str] = frozenset()) -> None:
        super().__init__()
        self.spoil, self.provides, self.strength = spoil, provides, nn.Parameter(torch.ones(()))

    def forward(self, batch: Batch) -> Any:
        return self.spoil(self.strength * (batch.positions[:, 0] - batch.positions[:, 1]).square().sum(-1))


def test_a_correct_potential_passes() -> None:
    (result,) = PotentialMethod("mine", Potential(Prediction)).calculate([H2], {"energy", "forces"})
    assert result.energy == pytest.approx(1.96)
    np.testing.assert_allclose(np.asarray(result.properties["forces"])[0], [0.0, 0.0, 2.8])


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda e: e, "must return a fusion.potentials.Prediction, not Tensor"),
        (lambda e: Prediction(e[:, None]), r"energy must have the shape \(B,\) = \(1,\), not \(1, 1\)"),
        (lambda e: Prediction(e.sum()), r"energy must have the shape \(B,\) = \(1,\), not \(\)"),
        (lambda e: Prediction(e.detach().long()), "energy must be a tensor of floating-point numbers, not a tensor of"),
        (lambda e: Prediction(float(e.detach())), "energy must be a tensor of floating-point numbers, not float"),
        (lambda e: Prediction(e, members=e), r"members must have the shape \(M, B\)"),
        (lambda e: Prediction(e, forces=e), r"forces must have the shape \(B, A, 3\) = \(1, 2, 3\)"),
        (lambda e: Prediction(e, charges=e), r"charges must have the shape \(B, A\)"),
        (lambda e: Prediction(e.detach()), "not differentiable"),
    ],
)
def test_wrong_output_of_a_potential_is_named(spoil: Callable[[Tensor], Any], words: str) -> None:
    with pytest.raises(CalculationError, match=words) as error:
        PotentialMethod("mine", Potential(spoil)).calculate([H2], {"energy", "forces"})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("name", "field"), [("energy_std", "members"), ("dipole", "dipole"), ("charges", "charges")])
def test_properties_named_in_provides_must_be_returned(name: str, field: str) -> None:
    method = PotentialMethod("mine", Potential(Prediction, frozenset({name})))
    with pytest.raises(CalculationError, match=f"provides has {name}, and its forward gives no {field}"):
        method.calculate([H2], {"energy"})


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (lambda e: Prediction(e * NAN), "energy"),
        (lambda e: Prediction(e, members=torch.stack([e, e * NAN])), "energy_std"),
        (lambda e: Prediction(e, forces=torch.full((1, 2, 3), NAN)), "forces"),
        (lambda e: Prediction(e + (e - e).sqrt()), "forces"),  # the derivative of a root at zero
    ],
)
def test_non_finite_numbers_fail_and_are_reported(
    spoil: Callable[[Tensor], Any], fault: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (result,) = PotentialMethod("mine", Potential(spoil)).calculate([H2], {"energy", "forces"})
    assert (result.status, result.energy, result.properties) == ("failed", None, {})
    assert result.message == f"mine gives no finite {fault} for h2"
    run: Any = SimpleNamespace(config=OmegaConf.create({}), directory=tmp_path, seed=0)
    results.write_result(run, results.Origin("mine", "potential", "own"), "energy", result, 1.0)
    report.summary(json.loads((tmp_path / "result.json").read_text()), tmp_path)
    assert f"no finite {fault}" in capsys.readouterr().out


def test_non_finite_properties_are_left_out_of_the_result_and_the_report_works(tmp_path: Path) -> None:
    run: Any = SimpleNamespace(config=OmegaConf.create({}), directory=tmp_path, seed=0)
    result = Result(H2, energy=-1.0, properties={"forces": np.full((2, 3), NAN), "dipole": np.zeros(3)})
    results.write_result(run, results.Origin("mine", "potential", "own"), "energy", result, 1.0)
    document = json.loads((tmp_path / "result.json").read_text())
    assert "forces_hartree_per_bohr" not in document and document["dipole_e_bohr"] == [0, 0, 0]
    report.summary(document | {"forces_hartree_per_bohr": [[None, None, None]] * 2}, tmp_path)


def test_training_names_a_wrong_shape_and_an_energy_without_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes, "batch_of", lambda _, indices, dtype: collate([H2] * len(indices), dtype))
    labelled: Any = None
    for spoil, words in (
        (lambda e: Prediction(e[:, None]), r"energy must have the shape \(B,\)"),
        (lambda e: Prediction(e.detach()), "does not depend on its parameters"),
    ):
        with pytest.raises(CalculationError, match=words):
            Differentiated(Potential(spoil), labelled)(np.arange(3), forces=False, stress=False, learn=True)


class Functional(nn.Module):
    """Dirac exchange of the total density, modified by `spoil`."""

    needs = frozenset({"rho"})

    def __init__(self, spoil: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.spoil, self.strength = spoil, nn.Parameter(torch.tensor(-0.74, dtype=torch.float64))

    def energy_density(self, features: DensityFeatures) -> Any:
        return self.spoil(self.strength * features.rho.sum(0) ** (4 / 3))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda e: e[:, None], r"must have the shape \(5,\), not \(5, 1\)"),
        (lambda e: e.sum(), r"must have the shape \(5,\), not \(\)"),
        (lambda e: e.tolist(), "must be a tensor of floating-point numbers, not list"),
        (lambda e: e * NAN, "not a finite number at 5 of 5 grid points"),
        (lambda e: e.detach(), "not differentiable"),
    ],
)
def test_wrong_output_of_a_functional_is_named(spoil: Callable[[Tensor], Any], words: str) -> None:
    features = DensityFeatures(rho=torch.rand(2, 5, dtype=torch.float64) + 0.1, weights=torch.ones(5).double())
    with pytest.raises(CalculationError, match=words):
        differentiate(Functional(spoil), features, "mine")
    if "shape" in words:
        with pytest.raises(CalculationError, match=words):
            xc_energy(Functional(spoil), features)


class Ansatz(nn.Module):
    def __init__(self, spoil: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.spoil = spoil

    def forward(self, electrons: Tensor) -> Any:
        return self.spoil(-electrons.norm(dim=-1).sum(-1))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda log: log, "tuple of two, sign and log|psi|, not Tensor"),
        (lambda log: (log, log, log), "tuple of two, sign and log|psi|, not a tuple of 3"),
        (lambda log: (log, log[:, None]), "log|psi| must have the shape (B,) = (4,), not (4, 1)"),
        (lambda log: (1.0, log), "sign must have the shape (B,) = (4,), not float"),
        (lambda log: (log, log * NAN), "is not a finite number for any"),
    ],
)
def test_wrong_output_of_an_ansatz_is_named(spoil: Callable[[Tensor], Any], words: str) -> None:
    with pytest.raises(CalculationError) as error:
        check_forward(Ansatz(spoil), torch.rand(4, 2, 3))
    assert words in str(error.value)
    check_forward(Ansatz(lambda log: (torch.ones_like(log), log)), torch.rand(4, 2, 3))


def test_a_wrong_wavefunction_is_named_before_the_run_estimates_its_cost() -> None:
    """The estimate is the first to call forward; its own errors would be tracebacks from deep inside torch."""
    from fusion.wavefunctions.hamiltonians import molecular
    from fusion.wavefunctions.resources import estimate
    from fusion.wavefunctions.schedule import Schedule

    class OneValue(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.zeta = nn.Parameter(torch.ones(()))

        def forward(self, electrons: Tensor) -> Tensor:
            return -self.zeta * electrons.norm(dim=-1).sum(dim=-1)

    helium = System("he", ("He",), np.zeros((1, 3)))
    schedule = Schedule(32, 8, 0, 1e-3, 10, 10, 10, 5.0, 10, 10)
    with pytest.raises(CalculationError, match=r"must return a tuple of two, sign and log\|psi\|, not Tensor"):
        estimate(helium, OneValue(), molecular(helium), schedule, None)

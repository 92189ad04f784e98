"""`fusion plugins check`: deliberately broken models are found out, each fault by its own check; sound ones pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fusion.chemistry.system import System
from fusion.contracts import functionals, isolated, packages, potentials, wavefunctions
from fusion.contracts.findings import FAILS, NOTE, OK, SKIPPED, Check, Finding, findings
from fusion.functionals import DensityFeatures, FunctionalMethod
from fusion.potentials import Batch, PotentialMethod, Prediction, SelfEnergies, neighbours
from fusion.wavefunctions.jets import LogPsi, laplacian_by_autograd
from processes import Program

H2 = System("H2", ("H", "H"), np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 1.4]]))


def found(
    checks: Sequence[Check], subject: Any, without: Sequence[str] = ("devices", "calculation")
) -> dict[str, Finding]:
    """Findings by title, without checks that start processes; that of devices runs in this one."""
    module = {potentials.CHECKS: potentials, functionals.CHECKS: functionals, wavefunctions.CHECKS: wavefunctions}[
        tuple(checks)
    ]
    own = [check for check in checks if check.title not in without]
    own.append(Check("devices", module.on_another_device))
    return {finding.title: finding for finding in findings(own, subject, None)}


class Pairs(nn.Module):
    """Sound: self energies and smooth pairs."""

    elements = ("H", "C", "N", "O")
    size_consistent = True

    def __init__(self) -> None:
        super().__init__()
        self.self_energies = SelfEnergies([-0.5, -37.8, -54.5, -75.0])
        self.depth = nn.Parameter(torch.tensor(0.1, dtype=torch.float64))
        places = torch.zeros(10, dtype=torch.int64)
        places[[1, 6, 7, 8]] = torch.arange(4)
        self.register_buffer("places", places, persistent=False)

    def forward(self, batch: Batch) -> Prediction:
        near = neighbours(batch, 9.0)
        r = near.distances
        pair = torch.exp(-r) * (1.0 - (r / 9.0) ** 2).clamp(min=0.0) ** 3
        system = near.system[near.centre]
        energy = self.depth * r.new_zeros(len(batch)).index_add(0, system, pair)
        return Prediction(energy + self.self_energies(self.places[near.numbers], near.system, len(batch)))


class Careless(nn.Module):
    """Sees absolute positions, padding, the order of atoms and float32; one parameter is never used."""

    elements = ("H", "C", "N", "O")
    size_consistent = True

    def __init__(self) -> None:
        super().__init__()
        self.depth = nn.Parameter(torch.tensor(0.1))
        self.unused = nn.Parameter(torch.ones(3))

    def forward(self, batch: Batch) -> Prediction:
        weights = torch.linspace(0.0, 1.0, batch.numbers.shape[1])
        field = torch.sin(batch.positions[..., 0].float()).to(batch.positions.dtype) * weights
        return Prediction(self.depth * field.sum(dim=1))


def test_a_sound_potential_passes_everything() -> None:
    result = found(potentials.CHECKS, potentials.Subject(PotentialMethod("pairs", Pairs()), H2))
    assert {finding.verdict for finding in result.values()} == {OK}, result


def test_faults_of_a_potential_are_named() -> None:
    result = found(potentials.CHECKS, potentials.Subject(PotentialMethod("careless", Careless()), H2))
    for title, words in {
        "batch equals loop": "in a padded batch",
        "order of atoms": "changes under the order of the atoms",
        "translation": "changes under a translation",
        "rotation, reflection": "changes under a rotation",
        "precision": "computes in float32",
        "size consistency": "`size_consistent` is true, but",
        "periodic systems": "does not depend on the cell",
        "gradients reach all parameters": "no gradient reaches unused",
        "devices": "tensors on different devices",
    }.items():
        assert result[title].verdict == FAILS and words in result[title].text, result[title]
    assert result["finite values"].verdict == OK
    assert result["references for training"].verdict == NOTE


class Misshapen(nn.Module):
    """Energy per atom, so that nothing else can be checked."""

    def forward(self, batch: Batch) -> Prediction:
        return Prediction(batch.positions.sum(dim=-1))


def test_nothing_is_checked_after_a_forward_of_the_wrong_shape() -> None:
    first, rest = found(potentials.CHECKS, potentials.Subject(PotentialMethod("wrong", Misshapen()), H2)).values()
    assert first.verdict == FAILS and "the potential's energy must have the shape (B,) = (3,)" in first.text
    assert rest.verdict == SKIPPED and "they need: forward" in rest.text


class OneSpin(nn.Module):
    """Depends on the label of the spins and on other points; infinite slope where a spin is empty."""

    needs = frozenset({"rho", "grad"})

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones((), dtype=torch.float64))

    def energy_density(self, features: DensityFeatures) -> Tensor:
        assert features.grad is not None
        gradient = features.grad[0, 0]
        return -self.scale * (features.rho[0] + features.rho[1].sqrt() + gradient) * features.rho.mean()


class Slater(nn.Module):
    """Sound: Slater exchange."""

    needs = frozenset({"rho"})

    def energy_density(self, features: DensityFeatures) -> Tensor:
        return -0.9 * features.rho.pow(4.0 / 3.0).sum(dim=0)


def test_faults_of_a_functional_are_named() -> None:
    subject = functionals.Subject(FunctionalMethod("one", OneSpin()), H2)
    result = found(functionals.CHECKS, subject, ("devices", "calculation", "potential in a basis"))
    for title, words in {
        "grid points": "depends on other points",
        "spin symmetry": "when the spins are exchanged",
        "rotation": "a rotation of the density changes the energy",
        "limits of the density": "where one spin is empty",
    }.items():
        assert result[title].verdict == FAILS and words in result[title].text, result[title]
    assert result["gradients reach all parameters"].verdict == OK


def test_a_sound_functional_passes_everything() -> None:
    result = found(functionals.CHECKS, functionals.Subject(FunctionalMethod("slater", Slater()), H2), ("devices",))
    assert {finding.verdict for finding in result.values()} == {OK, SKIPPED}, result
    assert result["gradients reach all parameters"].text == "the model has no trainable parameters"


class Bosons(nn.Module):
    """A product of orbitals without antisymmetry that grows, a forward Laplacian of something else, and nuclei that it
    ignores."""

    def __init__(self, system: System) -> None:
        super().__init__()
        self.zeta = nn.Parameter(torch.tensor(0.3))
        self.shift = nn.Parameter(torch.zeros(()))

    def forward(self, electrons: Tensor) -> tuple[Tensor, Tensor]:
        log = (self.zeta * electrons.square().sum(dim=-1)).sum(dim=-1)
        return torch.ones_like(log), log

    def at_nuclei(self, electrons: Tensor, nuclei: Tensor) -> tuple[Tensor, Tensor]:
        return self(electrons)  # type: ignore[no-any-return]

    def laplacian(self, electrons: Tensor) -> LogPsi:
        return laplacian_by_autograd(lambda e: (torch.ones(len(e)).to(e), -e.square().sum(dim=(1, 2))), electrons)


class _Method:
    """As much of an AnsatzMethod as the checks of a wavefunction use."""

    name = "bosons"

    def ansatz(self, system: System) -> nn.Module:
        return Bosons(system).double()

    def optimiser(self, ansatz: nn.Module, chunk: int) -> None:
        pass


def test_faults_of_a_wavefunction_are_named() -> None:
    result = found(wavefunctions.CHECKS, wavefunctions.Subject(_Method(), H2))  # type: ignore[arg-type]
    for title, words in {
        "antisymmetry": "does not change its sign when electrons 1 and 2",
        "forward Laplacian": "of `laplacian` differs from automatic differentiation",
        "decay": "cannot be normalised",
        "gradients reach all parameters": "no gradient reaches shift",
        "optional abilities": "it does not follow the nuclei",
    }.items():
        assert result[title].verdict == FAILS and words in result[title].text, result[title]
    assert result["derivatives"].verdict == OK and "exact: -3" in result["cusps"].text


def test_a_line_of_the_package_is_named(tmp_path: Any) -> None:
    (tmp_path / "part.py").write_text("def broken(subject):\n    return [][3]\n")
    scope: dict[str, Any] = {}
    exec(compile((tmp_path / "part.py").read_text(), str(tmp_path / "part.py"), "exec"), scope)
    (finding,) = findings([Check("a check", scope["broken"])], None, tmp_path)
    assert finding.text == "IndexError: list index out of range (part.py, line 2, in broken)"


def test_a_crash_of_the_process_of_devices_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolated, "_CODE", "import os; os.abort()")
    with pytest.raises(Exception, match="torch crashed on the simulated device"):
        isolated.devices("x", "potential", None)


def test_names_are_those_of_packages_distributions_and_methods(program: Program) -> None:
    assert packages.choose("fusion_ani").methods.keys() == {"ani"}
    assert packages.choose("coulomb").methods.keys() == {"coulomb"}
    done = program("plugins", "check", "toi")
    assert done.status == 2 and "no plugin or method 'toi' is installed. Did you mean 'toy'?" in done.err
    done = program("plugins", "checked", "toy")
    assert done.status == 2 and "no command 'plugins checked'. Did you mean 'check'?" in done.err


def test_methods_without_a_model_are_left_out(program: Program) -> None:
    done = program("plugins", "check", "hf")
    assert done.status == 0 and "conventional: it has no learned model" in done.out

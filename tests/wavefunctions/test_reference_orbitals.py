"""Hartree-Fock orbitals in Slater functions: cusps, derivatives, and agreement with the Gaussian orbitals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from exact import molecule
from fusion.chemistry import core_potentials
from fusion.chemistry.system import System
from fusion.wavefunctions import interaction
from fusion.wavefunctions.features import nuclear_vectors
from fusion.wavefunctions.hartree_fock import hartree_fock
from fusion.wavefunctions.reference_orbitals import ReferenceOrbitals
from fusion.wavefunctions.references import ConfigurationInteraction, HartreeFockOrbitals, by_size

SYSTEMS = [molecule("Li H", 3.015), molecule("N", spin=3), molecule("O H", 1.8), molecule("H", charge=-1)]

pytestmark = pytest.mark.usefixtures("double_precision")


def values(orbitals: ReferenceOrbitals, system: System, electrons: Tensor) -> list[Tensor]:
    """Orbitals (B, n_s, n_s) of the first determinant."""
    return first_determinant(orbitals, orbitals(*nuclear_vectors(electrons, torch.tensor(system.positions))))


def first_determinant(orbitals: ReferenceOrbitals, rows: Tensor) -> list[Tensor]:
    """Columns (..., n_s, n_s) of the first determinant's blocks from all orbitals (..., N, O)."""
    own = zip(rows.split(orbitals.spins, dim=-2), orbitals.mixed, orbitals.strings, strict=True)
    return [part[..., mixed][..., strings[0]] for part, mixed, strings in own]


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: system.formula)
def test_every_orbital_has_the_cusp_of_every_nucleus(system: System) -> None:
    orbitals = HartreeFockOrbitals(system)
    directions = torch.eye(3).repeat(2, 1) * torch.tensor([1.0] * 3 + [-1.0] * 3).unsqueeze(1)
    for position, charge in zip(torch.tensor(system.positions), system.numbers, strict=True):
        near = [position + h * directions for h in (1e-5, 2e-5)]
        electrons = [x.unsqueeze(1).expand(-1, system.n_electrons, -1) for x in near]
        for close, far in zip(*(values(orbitals, system, x) for x in electrons), strict=True):
            slope, value = (far - close).mean(0)[0] / 1e-5, (2 * close - far).mean(0)[0]
            torch.testing.assert_close(slope, -float(charge) * value, rtol=2e-3, atol=1e-4)


@pytest.mark.parametrize("system", SYSTEMS[:3], ids=lambda system: system.formula)
def test_derivatives_agree_with_autograd(system: System) -> None:
    orbitals = HartreeFockOrbitals(system)
    electrons = torch.randn(2, system.n_electrons, 3)
    jets = orbitals.jet(*nuclear_vectors(electrons, torch.tensor(system.positions)))
    for spin, jet in enumerate(first_determinant(orbitals, jets)):
        first = 0 if spin == 0 else system.n_up
        for row in range(jet.shape[2]):

            def orbital(x: Tensor, spin: int = spin, row: int = row, first: int = first) -> Tensor:
                moved = torch.cat((electrons[:1, : first + row], x.view(1, 1, 3), electrons[:1, first + row + 1 :]), 1)
                return values(orbitals, system, moved)[spin][0, row]

            x = electrons[0, first + row]
            gradient = torch.func.jacrev(orbital)(x)
            laplacian = torch.func.hessian(orbital)(x).diagonal(dim1=-2, dim2=-1).sum(-1)
            torch.testing.assert_close(jet[0, :3, row], gradient.T, rtol=1e-9, atol=1e-10)
            torch.testing.assert_close(jet[0, 3, row], laplacian, rtol=1e-8, atol=1e-8)
            torch.testing.assert_close(jet[0, 4, row], orbital(x))


@pytest.mark.parametrize("system", SYSTEMS[:2], ids=lambda system: system.formula)
def test_orbitals_are_those_of_hartree_fock(system: System) -> None:
    electrons = 1.5 * torch.randn(200, system.n_electrons, 3)
    fitted = values(HartreeFockOrbitals(system), system, electrons)
    gaussian = hartree_fock(system, "cc-pVTZ").orbitals(electrons)
    for own, expected in zip(fitted, gaussian, strict=True):
        determinants = torch.linalg.det(own), torch.linalg.det(expected)
        overlap = torch.dot(*determinants) / (determinants[0].norm() * determinants[1].norm())
        assert abs(float(overlap)) > 0.999


def test_hydrogen_is_exact() -> None:
    system = molecule("H")
    electrons = torch.randn(50, 1, 3)
    jet = HartreeFockOrbitals(system).jet(*nuclear_vectors(electrons, torch.zeros(1, 3)))
    local = -0.5 * jet[:, 3, 0, 0] / jet[:, 4, 0, 0] - 1 / torch.linalg.vector_norm(electrons[:, 0], dim=-1)
    assert float((local + 0.5).abs().max()) < 0.05


def test_leading_configurations_of_beryllium() -> None:
    """2s^2 -> 2p_x^2, 2p_y^2 and 2p_z^2 with equal weights of the opposite sign."""
    reference = ConfigurationInteraction(molecule("Be"))
    up, down = (strings.tolist() for strings in reference.strings)
    assert up == down and up[0] == [0, 1] and all(string[0] == 0 for string in up)
    weights = reference.weights.diagonal()
    assert weights[0] == pytest.approx(1.0)
    assert sorted(string[1] for string in up[1:4]) == [2, 3, 4]
    np.testing.assert_allclose(weights[1:4], -0.18, atol=0.02)
    assert weights[1:4].std() < 1e-4


def test_without_natural_orbitals_the_active_space_is_the_valence_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in stretched N2, whose CISD does not converge."""
    monkeypatch.setattr(interaction, "natural_orbitals", lambda _field, _core: None)
    interaction.interaction.cache_clear()
    reference = ConfigurationInteraction(molecule("Be"))
    interaction.interaction.cache_clear()
    assert reference.description == "CI(2,4)/cc-pVTZ"
    np.testing.assert_allclose(np.sort(reference.weights.diagonal()), [-0.19, -0.19, -0.19, 1.0], atol=0.02)


@pytest.mark.slow
@pytest.mark.parametrize(("symbols", "spin", "limit"), [("N", 3, 0.93), ("O H", 1, 0.90)])
def test_strings_keep_most_of_the_interaction(symbols: str, spin: int, limit: float) -> None:
    """Strings start with the reference, differ from it by at most three orbitals, and are no more than 40."""
    reference = ConfigurationInteraction(molecule(symbols, 1.8, spin=spin))
    assert abs(reference.weights[0, 0]) == reference.weights.max() == 1.0
    assert limit < 1 / (reference.weights**2).sum() < 1.0
    for strings in reference.strings:
        changed = (strings != strings[0]).sum(1)
        assert 1 < len(strings) <= 40 and changed[0] == 0 and changed[1:].min() >= 1 and changed.max() <= 3
        assert len({frozenset(string) for string in strings.tolist()}) == len(strings)


def test_orbitals_behind_a_core_potential_have_no_cusp() -> None:
    system = molecule("Li H", 3.0).with_cores(core_potentials.read("ccecp", ("Li", "H"), Path()))
    orbitals = HartreeFockOrbitals(system)
    x = torch.tensor([[1e-5, 0.0, 0.0], [-1e-5, 0.0, 0.0]]).unsqueeze(1).expand(-1, 2, -1)
    jet = orbitals.jet(*nuclear_vectors(x, torch.tensor(system.positions)))
    assert jet.shape[-1] == 1
    slope = (jet[0, 0, 0, 0] - jet[1, 0, 0, 0]) / 2
    assert abs(float(slope / jet[0, 4, 0, 0])) < 1e-3


@pytest.mark.parametrize("system", [molecule("N", spin=3), molecule("Ne")], ids=lambda system: system.formula)
def test_local_energies_of_orbitals_are_smooth_at_a_nucleus(system: System) -> None:
    """Orbitals that follow Gaussians to a nucleus, where these have no cusp, have local energies wrong by up to Z^2."""
    orbitals, charge = HartreeFockOrbitals(system), float(system.numbers[0])
    r = torch.tensor([0.01, 0.1, 0.3, 0.6]) / charge
    directions = torch.nn.functional.normalize(torch.tensor([[0.3, 0.5, 0.8]]), dim=-1)
    electrons = (r.unsqueeze(1) * directions).unsqueeze(1).expand(-1, system.n_electrons, -1)
    jet = orbitals.jet(*nuclear_vectors(electrons, torch.tensor(system.positions)))[:, :, 0]
    local = -0.5 * jet[:, 3] / jet[:, 4] - (charge / r).unsqueeze(1)
    assert float((local.max(0).values - local.min(0).values).max()) < 0.08 * charge**2


@pytest.mark.parametrize(
    ("system", "start"),
    [
        (molecule("Li", spin=1), None),
        (molecule("Li H", 3.015), None),
        (molecule("Be"), "CI(2,10)/cc-pVTZ"),
        (molecule("B", spin=1), "CI(3,14)/cc-pVTZ"),
        (molecule("N", spin=3), "CI(5,13)/cc-pVTZ"),
    ],
    ids=["few electrons", "one dominant determinant", "four, near-degenerate", "near-degenerate", "half a shell"],
)
def test_the_start_depends_on_the_electrons(system: System, start: str | None) -> None:
    orbitals = by_size(system)
    assert (None if orbitals is None else orbitals.description) == start

"""The ladder of an SCF: attempts are made as needed and reported; failures are reported as such."""

from typing import Any

import numpy as np
import pytest
from pyscf import gto, scf
from threadpoolctl import threadpool_info, threadpool_limits
from torch import Tensor, nn

from functional_models import WATER, PBEExchange, SlaterExchange
from fusion.functionals import DensityFeatures, FunctionalMethod, kohn_sham
from fusion.functionals.scf import convergence
from fusion.functionals.scf.convergence import Ladder, State


class Repulsive(nn.Module):
    """Raises an orbital as it is filled: in a beryllium atom 2s, when occupied, lies above 2p."""

    needs = frozenset({"rho"})

    def energy_density(self, features: DensityFeatures) -> Tensor:
        return SlaterExchange().energy_density(features) + 3.0 * features.rho.square().sum(dim=0)


BERYLLIUM = gto.M(atom="Be 0 0 0", basis="6-31g", verbose=0)
MOLECULE = gto.M(atom="O 0 0 0; H 0.0 0.76 0.59; H 0 -0.76 0.59", basis="6-31g", verbose=0)


def test_states_with_occupied_orbitals_above_empty_ones() -> None:
    ks = kohn_sham(BERYLLIUM, Repulsive(), grid_level=0, start=None)
    energy = ks.kernel()
    names = [attempt.name for attempt in ks.attempts]
    assert ks.converged and names[:3] == ["DIIS", "damping", "level shift"]
    assert [attempt.converged for attempt in ks.attempts[:3]] == [False] * 3
    assert ks.remarks[0].startswith("the occupied orbitals are not the lowest")
    assert ks.stable()
    # Energy, orbitals and potential belong together, without any shift.
    assert energy == pytest.approx(ks.energy_tot(ks.make_rdm1()), abs=1e-10)
    fock = ks.mo_coeff.T @ ks.get_fock(dm=ks.make_rdm1()) @ ks.mo_coeff
    occupied = ks.mo_occ > 0
    assert np.abs(fock[np.ix_(occupied, ~occupied)]).max() < 1e-4
    np.testing.assert_allclose(np.diag(fock), ks.mo_energy, atol=1e-6)
    # PySCF's own procedure, which fills the lowest orbitals, does not get there.
    lost = kohn_sham(BERYLLIUM, Repulsive(), grid_level=0, start=None)
    assert not scf.hf.kernel(lost, conv_tol=1e-9, dump_chk=False, conv_check=False)[0]


def test_easy_scf_needs_diis_only() -> None:
    ks = kohn_sham(MOLECULE, PBEExchange(), grid_level=0)
    ks.kernel()
    assert [attempt.name for attempt in ks.attempts] == ["DIIS"]
    assert ks.attempts[0].cycles == ks.cycles <= 8
    assert ks.remarks == []


def test_scf_runs_without_threads_of_linear_algebra() -> None:
    def most_threads() -> int:
        return max(library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas")

    seen: list[int] = []
    with threadpool_limits(2, user_api="blas"):
        ks = kohn_sham(MOLECULE, PBEExchange(), grid_level=0)
        ks.callback = lambda envs: seen.append(most_threads())
        ks.kernel()
        assert most_threads() == 2
    assert set(seen) == {1}


def test_all_rungs_reach_the_same_state() -> None:
    expected = kohn_sham(MOLECULE, PBEExchange(), grid_level=0).kernel()
    for settings in ({"damp": 0.3}, {"level_shift": 0.4}):
        ks = kohn_sham(MOLECULE, PBEExchange(), grid_level=0).set(**settings)
        assert ks.kernel() == pytest.approx(expected, abs=1e-8)
        assert ks.attempts[0].name == f"DIIS, {next(iter(settings))} {next(iter(settings.values()))}"


def test_failed_scf_is_reported_and_keeps_its_density(tmp_path: object) -> None:
    method = FunctionalMethod("t", SlaterExchange(), basis="6-31g", grid_level=0, max_cycle=1)
    (result,) = method.calculate([WATER], {"energy", "dipole"})
    assert result.status == "not_converged" and "dipole" not in result.properties
    assert result.message is not None
    assert result.message.startswith(
        "not converged after DIIS, damping, level shift, larger level shift and second order (dE "
    )
    assert [attempt["cycles"] for attempt in result.details["kohn_sham"]["attempts"]] == [1] * 5
    assert result.files["scf.chk"][:4] == b"\x89HDF"


def test_failed_scf_resumes_from_its_file(tmp_path: object) -> None:
    settings = {"basis": "6-31g", "grid_level": 0}
    (failed,) = FunctionalMethod("t", SlaterExchange(), max_cycle=1, **settings).calculate([WATER], {"energy"})  # type: ignore[arg-type]
    file = tmp_path / "scf.chk"  # type: ignore[operator]
    file.write_bytes(failed.files["scf.chk"])
    (fresh,) = FunctionalMethod("t", SlaterExchange(), **settings).calculate([WATER], {"energy"})  # type: ignore[arg-type]
    (later,) = FunctionalMethod("t", SlaterExchange(), start=str(file), **settings).calculate([WATER], {"energy"})  # type: ignore[arg-type]
    assert later.energy == pytest.approx(fresh.energy, abs=1e-8)
    assert later.details["kohn_sham"]["cycles"] < fresh.details["kohn_sham"]["cycles"]


def test_damping_and_shift_are_settings() -> None:
    ks = kohn_sham(MOLECULE, PBEExchange(), grid_level=0)
    rungs = list(Ladder(damp=0.8, shift=0.5).rungs(ks))
    assert [(rung.damp, rung.shift) for rung in rungs] == [(0, 0), (0.8, 0), (0.8, 0.5), (0.8, 1.5)]


def test_parts_of_the_energy_are_those_of_the_state_that_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    ks = kohn_sham(MOLECULE, PBEExchange(), grid_level=0)
    ks.kernel()
    saddle = State(ks.e_tot, 0.0, 0.0, ks.make_rdm1(), ks.mo_coeff, ks.mo_occ)
    exchange = ks.scf_summary["exc"]

    def lost(self: Ladder, mean_field: Any, name: str, start: State) -> State:
        state = convergence._evaluated(mean_field, start.orbitals, start.numbers, start.energy)
        convergence._note(mean_field, name, 1, False, state)
        return state

    monkeypatch.setattr(Ladder, "_second_order", lost)
    kept, where = Ladder()._down(ks, saddle, ks.mo_coeff[:, ::-1])
    assert "below which no state was found" in where and len(ks.attempts) == 1
    assert kept.energy == pytest.approx(ks.e_tot, abs=1e-9)
    assert ks.scf_summary["exc"] == pytest.approx(exchange, abs=1e-7)

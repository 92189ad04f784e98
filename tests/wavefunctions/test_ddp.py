"""Two processes with half of the walkers each give the results of one process with all of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from killable import TINY, assert_same, at, checkpoint, fusion, ranks
from processes import CONTEXT, LIMIT_S, launch
from resuming import differences, document

DDP = (*TINY, "trainer=ddp", "trainer.accelerator=cpu")
OPTIMISERS = ("spring", "kfac", "adam")


def _quantities(dtype: torch.dtype) -> dict[str, Any]:
    """Quantities that are reduced over ranks, for lithium (two up, one down) and always the same walkers."""
    from fusion.chemistry.system import System
    from fusion.parallel.collectives import gather_rows, own_rows, random_stream
    from fusion.wavefunctions.clipping import clip
    from fusion.wavefunctions.diffusion.population import branched
    from fusion.wavefunctions.diffusion.walk import place
    from fusion.wavefunctions.estimators import Density, DensityMatrix, PairDensity
    from fusion.wavefunctions.gaussian_orbitals import GaussianOrbitals
    from fusion.wavefunctions.hamiltonians import Point, molecular
    from fusion.wavefunctions.hartree_fock import hartree_fock
    from fusion.wavefunctions.optimisers import Constant
    from fusion.wavefunctions.optimisers.adam import Adam
    from fusion.wavefunctions.optimisers.kfac import Kfac
    from fusion.wavefunctions.optimisers.spring import Spring
    from fusion.wavefunctions.pretraining import Pretraining
    from fusion.wavefunctions.sampler import Metropolis
    from fusion.wavefunctions.scores import ScoreRecorder
    from fusion_ferminet.network import FermiNet

    torch.set_default_dtype(dtype)
    system = System("li", ("Li",), torch.zeros(1, 3).numpy(), 0, 1)
    torch.manual_seed(0)
    ansatz = FermiNet(system, one_electron=8, two_electron=4, layers=2, determinants=2)
    electrons = own_rows(torch.randn(16, 3, 3, dtype=torch.float64).to(dtype))
    quantities: dict[str, Any] = {"stream": torch.rand(3, generator=random_stream(0))}

    local = clip(molecular(system).local_energy(ansatz, electrons, 4), 1.0)
    quantities |= {
        "energies": local.energies,
        "deviation": local.deviation,
        "mean": local.mean,
        "variance": local.variance,
    }
    density, pairs, point = Density(system, spacing=0.5), PairDensity(system), Point(ansatz, electrons, 4)
    energies = molecular(system).at(point)
    density(point, energies)
    pairs(point, energies)
    matrix = DensityMatrix(system, "def2-SVP", points=1)
    matrix(Point(ansatz, electrons, 4, random_stream(0)), energies)
    quantities |= {"density": density.counts, "pairs": pairs.histograms.first, "matrix": matrix.matrices.sums[0]}

    def measured(x: Tensor) -> tuple[Any, Tensor]:
        found = molecular(system).evaluate(ansatz, x, 4)
        return found.psi, found.total

    walkers = place(electrons, measured)
    weights = torch.exp(-0.1 * (gather_rows(walkers.energy) + 7).clamp(-20, 20))
    quantities["branched"] = gather_rows(branched(walkers, weights, 0.3).electrons)
    scores = ScoreRecorder(ansatz, 4)(electrons)
    quantities["gram"] = scores.gram()
    rate = Constant(0.05)
    # Little damping would magnify the rounding of K-FAC's factors, on any number of ranks.
    optimisers: dict[str, Any] = {}
    for groups in (1, 3):  # the walkers of a rank are those of the one process in other groups
        spring = Spring(ansatz, 4, rate, damping=0.1, momentum=0.9, max_norm=1e-3)
        kfac = Kfac(ansatz, 4, rate, damping=1.0, decay=0.95, max_norm=1e-3)
        spring.scores.groups = kfac.scores.groups = groups
        optimisers |= {f"spring{groups}": spring, f"kfac{groups}": kfac}
    optimisers["adam"] = Adam(ansatz, 4, rate, betas=(0.9, 0.999))
    for name, optimiser in optimisers.items():
        steps = [optimiser.step(electrons, local.deviation, iteration) for iteration in range(2)]
        quantities[name] = [_flat(step.values()) for step in steps]
    quantities["gradient"] = _flat(optimisers["adam"]._gradient(electrons, local.deviation))

    orbitals: GaussianOrbitals = hartree_fock(system).orbitals.to(electrons)
    sampler = Metropolis(electrons, random_stream(0))
    pretraining = Pretraining(ansatz, orbitals, 1e-3)
    quantities["loss"] = pretraining.step(sampler)
    quantities["pretrained"] = _flat(p.detach() for p in ansatz.parameters())
    return quantities


def _flat(tensors: Any) -> Tensor:
    return torch.cat([t.flatten().double() for t in tensors])


def _rank(rank: int, directory: Path) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{directory}/store", rank=rank, world_size=2)
    torch.save({str(d): _quantities(d) for d in (torch.float32, torch.float64)}, directory / f"rank{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Quantities on each of two ranks."""
    directory = tmp_path_factory.mktemp("ranks")
    processes = [CONTEXT.Process(target=_rank, args=(rank, directory), daemon=True) for rank in range(2)]
    for process in processes:
        launch(process)
    for process in processes:
        process.join(LIMIT_S)
    assert [process.exitcode for process in processes] == [0, 0]
    return [torch.load(directory / f"rank{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
def test_two_ranks_take_the_same_step_as_one(both: list[dict[str, Any]], dtype: torch.dtype, tolerance: float) -> None:
    alone = _quantities(dtype)
    first, second = (quantities[str(dtype)] for quantities in both)
    assert not torch.equal(first.pop("stream"), second["stream"])
    matrix = first.pop("matrix")  # one rank draws other positions for its density matrix
    assert matrix.any() and torch.equal(matrix, second["matrix"])
    for name in first:
        assert differences(first[name], second[name]) == [], name  # the same on both, to the last bit
        for together, single in zip(_tensors(first[name]), _tensors(alone[name]), strict=True):
            assert (together - single).norm() <= tolerance * single.norm(), name


@pytest.mark.parametrize("optimiser", ["spring", "kfac"])
def test_groups_of_walkers_on_two_ranks_take_the_same_step_as_one_group(
    both: list[dict[str, Any]], optimiser: str
) -> None:
    quantities = both[0][str(torch.float64)]
    for grouped, whole in zip(quantities[f"{optimiser}3"], quantities[f"{optimiser}1"], strict=True):
        assert (grouped - whole).norm() <= 1e-10 * whole.norm()


def _tensors(value: Any) -> list[Tensor]:
    return [torch.as_tensor(part) for part in (value if isinstance(value, list) else [value])]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a run of two ranks."""
    place = tmp_path_factory.mktemp("uninterrupted")
    ended = ranks(place / "ddp", *DDP, "+callbacks.witness={_target_:witness.Witness}")
    assert ended[0].complete and ended[1].status == 0, ended
    assert "2 ranks" in ended[0].out
    assert ended[1].out == ended[1].err == ""  # the first talks for all
    return place / "ddp" / "run"


def test_the_communication_of_an_iteration_is_stated(uninterrupted: Path) -> None:
    """Local energies of 8 walkers alone are 64 bytes a rank."""
    sent = document(uninterrupted)["vmc"]["communication"]
    assert sent["ranks"] == 2 and sent["calls_per_iteration"] > 3
    assert 64 < sent["bytes_per_iteration_and_rank"] < 1e6


def test_ranks_share_parameters_but_neither_walkers_nor_random_numbers(uninterrupted: Path) -> None:
    first, second = (torch.load(uninterrupted.parent / f"witness{rank}.pt") for rank in range(2))
    assert differences(first["parameters"], second["parameters"]) == []
    assert not (first["electrons"][:, None] == second["electrons"][None]).flatten(2).all(2).any()
    assert not torch.equal(first["generator"], second["generator"])
    saved = checkpoint(uninterrupted)
    assert torch.equal(saved["electrons"], torch.cat((first["electrons"], second["electrons"])))
    assert document(uninterrupted)["vmc"]["evaluation"]["walkers"] == 16


@pytest.mark.slow
@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_all_ranks_resume_after_one_is_killed(uninterrupted: Path, tmp_path: Path, optimiser: str) -> None:
    words = (*DDP, f"optimiser={optimiser}")
    if optimiser != "spring":
        assert ranks(tmp_path / "whole", *words)[0].complete
        uninterrupted = tmp_path / "whole" / "run"
    dead = ranks(tmp_path / "ddp", *words, stop=at("step", 18))
    assert dead[1].status == -signal.SIGKILL and dead[0].status == 1
    assert dead[0].err.startswith("error: another process of this run has ended") and dead[0].err.count("\n") == 1
    resumed = ranks(tmp_path / "ddp", *words, "ckpt=last")
    assert resumed[0].complete, resumed
    assert "resuming from step 3 of 13" in resumed[0].out
    assert_same(uninterrupted, tmp_path / "ddp" / "run")


@pytest.mark.slow
def test_two_ranks_diffuse_and_resume_after_one_is_killed(tmp_path: Path) -> None:
    """37 iterations of training, then blocks of diffusion."""
    words = (*DDP, "task=dmc", "task.steps=60", "task.equilibration=10")
    assert ranks(tmp_path / "whole", *words)[0].complete
    dead = ranks(tmp_path / "ddp", *words, stop=at("step", 41))
    assert dead[1].status == -signal.SIGKILL
    assert ranks(tmp_path / "ddp", *words, "ckpt=last")[0].complete
    assert_same(tmp_path / "whole" / "run", tmp_path / "ddp" / "run")


def test_walkers_that_cannot_be_shared_are_refused(tmp_path: Path) -> None:
    refused = fusion(tmp_path, *DDP, "trainer.devices=3")
    assert refused.status == 2
    assert refused.err == "error: method.walkers=16 cannot be divided among 3 ranks; use 15\n"
    assert not any(tmp_path.iterdir())


@pytest.mark.slow
def test_ddp_from_the_command_line(uninterrupted: Path, tmp_path: Path) -> None:
    """Lightning starts the second process."""
    _command(tmp_path, "-m", "fusion", *DDP)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]
    assert_same(uninterrupted, tmp_path / "run")


@pytest.mark.slow
def test_ddp_inside_a_sweep(uninterrupted: Path, tmp_path: Path) -> None:
    words = [word for word in DDP if not word.startswith("hydra.run.dir")]
    _command(tmp_path, "-m", "fusion", *words, "-m", "hydra.sweep.dir=sweep", "seed=0,1")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sweep"]
    assert sorted(path.name for path in (tmp_path / "sweep").iterdir()) == ["0", "1", "multirun.yaml"]
    assert_same(uninterrupted, tmp_path / "sweep" / "0")
    assert (tmp_path / "sweep" / "1" / "metrics.csv").read_bytes() != (uninterrupted / "metrics.csv").read_bytes()


@pytest.mark.slow
def test_torchrun(uninterrupted: Path, tmp_path: Path) -> None:
    _command(tmp_path, "-m", "torch.distributed.run", "--nproc_per_node=2", "-m", "fusion", *DDP)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]
    assert_same(uninterrupted, tmp_path / "run")


def _command(directory: Path, *words: str) -> None:
    """Run Python in `directory`; assert success and that no process remains."""
    done = subprocess.run(
        [sys.executable, *words],
        cwd=directory,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert "result.json" in done.stdout, done.stdout + done.stderr  # so short a run need not have converged
    left = [p.pid for p in psutil.process_iter(["cwd"]) if p.info["cwd"] == str(directory)]
    assert left == []

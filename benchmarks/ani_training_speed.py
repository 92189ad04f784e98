"""Conformations per CPU second that one network learns from, in fusion and in torchani: a whole step with Adam.

`tools/bench ani_training_speed` writes ani_training_speed.md, in an environment with torchani. The networks of ANI-1x
and of ANI-2x, one member, random weights, float32, one thread; molecules of G2, displaced, with random labels. All in
turn in one process, of each the fastest step in processor time. torchani's step: energies with
their graph, forces by differentiation, the same loss, backward, Adam of torch (fused), gradients of all parameters.

fusion keeps the environment vectors of the data, which training does not change. The column of the first epoch is
measured with memory for the pairs of neighbours alone, so that every step computes its vectors.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from hydra.utils import instantiate

from ani_speed import small_molecules
from fusion.chemistry import units
from fusion.config import compose
from fusion.datasets import Labelled
from fusion.potentials.batch import batch_of
from fusion.potentials.training.descent import Descent
from fusion.potentials.training.loss import KCAL, KCAL_ANGSTROM, Counts, Weights, loss
from fusion.potentials.training.settings import Settings
from fusion.potentials.training.targets import Labels
from fusion_ani.network import ANI
from runs import machine, write_table

SECONDS = 2.5  # per competitor and case
STORE = 2560  # conformations
ANI_1X = {
    "elements": ["H", "C", "N", "O"],
    "hidden": {"H": [160, 128, 96], "C": [144, 112, 96], "N": [128, 112, 96], "O": [128, 112, 96]},
    "radial_cutoff": 5.2,
    "radial_eta": 16.0,
    "radial_shifts": [0.9 + 0.26875 * shift for shift in range(16)],
    "angular_eta": 8.0,
    "angular_shifts": [0.9, 1.55, 2.2, 2.85],
    "zeta": 32.0,
    "angle_shifts": [np.pi / 16 + np.pi / 8 * shift for shift in range(8)],
}
COMPILED = (
    "torch.compile did not pay where it came to an end: of a step without Adam of one member of ANI-2x's networks"
    " on ethanol (batches of 16, torch 2.13, one CPU thread, measured once) the generic passes take 8.4 ms for "
    "energies and 20.0 ms with forces, compiled (inductor) 8.7 ms for energies after 13 s of compiling; with "
    "forces, which are differentiated twice, inductor was not done after some six minutes on a busy machine, and "
    "graphs without its code took 23.2 ms. ANI's own passes take 2.1 and 4.5 ms."
)
Work = Callable[[], None]
"""Type of a training step."""
KEPT, PAIRS_ALONE = 4.0, 0.03
"""GB for data that do not change: the default, and too little for environment vectors."""


def labelled(molecules: list[Atoms]) -> Labelled:
    """Data set with random labels."""
    random, sizes = np.random.default_rng(0), [len(atoms) for atoms in molecules]
    number = len(molecules)
    zeros = np.zeros(number, dtype=np.int16)
    return Labelled(
        numbers=np.concatenate([atoms.numbers for atoms in molecules]).astype(np.uint8),
        positions=np.concatenate([atoms.positions for atoms in molecules]) * units.BOHR_PER_ANGSTROM,
        offsets=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        energy=random.normal(size=number),
        forces=random.normal(size=(sum(sizes), 3)),
        **{"stress": None, "dipole": None, "cell": None, "pbc": None, "charge": zeros, "spin": zeros},
        **{"group": zeros.astype(np.int32), "groups": ("all",), "source": zeros, "sources": ("G2",)},
        **{"ids": np.arange(number, dtype=np.uint64), "place": np.arange(number)},
    )


def ours(model: ANI, data: Labelled, batch: int, weights: Weights, memory_gb: float = KEPT) -> Work:
    """Step of fusion as in `Fitting`, without averaging of parameters and clipping, which torchani lacks."""
    plain = ["method.training.average=0", "method.training.clip=null"]
    node = compose.compose(["+method=ani", *plain])[0].method.training
    descent = Descent(model, Settings.read(node, STORE), 10**6, 1)
    passes, labels = model.passes(data, memory_gb), Labels(data, data.energy, torch.float32)
    random, used = np.random.default_rng(0), torch.ones(1, batch, dtype=torch.bool)
    if memory_gb == KEPT:
        for start in range(0, len(data), 256):
            passes(np.arange(start, min(start + 256, len(data))), False, False, False)

    def step() -> None:
        """Energies, and forces where they count, of a random batch; gradients; Adam."""
        indices = random.permutation(len(data))[:batch]
        with torch.no_grad():
            descent.clear()
            predictions, back = passes(indices, weights.forces > 0, False, True)
            counts = Counts.of(labels, indices, used)
            assert back is not None
            back(loss(predictions, labels.batch(indices), weights, counts, used).by)
            descent.step()

    return step


def peer(name: str) -> Any:
    """torchani's model of this architecture, one member, untrained."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torchani.arch import Assembler
    assembler = Assembler(periodic_table_index=True)
    assembler.set_symbols(["H", "C", "N", "O"] if name == "ani1x" else ["H", "C", "N", "O", "S", "F", "Cl"])
    assembler.set_global_cutoff_fn("cosine")
    assembler.set_aev_computer(radial=name, angular=name, strategy="pyaev")
    assembler.set_atomic_networks(ctor=name)
    assembler.set_neighborlist("all_pairs")
    assembler.set_zeros_as_self_energies()
    return assembler.assemble(1).float()


def theirs(model: Any, data: Labelled, batch: int, weights: Weights) -> Work:
    """Step of torchani's model."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    adam, labels = torch.optim.AdamW(parameters, weight_decay=0.0, fused=True), Labels(data, data.energy, torch.float32)
    random, whole = np.random.default_rng(0), batch_of(data, np.arange(len(data)), torch.float32)
    species = torch.where(whole.mask, whole.numbers, -1)
    coordinates = whole.positions * units.ANGSTROM_PER_BOHR

    def step() -> None:
        """Do one step with torchani: energies, forces if they count, gradients, Adam."""
        indices = random.permutation(len(data))[:batch]
        targets, mask = labels.batch(indices), whole.mask[indices]
        positions = coordinates[indices].requires_grad_(weights.forces > 0)
        energy = model((species[indices], positions)).energies
        value = weights.energy * (KCAL**2 * (energy - targets.energy).square() / targets.sizes).mean()
        if weights.forces > 0:
            (slope,) = torch.autograd.grad(energy.sum(), positions, create_graph=True)
            error = units.ANGSTROM_PER_BOHR * -slope[mask] - targets.forces
            value = value + weights.forces * KCAL_ANGSTROM**2 * error.square().mean()
        adam.zero_grad(set_to_none=True)
        value.backward()
        adam.step()

    return step


def measure(works: dict[str, Work]) -> dict[str, float]:
    """Least CPU seconds of a step, the competitors in turn."""
    for work in works.values():
        work()
        work()
    times: dict[str, list[float]] = {name: [] for name in works}
    began = time.process_time()
    while time.process_time() - began < SECONDS * len(works):
        for name, work in works.items():
            start = time.process_time()
            work()
            times[name].append(time.process_time() - start)
    return {name: min(values) for name, values in times.items()}


def main() -> None:
    """Time every case and write the table."""
    torch.set_num_threads(1)
    usual: Any = compose.compose(["+method=ani", "weights=null", "method.model.members=1"])[0].method.model
    known = set(ANI_1X["elements"])
    molecules = [atoms for atoms in small_molecules(3 * STORE) if set(atoms.get_chemical_symbols()) <= known][:STORE]
    data = labelled(molecules)
    lines = []
    for name, changes in (("ani1x", ANI_1X), ("ani2x", {})):
        for batch in (32, 256, 2560):
            for kind, weights in (("energy", Weights(1.0, 0.0, 0.0)), ("energy, forces", Weights(1.0, 1.0, 0.0))):
                model: ANI = instantiate({**usual, **changes}).restricted(ANI_1X["elements"])  # those of the data
                works = {"fusion": ours(model, data, batch, weights)}
                works["first"] = ours(deepcopy(model), data, batch, weights, PAIRS_ALONE)
                try:
                    works["torchani"] = theirs(peer(name), data, batch, weights)
                except ImportError as error:
                    print(f"torchani is not there, fusion only: {error}")
                rates = {key: batch / seconds for key, seconds in measure(works).items()}
                ratios = [f"{rates[key] / rates['torchani']:.1f}" if "torchani" in rates else "" for key in works]
                speeds = [f"{rates[key]:.0f}" if key in rates else "" for key in ("fusion", "first", "torchani")]
                lines.append([name, str(batch), kind, *speeds, *ratios[:2]])
                print(*lines[-1], sep=" | ", flush=True)
    note = f"One member, random weights, float32, one thread, {machine('torch', 'torchani')}. {len(data)} "
    note += f"conformations of molecules of {data.sizes.mean():.1f} atoms. Conformations per CPU "
    note += "second, fastest of steps in turn, Adam included; "
    note += "fusion keeps environment vectors from the first epoch on; "
    note += f"load average of the last quarter of an hour {os.getloadavg()[2]:.1f}.\n\n{COMPILED}"
    header = ["network", "batch", "loss", "fusion", "fusion, first epoch", "torchani", "ratio", "ratio, first epoch"]
    write_table(Path(__file__).with_suffix(".md"), "Speed of training ANI", note, header, lines)


if __name__ == "__main__":
    main()

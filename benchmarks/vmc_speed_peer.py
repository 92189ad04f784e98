"""Worker of vmc_speed.py that runs the JAX original of FermiNet and Psiformer (google-deepmind/ferminet) in blocks.

`PYTHON benchmarks/vmc_speed_peer.py CASE`, with an interpreter that has the original; CASE is the JSON object that
`vmc_speed.py --peer PYTHON` writes. The original's own training loop runs with its default settings except for the
Laplacian, which is the fastest one, without pretraining and with a short burn-in. Psiformer is its published preset.
"""

from __future__ import annotations

import json
import sys
import tempfile
from types import TracebackType
from typing import Any

import jax
import numpy as np
from ferminet import base_config, train
from ferminet.configs.excited import presets
from ferminet.utils import system

from blocks import Blocks

WARM_UP = 3  # iterations: the first compiles
BURN_IN = 10  # times ten moves


class PausingWriter:
    """Receiver of the training loop's statistics, which it writes once per iteration; holds the loop between blocks."""

    def __init__(self) -> None:
        self.blocks = Blocks(WARM_UP)

    def __enter__(self) -> PausingWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Release nothing: there is no file."""

    def write(self, t: int, energy: Any, **statistics: Any) -> None:
        """Count an iteration once all that it computes is there."""
        jax.block_until_ready(jax.live_arrays())
        self.blocks.finish(float(energy))


def configuration(case: dict[str, Any], directory: str) -> Any:
    """Settings of the original for a case."""
    settings = base_config.default()
    if case["network"] == "Psiformer":
        settings.update_from_flattened_dict(presets.psiformer)
    pairs = zip(case["symbols"], case["positions"], strict=True)
    settings.system.molecule = [system.Atom(symbol, position, units="bohr") for symbol, position in pairs]
    settings.system.electrons = tuple(case["electrons"])
    settings.batch_size = case["walkers"]
    settings.optim.laplacian = "folx"
    settings.pretrain.iterations = 0
    settings.mcmc.burn_in = BURN_IN
    settings.log.save_path = directory
    settings.log.save_frequency = float("inf")
    settings.debug.deterministic = True
    return base_config.resolve(settings)


def main() -> None:
    """Train until the other side closes the input."""
    np.random.seed(0)  # the original deals the electrons of molecules with it
    with tempfile.TemporaryDirectory() as directory:
        train.train(configuration(json.loads(sys.argv[1]), directory), writer_manager=PausingWriter())


if __name__ == "__main__":
    main()

"""Callback that records the state of every rank at the end of a run."""

from pathlib import Path

import torch
from pytorch_lightning import Callback, LightningModule, Trainer


class Witness(Callback):
    """Write parameters, walkers and random state of each rank beside the run's directory."""

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        sampler = pl_module.sampler
        content = {
            "parameters": dict(pl_module.ansatz.named_parameters()),
            "electrons": sampler.electrons,
            "generator": sampler.generator.get_state(),
        }
        torch.save(content, Path(trainer.default_root_dir).parent / f"witness{trainer.global_rank}.pt")

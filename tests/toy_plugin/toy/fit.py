"""A task that trains one number through Lightning, with noise, so that a resumed run has random state to get right."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fusion.runs.results import Result
from fusion.runs.task import Plan

if TYPE_CHECKING:
    from fusion.chemistry.system import System
    from fusion.methods.protocol import Method
    from fusion.runs.run import Run


class Fit:
    needs = frozenset({"energy"})

    def __init__(self, name: str, steps: int) -> None:
        self.name, self.steps = name, steps

    def check(self, method: Method, system: System, run: Run) -> Plan:
        return Plan(method, system)

    def run(self, plan: Plan, run: Run) -> Result:
        import torch
        import torch.distributed as dist
        from pytorch_lightning import LightningModule
        from torch.utils.data import DataLoader

        from fusion.runs import metrics

        class Module(LightningModule):
            automatic_optimization = False

            def __init__(self) -> None:
                super().__init__()
                self.value = torch.nn.Parameter(torch.zeros((), dtype=torch.float64))
                self.ranks = 1
                # Its own generator: Lightning's data loading draws from the global one when a run goes on.
                self.noise = torch.Generator().manual_seed(run.seed)

            def training_step(self, batch: torch.Tensor, batch_idx: int) -> None:
                rank = torch.tensor(float(dist.get_rank() + 1) if dist.is_initialized() else 1.0)
                if dist.is_initialized():
                    dist.all_reduce(rank)
                self.ranks = int(rank)
                with torch.no_grad():
                    self.value += 0.1 * (plan.method.energy - self.value) + 0.01 * torch.randn((), generator=self.noise)
                row = {"phase": "optimise" if batch_idx < 20 else "evaluate", "energy": float(self.value)}
                metrics.log(self.trainer, row | ({"late": 1.0} if batch_idx >= 30 else {}), step=batch_idx)

            def configure_optimizers(self) -> None:
                return None

            def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
                checkpoint["random"] = self.noise.get_state()

            def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
                self.noise.set_state(checkpoint["random"])

        module = Module()
        trainer = run.trainer(max_epochs=1, use_distributed_sampler=False)
        trainer.fit(module, DataLoader(range(self.steps)), ckpt_path=run.checkpoint, weights_only=True)
        details = {"fit": {"sum_of_ranks": module.ranks, "value_hartree": module.value.item()}}
        return Result(plan.system, "ok", module.value.item(), details=details)

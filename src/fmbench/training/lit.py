"""The one LightningModule: any model from Batch to Prediction, its losses, metrics, optimiser."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, distributed, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torchmetrics import SumMetric

from fmbench.metrics import Counts, DetectionMetrics, of_each_window
from fmbench.objective import Loss, Optim
from fmbench.stages import Learn, Losses, Solve, Stage, Turn, learnt_in, stages_of
from fmbench.training.random_state import random_state, set_random_state
from fmbench.types import Batch, Prediction, Problem


class Detector(L.LightningModule):
    """A model in training or on trial.

    Args:
        model: from Batch to Prediction.
        problem: what the model was built for.
        loss: how the losses are weighed.
        optim: optimiser and schedule.
        stamp: plain values written into every checkpoint, so that it is complete in itself.
        clip: largest norm of a turn's gradient where turns alternate, for Lightning's Trainer clips
            only in trainings of a single optimizer.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        problem: Problem,
        loss: Loss | None = None,
        optim: Optim | None = None,
        stamp: Mapping[str, Any] | None = None,
        clip: float | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.problem = problem
        self.loss = loss or Loss()
        self.optim = optim or Optim()
        self.stamp = dict(stamp or {})
        self.stages = stages_of(model)
        self.began = time.monotonic()
        self.stage: Stage | None = None
        self.clip = clip
        self.metrics = nn.ModuleDict(
            {part: DetectionMetrics(problem.dense) for part in ("val", "test")}
        )
        # A sum: Lightning's mean over processes divides by a number of windows cut to an integer,
        # and torchmetrics' MeanMetric leaves NaN out, or with "disable" the weights.
        self.losses = nn.ModuleDict({part: SumMetric("disable") for part in ("val", "test")})
        self.gathered: list[dict[str, Tensor]] = []
        self.rates: dict[str, float] = {}
        self.terms: dict[str, Tensor] = {}
        self.sums: dict[str, Tensor] = {}
        self.seen = 0
        self.resumed: list[dict[str, Any]] = []
        self.kept: list[dict[str, Tensor]] = []
        self.tested: dict[str, Tensor] = {}

    @property
    def num_parameters(self) -> int:
        """How many numbers some stage learns by gradient."""
        learnt = {p for stage in self.stages for p in learnt_in(stage)}
        return sum(p.numel() for p in learnt)

    @property
    def seconds(self) -> float:
        """Of training, with what a resumed checkpoint had taken before."""
        return float(self.stamp.get("seconds", 0)) + time.monotonic() - self.began

    def forward(self, batch: Batch) -> Prediction:
        prediction: Prediction = self.model(batch)
        return prediction

    def enter(self, stage: Stage) -> None:
        """Make `stage` the one that trains: freeze what it does not name, choose its loop.

        Before the Trainer's `fit`, for Lightning looks at both when it sets up.
        """
        self.stage = stage
        turns = stage.turns if isinstance(stage, Learn) else ()
        self.groups = [parameter_groups(turn, self.optim.lr) for turn in turns]
        learning = learnt_in(stage)
        for parameter in self.model.parameters():
            parameter.requires_grad_(parameter in learning)
        self.automatic_optimization = len(turns) == 1

    def setup(self, stage: str) -> None:
        """Where a training goes on: what its process knew beside the weights."""
        if self.global_rank < len(self.resumed):
            mine = self.resumed[self.global_rank]
            set_random_state(mine["random"])
            self.sums, self.seen = mine["sums"], mine["seen"]
        self.resumed = []

    def on_train_epoch_start(self) -> None:
        self.sums, self.seen = {}, 0

    def training_step(self, batch: Batch, index: int) -> Tensor | None:
        assert isinstance(self.stage, Learn)
        self.seen += len(batch.label)
        if self.automatic_optimization:
            return self._descend(self.stage.turns[0].losses, batch)
        optimizers, schedules = self.optimizers(), self.lr_schedulers()
        for turn, optimizer, schedule in zip(self.stage.turns, optimizers, schedules, strict=True):  # type: ignore[arg-type]
            self.toggle_optimizer(optimizer)  # so that the others' parameters gather no gradient
            loss = self._descend(turn.losses, batch)
            self.manual_backward(loss)
            if self.clip is not None:
                self.configure_gradient_clipping(optimizer, self.clip, "norm")
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
            self.untoggle_optimizer(optimizer)
        return None

    def _descend(self, losses: Losses | None, batch: Batch) -> Tensor:
        """The sum of a turn's losses; the mean of each over the epoch is logged by its name."""
        terms = losses(batch) if losses else self.loss.terms(self(batch), batch)
        loss = torch.stack(list(terms.values())).sum()
        self.terms = {name: term.detach() for name, term in terms.items()}
        values = {f"train/{name}_loss": term for name, term in self.terms.items()}
        if self.automatic_optimization:
            values["train/loss_epoch"] = loss.detach()
            self.log("train/loss_step", loss.detach(), prog_bar=True, sync_dist=True)
        for name, value in values.items():
            value = value * len(batch.label)
            self.sums[name] = value + self.sums[name].to(value) if name in self.sums else value
        return loss

    def log_means(self) -> None:
        """The means over the epoch: not Lightning's, which no checkpoint holds."""
        means = {name: value / self.seen for name, value in self.sums.items()}
        self.log_dict(means, sync_dist=True)

    def validation_step(self, batch: Batch, index: int) -> None:
        self._judge("val", batch)

    def on_test_start(self) -> None:
        self.kept = []

    def test_step(self, batch: Batch, index: int) -> None:
        self.kept.append(of_each_window(self._judge("test", batch), batch))

    def predict_step(self, batch: Batch, index: int) -> Prediction | dict[str, Tensor]:
        if not isinstance(self.stage, Solve):
            return self.forward(batch)
        kept = {name: value.detach().cpu() for name, value in self.stage.gather(batch).items()}
        self.gathered.append(kept)
        return kept

    def on_predict_epoch_end(self) -> None:
        """What a `Solve` stage has gathered, in all processes, becomes its solution."""
        if not isinstance(self.stage, Solve):
            return
        shares = self._shares(concatenated(self.gathered))
        self.gathered = []
        self.stage.solve(concatenated(shares))

    def on_validation_epoch_end(self) -> None:
        self._report("val")

    def on_test_epoch_end(self) -> None:
        """`tested` becomes what `of_each_window` keeps, in the order of the windows."""
        self._report("test")
        shares = self._shares(concatenated(self.kept))
        self.kept = []
        self.tested = {name: interleaved([s[name] for s in shares]) for name in shares[0]}

    def _shares(self, mine: dict[str, Any]) -> list[dict[str, Any]]:
        """What every process has, by rank."""
        if not (distributed.is_available() and distributed.is_initialized()):
            return [mine]
        shares = [mine] * distributed.get_world_size()
        distributed.all_gather_object(shares, mine)
        return shares

    def _judge(self, part: str, batch: Batch) -> Prediction:
        prediction = self.forward(batch)
        self.metrics[part].update(prediction, batch)  # type: ignore[operator]
        loss = torch.stack(list(self.loss.terms(prediction, batch).values())).sum()
        self.losses[part].update(loss * len(batch.label))  # type: ignore[operator]
        return prediction

    def _report(self, part: str) -> None:
        metrics, loss = self.metrics[part], self.losses[part]
        rates: dict[str, float] = metrics.compute()  # type: ignore[operator]
        windows = sum(rates[count] for count in Counts._fields)
        self.rates = {"loss": loss.compute().item() / windows, **rates}  # type: ignore[operator]
        metrics.reset()  # type: ignore[operator]
        loss.reset()  # type: ignore[operator]
        named = {f"{part}/{name}": value for name, value in self.rates.items()}
        self.log_dict(named, sync_dist=True)  # the same in every process by now

    def configure_optimizers(self) -> Any:
        if not self.groups:
            return None
        total = int(self.trainer.estimated_stepping_batches)
        epochs = max(1, self.trainer.max_epochs or 1)
        per_epoch = max(1, total // epochs)

        def factor(step: int) -> float:
            return self.optim.factor(step, total=total, epoch=step // per_epoch)

        chosen = []
        for groups in self.groups:
            optimizer = AdamW(
                groups,
                lr=self.optim.lr,
                weight_decay=self.optim.weight_decay,
                fused=self.optim.fused or None,
            )
            schedule = {"scheduler": LambdaLR(optimizer, factor), "interval": "step"}
            chosen.append({"optimizer": optimizer, "lr_scheduler": schedule})
        return chosen[0] if self.automatic_optimization else chosen

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Lightning clips no gradients for a fused optimizer in mixed precision, as it would have
        to undo the scaling of float16 first; bfloat16 has none."""
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        if self.optim.fused and scaler is None and gradient_clip_algorithm in (None, "norm"):
            if gradient_clip_val:
                groups = optimizer.param_groups
                clip_grad_norm_((p for g in groups for p in g["params"]), gradient_clip_val)
            return
        self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        sums = {name: value.cpu() for name, value in self.sums.items()}
        mine = {"random": random_state(), "sums": sums, "seen": self.seen}
        checkpoint["fmbench"] = {**self.stamp, "seconds": self.seconds}
        checkpoint["processes"] = self._shares(mine)


class Means(Callback):
    """Logs an epoch's means; a callback, so that those after it know them."""

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        assert isinstance(module, Detector)
        module.log_means()


def parameter_groups(turn: Turn, lr: float) -> list[dict[str, Any]]:
    """A turn's parameters as AdamW takes them, "lr_scale" turned into a learning rate."""
    named = [dict(group) for group in turn.parameters if isinstance(group, Mapping)]
    groups = named or [{"params": list(turn.parameters)}]
    return [{"lr": lr * group.pop("lr_scale", 1.0), **group} for group in groups]


def concatenated(parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Columns by name, batch after batch."""
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def interleaved(shares: Sequence[Tensor]) -> Tensor:
    """In order again: windows of which the k-th of n processes had every n-th, from the k-th on."""
    out = torch.cat(list(shares))
    for rank, share in enumerate(shares):
        out[rank :: len(shares)] = share
    return out

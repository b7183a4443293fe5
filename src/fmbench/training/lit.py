"""The one LightningModule: the losses, metrics and optimizers of any model."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import lightning as L
import torch
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch.callbacks import Callback
from numpy.typing import ArrayLike
from torch import Tensor, distributed, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torchmetrics import SumMetric

from fmbench.data.datamodule import SYNTHETIC
from fmbench.metrics import Counts, DetectionMetrics, of_each_window
from fmbench.objective import Loss, Optim
from fmbench.stages import Learn, Losses, Solve, Stage, Turn, learnt_in, stages_of
from fmbench.training.alone import enter_alone
from fmbench.training.arrays import Scores, batch_of
from fmbench.training.console import say
from fmbench.training.muon import MuonAdamW, check_muon, hidden_matrices
from fmbench.training.random_state import get_random_state, set_random_state
from fmbench.types import BENCHMARK, Batch, Prediction, Problem


class Detector(L.LightningModule):
    """A model that is trained, measured or used for prediction.

    Args:
        model: its forward takes a Batch and returns a Prediction.
        problem: the problem that the model was built for.
        loss: weights of the joint loss.
        optim: optimizer and schedule.
        stamp: plain values that every checkpoint stores (`fmbench.training.checkpoint.stamp`).
        clip: largest gradient norm of a turn where several turns alternate; Lightning's Trainer
            clips only with a single optimizer.

    Raises:
        ValueError: the optimizer is Muon, and PyTorch lacks it or the model has nothing to train
            with it.

    Attributes:
        classes: names of the K classes.
        stages: of the model, in order (`fmbench.stages.stages_of`).
        stage: the stage in training, set by `enter`; None in a measurement or prediction.
        groups: per turn of `stage`, its parameter groups as AdamW takes them, set by `enter`.
        started: `time.monotonic()` at the start of the training, in seconds.
        process_states: per process, the random state and the sums of the unfinished epoch, as
            `on_save_checkpoint` stored them. A resumed training sets it; `setup` consumes it.
        terms: detached weighted losses of the latest training batch by name, each a scalar.
        metrics: `DetectionMetrics` of "val", "test" and "check", which is `Learn.check`'s.
        losses: sum of the loss over the windows of "val" and "test".
        measured: the latest validation or test: mean loss per window under "loss", and what
            `DetectionMetrics.compute` returns.
        checked: AUROC of the latest validation of a stage with a check, in [0, 1], or NaN.
        columns: the latest test: columns of `of_each_window`, each (N,), in the windows' order.
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
        if self.optim.name == "muon":
            check_muon(model)
        self.stamp = dict(stamp or {})
        self.classes = class_names(self.stamp, problem)
        self.stages = stages_of(model)
        self.stage: Stage | None = None
        self.groups: list[list[dict[str, Any]]] = []
        self.clip = clip
        self.started = time.monotonic()
        self.process_states: list[dict[str, Any]] = []
        self.terms: dict[str, Tensor] = {}
        self.metrics = nn.ModuleDict(
            {part: DetectionMetrics(problem.dense, self.classes) for part in ("val", "test")}
        )
        self.metrics["check"] = DetectionMetrics(dense=False, classes=self.classes)
        # A sum, because Lightning's mean over processes divides by the truncated mean number of
        # windows, and torchmetrics' MeanMetric drops NaN, or with "disable" the weights.
        self.losses = nn.ModuleDict({part: SumMetric("disable") for part in ("val", "test")})
        self.measured: dict[str, float] = {}
        self.checked = math.nan
        self.columns: dict[str, Tensor] = {}
        self._sums: dict[str, Tensor] = {}  # of the losses over the epoch so far
        self._windows = 0  # of the epoch so far
        self._batches: list[dict[str, Tensor]] = []  # gathered from a test or a `Solve` stage

    @property
    def trained_on_simulated(self) -> bool:
        """Whether the training's recordings were simulated, as the stamp's description says."""
        return str(self.stamp.get("trained_on", "")).startswith(SYNTHETIC)

    @property
    def num_parameters(self) -> int:
        """Number of elements of all parameters that some stage trains by gradient."""
        learnt = {p for stage in self.stages for p in learnt_in(stage)}
        return sum(p.numel() for p in learnt)

    @property
    def seconds(self) -> float:
        """Duration of the training in seconds, that before a resumed checkpoint included."""
        return float(self.stamp.get("seconds", 0)) + time.monotonic() - self.started

    def forward(self, batch: Batch) -> Prediction:
        prediction: Prediction = self.model(batch)
        return prediction

    @torch.inference_mode()
    def predict(
        self, video: ArrayLike | Tensor | None = None, current: ArrayLike | Tensor | None = None
    ) -> Scores:
        """Judge windows.

        Args:
            video: (B, 3, T, H, W), or (3, T, H, W) of one window: RGB, oldest frame first, grey
                levels from 0 to 255; for a model that reads video.
            current: (B, L, C), or (L, C) of one window: oldest sample first, in amperes or the
                units of the training; for a model that reads current.

        Returns:
            Scores of the B windows, as NumPy arrays.

        Raises:
            ValueError: an input is missing, not read by the model, or has another shape or range.
        """
        channels = self.stamp.get("plant", {}).get("channels", ())
        amperes = all(channel["unit"] == "A" for channel in channels)
        batch = batch_of(self.problem, video, current, amperes=amperes)
        was = self.training
        self.eval()
        try:
            found = self(move_data_to_device(batch, self.device))
        finally:
            self.train(was)
        probabilities = found.logits.float().softmax(1).cpu()
        masks = found.mask_logits
        return Scores(
            (1 - probabilities[:, 0]).numpy(),
            probabilities.numpy(),
            None if masks is None else masks.argmax(1).to("cpu", torch.uint8).numpy(),
        )

    def enter(self, stage: Stage) -> None:
        """Start a stage: freeze the parameters that it does not train, choose the optimization.

        Call it before the Trainer's `fit`, whose set-up reads both.
        """
        self.stage = stage
        turns = stage.turns if isinstance(stage, Learn) else ()
        self.groups = [parameter_groups(turn, self.optim.lr) for turn in turns]
        learning = learnt_in(stage)
        for parameter in self.model.parameters():
            parameter.requires_grad_(parameter in learning)
        self.automatic_optimization = len(turns) == 1

    def setup(self, stage: str) -> None:
        """Prepare a training by a Trainer of the user's own, where `enter` was not called; restore
        this process's random state and epoch sums in a resumed training.

        Raises:
            ValueError: the model trains in stages or turns, or does not fit the data.
        """
        if stage == "fit" and self.stage is None:
            enter_alone(self, self.trainer)
        if self.global_rank < len(self.process_states):
            mine = self.process_states[self.global_rank]
            set_random_state(mine["random"])
            self._sums, self._windows = mine["sums"], mine["seen"]
        self.process_states = []

    def on_train_epoch_start(self) -> None:
        self._sums, self._windows = {}, 0

    def training_step(self, batch: Batch, index: int) -> Tensor | None:
        assert isinstance(self.stage, Learn)
        self._windows += len(batch.label)
        if self.automatic_optimization:
            return self._descend(self.stage.turns[0].losses, batch)
        optimizers, schedules = self.optimizers(), self.lr_schedulers()
        for turn, optimizer, schedule in zip(self.stage.turns, optimizers, schedules, strict=True):  # type: ignore[arg-type]
            self.toggle_optimizer(optimizer)  # no gradients for the other turns' parameters
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
        """The sum of a turn's losses, a scalar; adds each to the sums over the epoch."""
        terms = losses(batch) if losses else self.loss.terms(self(batch), batch)
        loss = torch.stack(list(terms.values())).sum()
        self.terms = {name: term.detach() for name, term in terms.items()}
        values = {f"train/{name}_loss": term for name, term in self.terms.items()}
        if self.automatic_optimization:
            values["train/loss_epoch"] = loss.detach()
            self.log("train/loss_step", loss.detach(), prog_bar=True, sync_dist=True)
        for name, value in values.items():
            value = value * len(batch.label)
            if name in self._sums:
                value = value + self._sums[name].to(value)
            self._sums[name] = value
        return loss

    def log_means(self) -> None:
        """Log the mean of each loss over the epoch; no checkpoint stores Lightning's own means."""
        means = {name: value / self._windows for name, value in self._sums.items()}
        self.log_dict(means, sync_dist=True)

    def validation_step(self, batch: Batch, index: int) -> None:
        if isinstance(self.stage, Learn) and self.stage.check:
            logits, label = self.stage.check(batch)
            alone = Batch(None, None, label)
            self.metrics["check"].update(Prediction(logits, None), alone)  # type: ignore[operator]
            return
        self._evaluate("val", batch)

    def on_test_start(self) -> None:
        self._batches = []

    def test_step(self, batch: Batch, index: int) -> None:
        self._batches.append(of_each_window(self._evaluate("test", batch), batch, self.classes))

    def predict_step(self, batch: Batch, index: int) -> Prediction | dict[str, Tensor]:
        if not isinstance(self.stage, Solve):
            return self.forward(batch)
        gathered = {name: widened(value) for name, value in self.stage.gather(batch).items()}
        self._batches.append(gathered)
        return gathered

    def on_predict_epoch_end(self) -> None:
        """Solve a `Solve` stage from the values gathered in all processes."""
        if not isinstance(self.stage, Solve):
            return
        shares = self._all_gather_object(concatenated(self._batches))
        self._batches = []
        if lines := self.stage.solve(concatenated(shares)):
            say(lines)

    def on_validation_epoch_end(self) -> None:
        if isinstance(self.stage, Learn) and self.stage.check:
            self.checked = self.metrics["check"].compute()["auroc"]  # type: ignore[operator]
            self.metrics["check"].reset()  # type: ignore[operator]
            self.log(f"val/{self.stage.name}_auroc", self.checked, sync_dist=True)
            return
        self._report("val")

    def on_test_epoch_end(self) -> None:
        """Set `columns` from the windows of all processes."""
        self._report("test")
        shares = self._all_gather_object(concatenated(self._batches))
        self._batches = []
        self.columns = {name: interleaved([s[name] for s in shares]) for name in shares[0]}

    def _all_gather_object(self, mine: dict[str, Any]) -> list[dict[str, Any]]:
        """The value of `mine` in every process, by rank."""
        if not (distributed.is_available() and distributed.is_initialized()):
            return [mine]
        shares = [mine] * distributed.get_world_size()
        distributed.all_gather_object(shares, mine)
        return shares

    def _evaluate(self, part: str, batch: Batch) -> Prediction:
        prediction = self.forward(batch)
        self.metrics[part].update(prediction, batch)  # type: ignore[operator]
        loss = torch.stack(list(self.loss.terms(prediction, batch).values())).sum()
        self.losses[part].update(loss * len(batch.label))  # type: ignore[operator]
        return prediction

    def _report(self, part: str) -> None:
        metrics, loss = self.metrics[part], self.losses[part]
        rates: dict[str, float] = metrics.compute()  # type: ignore[operator]
        windows = sum(rates[count] for count in Counts._fields)
        self.measured = {"loss": loss.compute().item() / windows, **rates}  # type: ignore[operator]
        metrics.reset()  # type: ignore[operator]
        loss.reset()  # type: ignore[operator]
        named = {f"{part}/{name}": value for name, value in self.measured.items()}
        self.log_dict(named, sync_dist=True)  # already equal in all processes

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
            optimizer = self._optimizer(groups)
            schedule = {"scheduler": LambdaLR(optimizer, factor), "interval": "step"}
            chosen.append({"optimizer": optimizer, "lr_scheduler": schedule})
        return chosen[0] if self.automatic_optimization else chosen

    def _optimizer(self, groups: list[dict[str, Any]]) -> Optimizer:
        shared: dict[str, Any] = {
            "lr": self.optim.lr,
            "weight_decay": self.optim.weight_decay,
            "fused": self.optim.fused or None,
        }
        if self.optim.name == "muon":
            return MuonAdamW(groups, hidden_matrices(self.model), **shared)
        return AdamW(groups, **shared)

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip for a fused optimizer in bfloat16 too: Lightning refuses it in all mixed precision,
        because float16 gradients must be unscaled first; bfloat16 has no scaling."""
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        if self.optim.fused and scaler is None and gradient_clip_algorithm in (None, "norm"):
            if gradient_clip_val:
                groups = optimizer.param_groups
                clip_grad_norm_((p for g in groups for p in g["params"]), gradient_clip_val)
            return
        self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        sums = {name: value.cpu() for name, value in self._sums.items()}
        mine = {"random": get_random_state(), "sums": sums, "seen": self._windows}
        checkpoint["fmbench"] = {**self.stamp, "seconds": self.seconds}
        checkpoint["processes"] = self._all_gather_object(mine)


class EpochMeans(Callback):
    """Log an epoch's mean losses before the later callbacks, which read them, are called."""

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        assert isinstance(module, Detector)
        module.log_means()


def class_names(stamp: Mapping[str, Any], problem: Problem) -> tuple[str, ...]:
    """The names of the classes by a stamp; by number where it has none for more than two."""
    count = problem.num_classes
    unnamed = BENCHMARK.classes if count == 2 else ("normal", *map(str, range(1, count)))
    return tuple(stamp.get("classes", unnamed))


def parameter_groups(turn: Turn, lr: float) -> list[dict[str, Any]]:
    """A turn's parameter groups as AdamW takes them; a group's rate is `lr` times "lr_scale"."""
    named = [dict(group) for group in turn.parameters if isinstance(group, Mapping)]
    groups = named or [{"params": list(turn.parameters)}]
    return [{"lr": lr * group.pop("lr_scale", 1.0), **group} for group in groups]


def concatenated(parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Batches of named columns, each (b, ...), joined along the first axis to (N, ...)."""
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def widened(value: Tensor) -> Tensor:
    """A detached tensor on the CPU; one of mixed precision, which NumPy may lack, as float32."""
    half = value.dtype in (torch.bfloat16, torch.float16)
    return value.detach().to("cpu", torch.float32 if half else value.dtype)


def interleaved(shares: Sequence[Tensor]) -> Tensor:
    """Merge the processes' values to (N, ...) in the order of the windows.

    Args:
        shares: by rank; of n processes, rank k has the windows k, k + n, k + 2n, …
    """
    out = torch.cat(list(shares))
    for rank, share in enumerate(shares):
        out[rank :: len(shares)] = share
    return out

"""Progress of a run: a bar on a terminal, plain lines where the output goes to a file."""

from __future__ import annotations

import sys
import time

import lightning as L
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_only

from fmbench.training.lit import Detector

say = rank_zero_only(print)
"""`print`, in the first process of a training only."""


class PlainProgress(Callback):
    """A line an epoch, and one every `seconds` within a long epoch."""

    def __init__(self, seconds: float = 30) -> None:
        self.seconds = seconds
        self.started = self.spoken = time.monotonic()

    def on_fit_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.started = self.spoken = time.monotonic()

    def on_predict_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.started = self.spoken = time.monotonic()

    def on_predict_batch_end(
        self,
        trainer: L.Trainer,
        module: L.LightningModule,
        outputs: object,
        batch: object,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if self._is_time():
            total = trainer.num_predict_batches[dataloader_idx]
            self._say(f"batch {batch_idx + 1} of {total:.0f}", trainer, module, ())

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, *_: object) -> None:
        if not self._is_time():
            return
        epoch, step = trainer.current_epoch + 1, trainer.global_step
        total = trainer.estimated_stepping_batches
        self._say(
            f"epoch {epoch}, step {step} of {total:.0f}", trainer, module, ("train/loss_step",)
        )

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        names = ("train/loss_epoch", "val/acc", "val/f1", "val/fdr", "val/mdr", "val/miou")
        self.spoken = time.monotonic()
        self._say(
            f"epoch {trainer.current_epoch + 1} of {trainer.max_epochs}", trainer, module, names
        )

    def _is_time(self) -> bool:
        """Whether the last line was long enough ago; if so, the next one is counted from now."""
        now = time.monotonic()
        due = now - self.spoken >= self.seconds
        self.spoken = now if due else self.spoken
        return due

    def _say(
        self, head: str, trainer: L.Trainer, module: L.LightningModule, names: tuple[str, ...]
    ) -> None:
        if not trainer.is_global_zero:
            return
        known = trainer.callback_metrics
        if names and not module.automatic_optimization:  # turns in alternation have no common loss
            names = (*(name for name in known if name.startswith("train/")), *names)
        values = "  ".join(f"{name} {known[name].item():.4f}" for name in names if name in known)
        print(f"[{time.monotonic() - self.started:6.0f} s] {head}  {values}", flush=True)


def on_terminal() -> bool:
    """Whether somebody is watching, so that Lightning's bar is of use."""
    return sys.stdout.isatty()


def progress() -> list[Callback]:
    """What stands in for the bar where standard output goes to a file."""
    return [] if on_terminal() else [PlainProgress()]


def describe(detector: Detector) -> str:
    """`1,920,932 parameters`."""
    return f"{detector.num_parameters:,} parameters"

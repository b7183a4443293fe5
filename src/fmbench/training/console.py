"""What a training prints: messages, and its progress as a bar or as plain lines."""

from __future__ import annotations

import time

import lightning as L
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_only

from fmbench.progress import on_terminal

say = rank_zero_only(print)
"""`print`, in the first process of a training only."""


def progress_callbacks() -> list[Callback]:
    """None on a terminal, where Lightning draws its own bar; plain lines elsewhere."""
    return [] if on_terminal() else [PlainProgress()]


class PlainProgress(Callback):
    """Print one line per epoch, and one every `seconds` within a longer epoch or prediction."""

    def __init__(self, seconds: float = 30) -> None:
        self.seconds = seconds
        self.started = self.last_line = time.monotonic()

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.started = self.last_line = time.monotonic()

    def on_predict_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.on_fit_start(trainer, module)

    def on_predict_batch_end(
        self,
        trainer: L.Trainer,
        module: L.LightningModule,
        outputs: object,
        batch: object,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if self._is_due():
            total = trainer.num_predict_batches[dataloader_idx]
            self._print(f"batch {batch_idx + 1} of {total:.0f}", trainer, module, ())

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, *_: object) -> None:
        if not self._is_due():
            return
        epoch, step = trainer.current_epoch + 1, trainer.global_step
        total = trainer.estimated_stepping_batches
        self._print(
            f"epoch {epoch}, step {step} of {total:.0f}", trainer, module, ("train/loss_step",)
        )

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        names = ("train/loss_epoch", "val/acc", "val/f1", "val/fdr", "val/mdr", "val/miou")
        self.last_line = time.monotonic()
        self._print(
            f"epoch {trainer.current_epoch + 1} of {trainer.max_epochs}", trainer, module, names
        )

    def _is_due(self) -> bool:
        """Whether `seconds` have passed since the last line; if so, restart the interval."""
        now = time.monotonic()
        due = now - self.last_line >= self.seconds
        self.last_line = now if due else self.last_line
        return due

    def _print(
        self, head: str, trainer: L.Trainer, module: L.LightningModule, names: tuple[str, ...]
    ) -> None:
        if not trainer.is_global_zero:
            return
        known = trainer.callback_metrics
        if names and not module.automatic_optimization:  # alternating turns have no common loss
            names = (*(name for name in known if name.startswith("train/")), *names)
        values = "  ".join(f"{name} {known[name].item():.4f}" for name in names if name in known)
        print(f"[{time.monotonic() - self.started:6.0f} s] {head}  {values}", flush=True)

"""Callbacks that protect a training from signals, crashes and numbers that are not finite.

This module lists the defects and gaps of Lightning 2.6 that fmbench works around. The numbers are
issues and pull requests of github.com/Lightning-AI/pytorch-lightning:

- #19916: SIGTERM ends a training with exit status 0. #20806: the processes of a distributed
  training do not stop at the same step. Lightning stops at the end of an epoch's validation at
  best, and saves nothing. -> `Guard` stops all processes after the same step and saves it.
- 2.6 writes `last.ckpt` only in epochs that improve the monitored metric (in its
  `ModelCheckpoint.on_train_epoch_end`). -> `Guard` writes it after every epoch.
- #19549: a training resumed in the middle of an epoch does not validate correctly; one saved after
  the last step of an epoch skips the validation of that epoch. -> `Guard` does not save there, and
  a checkpoint that it saves during a validation repeats the validation from its start.
- #17543, #20204: a checkpoint holds neither the state of the random number generators nor the means
  over an epoch. -> `Detector.on_save_checkpoint` adds both.
- #19970, #21253: a checkpoint is staged in the folder for temporary files, and from another disk it
  is copied, not renamed. -> `fmbench.training.checkpoint.AtomicCheckpointIO`.
- Lightning continues to train on a loss or gradient that is not finite. -> `Guard` stops before
  that step is taken.
"""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, Checkpoint, ModelCheckpoint
from torch.nn.utils import get_total_norm

from fmbench.data.order import WindowLoader
from fmbench.training.lit import Detector

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""Ctrl-C; a scheduler that ends the job; SLURM's warning before it does (--signal)."""


class Stopped(SystemExit):
    """A signal ended a training after a checkpoint of its last step was written.

    Its `code` is 128 plus the signal's number, as in shells: 130, 143 or 138.
    """

    def __init__(self, number: int, step: int) -> None:
        super().__init__(128 + number)
        self.signal = signal.Signals(number)
        self.step = step

    def __str__(self) -> str:
        return f"{self.signal.name} stopped the training after step {self.step}, which is saved"


class Best(ModelCheckpoint):
    """Write `best.ckpt`, and find it again when the folder of the run was moved.

    Lightning drops the best score of a moved run. The name of this class is a key in checkpoints.
    """

    def load_state_dict(self, state: dict[str, Any]) -> None:
        assert self.dirpath is not None
        here = str(Path(self.dirpath) / "best.ckpt")
        if not Path(here).is_file():
            return  # a new run that starts from the checkpoint of another one
        paths = {"best_model_path": here, "kth_best_model_path": here, "last_model_path": ""}
        score = {"best_k_models": {here: state["best_model_score"]}, "dirpath": self.dirpath}
        super().load_state_dict({**state, **paths, **score})


class Killable(Callback):
    """Let SIGTERM end a test or prediction, which has no step to save; Lightning ignores it."""

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        _set_handlers(signal.SIG_DFL, signal.SIGTERM)

    on_test_start = on_predict_start


class Guard(Checkpoint):
    """Write `last.ckpt`, stop on signals, and refuse steps that are not finite.

    It is a `Checkpoint`, so that Lightning calls it after `ModelCheckpoint` and every callback that
    logs.

    Args:
        folder: of the stage's checkpoints.
    """

    def __init__(self, folder: Path) -> None:
        self.last = folder / "last.ckpt"
        self.received = 0  # number of the signal, 0 if none
        self.saved = False

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Replace Lightning's signal handlers, which it has just set and removes at the end."""
        _set_handlers(self._receive)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        for logger in trainer.loggers:  # Lightning logs an epoch after on_train_epoch_end
            logger.save()
        if self._stop_received(trainer):
            raise Stopped(self.received, trainer.global_step)

    def on_after_backward(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, Detector)
        gradients = [p.grad for p in pl_module.parameters() if p.grad is not None]
        if getattr(trainer.precision_plugin, "scaler", None) is not None:
            gradients = []  # float16: the scaler skips steps whose gradients are not finite
        loss = torch.stack(list(pl_module.terms.values())).sum()
        if not bool((loss + get_total_norm(gradients).to(loss)).isfinite()):
            raise ValueError(self._not_finite(trainer, pl_module))

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        loop = trainer.fit_loop.epoch_loop
        fetcher = trainer.fit_loop._data_fetcher
        assert fetcher is not None
        ends = loop._is_training_done or loop._should_check_val_fx(fetcher)
        if not ends and self._stop_received(trainer):
            trainer.save_checkpoint(self.last)
            self.saved = True

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Stop after a saved step; Lightning has logged it before this hook."""
        if self.saved:
            raise Stopped(self.received, trainer.global_step)

    def on_validation_batch_start(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if not self._stop_received(trainer):
            return
        batches = trainer.fit_loop.epoch_loop.val_loop.batch_progress
        batches.reset()  # save a validation that has started and has processed no batch
        batches.increment_ready()
        batches.increment_started()
        batches.current.reset()
        trainer.save_checkpoint(self.last)
        raise Stopped(self.received, trainer.global_step)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        trainer.save_checkpoint(self.last)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._stop_received(trainer):
            raise Stopped(self.received, trainer.global_step)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.received:  # a second signal: stop at once, without saving
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.received = number

    def _stop_received(self, trainer: L.Trainer) -> bool:
        """Whether any process received a signal; the same answer in all processes."""
        stops = trainer.strategy.reduce_boolean_decision(bool(self.received), all=False)
        self.received = self.received or (signal.SIGTERM if stops else 0)
        return stops

    def _not_finite(self, trainer: L.Trainer, module: Detector) -> str:
        """The message that names the value, the windows of the batch, and the remedies."""
        terms = {f"the {name} loss": term for name, term in module.terms.items()}
        gradients = {f"the gradient of {n}": p.grad for n, p in module.named_parameters()}
        what = next(
            name
            for name, value in (terms | gradients).items()
            if value is not None and not value.isfinite().all()
        )
        loader = trainer.train_dataloader
        assert isinstance(loader, WindowLoader)
        windows = loader.batch(trainer.fit_loop.epoch_loop.batch_idx)
        named = "; ".join(
            f"{name}, frames {', '.join(map(str, sorted(frames)))}"
            for name, frames in windows.groupby("recording")["frame"]
        )
        return (
            f"{what} is not finite at step {trainer.global_step + 1}; the step was not taken\n"
            f"in the batch of {named}\n"
            f"Any checkpoint in {self.last.parent} is finite. Check the values of these frames "
            "(fmbench data check), lower --optim.lr, or set --trainer.gradient_clip_val 1"
        )


def _set_handlers(handler: Any, *numbers: signal.Signals) -> None:
    """Set the handler of `numbers`, by default SIGNALS, where Python allows it: the main thread."""
    if threading.current_thread() is threading.main_thread():
        for number in numbers or SIGNALS:
            signal.signal(number, handler)

"""What stands between a training and what can happen to it: signals, crashes, numbers that burst.

Here, and nowhere else, is worked around what Lightning 2.6 does not do or does wrongly. The numbers
are issues and pull requests of github.com/Lightning-AI/pytorch-lightning:

- #19916: SIGTERM ends a training with exit status 0. #20806: the processes of a distributed
  training do not stop at the same step. It stops at the end of an epoch's validation at best, and
  saves nothing. -> `Guard` stops all processes after the same step and saves it.
- 2.6 writes `last.ckpt` only in epochs that improve the monitored metric (seen in its
  `ModelCheckpoint.on_train_epoch_end`). -> `Guard` writes it after every epoch.
- #19549: a training that goes on from the middle of an epoch does not validate as it should; saved
  after the last step of an epoch, it leaves that epoch's validation out altogether. -> `Guard`
  saves neither there nor amid a validation, but so that the whole validation comes next.
- #17543, #20204: a checkpoint holds no state of the random number generators, and none of the means
  over an epoch. -> `Detector.on_save_checkpoint` adds both.
- #19970, #21253: a checkpoint is staged in the folder for temporary files, and from another disk it
  is copied, not renamed. -> `fmbench.training.checkpoint.Checkpoints`.
- A loss or a gradient that is not finite is trained on. -> `Guard` stops before that step is taken.
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
"""Ctrl-C; a scheduler that wants the machine back; SLURM some time before it does (--signal)."""


class Stopped(SystemExit):
    """A signal has ended a training, and a checkpoint of its last step was written.

    Its `code` is 128 and the signal's number, as shells count: 130, 143, 138.
    """

    def __init__(self, number: int, step: int) -> None:
        super().__init__(128 + number)
        self.signal = signal.Signals(number)
        self.step = step

    def __str__(self) -> str:
        return f"{self.signal.name} stopped the training after step {self.step}, which is saved"


class Best(ModelCheckpoint):
    """Keeps `best.ckpt`, also in a run whose folder was moved: Lightning forgets the best score."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        assert self.dirpath is not None
        here = str(Path(self.dirpath) / "best.ckpt")
        if not Path(here).is_file():
            return  # a run of its own, begun with the checkpoint of another
        paths = {"best_model_path": here, "kth_best_model_path": here, "last_model_path": ""}
        score = {"best_k_models": {here: state["best_model_score"]}, "dirpath": self.dirpath}
        super().load_state_dict({**state, **paths, **score})


class Killable(Callback):
    """Where there is no step to save, SIGTERM kills; Lightning would hear it and go on."""

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        _handle(signal.SIG_DFL, signal.SIGTERM)

    on_test_start = on_predict_start


class Guard(Checkpoint):
    """Keeps `last.ckpt`, heeds signals, and lets no step be taken that is not finite.

    A `Checkpoint`, so that Lightning calls it after `ModelCheckpoint` and all that logs.

    Args:
        folder: of the stage's checkpoints.
    """

    def __init__(self, folder: Path) -> None:
        self.last = folder / "last.ckpt"
        self.asked = 0
        self.saved = False

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """In place of Lightning's handlers, which it set just before and takes away in the end."""
        _handle(self._ask)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        for logger in trainer.loggers:  # Lightning logs an epoch after it has told us of its end
            logger.save()
        if self._stops(trainer):
            raise Stopped(self.asked, trainer.global_step)

    def on_after_backward(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, Detector)
        gradients = [p.grad for p in pl_module.parameters() if p.grad is not None]
        if getattr(trainer.precision_plugin, "scaler", None) is not None:
            gradients = []  # 16 bits: the scaler leaves steps out, and knows why
        loss = torch.stack(list(pl_module.terms.values())).sum()
        if not bool((loss + get_total_norm(gradients).to(loss)).isfinite()):
            raise ValueError(self._burst(trainer, pl_module))

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
        if not ends and self._stops(trainer):
            trainer.save_checkpoint(self.last)
            self.saved = True

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """The step before, if it is saved, has been logged by now."""
        if self.saved:
            raise Stopped(self.asked, trainer.global_step)

    def on_validation_batch_start(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if not self._stops(trainer):
            return
        progress = trainer.fit_loop.epoch_loop.val_loop.batch_progress
        progress.reset()  # a validation that has begun, with all its batches to come
        progress.increment_ready()
        progress.increment_started()
        progress.current.reset()
        trainer.save_checkpoint(self.last)
        raise Stopped(self.asked, trainer.global_step)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        trainer.save_checkpoint(self.last)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._stops(trainer):
            raise Stopped(self.asked, trainer.global_step)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked:  # asked twice: at once, with nothing saved since the last epoch
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.asked = number

    def _stops(self, trainer: L.Trainer) -> bool:
        """Whether any process was asked to stop: the same answer in all of them."""
        stops = trainer.strategy.reduce_boolean_decision(bool(self.asked), all=False)
        self.asked = self.asked or (signal.SIGTERM if stops else 0)
        return stops

    def _burst(self, trainer: L.Trainer, module: Detector) -> str:
        """What is not finite, in which windows, and what to do."""
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
            f"The weights of {self.last.parent} are finite, if an epoch was completed. Look at the "
            "values of these frames (fmbench data check), or lower --optim.lr, or set "
            "--trainer.gradient_clip_val 1"
        )


def _handle(handler: Any, *numbers: signal.Signals) -> None:
    """Set the handler of some signals, where a process may: in its main thread."""
    if threading.current_thread() is threading.main_thread():
        for number in numbers or SIGNALS:
            signal.signal(number, handler)

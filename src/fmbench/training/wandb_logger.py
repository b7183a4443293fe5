"""Weights & Biases beside a run, which goes on without it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import WandbLogger

from fmbench.training.progress import say

PATIENCE = {"WANDB_INIT_TIMEOUT": "20", "WANDB_FINISH_TIMEOUT": "60"}
"""Seconds to wait for the server at a run's start and end, where the user has not set others."""


class Tracker(WandbLogger):
    """W&B's logger, save that an error of it is told once, and ends the sending, not the training.

    Args:
        run: folder of the run; W&B's own files stand below it.
        settings: of the run, by dotted name.
        wandb_options: of `wandb.init`.
    """

    def __init__(self, run: Path, settings: Mapping[str, Any], **wandb_options: Any) -> None:
        super().__init__(name=run.name, save_dir=run, project="fmbench", **wandb_options)
        self.lost = False
        self.log_hyperparams(dict(settings))  # starts W&B's run

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self._attempt(super().log_metrics, metrics, step)

    def finish(self) -> None:
        """Send what is left; the next training in this process has a run of its own."""
        self._attempt(self.experiment.finish)

    def _attempt(self, act: Callable[..., Any], *args: Any) -> None:
        if self.lost:
            return
        try:
            act(*args)
        except Exception as error:
            self.lost = True
            with suppress(Exception):
                import wandb  # a training that logs to W&B has it; others need not

                wandb.teardown()  # or it would try once more, with a traceback, at the very end
            say(f"W&B has failed ({_first_line(error)}); the metrics are in log/")


def track(run: Path, settings: Mapping[str, Any]) -> Tracker:
    """A run at W&B; without a key or a way to the server, one on disk that can be sent later."""
    for name, seconds in PATIENCE.items():
        os.environ.setdefault(name, seconds)
    try:
        return Tracker(run, settings)
    except Exception as error:  # whatever it is: what is to be trained does not depend on it
        say(f"W&B is out of reach ({_first_line(error)}); logging to {run}/wandb for `wandb sync`")
        return Tracker(run, settings, mode="offline")


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__

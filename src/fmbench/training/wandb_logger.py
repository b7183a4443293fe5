"""Logging to Weights & Biases; a training continues when W&B fails."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import WandbLogger

from fmbench.training.console import say

TIMEOUTS = {"WANDB_INIT_TIMEOUT": "20", "WANDB_FINISH_TIMEOUT": "60"}
"""Seconds to wait for the server at the start and end of a run, unless the user sets others."""


class TolerantWandbLogger(WandbLogger):
    """W&B's logger. On its first error it prints one message and stops sending.

    Args:
        run: folder of the run; W&B's own files are written below it.
        settings: of the run, by dotted name.
        wandb_options: of `wandb.init`.
    """

    def __init__(self, run: Path, settings: Mapping[str, Any], **wandb_options: Any) -> None:
        super().__init__(name=run.name, save_dir=run, project="fmbench", **wandb_options)
        self.failed = False
        self.log_hyperparams(dict(settings))  # starts W&B's run

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self._attempt(super().log_metrics, metrics, step)

    def finish(self) -> None:
        """Send what is left, so that the next training in this process starts a new run."""
        self._attempt(self.experiment.finish)

    def _attempt(self, act: Callable[..., Any], *args: Any) -> None:
        if self.failed:
            return
        try:
            act(*args)
        except Exception as error:
            self.failed = True
            with suppress(Exception):
                import wandb  # needed only by a training that logs to W&B

                wandb.teardown()  # otherwise wandb retries at exit and prints a traceback
            say(f"W&B has failed ({_first_line(error)}); the metrics are in log/")


def open_wandb(run: Path, settings: Mapping[str, Any]) -> TolerantWandbLogger:
    """Start a run at W&B, or offline when there is no API key or no connection.

    `wandb sync` sends an offline run later.
    """
    for name, seconds in TIMEOUTS.items():
        os.environ.setdefault(name, seconds)
    try:
        return TolerantWandbLogger(run, settings)
    except Exception as error:  # no error of W&B may prevent the training
        say(f"W&B is out of reach ({_first_line(error)}); logging to {run}/wandb for `wandb sync`")
        return TolerantWandbLogger(run, settings, mode="offline")


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__

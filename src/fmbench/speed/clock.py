"""Seconds and bytes."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback

WARM = 2
"""Steps at the beginning of a training that do not count: libraries load, memory is allotted."""


def durations(
    call: Callable[[], object],
    *,
    seconds: float,
    least: int = 5,
    device: torch.device | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> list[float]:
    """Seconds of each call, over `seconds` and at least so many calls, after one that warms up."""
    call()
    settle(device)
    taken: list[float] = []
    end = time.perf_counter() + seconds
    while len(taken) < least or time.perf_counter() < end:
        begin = clock()
        call()
        settle(device)
        taken.append(clock() - begin)
    return taken


class Clock(Callback):
    """Times a training batch by batch, and ends it after `seconds`.

    Args:
        seconds: how long to train at least, where the epoch has so many batches.
        least: steps to train at least, over the WARM first ones.
        clock: what tells the time.

    Attributes:
        waits: seconds from the end of a step (or the epoch's beginning) until the next batch was
            there, on the device.
        steps: seconds of each step: losses, gradients, clipping, optimizer.
    """

    def __init__(
        self, seconds: float, *, least: int = 3, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.seconds, self.least, self.clock = seconds, least, clock
        self.waits: list[float] = []
        self.steps: list[float] = []

    def on_train_epoch_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.end = time.perf_counter() + self.seconds
        self.mark = self.clock()

    def on_train_batch_start(
        self, trainer: L.Trainer, module: L.LightningModule, *_: object
    ) -> None:
        self.waits.append(self._lap(module))

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, *_: object) -> None:
        self.steps.append(self._lap(module))
        enough = len(self.steps) >= WARM + self.least
        if enough and time.perf_counter() >= self.end:
            trainer.should_stop = True

    def warm(self) -> tuple[list[float], list[float]]:
        """Waits and steps without the WARM first ones, where there are others."""
        first = WARM if len(self.steps) > WARM else 0
        return self.waits[first:], self.steps[first:]

    def _lap(self, module: L.LightningModule) -> float:
        """Seconds since the last call."""
        settle(module.device)
        before, self.mark = self.mark, self.clock()
        return self.mark - before


def settle(device: torch.device | None) -> None:
    """Wait until a GPU has done what it was told."""
    if device is not None and device.type == "cuda":
        torch.cuda.synchronize(device)


def highest(device: torch.device) -> int | None:
    """Bytes that were in use at most since `forget`: of the process, or of tensors on a GPU.

    None where the system does not tell (it is Linux that does).
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    found = re.search(r"^VmHWM:\s+(\d+) kB", status.read_text(), re.M) if status.is_file() else None
    return 1024 * int(found[1]) if found else None


def forget(device: torch.device) -> None:
    """Count the highest use of memory from here on."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif (switch := Path("/proc/self/clear_refs")).exists():
        switch.write_text("5")

"""Durations of calls and training steps, and the highest use of memory."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.profilers import Profiler

WARM = 2
"""First steps of a training, not counted: libraries load, memory is allocated."""


def durations(
    call: Callable[[], object],
    *,
    seconds: float,
    least: int = 5,
    device: torch.device | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> list[float]:
    """Seconds of each call, for `seconds` and at least `least` calls, after one that warms up."""
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


class StepTimer(Callback):
    """Times each step of a training and ends it after `seconds`.

    Args:
        seconds: least duration of the training; a short epoch may end it before.
        least: least number of steps after the first WARM ones.
        clock: returns the current time in seconds.

    Attributes:
        pauses: seconds before each step: the wait for its batch, and the Trainer's own work.
        steps: seconds of each step: losses, gradients, clipping, optimizer.
    """

    def __init__(
        self, seconds: float, *, least: int = 3, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.seconds, self.least, self.clock = seconds, least, clock
        self.pauses: list[float] = []
        self.steps: list[float] = []

    def on_train_epoch_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.end = time.perf_counter() + self.seconds
        self.mark = self.clock()

    def on_train_batch_start(
        self, trainer: L.Trainer, module: L.LightningModule, *_: object
    ) -> None:
        self.pauses.append(self._lap(module))

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, *_: object) -> None:
        self.steps.append(self._lap(module))
        enough = len(self.steps) >= WARM + self.least
        if enough and time.perf_counter() >= self.end:
            trainer.should_stop = True

    def warm(self) -> tuple[list[float], list[float]]:
        """Pauses and steps without the first WARM ones; all of them if there are no others."""
        first = WARM if len(self.steps) > WARM else 0
        return self.pauses[first:], self.steps[first:]

    def _lap(self, module: L.LightningModule) -> float:
        """Seconds since the last call."""
        settle(module.device)
        before, self.mark = self.mark, self.clock()
        return self.mark - before


class Waits(Profiler):
    """Times how long a training waits for each of its batches.

    Args:
        device: device of the training.

    Attributes:
        taken: seconds from the request for each batch until it is on the device.
    """

    ACTIONS = ("train_dataloader_next", "Strategy.batch_to_device")
    """Ends of the names of the two profiled actions in Lightning. The second one contains the
    module's own transfer, an action with another name.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.device = device
        self.taken: list[float] = []

    def start(self, action_name: str) -> None:
        if action_name.endswith(self.ACTIONS):
            self.began = time.perf_counter()

    def stop(self, action_name: str) -> None:
        if action_name.endswith(self.ACTIONS):
            settle(self.device)
            taken = time.perf_counter() - self.began
            if action_name.endswith(self.ACTIONS[0]):
                self.taken.append(taken)
            else:
                self.taken[-1] += taken


def settle(device: torch.device | None) -> None:
    """Wait until a GPU has finished its queued work."""
    if device is not None and device.type == "cuda":
        torch.cuda.synchronize(device)


def highest(device: torch.device) -> int | None:
    """Highest number of bytes in use since `forget`: of the process, or of tensors on a GPU.

    None for a CPU on systems other than Linux.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    found = re.search(r"^VmHWM:\s+(\d+) kB", status.read_text(), re.M) if status.is_file() else None
    return 1024 * int(found[1]) if found else None


def forget(device: torch.device) -> None:
    """Restart the count of the highest use of memory."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif (switch := Path("/proc/self/clear_refs")).exists():
        switch.write_text("5")

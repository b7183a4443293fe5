"""Worker processes of a loader: how a batch comes from one, and how they end."""

from __future__ import annotations

import signal
from collections.abc import Callable
from multiprocessing.reduction import ForkingPickler
from typing import Any
from weakref import ReferenceType

import numpy as np
import torch
from torch.utils.data import DataLoader

from fmbench.types import Batch

SMALL = 48 * 2**10
"""Bytes. A tensor up to this goes through the pipe, which holds 64 KiB; others in shared memory."""


def sent(batch: Batch) -> tuple[Callable[..., Batch], tuple[Any, ...]]:
    """How pickle is to send a batch to another process: labels, times and currents as bytes.

    PyTorch shares the memory of each of a batch's six tensors, over a connection of its own that
    the training waits for: some 0.6 ms (benchmarks/data_loading.md).
    """
    return received, tuple(
        part.numpy() if part is not None and part.nbytes <= SMALL else part for part in batch
    )


def received(*parts: Any) -> Batch:
    """The batch that was sent."""
    return Batch(
        *(torch.from_numpy(part) if isinstance(part, np.ndarray) else part for part in parts)
    )


ForkingPickler.register(Batch, sent)


def heedless(worker: int) -> None:
    """What asks a training to stop may be sent to its workers too, which it needs until it does."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)


def end_workers(loader: ReferenceType[DataLoader[Batch]]) -> None:
    """At this process' end: else multiprocessing sends SIGTERM, which they do not heed, and waits.

    Lightning, and a traceback, can hold a loader until then.
    """
    begun = getattr(loader(), "_iterator", None)
    if begun is not None:
        begun._shutdown_workers()

"""Worker processes of a loader: how they send batches, and how they end."""

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
"""Bytes. Tensors up to this go through the pipe, which holds 64 KiB; others in shared memory."""


def reduce_batch(batch: Batch) -> tuple[Callable[..., Batch], tuple[Any, ...]]:
    """Pickle a batch for another process: small tensors (labels, times, currents) as bytes.

    PyTorch would share the memory of each of the six tensors over a connection of its own, for
    which training waits about 0.6 ms (benchmarks/data_loading.md).
    """
    return rebuild_batch, tuple(
        part.numpy() if part is not None and part.nbytes <= SMALL else part for part in batch
    )


def rebuild_batch(*parts: Any) -> Batch:
    """The inverse of `reduce_batch`."""
    return Batch(
        *(torch.from_numpy(part) if isinstance(part, np.ndarray) else part for part in parts)
    )


ForkingPickler.register(Batch, reduce_batch)


def ignore_stop_signals(worker: int) -> None:
    """Ignore stop signals in workers: the training needs them until its last step is saved."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)


def end_workers(loader: ReferenceType[DataLoader[Batch]]) -> None:
    """End workers at exit; else multiprocessing would send SIGTERM, which they ignore, and wait.

    Lightning, or a traceback, can hold a loader until then.
    """
    begun = getattr(loader(), "_iterator", None)
    if begun is not None:
        begun._shutdown_workers()

"""`fmbench watch`."""

from __future__ import annotations

from pathlib import Path

from fmbench.config.hints import File
from fmbench.watch.options import WatchOptions
from fmbench.watch.start import watch as watch_furnace


def watch(*, checkpoint: File, options: WatchOptions) -> int:
    """Watch a furnace: live video and currents to decisions and alarms.

    Writes a JSON line for each decision to standard output.

    Args:
        checkpoint: a file that fmbench fit wrote, of causal windows (--data.causal true).
    """
    if not checkpoint.is_file():
        raise ValueError(f"--checkpoint {checkpoint}: no such file; `fmbench fit` prints its best")
    return watch_furnace(Path(checkpoint), options)

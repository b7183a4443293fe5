"""`fmbench watch`."""

from __future__ import annotations

from fmbench.cli.train import existing
from fmbench.config.hints import File
from fmbench.watch.options import WatchOptions
from fmbench.watch.start import watch as watch_furnace


def watch(*, checkpoint: File, options: WatchOptions) -> int:
    """Watch a furnace: live video and currents to decisions and alarms.

    Writes a JSON line for each decision to standard output.

    Args:
        checkpoint: a file that fmbench fit wrote, of causal windows (--data.causal true).
    """
    return watch_furnace(existing(checkpoint), options)

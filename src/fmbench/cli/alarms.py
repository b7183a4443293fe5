"""`fmbench alarms`."""

from __future__ import annotations

from fmbench.alarms.budget import parse_budget
from fmbench.alarms.run import choose_alarms
from fmbench.cli.train import existing
from fmbench.config.hints import File, Folder
from fmbench.config.resolve import DataOptions
from fmbench.training.console import say


def alarms(
    *,
    checkpoint: File,
    out: Folder,
    budget: str = "1/day",
    every: float = 1.0,
    data: DataOptions,
) -> int:
    """Choose when a checkpoint's scores are an alarm, and measure it.

    Validation recordings choose the rule, test recordings measure it.

    Args:
        out: a new folder for alarms.yaml, alarms.md, events.csv and pictures.
        budget: false alarms allowed, as 1/day, 2/hour, 0.5/week.
        every: seconds from one decision to the next, at most 60.
        data: data (default: as in training).
    """
    allowed = parse_budget(budget)
    existing(checkpoint)
    choose_alarms(checkpoint, out, budget=allowed, every=every, data=data)
    say(f"{out}: alarms.yaml, alarms.md, events.csv, pictures")
    say(f"next: fmbench test --checkpoint {checkpoint} --alarms {out / 'alarms.yaml'}")
    return 0

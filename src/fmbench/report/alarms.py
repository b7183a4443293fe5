"""The section of a report on the alarm rule of a run."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path
from typing import Any

import pandas as pd

from fmbench.alarms.file import ALARMS_FILE, read_alarms
from fmbench.tabular import NONE

PICTURES = {
    "timeline.png": "Score, alarms and truth over time",
    "delays.png": "Share of the test events that are found within a delay",
    "tradeoff.png": "False alarms against delay: all rules, and the chosen one",
}
EVENTS = "events.csv"


def alarm_section(folder: Path, checkpoint: Path) -> dict[str, Any]:
    """What a report shows of a folder that `fmbench alarms` wrote.

    Args:
        folder: with alarms.yaml, events.csv and pictures.
        checkpoint: of the run.

    Raises:
        ValueError: no such files, or the rule of another checkpoint.
    """
    alarms = read_alarms(folder / ALARMS_FILE, checkpoint)
    events = folder / EVENTS
    if not events.is_file():
        raise ValueError(f"{events}: no such file; `fmbench alarms` writes it beside {ALARMS_FILE}")
    rows = pd.read_csv(events)
    real, false = rows[rows["kind"] == "event"], rows[rows["kind"] != "event"]
    found = real[real["found"].astype(str) == "True"]
    delay = f"{found['delay'].median():.0f} s" if len(found) else NONE
    rule = alarms.rule
    hold = f" for {rule.hold_off:g} s" if rule.hold_off else ""
    smoothing = f", each a mean over about {rule.smoothing:g} s" if rule.smoothing else ""
    met = "" if alarms.budget_met else " No rule met it; this one comes nearest."
    return {
        "sentences": [
            f"An alarm begins when {rule.needed} of {rule.of} scores, {rule.every:g} s apart"
            f"{smoothing}, are at least {rule.on:.3g}. It ends when all scores have been below"
            f" {rule.off:.3g}{hold}.",
            f"The rule was chosen on validation recordings for a budget of {alarms.budget} false"
            f" alarms.{met} Their {alarms.normal_hours:.2g} h of normal operation can support"
            f" {alarms.supports_at_best:,.3g} false alarms a day at best.",
            f"On the test recordings, it finds {len(found)} of {len(real)} events, with a median"
            f" delay of {delay}. False alarms: {len(false)}.",
        ],
        "pictures": [
            (name, words, _uri(folder / name))
            for name, words in PICTURES.items()
            if (folder / name).is_file()
        ],
    }


def _uri(path: Path) -> str:
    return f"data:image/png;base64,{b64encode(path.read_bytes()).decode()}"

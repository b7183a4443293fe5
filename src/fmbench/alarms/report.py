"""alarms.md and events.csv: what a rule does on the test recordings, in tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from fmbench.alarms.budget import poisson_interval, readable, support
from fmbench.alarms.events import GRACE, LEAD, Marks, Outcome, Track
from fmbench.alarms.ranges import event_f1, vus_pr
from fmbench.alarms.rule import Floats
from fmbench.data.datamodule import SYNTHETIC
from fmbench.files.atomic import write_text
from fmbench.simulator import DISTURBANCES, LABEL_FREE
from fmbench.tabular import NONE, SIMULATED, csv, markdown

if TYPE_CHECKING:
    from fmbench.alarms.run import Chosen, Method, Scored

TOLERANCES = 10.0, 30.0, 60.0
"""Seconds between the beginning of an alarm and an onset that make a hit."""
BUFFER = 60.0
"""Longest buffer of VUS-PR, seconds."""
EMPTY = float("nan")


def events_csv(path: Path, track: Track, outcome: Outcome) -> None:
    """Write one row an event and one a false alarm; times are seconds of the recording."""
    of_event = track.stretch[track.first] if len(track.first) else track.first
    events = pd.DataFrame(
        {
            "recording": [track.footage[k].recording for k in of_event],
            "kind": "event",
            "onset": np.where(track.begun, EMPTY, track.local(track.onset, of_event)),
            "end": track.local(track.end, of_event),
            "found": outcome.found.astype(object),
            "alarm": track.local(outcome.alarm_at, of_event),
            "delay": outcome.delay,
        }
    )
    where = track.stretch[outcome.false_at]
    false = pd.DataFrame(
        {
            "recording": [track.footage[k].recording for k in where],
            "kind": "false alarm",
            "end": track.local(track.seconds[outcome.false_until], where),
            "alarm": track.local(track.seconds[outcome.false_at], where),
        }
    )
    both = [each for each in (events, false) if len(each)]
    rows = pd.concat(both or [events], ignore_index=True)
    order = rows["onset"].fillna(rows["alarm"]).fillna(rows["end"])
    rows = rows.assign(order=order).sort_values(["recording", "order"], kind="stable")
    write_text(path, csv(rows.drop(columns="order")))


def measures(test: Scored, alarm: Marks, outcome: Outcome) -> dict[str, float]:
    """Event and range-based measures of one method on the test recordings, by name."""
    low, high = outcome.interval
    found: dict[str, float] = {
        "events": len(outcome.found),
        "events_found": int(outcome.found.sum()),
        "delay_median": outcome.median,
        "delay_p90": outcome.quantile(0.9),
        "false_alarms": len(outcome.false_at),
        "normal_hours": outcome.normal_hours,
        "false_per_day": outcome.per_day,
        "false_per_day_low": low,
        "false_per_day_high": high,
        "alarms": outcome.alarms,
        "time_in_alarm": outcome.in_alarm,
        "normal_in_alarm": outcome.normal_in_alarm,
    }
    begins = begins_of(test.track, alarm)
    onsets = test.track.onset[~test.track.begun]
    for tolerance in TOLERANCES:
        found[f"event_f1_{tolerance:.0f}s"] = event_f1(onsets, begins, tolerance)
    return found


def begins_of(track: Track, alarm: Marks) -> Floats:
    """Times at which alarms begin; not of those within an event whose onset is not known."""
    first = np.flatnonzero(alarm & ~np.concatenate([[False], alarm[:-1]]))
    event = track.event[first]
    unknown = (event >= 0) & (track.begun[event] if len(track.begun) else False)
    return np.asarray(track.seconds[first[~unknown]])


def volume(test: Scored) -> float:
    """VUS-PR of the scores."""
    parts = [test.track.real & (test.track.stretch == k) for k in range(len(test.track.footage))]
    labels = [each.label > 0 for each in test.track.footage]
    return vus_pr([test.odds[part] for part in parts], labels, round(BUFFER / test.track.every))


def in_words(
    chosen: Chosen,
    test: Scored,
    methods: Sequence[Method],
    facts: Mapping[str, str],
    note: str,
) -> str:
    """The content of alarms.md."""
    alarms, rule, outcome = chosen.alarms, chosen.alarms.rule, methods[0].outcome
    lines = [f"# Alarm rule of {facts['model']}", ""]
    if alarms.simulated or facts["trained_on"].startswith(SYNTHETIC):
        lines += [f"**{SIMULATED}**", ""]
    if not alarms.budget_met:
        lines += [f"**No rule meets the budget of {alarms.budget}; this one comes closest.**", ""]
    lines += [f"Data: {alarms.data}. Trained on: {facts['trained_on']}.", ""]
    lines += ["## Rule", ""]
    setting = [
        ["setting", "value"],
        ["alarm begins", f"{rule.needed} of {rule.of} scores at or above {rule.on:.4g}"],
        ["alarm ends", f"all scores below {rule.off:.4g} for {rule.hold_off:g} s"],
        ["smoothing", f"{rule.smoothing:g} s" if rule.smoothing else "none"],
        ["a decision every", f"{rule.every:g} s"],
        ["temperature", f"{alarms.temperature:.4g}"],
        ["budget", alarms.budget],
        ["met on validation", "yes" if alarms.budget_met else "**no**"],
    ]
    picked = chosen.picked.outcome
    lines += [markdown(setting), ""]
    lines += [
        f"Chosen on the validation recordings alone, out of {len(chosen.candidates):,} rules:"
        " of those within the budget, the one that finds most events; among equals, the one with"
        " the least median delay, then the fewest false alarms, then the fewest alarms.",
        f"There, it finds {picked.found.sum()} of {len(picked.found)} events with a median delay"
        f" of {_seconds(picked.median)} and has {len(picked.false_at)} false alarms;"
        f" the rule is {support(picked.normal_hours, chosen.budget)}.",
        f"Expected calibration error there: {chosen.before.ece:.4f} before, {chosen.after.ece:.4f}"
        " with the temperature.",
        "",
        "## Measured on the test recordings",
        "",
    ]
    found = {each.name: measures(test, each.alarm, each.outcome) for each in methods}
    head = ["", *found]
    rows = [head, *([label, *(cell(each) for each in found.values())] for label, cell in ROWS)]
    lines += [markdown(rows), ""]
    low, high = outcome.interval
    kept = "within" if low <= chosen.budget.per_day <= high else "outside"
    lines += [f"The budget of {alarms.budget} lies {kept} the interval of the rule.", ""]
    if not chosen.cusum_met:
        lines += ["No CUSUM meets the budget on validation; the one that comes closest.", ""]
    lines += [
        f"VUS-PR of the scores, with buffers of up to {BUFFER:g} s: {volume(test):.4f}.",
        "",
        "An event is a run of abnormal frames. Normal operation is all footage but events,"
        f" {LEAD:g} s before and {GRACE:g} s after them; a time in alarm within it is a false"
        " alarm. An event is found if there is an alarm during it that was not a false alarm"
        " before. The interval of false alarms a day is the exact 95 % Poisson interval. F1 counts"
        " pairs of an onset and the beginning of an alarm. Nothing is point-adjusted. CUSUM"
        " accumulates the log-odds; its drift and limit are chosen on validation under the same"
        " budget.",
    ]
    if note:
        lines += ["", note]
    lines += ["", *_interference(test.track, outcome)]
    lines += [
        "![Score, alarms and truth](timeline.png)",
        "",
        "![Events found by delay](delays.png)",
        "",
        "![False alarms against delay](tradeoff.png)",
        "",
        "![Reliability](reliability.png)",
        "",
        f"Checkpoint: SHA-256 {alarms.checkpoint_sha256}",
    ]
    return "\n".join(lines) + "\n"


def _seconds(value: float) -> str:
    return NONE if np.isnan(value) else f"{value:.1f} s"


def _number(value: float) -> str:
    return NONE if np.isnan(value) else readable(value)


def _rate(found: Mapping[str, float]) -> str:
    low, high = found["false_per_day_low"], found["false_per_day_high"]
    return f"{_number(found['false_per_day'])} [{_number(low)}, {_number(high)}]"


ROWS: list[tuple[str, Any]] = [
    ("events found", lambda f: f"{f['events_found']} of {f['events']}"),
    ("delay, median", lambda f: _seconds(f["delay_median"])),
    ("delay, 90th percentile", lambda f: _seconds(f["delay_p90"])),
    ("false alarms", lambda f: f"{f['false_alarms']} in {f['normal_hours']:.2f} h"),
    ("false alarms a day [95 %]", _rate),
    ("alarms in all", lambda f: f"{f['alarms']}"),
    ("time in alarm", lambda f: f"{f['time_in_alarm']:.1%}"),
    ("normal operation in alarm", lambda f: f"{f['normal_in_alarm']:.2%}"),
    *(
        (f"event F1 within {each:.0f} s", lambda f, name=f"event_f1_{each:.0f}s": _number(f[name]))
        for each in TOLERANCES
    ),
]


def _interference(track: Track, outcome: Outcome) -> list[str]:
    """Lines of the table by disturbance; none for recordings without tags."""
    parts = [each.tags for each in track.footage]
    if any(each is None for each in parts):
        return []
    tags = track.spread([each for each in parts if each is not None], 0)
    rows = [["disturbance", "normal hours", "false alarms", "a day [95 %]", "events found"]]
    for name, bits in {**DISTURBANCES, "none": None}.items():
        there = tags & int(LABEL_FREE) == 0 if bits is None else tags & int(bits) > 0
        hours = float((track.normal & there).sum()) * track.every / 3600
        count = int(there[outcome.false_at].sum())
        low, high = poisson_interval(count, hours / 24)
        rate = f"{_number(24 * count / hours)} [{_number(low)}, {_number(high)}]" if hours else NONE
        events = np.unique(track.event[there & (track.event >= 0)])
        if bits is None:  # during all of the event
            events = np.setdiff1d(events, track.event[~there & (track.event >= 0)])
        rows.append(
            [
                name,
                f"{hours:.2f}",
                f"{count}",
                rate,
                f"{outcome.found[events].sum()} of {len(events)}",
            ]
        )
    return [
        "## By disturbance",
        "",
        markdown(rows),
        "",
        "A false alarm counts where it begins; an event under each disturbance that occurs during"
        " it, with overlaps.",
        "",
    ]

"""Tables that the paper lacks: rates by disturbance, events, differences to one method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from fmbench.format.columns import parse_seconds, stretches
from fmbench.metrics import classes_of
from fmbench.simulator import DISTURBANCES, LABEL_FREE
from fmbench.tables.intervals import Comparison, Interval, compare, intervals
from fmbench.tables.render import interval_text, shown
from fmbench.tables.table import Line, Table
from fmbench.tabular import NONE, markdown

FREE = "none"


def under(windows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The windows under each disturbance (with overlaps), and those under none."""
    tags = windows["tags"].to_numpy()
    found = {name: windows[tags & int(tag) > 0] for name, tag in DISTURBANCES.items()}
    return found | {FREE: windows[tags & int(LABEL_FREE) == 0]}


def interference(line: Line) -> dict[str, dict[str, Interval]]:
    """Every rate under each disturbance: mean over seeds with its interval."""
    parts = [under(windows) for windows in line.windows]
    return {
        name: intervals([part[name].reset_index(drop=True) for part in parts])
        for name in parts[0]
        if len(parts[0][name])
    }


def event_rates(windows: pd.DataFrame) -> dict[str, float]:
    """Detected events, delays and false alarms, from decisions at the spacing of the test windows.

    An event is an abnormal stretch; it is detected if any of its windows is classified as abnormal.
    An alarm is a run of windows classified as abnormal; it is false if all of them are normal.

    Returns:
        events; found, the detected ones; delay_median and delay_p90, seconds from the onset of a
        detected event to its first window classified as abnormal; false_per_hour, false alarms an
        hour of normal operation; alarm_share, of all windows; spacing, seconds between two windows.
    """
    total = found = false = 0
    normal_seconds = 0.0
    delays: list[float] = []
    gaps: list[float] = []
    for _, part in windows.groupby("recording", sort=False):
        part = part.sort_values("frame")
        seconds = parse_seconds(part["time"])
        apart = np.diff(seconds)
        gaps += apart.tolist()
        abnormal = part["label"].to_numpy() > 0
        called = part["decision"].to_numpy() > 0
        since = part["since_onset"].to_numpy()
        onset = np.where(abnormal, np.round(seconds - since), np.nan)
        for begin in np.unique(onset[abnormal]):
            rows = onset == begin
            total += 1
            hits = since[rows & called]
            if len(hits):
                found += 1
                delays.append(float(hits.min()))
        false += sum(not abnormal[start:stop].any() for start, stop in stretches(called))
        normal_seconds += float(np.sum(~abnormal) * (np.median(apart) if len(apart) else 0))
    hours = normal_seconds / 3600
    return {
        "events": total,
        "found": found,
        "delay_median": float(np.median(delays)) if delays else float("nan"),
        "delay_p90": float(np.quantile(delays, 0.9)) if delays else float("nan"),
        "false_per_hour": false / hours if hours else float("nan"),
        "alarm_share": float(np.mean(windows["decision"] > 0)),
        "spacing": float(np.median(gaps)) if gaps else float("nan"),
    }


class ClassEvents(NamedTuple):
    """Events of one class: abnormal stretches with windows of it."""

    events: float
    found: float
    """Those of which one of these windows is classified as abnormal, whatever the class."""
    named: float
    """Those of which one of these windows is classified as the class."""


def events_of_classes(windows: pd.DataFrame) -> dict[str, ClassEvents]:
    """Events of each class that is not normal, by its name; nothing of two classes."""
    classes = classes_of(windows)
    if len(classes) < 3:
        return {}
    seconds = parse_seconds(windows["time"])
    event = [windows["recording"], np.round(seconds - windows["since_onset"])]
    found = {}
    for kind, name in enumerate(classes[1:], 1):
        own = windows["label"] == kind
        calls = pd.DataFrame(
            {"found": windows["decision"] > 0, "named": windows["decision"] == kind}
        )
        each = calls[own].groupby([keys[own] for keys in event]).any()
        found[name] = ClassEvents(len(each), int(each["found"].sum()), int(each["named"].sum()))
    return found


def interference_markdown(table: Table) -> str:
    """One table a metric: a row a method, a column a disturbance."""
    lines = [f"# {table.experiment.title}: by interference", "", *table.head(), ""]
    tagged = [line for line in table.measured if "tags" in line.windows[0]]
    if not tagged:
        return "\n".join([*lines, "These recordings have no disturbance tags.", ""])
    shares = {name: len(part) for name, part in under(tagged[0].windows[0]).items()}
    counted = ", ".join(f"{name} {count:,}" for name, count in shares.items())
    lines += [f"Windows: {counted}. Value [interval].", ""]
    measured = {line.row.name: interference(line) for line in tagged}
    for metric in table.experiment.metrics:
        rows = []
        for line in tagged:
            found = measured[line.row.name]
            if not any(metric in part for part in found.values()):
                continue
            cells = [_cell(found.get(name, {}), metric) for name in shares]
            rows.append([line.row.label, line.row.input, *cells])
        if rows:
            lines += [
                f"## {shown(metric)}",
                "",
                markdown([["method", "input", *shares], *rows]),
                "",
            ]
    return "\n".join(lines)


def events_markdown(table: Table) -> str:
    """Events found, delays, false alarms, time in alarm; mean over seeds."""
    lines = [f"# {table.experiment.title}: events", "", *table.head(), ""]
    rows = []
    spacing = float("nan")
    for line in table.measured:
        each = pd.DataFrame([event_rates(windows) for windows in line.windows]).mean()
        spacing = each["spacing"]
        rows.append(
            [
                line.row.label,
                line.row.input,
                f"{each['found']:.3g} of {each['events']:.0f}",
                f"{each['delay_median']:.0f}",
                f"{each['delay_p90']:.0f}",
                f"{each['false_per_hour']:.1f}",
                f"{each['alarm_share']:.1%}",
            ]
        )
    lines += [
        f"A decision every {spacing:.0f} s, one window each, nothing smoothed. An event is found if"
        " any of its windows is called abnormal; an alarm is a run of such windows, false if none"
        " of them is abnormal. A detector that always alarms finds every event.",
        "",
    ]
    head = ["method", "input", "events found", "delay, median s", "delay, p90 s"]
    head += ["false alarms an hour of normal operation", "time in alarm"]
    lines.append(markdown([head, *rows]))
    lines += _class_lines(table.measured)
    return "\n".join(lines) + "\n"


ALPHA = 0.05
HOLDS, TURNED, OPEN = "as in the paper", "**reversed**", "not significant"


def orders_markdown(table: Table) -> str:
    """Every row minus `against`: difference with interval and p, and the paper's difference."""
    (other,) = [line for line in table.lines if line.row.name == table.experiment.against]
    lines = [f"# {table.experiment.title}: against {other.row.name}", "", *table.head(), ""]
    lines += [
        f"Row minus {other.row.name}, on the same windows: difference [interval], p of an exchange"
        f" of blocks, *the paper's difference*. Significant where p is below {ALPHA:g} and the"
        " interval excludes 0, without a correction for the number of rows.",
        "",
    ]
    metrics = [name for name in ("acc", "miou") if name in table.experiment.metrics]
    rows = []
    for line in table.measured:
        if line is other or not other.results:
            continue
        found = compare(line.windows, other.windows)
        cells = [line.row.label, line.row.input]
        for metric in metrics:
            mine, theirs = (each.row.paper.get(metric) for each in (line, other))
            printed = None if mine is None or theirs is None else mine - theirs
            cells += _difference(found.get(metric), printed)
        rows.append(cells)
    head = ["method", "input"]
    for metric in metrics:
        head += [shown(metric), f"order of {shown(metric)}"]
    return "\n".join([*lines, markdown([head, *rows])]) + "\n"


def _class_lines(measured: Sequence[Line]) -> list[str]:
    """A table of events by class, mean over seeds; nothing of two classes."""
    rows = []
    names: list[str] = []
    for line in measured:
        each = [events_of_classes(windows) for windows in line.windows]
        if not each[0]:
            continue
        names, cells = [*each[0]], []
        for name in names:
            events, found, named = np.mean([of_seed[name] for of_seed in each], axis=0)
            cells.append(f"{found:.3g}, {named:.3g} of {events:.0f}")
        rows.append([line.row.label, line.row.input, *cells])
    if not rows:
        return []
    text = (
        "Events by class: found by a decision for any abnormal class, and by one for their own. An"
        " event counts for each class that its windows have."
    )
    return ["", text, "", markdown([["method", "input", *names], *rows])]


def _difference(found: Comparison | None, paper: float | None) -> list[str]:
    """Two cells: the measured and the paper's difference; whether the order is the paper's."""
    printed = "" if paper is None else f" *{paper:+.4f}*"
    if found is None:
        return [NONE + printed, ""]
    value, p = found.difference.value, found.p
    low, high = found.difference.low, found.difference.high
    if np.isnan(low):  # one block
        return [f"{value:+.4f}{printed}", ""]
    text = f"{value:+.4f} [{low:+.3f}, {high:+.3f}] p {p:.3f}{printed}"
    if paper is None or paper == 0:
        return [text, ""]
    significant = p < ALPHA and not low <= 0 <= high
    order = OPEN if not significant else HOLDS if value * paper > 0 else TURNED
    return [text, order]


def _cell(found: Mapping[str, Interval], metric: str) -> str:
    interval = found.get(metric)
    if interval is None or np.isnan(interval.value):
        return NONE
    return f"{interval.value:.3f}{interval_text(interval, 2)}"

"""The page of a report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from markupsafe import Markup

from fmbench.page import render
from fmbench.report.charts import STYLES, curves, span_of, whisker
from fmbench.report.mistakes import pictured, worst
from fmbench.report.sources import Source
from fmbench.tables.area import area_lines
from fmbench.tables.breakdown import event_rates, interference, under
from fmbench.tables.intervals import Interval
from fmbench.tables.render import shown as shown_metric
from fmbench.tables.table import Line, Table
from fmbench.tabular import NONE, SIMULATED

MOST_CURVES = STYLES
"""Learning curves in one drawing."""
MEANING = {
    "acc": "share of all windows that are judged correctly; 1 is perfect",
    "f1": "one figure for missed and false calls of abnormal windows; 1 is perfect",
    "fdr": "false discovery rate: share of the windows called abnormal that are normal; 0 is"
    " perfect",
    "mdr": "missed detection rate: share of the abnormal windows called normal; 0 is perfect",
    "miou": "how well the marked region covers the true one, mean over abnormal and normal pixels;"
    " 1 is perfect",
    "auroc": "how well scores separate abnormal from normal windows at any threshold; 0.5 is"
    " chance",
    "aupr": "the same with regard to abnormal windows alone; 1 is perfect",
    "macro_f1": "F1, mean over the classes; 1 is perfect",
}


def page(source: Source) -> str:
    """The HTML of a report.

    Raises:
        ValueError, OSError: a recording cannot be read.
    """
    table, line = source.table, source.shown
    windows = line.windows[0]
    found = worst(windows)
    return render(
        "fmbench.report",
        "report.html",
        title=f"Report: {source.title}",
        banner=SIMULATED if table.synthetic else "",
        sentences=in_words(line),
        head=_head(table),
        metrics=[(shown_metric(name), MEANING.get(name, "")) for name in table.experiment.metrics],
        results=_results(table),
        failed=[line.row.name for line in table.lines if line.failed],
        learning=_learning(table),
        interference=_by(
            {each.row.name: interference(each) for each in _tagged(table)}, "fdr", "mdr"
        ),
        conditions=_conditions(windows),
        area=_by({name: each for name, (_, each) in area_lines(table).items()}, "mdr", "iou"),
        events=[_events(each) for each in table.measured],
        spacing=f"{event_rates(windows)['spacing']:.0f}",
        alarms=source.alarms,
        name=line.row.name,
        mistakes=[
            ("Abnormal, called normal", "missed", pictured(found["missed"], windows, source.data)),
            ("Normal, called abnormal", "false", pictured(found["false"], windows, source.data)),
        ],
        speed=list(source.speed.items()),
        made=list(source.made.items()),
    )


def in_words(line: Line) -> list[str]:
    """The result of a row in sentences."""
    windows, found = line.windows[0], line.intervals
    sentences = [
        f"{line.row.name} judged {_percent(found['acc'])} of {len(windows):,} test windows"
        " correctly."
    ]
    if "mdr" in found:
        sentences.append(
            f"It missed {_percent(found['mdr'])} of the abnormal windows. Of the windows that it"
            f" called abnormal, {_percent(found['fdr'])} were normal."
        )
    events = event_rates(windows)
    if events["events"]:
        sentences.append(
            f"It called at least one window abnormal in {events['found']:.0f} of"
            f" {events['events']:.0f} abnormal events"
            + (
                f"; in half of those, {events['delay_median']:.0f} s after the onset or earlier."
                if events["found"]
                else "."
            )
        )
    if not math.isnan(rate := events["false_per_hour"]):
        sentences.append(
            f"If each run of windows called abnormal raised an alarm, {rate:.1f} false alarms would"
            " come in an hour of normal operation."
        )
    return sentences


def _percent(interval: Interval) -> str:
    value, low, high = (100 * each for each in interval)
    reach = "" if math.isnan(low) else f" (95 % interval {low:.1f} to {high:.1f} %)"
    return f"{value:.1f} %{reach}"


def _head(table: Table) -> list[str]:
    """Sentences on data, seeds and intervals; those of a run name no profile and no option."""
    sentences = [each for each in table.head() if each != SIMULATED]
    if not table.profile:
        changes = {
            "Profile , 1 seed;": "One training;",
            " (`--stale retrain` trains them again)": "",
        }
        for words, others in changes.items():
            sentences = [each.replace(words, others) for each in sentences]
    return sentences


def _results(table: Table) -> list[list[Any]]:
    """A row a method: label, input, a cell a metric."""
    metrics = table.experiment.metrics
    spans = {
        name: span_of([each.intervals[name] for each in table.measured if name in each.intervals])
        for name in metrics
    }
    return [
        [
            line.row.label,
            line.row.input,
            *(_cell(line.intervals.get(name), spans[name], shown_metric(name)) for name in metrics),
            f"{line.parameters:,}" if line.parameters else NONE,
        ]
        for line in table.measured
    ]


def _cell(interval: Interval | None, span: tuple[float, float], name: str) -> Markup | str:
    if interval is None or math.isnan(interval.value):
        return NONE
    text = f"{interval.value:.4f}"
    reach = "" if math.isnan(interval.low) else f"{interval.low:.3f} to {interval.high:.3f}"
    drawing = whisker(interval, span, f"{name} {text}, interval {reach or 'none'}")
    return Markup('{}<br><span class="reach">{}</span>{}').format(text, reach, drawing)


def _learning(table: Table) -> dict[str, Any] | None:
    """Validation curves of the first seed, the most accurate rows first."""
    lines = [
        line
        for line in table.measured
        if not line.row.join and len(line.results[0].facts.get("curve", [])) > 1
    ]
    if not lines:
        return None
    lines.sort(key=lambda line: -line.intervals["acc"].value)
    named = {line.row.name: line.results[0].facts["curve"] for line in lines[:MOST_CURVES]}
    metric = lines[0].results[0].facts["config"]["select"]
    return {
        "drawing": curves(named, f"{metric} of each epoch: {', '.join(named)}"),
        "metric": metric,
        "names": list(named),
        "others": len(lines) - len(named),
        "rising": [line.row.name for line in lines if line.still_learning],
    }


def _tagged(table: Table) -> list[Line]:
    return [line for line in table.measured if "tags" in line.windows[0]]


def _conditions(windows: pd.DataFrame) -> str:
    """How many windows lie under each disturbance."""
    if "tags" not in windows:
        return ""
    return ", ".join(f"{name} {len(rows):,}" for name, rows in under(windows).items())


def _by(
    found: Mapping[str, Mapping[str, Mapping[str, Interval]]], *metrics: str
) -> list[dict[str, Any]]:
    """A table a metric: a row a method, a column a condition."""
    tables = []
    conditions = list(dict.fromkeys(name for of in found.values() for name in of))
    for metric in metrics:
        rows = [
            [method, *(_short(of.get(name, {}).get(metric)) for name in conditions)]
            for method, of in found.items()
            if any(metric in each for each in of.values())
        ]
        if rows:
            tables.append({"name": shown_metric(metric), "columns": conditions, "rows": rows})
    return tables


def _short(interval: Interval | None) -> Markup | str:
    if interval is None or math.isnan(interval.value):
        return NONE
    reach = "" if math.isnan(interval.low) else f"{interval.low:.2f} to {interval.high:.2f}"
    return Markup('{}<br><span class="reach">{}</span>').format(f"{interval.value:.3f}", reach)


def _events(line: Line) -> Sequence[str]:
    each = pd.DataFrame([event_rates(windows) for windows in line.windows]).mean()
    return [
        line.row.name,
        f"{each['found']:.3g} of {each['events']:.0f}",
        *(_number(each[name], "{:.0f} s") for name in ("delay_median", "delay_p90")),
        _number(each["false_per_hour"], "{:.1f}"),
        f"{each['alarm_share']:.1%}",
    ]


def _number(value: float, form: str) -> str:
    return NONE if math.isnan(value) else form.format(value)

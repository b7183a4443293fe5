"""Rates by the area of the abnormal region: how small a region each method finds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fmbench.tables.intervals import Interval, intervals
from fmbench.tables.render import finish, interval_text, shown
from fmbench.tables.results import PIXELS
from fmbench.tables.table import Line, Table
from fmbench.tabular import NONE, markdown

AREAS = {"below 10 px": (1, 10), "10 to 39 px": (10, 40), "from 40 px": (40, math.inf)}
"""Abnormal pixels of the frame, from (inclusive) and to (exclusive)."""

SHOWN = ("mdr", "iou")
PLACE = ["recording", "frame"]
COLOURS = ("#D55E00", "#E69F00", "#0072B2")


def abnormal_area(table: Table) -> tuple[pd.DataFrame, NDArray[np.int64]] | None:
    """(N, 2) recording and frame of the test windows, and (N,) abnormal pixels in their last frame;
    None if no row has masks.

    A row without masks is tested on the same windows, so that one row with masks gives all areas.
    """
    for line in table.measured:
        windows = line.windows[0]
        if all(name in windows for name in PIXELS):
            return windows[PLACE], (windows["pixel_fn"] + windows["pixel_tp"]).to_numpy(np.int64)
    return None


def classes(area: NDArray[np.int64]) -> dict[str, NDArray[np.bool_]]:
    """By the name of each class of AREAS, (N,) whether a window belongs to it."""
    return {name: (area >= low) & (area < high) for name, (low, high) in AREAS.items()}


def by_area(line: Line, area: NDArray[np.int64]) -> dict[str, dict[str, Interval]]:
    """The rates SHOWN of the windows in each class of AREAS that has any."""
    found = {}
    for name, rows in classes(area).items():
        if rows.any():
            parts = [windows[rows].reset_index(drop=True) for windows in line.windows]
            every = intervals(parts)
            found[name] = {metric: every[metric] for metric in SHOWN if metric in every}
    return found


def area_lines(table: Table) -> Mapping[str, tuple[Line, dict[str, dict[str, Interval]]]]:
    """By row's name, the row and its rates by area; rows of other test windows are left out."""
    found = abnormal_area(table)
    if found is None:
        return {}
    place, area = found
    return {
        line.row.name: (line, by_area(line, area))
        for line in table.measured
        if line.windows[0][PLACE].equals(place)
    }


def area_markdown(table: Table) -> str:
    """A table a rate: a row a method, a column a class of areas."""
    lines = [f"# {table.experiment.title}: by abnormal area", "", *table.head(), ""]
    found, measured = abnormal_area(table), area_lines(table)
    if found is None:
        return "\n".join([*lines, "No row was tested with masks.", ""])
    shares = classes(found[1]).items()
    counted = ", ".join(f"{name} {rows.sum():,}" for name, rows in shares)
    lines += [
        f"Abnormal windows by the abnormal pixels of their frame: {counted}. MDR is the share that"
        " is missed; IoU is that of the abnormal pixels of these windows. Value [interval].",
        "",
    ]
    for metric in SHOWN:
        rows = [
            [
                line.row.label,
                line.row.input,
                *(_cell(of_line.get(name, {}), metric) for name in AREAS),
            ]
            for line, of_line in measured.values()
            if any(metric in part for part in of_line.values())
        ]
        if rows:
            table_of = markdown([["method", "input", *AREAS], *rows])
            lines += [f"## {shown(metric)}", "", table_of, ""]
    return "\n".join([*lines, f"![Missed windows by area]({table.experiment.name}-area.png)", ""])


def draw_area(table: Table, path: Path) -> Path:
    """Draw each row's miss rate in each class of AREAS, with its interval."""
    measured = area_lines(table)
    figure = Figure(figsize=(8, 1.9 + 0.3 * len(measured)), dpi=120, layout="constrained")
    axes = figure.subplots()
    for shift, colour, name in zip((-0.22, 0, 0.22), COLOURS, AREAS, strict=True):
        for k, (_, found) in enumerate(measured.values()):
            if name not in found:
                continue
            value, low, high = found[name]["mdr"]
            axes.plot([low, high], [k + shift] * 2, color=colour, linewidth=1.4, alpha=0.7)
            label = name if k == 0 else None
            axes.plot(value, k + shift, "o", color=colour, markersize=4.5, label=label)
    axes.set_yticks(range(len(measured)), list(measured), fontsize=8.5)
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.grid(axis="x", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel("MDR: share of abnormal windows that is missed, with its interval")
    axes.set_title(f"{table.experiment.title}: by abnormal area", fontsize=10.5, loc="left")
    axes.legend(title="abnormal area", fontsize=8.5, title_fontsize=8.5, loc="best")
    return finish(figure, table, path)


def _cell(found: Mapping[str, Interval], metric: str) -> str:
    interval = found.get(metric)
    if interval is None or math.isnan(interval.value):
        return NONE
    return f"{interval.value:.3f}{interval_text(interval, 2)}"

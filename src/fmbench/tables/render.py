"""A table of results as Markdown, LaTeX, CSV and a picture.

The paper's value is printed beside the measured one, never in its place.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from fmbench import tabular
from fmbench.files.atomic import in_one_step, write_text
from fmbench.tables.intervals import Interval
from fmbench.tables.runner import NOT_YET
from fmbench.tables.table import SMOKE, Line, Table
from fmbench.tabular import NONE, SIMULATED, latex_text

NAMES = {
    "acc": "Acc",
    "f1": "F1",
    "fdr": "FDR",
    "mdr": "MDR",
    "miou": "mIoU",
    "iou": "IoU",
    "auroc": "AUROC",
    "aupr": "AUPR",
    "macro_f1": "macro F1",
}
"""By metric; of a class's recall or precision, see `shown`."""
LEARNING = "†"
DrawTable = Callable[[Table, Path], Path]
Tex = Literal["intervals", "compact"]
SMALLER_IS_BETTER = ("fdr", "mdr")
MODALITY_COLOURS = {"current": "#009E73", "visual": "#E69F00", "cross": "#0072B2"}


def shown(metric: str) -> str:
    """What tables call a metric."""
    rate, _, name = metric.partition("_")
    return NAMES.get(metric) or f"{rate} of {name}"


def write_table(table: Table, folder: Path, draw: DrawTable, tex: Tex = "intervals") -> list[Path]:
    """Write `<name>.md`, `.tex`, `.csv` and, if any row is measured, `.png` into `folder`; returns
    their paths.

    Args:
        table: the measured rows.
        folder: where the files go.
        draw: writes the picture of the table to a path, such as `draw_rows`.
        tex: cells of the LaTeX table, as of `table_latex`.
    """
    name = table.experiment.name
    texts = {"md": table_markdown(table), "tex": table_latex(table, tex), "csv": table_csv(table)}
    written = []
    for ending, text in texts.items():
        written.append(folder / f"{name}.{ending}")
        write_text(written[-1], text)
    if table.measured:
        written.append(draw(table, folder / f"{name}.png"))
    return written


def table_markdown(table: Table) -> str:
    """A page: value [interval], followed by the paper's value in italics."""
    metrics = table.experiment.metrics
    rows = [["method", "input", *map(shown, metrics), "parameters", "minutes"]]
    for line in table.lines:
        first = [_label(line), line.row.input]
        if line.failed:
            rows.append([*first, _why(line), *[""] * (len(metrics) + 1)])
            continue
        cells = [_cell(line, metric) for metric in metrics]
        rows.append([*first, *cells, _count(line.parameters), _minutes(line.fit_seconds)])
    title = table.experiment.title
    lines = [f"# {title}", "", *table.head(), "", _explained(table), "", tabular.markdown(rows)]
    lines += [
        line for note in (table.experiment.note, table.precisions()) if note for line in ("", note)
    ]
    if table.experiment.draw != "rows" and table.measured:
        lines += ["", f"![{title}]({table.experiment.name}.png)"]
    return "\n".join(lines) + "\n"


def table_latex(table: Table, tex: Tex = "intervals") -> str:
    """A LaTeX table with the best value of each column in bold, reference rows left aside.

    Args:
        table: the measured rows.
        tex: `intervals` puts value and interval in one cell, and the paper's values in a second
            line of each row; `compact` gives the value ± standard deviation over seeds alone.
    """
    metrics = table.experiment.metrics
    rows = [["Method", "Input", *(latex_text(shown(m)) for m in metrics)]]
    best = {metric: _best(table, metric) for metric in metrics}
    for line in table.lines:
        first = [latex_text(_label(line)), latex_text(line.row.input)]
        if line.failed:
            why = latex_text(_why(line))
            rows.append([*first, rf"\multicolumn{{{len(metrics)}}}{{l}}{{{why}}}"])
            continue
        cells = [_latex_cell(line, metric, tex, line in best[metric]) for metric in metrics]
        rows.append([*first, *cells])
        if line.row.paper and tex == "intervals":
            printed = [
                rf"\textit{{{line.row.paper[metric]:.4f}}}" if metric in line.row.paper else ""
                for metric in metrics
            ]
            rows.append([r"\quad\textit{paper}", "", *printed])
    title, label = table.experiment.title, f"tab:{table.experiment.name}"
    return tabular.latex(rows, labels=2, caption=title, label=label, notes=table.head())


def table_csv(table: Table) -> str:
    """Every row with its data, profile and result keys; numbers with six significant digits."""
    rows = []
    for line in table.lines:
        facts = line.results[0].facts if line.results else {}
        row = {
            "method": line.row.label,
            "input": line.row.input,
            "profile": table.profile,
            "seeds": table.seeds,
            "data": facts.get("data"),
            "synthetic": facts.get("synthetic"),
            "windows": len(line.windows[0]) if line.windows else None,
            "parameters": line.parameters,
            "fit_seconds": line.fit_seconds,
            "still_learning": line.still_learning if line.results else None,
            "failed": line.failed or None,
            "keys": " ".join(result.key[:10] for result in line.results),
        }
        for metric in table.experiment.metrics:
            value, low, high = line.intervals.get(metric, (None, None, None))
            row |= {metric: value, f"{metric}_low": low, f"{metric}_high": high}
            row[f"{metric}_sd"] = line.spread.get(metric)
            row[f"{metric}_paper"] = line.row.paper.get(metric)
        rows.append(row)
    return tabular.csv(pd.DataFrame(rows))


def draw_rows(table: Table, path: Path) -> Path:
    """Draw the first metric of every row with its interval, the paper's value as a hollow mark."""
    metric = table.experiment.metrics[0]
    lines = table.measured
    figure = Figure(figsize=(8, 1.7 + 0.26 * len(lines)), dpi=120, layout="constrained")
    axes = figure.subplots()
    for k, line in enumerate(lines):
        value, low, high = line.intervals[metric]
        colour = "#777777" if line.row.reference else MODALITY_COLOURS[line.row.modality]
        axes.plot([low, high], [k, k], color=colour, linewidth=2, solid_capstyle="butt")
        axes.plot(value, k, "o", color=colour, markersize=5.5)
        if metric in line.row.paper:
            axes.plot(line.row.paper[metric], k, "D", mfc="none", mec="#444444", markersize=5)
    axes.set_yticks(
        range(len(lines)),
        [line.row.name for line in lines],
        fontsize=8.5,
    )
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel(f"{shown(metric)}: measured, with its interval; hollow: printed in the paper")
    axes.set_title(table.experiment.title, fontsize=10.5, loc="left")
    return finish(figure, table, path)


def finish(figure: Figure, table: Table, path: Path, more: str = "") -> Path:
    """Write a picture as a PNG, with its data, its profile and `more` below; returns `path`."""
    notes = [SMOKE] if table.profile == "smoke" else []
    notes += [SIMULATED] if table.synthetic else []
    notes += [more] if more else []
    notes += [f"{table.measured[0].results[0].facts['data']}; profile {table.profile}"]
    figure.supxlabel("\n".join(notes), fontsize=8, fontstyle="italic", x=0.995, ha="right")
    with in_one_step(path) as beside:
        figure.savefig(beside, format="png")
    return path


def _explained(table: Table) -> str:
    text = "Value [interval]"
    if any(line.row.paper for line in table.lines):
        text += ", *in italics what the paper prints*"
    if table.seeds > 1:
        text += "; ± standard deviation over seeds"
    if any(line.results and line.still_learning for line in table.lines):
        text += f". {LEARNING} still learning when its training ended"
    return text + "."


def _why(line: Line) -> str:
    return line.failed if line.failed == NOT_YET else f"failed: {line.failed}"


def _label(line: Line) -> str:
    return line.row.label + (f" {LEARNING}" if line.results and line.still_learning else "")


def _cell(line: Line, metric: str) -> str:
    printed = f" *{line.row.paper[metric]:.4f}*" if metric in line.row.paper else ""
    interval = line.intervals.get(metric)
    if interval is None or math.isnan(interval.value):
        return NONE + printed
    spread = f" ± {line.spread[metric]:.3f}" if metric in line.spread else ""
    return f"{interval.value:.4f}{spread}{interval_text(interval)}{printed}"


def interval_text(interval: Interval, digits: int = 3) -> str:
    """` [0.612, 0.671]`; empty for a value without an interval."""
    if math.isnan(interval.low):
        return ""
    return f" [{interval.low:.{digits}f}, {interval.high:.{digits}f}]"


def _best(table: Table, metric: str) -> list[Line]:
    """The lines with the best value as it is printed; reference rows do not count."""
    sign = -1 if metric in SMALLER_IS_BETTER else 1
    values = [
        (sign * round(line.intervals[metric].value, 4), line)
        for line in table.measured
        if not line.row.reference and metric in line.intervals
    ]
    top = max((value for value, _ in values if not math.isnan(value)), default=None)
    return [line for value, line in values if value == top]


def _latex_cell(line: Line, metric: str, tex: Tex, best: bool) -> str:
    interval = line.intervals.get(metric)
    if interval is None or math.isnan(interval.value):
        return "--"
    number = rf"\mathbf{{{interval.value:.4f}}}" if best else f"{interval.value:.4f}"
    spread = rf" \pm {line.spread[metric]:.4f}" if metric in line.spread else ""
    if tex == "compact" or math.isnan(interval.low):
        return f"${number}{spread}$"
    return rf"${number}{spread}$ {{\scriptsize{interval_text(interval)}}}"


def _count(number: int | None) -> str:
    return NONE if number is None else f"{number:,}"


def _minutes(seconds: float | None) -> str:
    return NONE if seconds is None or np.isnan(seconds) else f"{seconds / 60:.1f}"

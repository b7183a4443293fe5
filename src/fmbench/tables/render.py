"""A table as Markdown, LaTeX, CSV and a picture; the paper's value stands beside the measured one,
never in its place."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from fmbench.files.atomic import in_one_step, write_text
from fmbench.tables.intervals import Interval
from fmbench.tables.runner import NOT_YET
from fmbench.tables.table import Line, Table

NAMES = {
    "acc": "Acc",
    "f1": "F1",
    "fdr": "FDR",
    "mdr": "MDR",
    "miou": "mIoU",
    "auroc": "AUROC",
    "aupr": "AUPR",
}
NONE = "–"
LEARNING = "†"
Draw = Callable[[Table, Path], Path]
COLOURS = {"current": "#009E73", "visual": "#E69F00", "cross": "#0072B2"}


def write_table(table: Table, folder: Path, draw: Draw) -> list[Path]:
    """Write `<name>.md`, `.tex`, `.csv` and `.png` into `folder`; returns their paths.

    Args:
        table: what was measured.
        folder: where the files go.
        draw: from the table and a path to the picture there; `picture`, or another figure.
    """
    name = table.experiment.name
    texts = {"md": markdown(table), "tex": latex(table), "csv": csv(table)}
    written = []
    for ending, text in texts.items():
        written.append(folder / f"{name}.{ending}")
        write_text(written[-1], text)
    if table.measured:
        written.append(draw(table, folder / f"{name}.png"))
    return written


def markdown(table: Table) -> str:
    """For a page: value [interval], the paper's value in italics behind it."""
    metrics = table.experiment.metrics
    head = ["method", "input", *(NAMES[metric] for metric in metrics), "parameters", "minutes"]
    rows = []
    for line in table.lines:
        first = [_label(line), line.row.input]
        if line.failed:
            rows.append([*first, _why(line), *[""] * (len(head) - 3)])
            continue
        cells = [_cell(line, metric) for metric in metrics]
        rows.append([*first, *cells, _count(line.parameters), _minutes(line.fit_seconds)])
    lines = [f"# {table.experiment.title}", "", *table.head(), ""]
    lines += [_explained(table), ""]
    lines += [
        "| " + " | ".join(row).replace("\n", " ") + " |"
        for row in [head, ["---"] * len(head), *rows]
    ]
    if table.experiment.note:
        lines += ["", table.experiment.note]
    if table.experiment.draw != "rows" and table.measured:
        lines += ["", f"![{table.experiment.title}]({table.experiment.name}.png)"]
    return "\n".join(lines) + "\n"


def latex(table: Table) -> str:
    """A `tabular` in the style of booktabs; the paper's values in a second line of each row."""
    metrics = table.experiment.metrics
    lines = [f"% {sentence}" for sentence in table.head()]
    lines += [
        r"\begin{tabular}{ll" + "r" * len(metrics) + "}",
        r"\toprule",
        " & ".join(["Method", "Input", *(NAMES[metric] for metric in metrics)]) + r" \\",
        r"\midrule",
    ]
    for line in table.lines:
        first = [_tex(_label(line)), _tex(line.row.input)]
        if line.failed:
            lines.append(
                " & ".join([*first, rf"\multicolumn{{{len(metrics)}}}{{l}}{{{_tex(_why(line))}}}"])
                + r" \\"
            )
            continue
        cells = [_tex_cell(line, metric) for metric in metrics]
        lines.append(" & ".join([*first, *cells]) + r" \\")
        if line.row.paper:
            printed = [
                rf"\textit{{{line.row.paper[metric]:.4f}}}" if metric in line.row.paper else ""
                for metric in metrics
            ]
            lines.append(" & ".join([r"\quad\textit{paper}", "", *printed]) + r" \\")
    columns = len(metrics) + 2
    said = _tex(" ".join(table.head()))
    lines += [
        r"\bottomrule",
        rf"\multicolumn{{{columns}}}{{p{{0.95\linewidth}}}}{{\footnotesize {said}}}",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def csv(table: Table) -> str:
    """A line a row, every number in full; what it was measured on in every line."""
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
            interval = line.intervals.get(metric)
            row[metric] = interval.value if interval else None
            row[f"{metric}_low"] = interval.low if interval else None
            row[f"{metric}_high"] = interval.high if interval else None
            row[f"{metric}_sd"] = line.spread.get(metric)
            row[f"{metric}_paper"] = line.row.paper.get(metric)
        rows.append(row)
    out = io.StringIO()
    pd.DataFrame(rows).to_csv(out, index=False, float_format="%.6g", lineterminator="\n")
    return out.getvalue()


def picture(table: Table, path: Path) -> Path:
    """The first metric of every row with its interval; the paper's value as a hollow mark."""
    metric = table.experiment.metrics[0]
    lines = table.measured
    figure = Figure(figsize=(8, 1.7 + 0.26 * len(lines)), dpi=120, layout="constrained")
    axes = figure.subplots()
    for k, line in enumerate(lines):
        value, low, high = line.intervals[metric]
        colour = "#777777" if line.row.reference else COLOURS[line.row.modality]
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
    axes.set_xlabel(f"{NAMES[metric]}: measured, with its interval; hollow: printed in the paper")
    axes.set_title(table.experiment.title, fontsize=10.5, loc="left")
    return finish(figure, table, path)


def finish(figure: Figure, table: Table, path: Path, more: str = "") -> Path:
    """Say below a picture what it was measured on (and `more`), and write it as a PNG; returns
    `path`."""
    note = f"{table.measured[0].results[0].facts['data']}; profile {table.profile}"
    note = f"{more}\n{note}" if more else note
    if table.synthetic:
        note = f"Simulated recordings: not results on the fused magnesium benchmark\n{note}"
    if table.profile == "smoke":
        note = f"SMOKE: shows that everything runs; nothing has been learnt.\n{note}"
    figure.supxlabel(note, fontsize=8, fontstyle="italic", x=0.995, ha="right")
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
    return f"{interval.value:.4f}{spread}{ends(interval)}{printed}"


def ends(interval: Interval, digits: int = 3) -> str:
    """` [0.612, 0.671]`, or nothing where a value has no interval."""
    if math.isnan(interval.low):
        return ""
    return f" [{interval.low:.{digits}f}, {interval.high:.{digits}f}]"


def _tex_cell(line: Line, metric: str) -> str:
    interval = line.intervals.get(metric)
    if interval is None or math.isnan(interval.value):
        return "--"
    spread = rf" \pm {line.spread[metric]:.3f}" if metric in line.spread else ""
    return rf"${interval.value:.4f}{spread}$ {{\scriptsize{ends(interval)}}}"


def _tex(text: str) -> str:
    for sign in "&%$#_{}":
        text = text.replace(sign, rf"\{sign}")
    return text.replace(LEARNING, r"$\dagger$").replace(NONE, "--")


def _count(number: int | None) -> str:
    return NONE if number is None else f"{number:,}"


def _minutes(seconds: float | None) -> str:
    return NONE if seconds is None or np.isnan(seconds) else f"{seconds / 60:.1f}"

"""Table I: how many frames are normal and abnormal, beside what the paper counts."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from fmbench.data import open_root
from fmbench.files.atomic import in_one_step, write_text
from fmbench.prepare.counts import table_one
from fmbench.tables.experiment import Experiment

Counts = Mapping[str, Mapping[str, int]]
"""Frames by part of the data (with a total) and class (with a total)."""
KINDS = ("normal", "abnormal", "total")
SIMULATED = "Simulated recordings: these are not counts of the fused magnesium benchmark."
COLOURS = {"normal": "#0072B2", "abnormal": "#CC79A7"}


def write_counts(experiment: Experiment, root: Path, folder: Path) -> list[Path]:
    """Count a root's frames and write `<name>.md`, `.tex`, `.csv` and `.png` into `folder`; returns
    their paths.

    Raises:
        ValueError: no such folder, no recordings, or files that cannot be used.
    """
    measured: Counts = {
        str(part): {str(kind): int(count) for kind, count in of_part.items()}
        for part, of_part in table_one(root).items()
    }
    paper = with_totals(experiment.counts)
    parts = [name for name in measured if name != "total"]
    about = [open_root(root, part) for part in parts]
    synthetic = any(recording.synthetic for part in about for recording in part.recordings)
    recordings = sum(len(part.recordings) for part in about)
    said = f"Counted in {root.name}: {recordings} recordings, {', '.join(parts)}."
    said = f"{said} {SIMULATED}" if synthetic else said
    texts = {
        "md": markdown(experiment, measured, paper, said),
        "tex": latex(measured, paper, said),
        "csv": csv(measured, paper, synthetic),
    }
    written = []
    for ending, text in texts.items():
        written.append(folder / f"{experiment.name}.{ending}")
        write_text(written[-1], text)
    return [*written, picture(experiment, measured, said, folder / f"{experiment.name}.png")]


def with_totals(counts: Counts) -> Counts:
    """Counts of normal and abnormal frames by part, with the sums of both."""
    total = {kind: sum(of_part[kind] for of_part in counts.values()) for kind in KINDS[:2]}
    return {
        part: {**of_part, "total": sum(of_part.values())}
        for part, of_part in {**counts, "total": total}.items()
    }


def markdown(experiment: Experiment, measured: Counts, paper: Counts, said: str) -> str:
    """Frames, the paper's in italics behind them."""
    lines = [f"# {experiment.title}", "", said, "", "Frames, *in italics what the paper counts*."]
    lines += ["", "| | " + " | ".join(paper) + " |", "| --- " * (len(paper) + 1) + "|"]
    for kind in KINDS:
        cells = [f"{_number(measured, kind, part)} *{paper[part][kind]:,}*" for part in paper]
        lines.append(f"| {kind} | " + " | ".join(cells) + " |")
    if experiment.note:
        lines += ["", experiment.note]
    return "\n".join(lines) + "\n"


def latex(measured: Counts, paper: Counts, said: str) -> str:
    """A `tabular` in the style of booktabs; the paper's counts in a second line of each row."""
    lines = [f"% {said}", r"\begin{tabular}{l" + "r" * len(paper) + "}", r"\toprule"]
    lines += [" & ".join(["", *paper]) + r" \\", r"\midrule"]
    for kind in KINDS:
        lines.append(" & ".join([kind, *(_number(measured, kind, p) for p in paper)]) + r" \\")
        italics = [rf"\textit{{{paper[part][kind]:,}}}" for part in paper]
        lines.append(" & ".join([r"\quad\textit{paper}", *italics]) + r" \\")
    lines += [r"\bottomrule"]
    lines.append(rf"\multicolumn{{{len(paper) + 1}}}{{l}}{{\footnotesize {said}}}")
    return "\n".join([*lines, r"\end{tabular}"]) + "\n"


def csv(measured: Counts, paper: Counts, synthetic: bool) -> str:
    """A line a class."""
    rows = [
        {
            "class": kind,
            **{part: measured[part][kind] if part in measured else None for part in paper},
            **{f"{part}_paper": paper[part][kind] for part in paper},
            "synthetic": synthetic,
        }
        for kind in KINDS
    ]
    out = io.StringIO()
    table = pd.DataFrame(rows).convert_dtypes()  # counts stay whole where a part is missing
    table.to_csv(out, index=False, lineterminator="\n")
    return out.getvalue()


def picture(experiment: Experiment, measured: Counts, said: str, path: Path) -> Path:
    """A bar a part, its classes side by side."""
    parts = [name for name in measured if name != "total"]
    figure = Figure(figsize=(7, 1.6 + 0.7 * len(parts)), dpi=120, layout="constrained")
    axes = figure.subplots()
    left = np.zeros(len(parts))
    for kind, colour in COLOURS.items():
        frames = np.array([float(measured[part][kind]) for part in parts])
        bars = axes.barh(parts, frames, left=left, color=colour, height=0.6, label=kind)
        axes.bar_label(bars, [f"{count:,.0f}" for count in frames], label_type="center", color="w")
        left += frames
    axes.set_xlabel("frames")
    axes.xaxis.set_major_formatter(lambda count, _: f"{count:,.0f}")
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(experiment.title, fontsize=10.5, loc="left")
    axes.legend(loc="upper right", bbox_to_anchor=(1, 1.25), ncols=2, frameon=False, fontsize=8.5)
    figure.supxlabel(said.replace(". ", ".\n"), fontsize=8, fontstyle="italic", x=0.995, ha="right")
    with in_one_step(path) as beside:
        figure.savefig(beside, format="png")
    return path


def _number(measured: Counts, kind: str, part: str) -> str:
    return f"{measured[part][kind]:,}" if part in measured else "–"

"""Table I: numbers of frames by class, beside the paper's of normal and abnormal ones."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from fmbench import tabular
from fmbench.data import open_root
from fmbench.files.atomic import in_one_step, write_text
from fmbench.pictures import CLASSES as ABNORMAL_COLOURS
from fmbench.prepare.frames_by_class import OF_ABNORMAL, table_one
from fmbench.tables.experiment import Experiment
from fmbench.tabular import NONE, SIMULATED, latex_text

FrameCounts = Mapping[str, Mapping[str, int]]
"""Frames by part of the data (with a total) and class (with a total), as `table_one` names them."""
CLASS_COLOURS = {"normal": "#0072B2", "abnormal": "#CC79A7"}


def write_counts(experiment: Experiment, root: Path, folder: Path) -> list[Path]:
    """Count a root's frames and write `<name>.md`, `.tex`, `.csv` and `.png` into `folder`; returns
    their paths.

    Raises:
        ValueError: the folder is missing, has no recordings, or holds files that cannot be read.
    """
    measured = cast(FrameCounts, table_one(root).to_dict())
    paper = with_totals(experiment.counts)
    parts = [name for name in measured if name != "total"]
    opened = [open_root(root, part) for part in parts]
    synthetic = any(recording.synthetic for part in opened for recording in part.recordings)
    recordings = sum(len(part.recordings) for part in opened)
    notes = [f"Counted in {root.name}: {recordings} recordings, {', '.join(parts)}."]
    notes += [SIMULATED] if synthetic else []
    texts = {
        "md": counts_markdown(experiment, measured, paper, notes),
        "tex": counts_latex(experiment, measured, paper, notes),
        "csv": counts_csv(measured, paper, synthetic),
    }
    written = []
    for ending, text in texts.items():
        written.append(folder / f"{experiment.name}.{ending}")
        write_text(written[-1], text)
    return [*written, draw_counts(experiment, measured, notes, folder / f"{experiment.name}.png")]


def with_totals(counts: FrameCounts) -> FrameCounts:
    """Counts of normal and abnormal frames by part, with the sums over classes and parts."""
    total = {kind: sum(of_part[kind] for of_part in counts.values()) for kind in CLASS_COLOURS}
    return {
        part: {**of_part, "total": sum(of_part.values())}
        for part, of_part in {**counts, "total": total}.items()
    }


def counts_markdown(
    experiment: Experiment, measured: FrameCounts, paper: FrameCounts, notes: list[str]
) -> str:
    """The counts, each followed by the paper's in italics."""
    rows = [
        [kind, *(f"{_number(measured, kind, part)}{_printed(paper[part], kind)}" for part in paper)]
        for kind in measured["total"]
    ]
    lines = [f"# {experiment.title}", "", " ".join(notes), ""]
    lines += ["Frames, *in italics what the paper counts*.", ""]
    lines += [tabular.markdown([["", *paper], *rows])]
    lines += ["", experiment.note] if experiment.note else []
    return "\n".join(lines) + "\n"


def counts_latex(
    experiment: Experiment, measured: FrameCounts, paper: FrameCounts, notes: list[str]
) -> str:
    """The counts, with the paper's in a second line of each row."""
    rows = [["", *map(latex_text, paper)]]
    for kind in measured["total"]:
        rows.append(
            [latex_text(kind), *(latex_text(_number(measured, kind, part)) for part in paper)]
        )
        if kind not in paper["total"]:
            continue
        italics = [rf"\textit{{{paper[part][kind]:,}}}" for part in paper]
        rows.append([r"\quad\textit{paper}", *italics])
    label = f"tab:{experiment.name}"
    return tabular.latex(rows, labels=1, caption=experiment.title, label=label, notes=notes)


def counts_csv(measured: FrameCounts, paper: FrameCounts, synthetic: bool) -> str:
    """A row a class."""
    rows = [
        {
            "class": kind,
            **{part: measured[part][kind] if part in measured else None for part in paper},
            **{f"{part}_paper": paper[part].get(kind) for part in paper},
            "synthetic": synthetic,
        }
        for kind in measured["total"]
    ]
    # convert_dtypes keeps counts integer in a column that has missing values
    return tabular.csv(pd.DataFrame(rows).convert_dtypes())


def draw_counts(
    experiment: Experiment, measured: FrameCounts, notes: list[str], path: Path
) -> Path:
    """Write a PNG with one bar a part, divided into classes; returns `path`."""
    parts = [name for name in measured if name != "total"]
    figure = Figure(figsize=(7, 1.6 + 0.7 * len(parts)), dpi=120, layout="constrained")
    axes = figure.subplots()
    left = np.zeros(len(parts))
    classes = [kind for kind in measured["total"] if kind.startswith(OF_ABNORMAL)]
    colours = dict(zip(classes, cycle(ABNORMAL_COLOURS), strict=False))
    shown = {"normal": CLASS_COLOURS["normal"], **colours} if classes else CLASS_COLOURS
    for kind, colour in shown.items():
        frames = np.array([float(measured[part][kind]) for part in parts])
        bars = axes.barh(parts, frames, left=left, color=colour, height=0.6, label=kind)
        axes.bar_label(bars, [f"{count:,.0f}" for count in frames], label_type="center", color="w")
        left += frames
    axes.set_xlabel("frames")
    axes.xaxis.set_major_formatter(lambda count, _: f"{count:,.0f}")
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(experiment.title, fontsize=10.5, loc="left")
    axes.legend(loc="upper right", bbox_to_anchor=(1, 1.25), ncols=2, frameon=False, fontsize=8.5)
    figure.supxlabel("\n".join(notes), fontsize=8, fontstyle="italic", x=0.995, ha="right")
    with in_one_step(path) as beside:
        figure.savefig(beside, format="png")
    return path


def _printed(paper: Mapping[str, int], kind: str) -> str:
    return f" *{paper[kind]:,}*" if kind in paper else ""


def _number(measured: FrameCounts, kind: str, part: str) -> str:
    return f"{measured[part][kind]:,}" if part in measured else NONE

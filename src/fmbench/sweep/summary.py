"""What a sweep found, as Markdown, CSV and a picture."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from optuna.distributions import CategoricalDistribution, FloatDistribution

from fmbench.files.atomic import in_one_step, write_text
from fmbench.sweep.file import Sweep
from fmbench.tabular import csv, markdown


def write_summary(sweep: Sweep, table: pd.DataFrame, said: str, out: Path) -> list[Path]:
    """Write `<name>.md`, `.csv` and `.png` into `out`, the best trial first; returns their paths.

    Args:
        sweep: what was tried.
        table: what `run_sweep` returns.
        said: what the trials were measured on.
        out: where the files go.
    """
    best_first = table.sort_values(
        sweep.metric.name,
        ascending=sweep.metric.goal == "minimize",
        kind="stable",
        na_position="last",
    )
    rows = [["trial", *sweep.space, sweep.metric.name]]
    for _, row in best_first.iterrows():
        cells = [
            f"{row[each]:.4g}" if isinstance(row[each], float) else str(row[each])
            for each in rows[0][:-1]
        ]
        value = f"failed: {row['failed']}" if row["failed"] else f"{row[sweep.metric.name]:.4f}"
        rows.append([*cells, value])
    written = [out / f"{sweep.name}.{ending}" for ending in ("md", "csv", "png")]
    write_text(written[0], f"# Sweep {sweep.name}\n\n{said}\n\n{markdown(rows)}\n")
    write_text(written[1], csv(best_first))
    done = table[table["failed"] == ""]
    if done.empty:
        return written[:2]
    count = len(sweep.space)
    figure = Figure(figsize=(max(4.5, 3.2 * count), 3.6), dpi=120, layout="constrained")
    for axes, (name, kind) in zip(
        figure.subplots(1, count, sharey=True, squeeze=False)[0], sweep.space.items(), strict=True
    ):
        place = list(done[name])
        if isinstance(kind, CategoricalDistribution):
            place = [kind.choices.index(each) for each in place]
            labels = [str(each).strip("{}").replace("'", "") for each in kind.choices]
            turned = {"rotation": 20, "ha": "right"} if max(map(len, labels)) > 8 else {}
            axes.set_xticks(range(len(labels)), labels, fontsize=8, **turned)
            axes.margins(x=0.2)
        elif isinstance(kind, FloatDistribution) and kind.log:
            axes.set_xscale("log")
        axes.plot(place, done[sweep.metric.name].tolist(), "o", color="#0072B2", markersize=5)
        axes.set_xlabel(name)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel(f"{sweep.metric.name}, best epoch")
    figure.suptitle(f"Sweep {sweep.name}", fontsize=10.5, x=0.005, ha="left")
    figure.supxlabel(said, fontsize=7.5, fontstyle="italic", x=0.995, ha="right", wrap=True)
    with in_one_step(written[2]) as beside:
        figure.savefig(beside, format="png")
    return written

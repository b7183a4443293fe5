"""Draw and tabulate learning curves of runs: `python experiments/learning.py RUN... --out docs`.

Reads each run's config.yaml, log/version_*/metrics.csv, val.json and test.json; writes learning.png
and learning-table.md.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from fmbench.tabular import NONE, SIMULATED, markdown

COLOURS = {"cross": "#0072B2", "visual": "#E69F00", "current": "#009E73"}
RATES = {"acc": "Acc", "f1": "F1", "fdr": "FDR", "mdr": "MDR", "miou": "mIoU", "auroc": "AUROC"}


def read_run(folder: Path) -> dict[str, Any]:
    """A run's config, learning curve by training windows, and results on val and test."""
    logs = sorted(folder.glob("log/version_*/metrics.csv"))
    log = pd.concat([pd.read_csv(path) for path in logs]).dropna(subset=["val/acc"])
    result = {part: json.loads((folder / f"{part}.json").read_text()) for part in ("val", "test")}
    batch = result["val"]["config"]["data"]["batch_size"]
    return {
        "modality": result["val"]["config"]["modality"],
        "seed": result["val"]["config"]["seed"],
        "windows": (log["step"] + 1) * batch,
        "log": log,
        **result,
    }


def draw(runs: list[dict[str, Any]], path: Path) -> None:
    """Draw validation accuracy and mIoU against training windows."""
    figure = Figure(figsize=(11, 4.2), dpi=110, layout="constrained")
    left, right = figure.subplots(1, 2)
    for run in runs:
        style: Any = {
            "color": COLOURS[run["modality"]],
            "linestyle": ("-", "--", ":")[run["seed"] % 3],
            "label": f"{run['modality']}, seed {run['seed']}",
        }
        left.plot(run["windows"], run["log"]["val/acc"], **style)
        if "val/miou" in run["log"]:
            right.plot(run["windows"], run["log"]["val/miou"], **style)
    for axes, name in ((left, "accuracy"), (right, "mIoU")):
        axes.set(xlabel="training windows", ylabel=f"validation {name}")
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, fontsize=9)
    notes = {run["test"]["data"].split(",")[0] for run in runs}
    if any(run["test"]["synthetic"] for run in runs):
        notes = {SIMULATED}
    figure.supxlabel("; ".join(sorted(notes)), fontsize=9, fontstyle="italic", x=0.995, ha="right")
    figure.savefig(path)


def table(runs: list[dict[str, Any]]) -> str:
    """A Markdown row a run: test rates, minutes, commit."""
    head = ["FmFormer", "seed", *RATES.values(), "minutes", "windows", "precision", "commit"]
    rows = [head]
    for run in runs:
        metrics, fit = run["test"]["metrics"], run["val"]
        rows.append(
            [
                run["modality"],
                str(run["seed"]),
                *(f"{metrics[key]:.4f}" if key in metrics else NONE for key in RATES),
                f"{fit['fit_seconds'] / 60:.0f}",
                f"{int(run['windows'].max()):,}",
                str(fit.get("precision") or fit["config"]["trainer"].get("precision", "32")),
                str(fit["git_commit"])[:9],
            ]
        )
    return f"Measured on {runs[0]['test']['data']}; test part.\n\n{markdown(rows)}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs"))
    options = parser.parse_args()
    runs = [read_run(folder) for folder in options.runs]
    order = list(COLOURS)
    runs.sort(key=lambda run: (order.index(run["modality"]), run["seed"]))
    options.out.mkdir(parents=True, exist_ok=True)
    draw(runs, options.out / "learning.png")
    (options.out / "learning-table.md").write_text(table(runs))
    print(options.out / "learning.png", options.out / "learning-table.md", sep="\n")


if __name__ == "__main__":
    main()

"""The hours of `make table2` (profile cpu), by row, and their dependence on threads.

    python benchmarks/table2.py --into benchmarks/table2.md

Every row is measured by `fmbench speed`: training windows a second, and windows a second without
gradients. Its minutes are those windows of the profile that train, validate and test, at these
rates; loading, less than 4 % of most rows (experiments/results/cpu/speed.md), is left out. Of a
method in several stages the last that learns is taken for all. The settings take turns, row after
row, so that all meet the same noise of the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
import yaml

from fmbench import tables
from fmbench.config.profiles import shipped
from fmbench.tables.experiment import Row
from fmbench.tabular import markdown

CORES = os.cpu_count() or 1
PASSIVE, SPINNING = {"OMP_WAIT_POLICY": "PASSIVE"}, {"OMP_WAIT_POLICY": "ACTIVE"}


class Setting(NamedTuple):
    """How a row is run: processes at the same time, threads of each, and how threads wait."""

    title: str
    at_once: int
    threads: int
    environment: Mapping[str, str]


SETTINGS = [
    Setting("one at a time, waiting threads sleep at once", 1, CORES, PASSIVE),
    Setting("one at a time, they spin for a moment (fmbench)", 1, CORES, {}),
    Setting("as many as cores, a thread each", CORES, 1, {}),
]
BESIDE = [
    Setting("sleep at once", 2, CORES, PASSIVE),
    Setting("spin for a moment", 2, CORES, {}),
    Setting("spin on", 2, CORES, SPINNING),
]


def measure(row: Row, setting: Setting, seconds: float) -> tuple[float | None, float]:
    """Windows a second of training and without gradients, summed over processes."""
    profile = shipped("configs") / "cpu.yaml"
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_"))}
    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder) / "row.yaml"
        settings.write_text(yaml.safe_dump(dict(row.config)))
        words = ["--config", profile, "--config", settings, "--image_size", "[64, 64]"]
        words += ["--model", row.model, "--modality", row.modality, "--seconds", seconds]
        words += ["--threads", setting.threads]
        outs = [Path(folder) / f"{k}.json" for k in range(setting.at_once)]
        started = [
            subprocess.Popen(
                [sys.executable, "-m", "fmbench", "speed", *map(str, words), "--out", str(out)],
                env=environment | setting.environment | {"OMP_NUM_THREADS": str(setting.threads)},
                stdout=subprocess.DEVNULL,
            )
            for out in outs
        ]
        failed = [process.wait() for process in started]
        if any(failed):
            raise SystemExit(f"{row.name}: not measured")
        found = [json.loads(out.read_text())["rows"][0]["figures"] for out in outs]
    training = [figures["training"] for figures in found]
    return (
        None if None in training else sum(training),
        sum(figures["forward"] for figures in found),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="of measuring, for each figure")
    parser.add_argument("--rows", type=int, help="the first few only")
    parser.add_argument("--into", type=Path)
    given = parser.parse_args()
    profile = yaml.safe_load((shipped("configs") / "cpu.yaml").read_text())
    data, epochs = profile["data"], profile["trainer"]["max_epochs"]
    trained = epochs * data["epoch_windows"]
    judged = (epochs + 1) * data["val_windows"] + data["test_windows"]
    rows = [row for row in tables.read_experiment("table2").trained() if not row.reference]
    lines = [["minutes", *(setting.title for setting in SETTINGS)]]
    totals = [0.0 for _ in SETTINGS]
    for row in rows[: given.rows]:
        minutes = []
        for setting in SETTINGS:
            training, forward = measure(row, setting, given.seconds)
            learning = trained / training if training else 0.0
            minutes.append((learning + judged / forward) / 60)
        totals = [total + each for total, each in zip(totals, minutes, strict=True)]
        lines.append([row.name, *(f"{each:.1f}" for each in minutes)])
        print(*lines[-1], flush=True)
    lines.append(["all", *(f"**{total / 60:.2f} h**" for total in totals)])
    lines.append(["of the first column", *(f"{total / totals[0]:.2f}" for total in totals)])
    beside = [["waiting threads", "training windows/s, both together"]]
    for setting in BESIDE:
        training, _ = measure(rows[-1], setting, given.seconds)
        assert training is not None
        beside.append([setting.title, f"{training:.1f}"])
        print(*beside[-1], flush=True)
    text = "\n".join(
        [
            "# The hours of `make table2`, and where they go",
            "",
            f"`python benchmarks/table2.py`, profile cpu: {trained:,} windows of training a row,"
            f" {judged:,} of validation and test; {CORES} cores, PyTorch {torch.__version__}."
            f" Minutes from measured rates ({given.seconds:g} s a figure), without loading and the"
            " start of processes. One measurement each, on a machine that others use as well: look"
            " at the sums.",
            "",
            markdown(lines, aligned=True),
            "",
            f"Where others use the cores as well: two trainings of {rows[-1].name} at the same"
            f" time, {CORES} threads each. Waiting threads that spin on, as is the default of GNU"
            " OpenMP, take the cores from those that have work.",
            "",
            markdown(beside, aligned=True),
            "",
        ]
    )
    if given.into:
        given.into.write_text(text)


if __name__ == "__main__":
    main()

"""Fig. 5: masks that methods predict in hard cases. Fig. 6: rates at other input lengths. A metric
over the training windows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

from fmbench.files.atomic import in_one_step
from fmbench.pictures import PREDICTED, SHADOW, TRUTH, painted
from fmbench.simulator import Tag
from fmbench.tables.experiment import Experiment
from fmbench.tables.render import DrawTable, finish, shown
from fmbench.tables.runner import Extra, run_all
from fmbench.tables.table import Line, Opened, Table
from fmbench.training.predict import predicted_scene
from fmbench.types import BENCHMARK

HARD = {
    "flame": (Tag.FLAME, 0.5),
    "mist": (Tag.MIST_HEAVY, 0.25),
    "ambient light": (Tag.AMBIENT, 0.5),
}
"""The disturbances of Fig. 5, and the quantile of the true region's area to show: in mist the paper
shows a small anomaly."""
CASE_GAP = 25
"""Frames between the two frames of a case."""
RATE_COLOURS = {"acc": "#0072B2", "f1": "#009E73", "fdr": "#D55E00", "mdr": "#CC79A7"}
CASE_SIDE = 240
LINES = {"current": ":", "visual": "--", "cross": "-"}


class Case(NamedTuple):
    """Frames of one recording to show, under one disturbance."""

    name: str
    recording: str
    frames: tuple[int, ...]


def cases_of(experiment: Experiment, windows: pd.DataFrame) -> list[Case]:
    """The experiment's cases; without any, for each disturbance an abnormal test window under it
    alone, and the frame one second earlier.

    The choice depends on labels, masks and tags only; it is the same for every method.

    Args:
        experiment: the experiment, with or without `cases`.
        windows: the test windows of any row's result.

    Raises:
        ValueError: the experiment names no cases, and the windows have no tags, or no abnormal
            window is under one disturbance alone.
    """
    if experiment.cases:
        return [Case(name, at.recording, at.frames) for name, at in experiment.cases.items()]
    if "tags" not in windows:
        raise ValueError(
            f"{experiment.name}: these recordings have no disturbance tags. Name the frames in"
            " the experiment file:\ncases: {flame: {recording: NAME, frames: [1200, 1225]}, …}"
        )
    tags, found = windows["tags"].to_numpy(), []
    every = int(sum(tag for tag, _ in HARD.values()))
    for name, (tag, quantile) in HARD.items():
        alone = windows[(windows["label"] > 0) & (tags & every == int(tag))]
        if len(alone):
            area = (alone["pixel_fn"] + alone["pixel_tp"]).to_numpy()
            k = np.argsort(area, kind="stable")[int(quantile * (len(alone) - 1))]
            frame = int(alone["frame"].iloc[k])
            first = max(0, frame - CASE_GAP)  # later frames may be past the end of the recording
            found.append(Case(name, str(alone["recording"].iloc[k]), (first, first + CASE_GAP)))
    if not found:
        raise ValueError(f"{experiment.name}: no test window is abnormal under {', '.join(HARD)}")
    return found


def seen(cases: Sequence[Case], data: Mapping[str, Any]) -> Extra:
    """A file of each run with the frames, true and predicted masks of the cases."""
    name = hashlib.sha256(json.dumps(cases).encode()).hexdigest()[:6]

    def make(checkpoint: Path, path: Path) -> None:
        parts = [
            predicted_scene(checkpoint, case.recording, data=data, frames=case.frames)[0]
            for case in cases
        ]
        kept: dict[str, NDArray[Any]] = {"frames": np.concatenate([x.frames for x in parts])}
        for mask in ("truth", "predicted"):
            drawn = [getattr(part, mask) for part in parts]
            if any(each is None for each in drawn):
                raise ValueError(f"{checkpoint}: Fig. 5 shows masks, but there is no {mask} mask")
            kept[mask] = np.concatenate(drawn).astype(np.uint8)
        with in_one_step(path) as beside, beside.open("wb") as file:
            np.savez_compressed(file, **kept)  # type: ignore[arg-type]

    return Extra(ending=f"-cases-{name}.npz", make=make)


def cases_drawn(
    table: Table,
    *,
    results: Path,
    runs: Path,
    at_once: int,
    say: Callable[[str], None],
    train: bool = True,
) -> DrawTable:
    """Predict the masks of the cases that are not stored yet, with the first training of each row;
    returns a function that draws them.

    Args: see `fmbench.tables.runner.run_all`.

    Raises:
        ValueError: a row predicts no mask, or no cases can be chosen.
    """
    lines = table.measured
    if not lines:
        return lambda table, path: path
    for line in lines:
        if "miou" not in line.intervals:
            raise ValueError(f"{table.experiment.name}: {line.row.name} predicts no mask to show")
    jobs = [line.jobs[0] for line in lines]
    cases = cases_of(table.experiment, lines[0].windows[0])
    extra = seen(cases, {"root": jobs[0].config.data["root"]})
    run_all(
        jobs,
        data=Opened(),
        results=results,
        runs=runs,
        at_once=at_once,
        say=say,
        train=train,
        extra=extra,
    )
    files = {
        line.row.name: results / f"{job.stem}{extra.ending}"
        for line, job in zip(lines, jobs, strict=True)
    }
    return partial(draw_cases, cases=cases, files=files)


def draw_cases(
    table: Table, path: Path, *, cases: Sequence[Case], files: Mapping[str, Path]
) -> Path:
    """Write a PNG with a row a method and a column a frame; returns `path`.

    Args:
        table: the methods.
        path: the PNG.
        cases: the frames to show.
        files: files of `seen` by the name of the row; missing ones are left out.

    Raises:
        ValueError: a file is damaged, or all are missing.
    """
    methods = {name: _read(file) for name, file in files.items() if file.is_file()}
    if not methods:
        raise ValueError(f"{table.experiment.name}: no predicted masks are stored")
    columns = [(case, frame) for case in cases for frame in case.frames]
    first = next(iter(methods.values()))
    rows = {"recorded": {"frames": first["frames"], "truth": first["truth"]}} | methods
    figure = Figure(
        figsize=(1.6 * len(columns) + 1.5, 1.66 * len(rows) + 1.2), dpi=80, layout="constrained"
    )
    grid = figure.subplots(len(rows), len(columns), squeeze=False)
    for cells, (name, kept) in zip(grid, rows.items(), strict=True):
        cells[0].set_ylabel(name.replace(" (", "\n("), fontsize=9)
        for k, (cell, (case, frame)) in enumerate(zip(cells, columns, strict=True)):
            predicted = kept.get("predicted")
            marked = None if predicted is None else predicted[k]
            cell.imshow(painted(kept["frames"][k], marked, kept["truth"][k], CASE_SIDE))
            cell.set(xticks=[], yticks=[])
            if marked is None:
                cell.set_title(f"{case.name}, frame {frame}", fontsize=8)
            else:
                cell.set_title(f"IoU {_iou(marked, kept['truth'][k])}", fontsize=7.5)
    figure.legend(
        handles=[
            Patch(color=PREDICTED, alpha=0.8, label="predicted region"),
            Line2D([], [], color=TRUTH, linewidth=2, label="true region", path_effects=SHADOW),
        ],
        loc="outside upper right",
        ncols=2,
        fontsize=8.5,
        frameon=False,
    )
    figure.suptitle(table.experiment.title, fontsize=10.5, x=0.005, ha="left")
    return finish(
        figure, table, path, "; ".join(f"{case.name}: {case.recording}" for case in cases)
    )


def draw_lengths(table: Table, path: Path) -> Path:
    """Write a PNG with rates over the lengths of clip and current, the training's marked; returns
    `path`."""
    figure = Figure(figsize=(9.5, 4.2), dpi=120, layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    lines = table.measured
    _over(left, lines, ("frames", "stride"), "clip, seconds (frames)")
    _over(right, lines, ("current_samples",), "current, seconds")
    left.set_ylabel("rate")
    left.legend(frameon=False, fontsize=8.5)
    figure.suptitle(table.experiment.title, fontsize=10.5, x=0.005, ha="left")
    return finish(figure, table, path)


def draw_windows(table: Table, path: Path) -> Path:
    """Write a PNG with the first metric over the training windows, a line a model and modality,
    named by its label up to the first comma; returns `path`."""
    metric = table.experiment.metrics[0]
    figure = Figure(figsize=(8.5, 5), dpi=120, layout="constrained")
    axes = figure.subplots()
    curves: dict[tuple[str | None, str], list[Line]] = {}
    for line in table.measured:
        curves.setdefault((line.row.model, line.row.modality), []).append(line)
    ticks = set[int]()
    for k, ((_, modality), lines) in enumerate(curves.items()):
        points = sorted((training_windows(line), line.intervals[metric]) for line in lines)
        x, measured = [at for at, _ in points], [interval for _, interval in points]
        ticks.update(x)
        name = lines[0].row.label.partition(",")[0]
        style: Any = {"color": f"C{k}", "linestyle": LINES[modality]}
        values = [each.value for each in measured]
        axes.plot(x, values, marker="o", markersize=4, label=f"{name} ({modality})", **style)
        ends = [each.low for each in measured], [each.high for each in measured]
        axes.fill_between(x, *ends, color=style["color"], alpha=0.1, linewidth=0)
    axes.set(xscale="log", xlabel="training windows", ylabel=f"test {shown(metric)}")
    axes.set_xticks(sorted(ticks), [f"{at:,}" for at in sorted(ticks)], fontsize=8.5)
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8.5)
    axes.set_title(table.experiment.title, fontsize=10.5, loc="left")
    return finish(figure, table, path)


def training_windows(line: Line) -> int:
    """Windows that a line's training sees: those of an epoch times the epochs.

    Raises:
        ValueError: the configuration names no number of either.
    """
    config = line.results[0].facts["config"]
    epochs, windows = config["trainer"].get("max_epochs"), config["data"].get("epoch_windows")
    if not epochs or not windows:
        raise ValueError(
            f"{line.row.name}: draw: windows needs data.epoch_windows and trainer.max_epochs"
        )
    return int(epochs * windows)


def _over(axes: Axes, lines: Sequence[Line], options: tuple[str, ...], name: str) -> None:
    """Draw the rows whose test differs from the training in these options only."""
    at: dict[float, tuple[int, Line, bool]] = {}  # two rows may share a result
    for line in lines:
        facts = line.results[0].facts
        test = facts.get("test", {})
        if set(test) <= set(options):
            data = {**facts["config"]["data"], **test, **facts.get("window", {})}
            at[_seconds(data, options[0])] = (data[options[0]], line, not test)
    points = [(seconds, *at[seconds]) for seconds in sorted(at)]
    x = [point[0] for point in points]
    for metric, colour in RATE_COLOURS.items():
        measured = [point[2].intervals[metric] for point in points]
        axes.plot(
            x,
            [each.value for each in measured],
            "o-",
            color=colour,
            markersize=4,
            linewidth=1.3,
            label=shown(metric),
        )
        ends = [each.low for each in measured], [each.high for each in measured]
        axes.fill_between(x, *ends, color=colour, alpha=0.15, linewidth=0)
    for seconds, _, _, trained in points:
        if trained:
            axes.axvline(seconds, color="0.4", linewidth=1, linestyle=":")
            axes.annotate(
                "as trained",
                (seconds, 1),
                (3, -3),
                xycoords=("data", "axes fraction"),
                textcoords="offset points",
                fontsize=8,
                va="top",
                color="0.3",
            )
    counts = [f" ({point[1]})" if options[0] == "frames" else "" for point in points]
    axes.set_xticks(x, [f"{at:g}{count}" for at, count in zip(x, counts, strict=True)], fontsize=8)
    axes.set(xlabel=name, ylim=(0, 1))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def _seconds(data: Mapping[str, Any], length: str) -> float:
    """Seconds that a clip of `frames` or a window of `current_samples` spans."""
    if length == "frames":
        rate = data.get("frame_rate", BENCHMARK.frame_rate)
        return float((data["frames"] - 1) * data["stride"] / rate)
    return float(data["current_samples"] / data.get("current_rate", BENCHMARK.current_rate))


def _iou(predicted: NDArray[np.uint8], truth: NDArray[np.uint8]) -> str:
    union = np.count_nonzero(predicted | truth)
    return f"{np.count_nonzero(predicted & truth) / union:.2f}" if union else "–"


def _read(path: Path) -> dict[str, NDArray[np.uint8]]:
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            return {name: file[name] for name in ("frames", "truth", "predicted")}
    except Exception as error:  # NumPy and zipfile raise many types for a damaged archive
        raise ValueError(f"{path} is damaged ({error}); delete it to make it again") from None

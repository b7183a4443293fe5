"""Pictures of a detector's predictions for a recording: a PNG or an MP4."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import ascii_lowercase
from typing import Any, cast

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import Normal, Stroke
from matplotlib.ticker import MultipleLocator
from numpy.typing import NDArray

from fmbench.format.columns import stretches
from fmbench.tabular import SIMULATED
from fmbench.types import BENCHMARK, Channel

# The palette of Okabe and Ito, distinguishable with every kind of colour blindness.
PHASES = ("#0072B2", "#E69F00", "#009E73")
TRUTH, PREDICTED, SCORE, ABNORMAL = "#FFFFFF", "#56B4E9", "#000000", "#CC79A7"
ALARM = "#D55E00"
CLASSES = ("#D55E00", "#56B4E9", "#F0E442", "#009E73", "#CC79A7", "#0072B2", "#E69F00")
"""Of class 1 and those after it, where there are more than two; from the eighth on again."""
TINT = 0.5
"""Opacity of the predicted region."""
MAX_COLUMNS = 8
"""Frames that fit in the row of a PNG."""
TICKS = (1, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)
"""Seconds between ticks of a time axis."""
LEGEND: dict[str, Any] = {
    "loc": "lower right",
    "bbox_to_anchor": (1, 0.98),
    "ncols": 4,
    "fontsize": 9,
    "frameon": False,
}
LETTER_BOX = {"boxstyle": "circle,pad=0.15", "facecolor": "white", "edgecolor": "0.3"}
SHADOW = [Stroke(linewidth=4, foreground="black"), Normal()]


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A recording, or a part of one, and a detector's predictions. All times are in seconds.

    Attributes:
        frames: (n, H, W, 3) uint8.
        times: (n,) times of the frames.
        truth: (n, H, W) class indices, 1 = abnormal; None without masks.
        predicted: (n, H, W) class indices; None for a model that predicts no mask.
        currents: (S, C) amperes, or the channels' units.
        channels: names and units of the currents; none for phases in amperes.
        current_times: (S,).
        scores: (m,) probability of abnormal.
        score_times: (m,).
        labels: (m,) class indices, 1 = abnormal; None if unknown.
        threshold: lowest score of a window that is classified as abnormal.
        classes: names of the K classes; with K > 2, each has a colour.
        alarms: (m,) whether there is an alarm after each score; None without an alarm rule.
        class_scores: (m, K) their probabilities; needed with K > 2.
        title: heading.
        synthetic: the recording is simulated; the picture then carries SIMULATED.

    Raises:
        ValueError: lengths that do not match, no frame, or no score.
    """

    frames: NDArray[np.uint8]
    times: NDArray[np.floating[Any]]
    truth: NDArray[Any] | None = None
    predicted: NDArray[Any] | None = None
    currents: NDArray[np.floating[Any]]
    current_times: NDArray[np.floating[Any]]
    scores: NDArray[np.floating[Any]]
    score_times: NDArray[np.floating[Any]]
    labels: NDArray[Any] | None = None
    threshold: float = 0.5
    classes: tuple[str, ...] = BENCHMARK.classes
    class_scores: NDArray[np.floating[Any]] | None = None
    alarms: NDArray[np.bool_] | None = None
    title: str = ""
    synthetic: bool = False
    channels: Sequence[Channel] = ()

    def __post_init__(self) -> None:
        n, m, samples = len(self.times), len(self.score_times), len(self.current_times)
        if n == 0 or m == 0:
            raise ValueError("a picture needs at least one frame and one score")
        lengths = {
            "frames": (self.frames, n),
            "truth": (self.truth, n),
            "predicted": (self.predicted, n),
            "currents": (self.currents, samples),
            "scores": (self.scores, m),
            "labels": (self.labels, m),
            "class_scores": (self.class_scores, m),
            "alarms": (self.alarms, m),
        }
        for name, (values, wanted) in lengths.items():
            if values is not None and len(values) != wanted:
                raise ValueError(f"{name} has {len(values)} entries for {wanted} times")

    @property
    def colours(self) -> tuple[str, ...]:
        """Of each class but normal, with more than two classes; else empty."""
        if len(self.classes) == 2:
            return ()
        return tuple(CLASSES[k % len(CLASSES)] for k in range(len(self.classes) - 1))

    def seen(
        self, index: int
    ) -> tuple[NDArray[np.uint8], NDArray[Any] | None, NDArray[Any] | None]:
        """A frame, its predicted mask and its true one."""
        return (
            self.frames[index],
            None if self.predicted is None else self.predicted[index],
            None if self.truth is None else self.truth[index],
        )


def overlay(path: Path, scene: Scene) -> Path:
    """Write a PNG: a row of frames above the three currents above the score; returns `path`.

    The predicted region is tinted, the true one outlined. At most MAX_COLUMNS frames are shown,
    evenly spaced.
    """
    chosen = np.unique(
        np.linspace(0, len(scene.frames) - 1, min(MAX_COLUMNS, len(scene.frames))).astype(int)
    )
    figure = Figure(figsize=(14, 7.4), dpi=110, layout="constrained")
    figure.suptitle(scene.title, fontsize=13, fontweight="bold", x=0.005, ha="left")
    top, bottom = cast(Any, figure).subfigures(2, 1, height_ratios=(1.0, 2.2))
    cells = np.atleast_1d(top.subplots(1, len(chosen)))
    for cell, index, letter in zip(cells, chosen, ascii_lowercase, strict=False):
        _frame(cell, scene, int(index), letter)
    _legend(top, scene)
    above, below = bottom.subplots(2, 1, sharex=True)
    _currents(above, scene)
    _score(below, scene)
    for time, letter in zip(scene.times[chosen], ascii_lowercase, strict=False):
        for axes in (above, below):
            axes.axvline(time, color="0.3", linewidth=0.9, linestyle=(0, (1, 2)), zorder=1)
        above.annotate(
            letter, (time, 1), (0, -5), xycoords=("data", "axes fraction"), fontsize=9,
            textcoords="offset points", ha="center", va="top", bbox=LETTER_BOX,
        )  # fmt: skip
    if scene.synthetic:
        bottom.supxlabel(SIMULATED, fontsize=10, fontstyle="italic", x=0.995, ha="right")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png")
    return path


def overlay_video(path: Path, scene: Scene, *, fps: float = 10) -> Path:
    """Write an MP4: every frame, at most 480 pixels a side, beside currents and score, with a line
    at the frame's time; returns `path`.

    Raises:
        ValueError: OpenCV has no encoder for the file.
    """
    side = 480
    panel, columns, rows = _panel(scene, width=960, height=side)
    path.parent.mkdir(parents=True, exist_ok=True)
    size = (side + panel.shape[1], side)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), fps, size)
    if not writer.isOpened():
        raise ValueError(f"{path}: this OpenCV cannot write MP4 files there")
    try:
        for index, column in enumerate(columns):
            picture = np.zeros((side, side, 3), np.uint8)
            frame = painted(*scene.seen(index), side, scene.colours)
            picture[: frame.shape[0], : frame.shape[1]] = frame
            for colour, stroke in ((0, 5), (255, 2)):  # white with a dark rim
                cv2.putText(
                    picture, minutes_seconds(scene.times[index]), (12, 30),
                    cv2.FONT_HERSHEY_SIMPLEX, 0.8, (colour, colour, colour), stroke, cv2.LINE_AA,
                )  # fmt: skip
            traces = panel.copy()
            traces[rows, max(0, column - 1) : column + 1] = 60
            writer.write(np.hstack([picture, traces])[:, :, ::-1])
    finally:
        writer.release()
    return path


def painted(
    frame: NDArray[np.uint8],
    predicted: NDArray[Any] | None,
    truth: NDArray[Any] | None,
    side: int,
    colours: Sequence[str] = (),
) -> NDArray[np.uint8]:
    """A (H, W, 3) frame scaled to `side` pixels on its longer side, the predicted region tinted,
    the true one outlined; masks are (H, W) class indices. `colours`: of class 1, 2, …; if empty,
    there is one class, tinted in PREDICTED and outlined in TRUTH."""
    height, width = frame.shape[:2]
    size = (round(side * width / max(width, height)), round(side * height / max(width, height)))
    picture: NDArray[Any] = cv2.resize(frame, size, interpolation=cv2.INTER_CUBIC)
    if predicted is not None:
        for kind, colour in enumerate(colours or (PREDICTED,), 1):
            tint = _region(predicted == kind if colours else predicted > 0, size)[..., None] * TINT
            picture = (picture * (1 - tint) + _rgb(colour) * tint).astype(np.uint8)
    if truth is not None:
        for kind, colour in enumerate(colours or (TRUTH,), 1):
            region = _region(truth == kind if colours else truth > 0, size).astype(np.uint8)
            outlines, _ = cv2.findContours(region, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
            stroke = max(2, side // 120)
            cv2.drawContours(picture, outlines, -1, (0, 0, 0), stroke + 2, cv2.LINE_AA)
            cv2.drawContours(picture, outlines, -1, _rgb(colour).tolist(), stroke, cv2.LINE_AA)
    return picture


def minutes_seconds(seconds: float) -> str:
    """Seconds as minutes and seconds, `12:05`."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def _region(mask: NDArray[Any], size: tuple[int, int]) -> NDArray[np.bool_]:
    """A mask at `size` (width, height), with smooth edges."""
    large = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
    return large >= 0.5


def _rgb(colour: str) -> NDArray[np.int64]:
    return np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])


def _frame(axes: Axes, scene: Scene, index: int, letter: str) -> None:
    """Draw one frame of the row below its time and score."""
    axes.imshow(painted(*scene.seen(index), 320, scene.colours))
    axes.set(xticks=[], yticks=[])
    nearest = int(np.abs(scene.score_times - scene.times[index]).argmin())
    answer = f"score {scene.scores[nearest]:.2f}"
    if scene.class_scores is not None:
        decision = int(scene.class_scores[nearest].argmax())
        answer = f"{scene.classes[decision]} {scene.class_scores[nearest, decision]:.2f}"
    axes.set_title(f"{letter}   {minutes_seconds(scene.times[index])}   {answer}", fontsize=9)
    kind = 0 if scene.labels is None else int(scene.labels[nearest])
    colour = (scene.colours or (ABNORMAL,))[kind - 1] if kind else "0.6"
    for spine in axes.spines.values():
        spine.set(color=colour, linewidth=3 if kind else 1)


def _currents(axes: Axes, scene: Scene) -> None:
    if not len(scene.currents):
        axes.set_ylabel("current: no log")
        _truth_bands(axes, scene, label="")
        return
    values: NDArray[np.floating[Any]] = scene.currents / 1000
    name = "current (kA)"
    labels = [each.name for each in scene.channels]
    units = {each.unit for each in scene.channels} or {"A"}
    if units != {"A"}:
        values, name = scene.currents, f"channels ({', '.join(units)})"
    if len(units) > 1:  # on one axis, as deviations
        spread = values.std(axis=0)
        values = (values - values.mean(axis=0)) / np.where(spread > 0, spread, 1)
        name = "channels (std. dev.)"
    for k, column in enumerate(values.T):
        axes.plot(
            scene.current_times, column, color=PHASES[k] if k < len(PHASES) else f"C{k}",
            linewidth=0.8, alpha=0.85, label=labels[k] if labels else f"phase {k + 1}",
        )  # fmt: skip
    axes.set_ylabel(name)
    _truth_bands(axes, scene, label="")
    axes.legend(**LEGEND)


def _score(axes: Axes, scene: Scene) -> None:
    if scene.class_scores is not None:
        for kind, colour in enumerate(scene.colours, 1):
            axes.plot(
                scene.score_times, scene.class_scores[:, kind], color=colour, linewidth=1.6,
                label=scene.classes[kind],
            )  # fmt: skip
        _truth_bands(axes, scene, label="")
        _alarm_band(axes, scene)
        axes.set(ylabel="probability", ylim=(-0.04, _top(scene)), xlabel="time (min:s)")
        axes.legend(**LEGEND)
        return
    axes.plot(scene.score_times, scene.scores, color=SCORE, linewidth=1.4, label="score")
    axes.axhline(scene.threshold, color=SCORE, linewidth=1, linestyle="--", label="threshold")
    _truth_bands(axes, scene)
    _alarm_band(axes, scene)
    axes.set(ylabel="score (abnormal)", ylim=(-0.04, _top(scene)), xlabel="time (min:s)")
    axes.legend(**LEGEND)


def _truth_bands(axes: Axes, scene: Scene, label: str = "truth: abnormal") -> None:
    """Shade the abnormal stretches and set the time axis."""
    times = scene.score_times
    first, last = min(times[0], scene.times[0]), max(times[-1], scene.times[-1])
    axes.set_xlim(first, last if last > first else first + 1)
    step = next((step for step in TICKS if (last - first) / step <= 12), TICKS[-1])
    axes.xaxis.set_major_locator(MultipleLocator(step))
    axes.xaxis.set_major_formatter(lambda value, _: minutes_seconds(value))
    if scene.labels is None:
        return
    for kind, colour in enumerate(scene.colours or (ABNORMAL,), 1):
        for start, stop in stretches(np.asarray(scene.labels) == kind):
            end = times[min(stop, len(times) - 1)]
            axes.axvspan(times[start], end, color=colour, alpha=0.3, linewidth=0, label=label)
            label = ""


def _top(scene: Scene) -> float:
    """The top of the axes of the score, with room for the bar of alarms."""
    return 1.04 if scene.alarms is None else 1.14


def _alarm_band(axes: Axes, scene: Scene) -> None:
    """Draw a bar along the top while there is an alarm."""
    if scene.alarms is None:
        return
    times, label = scene.score_times, "alarm"
    for start, stop in stretches(np.asarray(scene.alarms)):
        end = times[min(stop, len(times) - 1)]
        axes.axvspan(times[start], end, 0.93, 1, color=ALARM, linewidth=0, label=label)
        label = ""
    if label:  # none, which the legend says
        axes.axvspan(times[0], times[0], 0.93, 1, color=ALARM, linewidth=0, label="no alarm")


def _legend(figure: Any, scene: Scene) -> None:
    handles: list[Any] = []
    if scene.colours:
        for name, colour in zip(scene.classes[1:], scene.colours, strict=True):
            handles.append(Patch(color=colour, label=name))
        meanings = {
            "filled: predicted": scene.predicted is not None,
            "outlined: true": scene.truth is not None,
            "framed and shaded: labelled": scene.labels is not None,
        }
        text = ", ".join(meaning for meaning, shown in meanings.items() if shown)
        handles.append(Patch(alpha=0, label=f"({text})" if text else ""))
        count = len(handles)
        figure.legend(
            handles=handles, loc="outside upper right", ncols=count, fontsize=9, frameon=False
        )
        return
    if scene.predicted is not None:
        handles.append(Patch(color=PREDICTED, alpha=0.8, label="predicted region"))
    if scene.truth is not None:
        handles.append(
            Line2D([], [], color=TRUTH, linewidth=2, label="true region", path_effects=SHADOW)
        )
    if scene.labels is not None:
        handles.append(Patch(fill=False, edgecolor=ABNORMAL, linewidth=3, label="truth: abnormal"))
    figure.legend(handles=handles, loc="outside upper right", ncols=3, fontsize=9, frameon=False)


def _panel(scene: Scene, *, width: int, height: int) -> tuple[NDArray[np.uint8], list[int], slice]:
    """Currents and score as an image, the column of each frame's time, and the rows of the axes."""
    figure = Figure(figsize=(width / 100, height / 100), dpi=100, layout="constrained")
    canvas = cast(Any, FigureCanvasAgg(figure))  # matplotlib types it in part only
    above, below = figure.subplots(2, 1, sharex=True)
    _currents(above, scene)
    _score(below, scene)
    figure.suptitle(scene.title, fontsize=9, x=0.01, ha="left")
    if scene.synthetic:
        figure.supxlabel(SIMULATED, fontsize=8, fontstyle="italic", x=0.99, ha="right")
    canvas.draw()
    image = np.asarray(canvas.buffer_rgba())[:, :, :3].copy()
    points = np.stack([scene.times, np.zeros(len(scene.times))], axis=1)
    columns = [round(column) for column in below.transData.transform(points)[:, 0]]
    rows = slice(height - int(above.bbox.y1), height - int(below.bbox.y0))
    return image, columns, rows

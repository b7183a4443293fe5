"""A picture of an annotated event: boxes above, refined masks below, on a few of its frames."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from numpy.typing import NDArray

from fmbench.pictures import PREDICTED, SHADOW, TRUTH, painted
from fmbench.prepare.annotate import Shown
from fmbench.tabular import SIMULATED

BOX = "#E69F00"
SIDE = 320
"""Pixels of a frame's longer side."""


def event_picture(
    path: Path, shown: Sequence[Shown], *, marks: dict[int, str], title: str, synthetic: bool
) -> Path:
    """Write a PNG: a column a frame, the boxes above, the refined masks below, the truth, where it
    is known, outlined in both. Returns `path`.

    Args:
        path: the file.
        shown: frames of the event.
        marks: what some frames are: onset, apex, offset.
        title: heading.
        synthetic: whether the recording is simulated; then the picture says so.
    """
    figure = Figure(figsize=(2.6 * max(3.6, len(shown)), 6.4), dpi=110, layout="constrained")
    figure.suptitle(title, fontsize=12, fontweight="bold", x=0.005, ha="left")
    cells = figure.subplots(2, len(shown), squeeze=False)
    for one, (above, below) in zip(shown, cells.T, strict=True):
        _cell(above, painted(one.picture, None, one.truth, SIDE), _iou(one.coarse, one.truth))
        _cell(
            below, painted(one.picture, one.refined, one.truth, SIDE), _iou(one.refined, one.truth)
        )
        mark = f"{marks[one.frame]}, " if one.frame in marks else ""
        above.set_title(f"{mark}frame {one.frame}", fontsize=10)
        scale = SIDE / max(one.picture.shape[:2])
        for top, left, bottom, right in one.boxes * scale - 0.5:  # pixel 0 is centred on 0
            above.add_patch(
                Rectangle(
                    (left, top), right - left, bottom - top, fill=False, edgecolor=BOX, linewidth=2,
                    path_effects=SHADOW,
                )
            )  # fmt: skip
    cells[0, 0].set_ylabel("propagated box", fontsize=10)
    cells[1, 0].set_ylabel("refined mask", fontsize=10)
    handles: list[Any] = [
        Line2D([], [], color=BOX, linewidth=2, label="box", path_effects=SHADOW),
        Patch(color=PREDICTED, alpha=0.8, label="refined mask"),
    ]
    if any(one.truth is not None for one in shown):
        handles.append(
            Line2D([], [], color=TRUTH, linewidth=2, label="known mask", path_effects=SHADOW)
        )
    figure.legend(handles=handles, loc="outside lower left", ncols=3, fontsize=9, frameon=False)
    if synthetic:
        figure.supxlabel(SIMULATED, fontsize=10, fontstyle="italic", x=0.995, ha="right")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png")
    return path


def _cell(axes: Axes, picture: NDArray[np.uint8], iou: float | None) -> None:
    axes.imshow(picture)
    axes.set(xticks=[], yticks=[])
    if iou is not None:
        axes.set_xlabel(f"IoU {iou:.2f}", fontsize=9)


def _iou(mask: NDArray[np.bool_], truth: NDArray[np.bool_] | None) -> float | None:
    """None where there is no truth, or no pixel in either."""
    if truth is None or not (mask | truth).any():
        return None
    return float((mask & truth).sum() / (mask | truth).sum())

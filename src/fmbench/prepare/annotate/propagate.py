"""Boxes of the frames between key frames."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmbench.prepare.annotate.events import Event


def propagate(event: Event, frames: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
    """(n, 4) boxes [top, left, bottom, right) of the frames (n,) of an event.

    Between adjacent key frames the centre moves linearly, and height and width grow or shrink by a
    constant factor a frame (linear in log size), since a region that is twice as large also grows
    twice as fast. Such a box lies within the one of linear corners, so it never leaves the frame.
    No intensity is propagated: masks are 0 or 1, nothing here would read it.

    Raises:
        ValueError: a frame outside the event.
    """
    if len(frames) and not event.onset <= frames.min() <= frames.max() <= event.offset:
        raise ValueError(
            f"frames {frames.min()} to {frames.max()} of an event of {event.onset} to "
            f"{event.offset}"
        )
    corners, ends = event.boxes[:, :2], event.boxes[:, 2:]
    centre = _between(frames, event.keyframes, (corners + ends) / 2)
    half = np.exp(_between(frames, event.keyframes, np.log(ends - corners))) / 2
    return np.concatenate([centre - half, centre + half], axis=1)


def _between(
    frames: NDArray[np.integer[Any]], keyframes: NDArray[np.int64], values: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(n, 2) linear interpolation of (K, 2) values."""
    return np.stack([np.interp(frames, keyframes, column) for column in values.T], axis=1)

"""Boxes and refined masks of any frames of a recording, over all its events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fmbench.data.recording import Recording
from fmbench.data.windows import Ints
from fmbench.format.mat import frames_and_labels, open_mat, read_rows
from fmbench.prepare.annotate.events import Event
from fmbench.prepare.annotate.propagate import propagate
from fmbench.prepare.annotate.refine import RADIUS, SIGMA, cover, refine

Masks = NDArray[np.bool_]
Classes = NDArray[np.uint8]


class Shown(NamedTuple):
    """A frame of an event, for a picture."""

    frame: int
    picture: NDArray[np.uint8]
    """(H, W, 3) RGB."""
    boxes: NDArray[np.float64]
    """(m, 4) [top, left, bottom, right) of every event that contains the frame."""
    coarse: Masks
    """(H, W) pixels of the boxes."""
    refined: Masks
    """(H, W)."""
    truth: Masks | None
    """(H, W) the file's own masks; None where it has none."""


def masks_of(
    frames: Ints,
    pictures: NDArray[np.uint8],
    events: Sequence[Event],
    *,
    radius: float = RADIUS,
    sigma: float = SIGMA,
) -> tuple[Classes, Classes]:
    """Boxes and refined masks, both (n, H, W), of frames (n,) and their pictures (n, 3, H, W).

    A pixel has the class of its event, the highest one where events overlap, and 0 outside.
    """
    size = (pictures.shape[2], pictures.shape[3])
    coarse, refined = np.zeros((2, len(frames), *size), np.uint8)
    for event in sorted(events, key=lambda each: each.kind):
        here = np.flatnonzero(lasts(event, frames))
        boxes = propagate(event, frames[here])
        inside = cover(boxes, size)
        coarse[here] = np.where(inside, event.kind, coarse[here])
        inside = refine(pictures[here], boxes, radius=radius, sigma=sigma)
        refined[here] = np.where(inside, event.kind, refined[here])
    return coarse, refined


def show(
    recording: Recording,
    events: Sequence[Event],
    event: Event,
    *,
    radius: float = RADIUS,
    sigma: float = SIGMA,
) -> list[Shown]:
    """Onset, apex and offset of `event`, and frames spread between them.

    Args:
        recording: one whose frames are in a file.
        events: all events of the recording; overlapping ones are drawn as well.
        event: one of them.
        radius: of the filter, see `refine`.
        sigma: of the filter.
    """
    spread = np.linspace(event.onset, event.offset, 4).round().astype(np.int64)
    frames = np.unique(np.append(spread, event.apex))
    path = recording.source
    with open_mat(path) as file:
        data, label = frames_and_labels(path, file)
        pictures = np.concatenate([read_rows(path, data, at, at + 1) for at in frames])
        truth = None
        if label is not None and recording.has_masks:
            truth = np.concatenate([read_rows(path, label, at, at + 1) > 0 for at in frames])
    coarse, refined = masks_of(frames, pictures, events, radius=radius, sigma=sigma)
    return [
        Shown(
            int(frame),
            pictures[k].transpose(1, 2, 0),
            np.concatenate(
                [propagate(e, frames[[k]]) for e in events if lasts(e, frames[[k]]).all()]
            ),
            coarse[k] > 0,
            refined[k] > 0,
            None if truth is None else truth[k],
        )
        for k, frame in enumerate(frames)
    ]


def lasts(event: Event, frames: Ints) -> Masks:
    """(n,) whether frames (n,) are within an event."""
    return (event.onset <= frames) & (frames <= event.offset)

"""Write the masks of events as a recording's labels, or compare them with its labels."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import nan
from pathlib import Path

import h5py
import numpy as np

from fmbench.data.recording import Recording
from fmbench.data.root import open_root
from fmbench.data.video_recording import VideoRecording
from fmbench.files.atomic import in_one_step
from fmbench.format.columns import currents_file, timestamps_file
from fmbench.format.mat import (
    block_starts,
    frames_and_labels,
    new_label,
    open_mat,
    read_rows,
    write_rows,
)
from fmbench.prepare.annotate.events import Event
from fmbench.prepare.annotate.masks import Masks, lasts, masks_of
from fmbench.prepare.annotate.refine import RADIUS, SIGMA

PARTS = UNLABELLED, LABELLED = "unlabelled", "pixel-level"
"""Parts with recordings to annotate; of two of one name, that of the later part counts."""
BLOCK_BYTES = 2**24
"""Of frames in memory at a time."""


@dataclass
class Agreement:
    """Agreement of masks with the labels of a file, over the frames of events.

    Attributes:
        intersection: pixels abnormal in both, summed over frames.
        union: pixels abnormal in either, summed over frames.
        ratios: sum of IoU over the frames with an abnormal pixel in either.
        frames: number of these frames.
    """

    intersection: int = 0
    union: int = 0
    ratios: float = 0.0
    frames: int = 0

    def add(self, masks: Masks, truth: Masks) -> None:
        """Count (n, H, W) masks."""
        both, either = (masks & truth).sum(axis=(1, 2)), (masks | truth).sum(axis=(1, 2))
        self.intersection += int(both.sum())
        self.union += int(either.sum())
        self.ratios += float((both[either > 0] / either[either > 0]).sum())
        self.frames += int((either > 0).sum())

    def __add__(self, other: Agreement) -> Agreement:
        return Agreement(
            self.intersection + other.intersection,
            self.union + other.union,
            self.ratios + other.ratios,
            self.frames + other.frames,
        )

    @property
    def pooled(self) -> float:
        """IoU of all pixels; NaN without abnormal pixels."""
        return self.intersection / self.union if self.union else nan

    @property
    def mean(self) -> float:
        """Mean IoU of frames; NaN without such frames."""
        return self.ratios / self.frames if self.frames else nan


@dataclass
class Annotated:
    """The result of annotating a recording.

    Attributes:
        compared: whether its file had masks to compare with.
        frames: number of frames within events.
        missed: frames outside all events that are abnormal in the file's masks.
        coarse: agreement of the boxes with the file's masks.
        refined: agreement of the refined masks with the file's masks.
    """

    compared: bool
    frames: int = 0
    missed: int = 0
    coarse: Agreement = field(default_factory=Agreement)
    refined: Agreement = field(default_factory=Agreement)

    def count(self, inside: Masks, coarse: Masks, refined: Masks, truth: Masks | None) -> None:
        """Add frames; `inside` (n,) marks those within events, masks are (n, H, W)."""
        self.frames += int(inside.sum())
        if truth is not None:
            self.coarse.add(coarse[inside], truth[inside])
            self.refined.add(refined[inside], truth[inside])
            self.missed += int(truth[~inside].any(axis=(1, 2)).sum())


def recordings_to_annotate(root: str | Path) -> list[Recording]:
    """The recordings of `root`'s pixel-level/, and those of unlabelled/ that pixel-level/ lacks.

    Raises:
        ValueError: no such folder, no recordings, or files that cannot be used.
    """
    root, found = Path(root), dict[str, Recording]()
    parts = [each for each in PARTS if any(root.glob(f"{each}/videos/[!.]*.mat"))]
    for part in parts or [LABELLED]:
        found |= {each.name: each for each in open_root(root, part).recordings}
    return [found[name] for name in sorted(found)]


def annotate(
    recording: Recording,
    events: Sequence[Event],
    *,
    replace: bool = False,
    compare: bool = False,
    radius: float = RADIUS,
    sigma: float = SIGMA,
) -> Annotated:
    """Propagate and refine the boxes of `events`, and make them the recording's labels.

    The labels, 0 outside all events, are written into a copy beside `destination`; the copy is
    moved into place at the end, so that an interruption changes nothing. Frames are read in blocks.

    Args:
        recording: one whose frames are in a file.
        events: of this recording.
        replace: overwrite labels.
        compare: write nothing; compare boxes and masks with the labels.
        radius: of the filter, see `refine`.
        sigma: of the filter.

    Raises:
        ValueError: as `check_labels`, or damaged frames.
        OSError: the file cannot be written.
    """
    check_labels(recording, replace=replace, compare=compare)
    found = Annotated(compared=recording.has_masks)
    path = recording.source
    with open_mat(path) as source, _new_label(recording, wanted=not compare) as label:
        data, before = frames_and_labels(path, source)
        starts = block_starts(data, BLOCK_BYTES)
        for first in starts:
            end = min(first + starts.step, starts.stop)
            frames = np.arange(first, end)
            here = [event for event in events if lasts(event, frames).any()]
            inside = np.zeros(len(frames), np.bool_)
            for event in here:
                inside |= lasts(event, frames)
            if here:
                pictures = read_rows(path, data, first, end)
                coarse, refined = masks_of(frames, pictures, here, radius=radius, sigma=sigma)
            else:
                coarse = refined = np.zeros((len(frames), *recording.size), np.uint8)
            truth = None
            if before is not None and found.compared:
                truth = read_rows(path, before, first, end) > 0
            found.count(inside, coarse > 0, refined > 0, truth)
            if label is not None:
                write_rows(label, first, refined)
    return found


def check_labels(recording: Recording, *, replace: bool, compare: bool) -> None:
    """Whether a recording's labels can be written, or compared with.

    Raises:
        ValueError: its frames are not in a file; it has labels and `replace` is off; or it has no
            masks to compare with.
    """
    if isinstance(recording, VideoRecording):
        raise ValueError(
            f"{recording.source} is a video, and labels are written into .mat files: annotate the"
            " data set before `fmbench data pack`"
        )
    if not recording.source.is_file():
        raise ValueError(
            f"{recording.name}: its frames are rendered when they are read, there is no file for "
            "labels; simulate without --lazy"
        )
    if compare and not recording.has_masks:
        has = "labels but no masks" if recording.has_labels else "no labels"
        raise ValueError(
            f"{recording.source} has {has}; --compare needs masks to compare with, leave it out "
            "to write masks"
        )
    if recording.has_labels and not (compare or replace):
        raise ValueError(
            f"{recording.source} has labels; --replace overwrites them, --compare only says how "
            "far they agree"
        )


def destination(recording: Recording) -> Path:
    """The file to write labels to: the recording's own; for one in `unlabelled/`, a copy of it in
    `pixel-level/`."""
    folder = recording.source.parent.parent
    if folder.name != UNLABELLED:
        return recording.source
    return folder.with_name(LABELLED) / recording.source.relative_to(folder)


@contextmanager
def _new_label(recording: Recording, *, wanted: bool) -> Iterator[h5py.Dataset | None]:
    """New masks in a copy of the recording's file, which becomes `destination` at the end."""
    if not wanted:
        yield None
        return
    target = destination(recording)
    with in_one_step(target.resolve()) as beside:  # replaces a link's target, not the link
        shutil.copy(recording.source, beside)
        with new_label(beside, recording.num_frames, recording.size) as label:
            yield label
        if target != recording.source:
            _copy_series(recording.source.parent.parent, target.parent.parent, recording.name)


def _copy_series(source: Path, target: Path, name: str) -> None:
    """Copy the times and currents of a recording from one part to another."""
    for file in (timestamps_file, currents_file):
        if file(source, name).is_file():
            with in_one_step(file(target, name)) as beside:
                shutil.copy(file(source, name), beside)

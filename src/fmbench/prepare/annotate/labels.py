"""The masks of events as the labels of a recording's file, or compared with those in it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import nan
from pathlib import Path

import h5py
import numpy as np

from fmbench.data.recording import LazyRecording, Recording, frames_and_labels, open_mat
from fmbench.data.root import open_root
from fmbench.files.atomic import in_one_step
from fmbench.prepare.annotate.events import Event
from fmbench.prepare.annotate.masks import Frames, Masks, lasts, masks_of, read_rows
from fmbench.prepare.annotate.refine import RADIUS, SIGMA

PARTS = UNLABELLED, LABELLED = "unlabelled", "pixel-level"
"""Where recordings are looked for; of two with one name the later counts."""
BLOCK_BYTES = 2**24
"""Of frames in memory at a time."""
CHUNK = 25
"""Frames in a chunk of the written labels, at most."""


@dataclass
class Agreement:
    """Of masks with the labels that a file had, over the frames of events.

    Attributes:
        intersection: pixels abnormal in both, summed over frames.
        union: pixels abnormal in either.
        ratios: sum of the IoU of each frame with an abnormal pixel in either.
        frames: how many these are.
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
        """IoU of all pixels; NaN of none."""
        return self.intersection / self.union if self.union else nan

    @property
    def mean(self) -> float:
        """Mean IoU of frames; NaN of none."""
        return self.ratios / self.frames if self.frames else nan


@dataclass
class Annotated:
    """What became of a recording.

    Attributes:
        compared: whether its file had masks to compare with.
        frames: that lie in an event.
        missed: frames outside all events that the file's masks call abnormal.
        coarse: agreement of the boxes with them.
        refined: agreement of the refined masks with them.
    """

    compared: bool
    frames: int = 0
    missed: int = 0
    coarse: Agreement = field(default_factory=Agreement)
    refined: Agreement = field(default_factory=Agreement)

    def count(self, inside: Masks, coarse: Masks, refined: Masks, truth: Masks | None) -> None:
        """Add frames; `inside` (n,) tells which lie in an event, masks are (n, H, W)."""
        self.frames += int(inside.sum())
        if truth is not None:
            self.coarse.add(coarse[inside], truth[inside])
            self.refined.add(refined[inside], truth[inside])
            self.missed += int(truth[~inside].any(axis=(1, 2)).sum())


def open_recordings(root: str | Path) -> list[Recording]:
    """Those of `root`'s pixel-level/, and those of its unlabelled/ that are not there yet.

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

    The file is copied to beside `destination`, its dataset `label` [T, W, H] is written there, 0
    outside all events, and the copy is moved into place at the end: an interruption leaves
    everything as it was. Frames pass through in blocks.

    Args:
        recording: one whose frames are in a file.
        events: of this recording.
        replace: overwrite labels.
        compare: write nothing; the labels are what boxes and masks are compared with.
        radius: of the filter, see `refine`.
        sigma: of the filter.

    Raises:
        ValueError: what `check_labels` says, or damaged frames.
        OSError: the file cannot be written.
    """
    check_labels(recording, replace=replace, compare=compare)
    found = Annotated(compared=recording.has_masks)
    path = recording.source
    with open_mat(path) as source, _new_label(recording, wanted=not compare) as label:
        data, before = frames_and_labels(path, source)
        for frames in _blocks(data):
            first, end = int(frames[0]), int(frames[-1]) + 1
            here = [event for event in events if lasts(event, frames).any()]
            inside = np.zeros(len(frames), np.bool_)
            for event in here:
                inside |= lasts(event, frames)
            if here:
                pictures = read_rows(path, data, first, end)
                coarse, refined = masks_of(frames, pictures, here, radius=radius, sigma=sigma)
            else:
                coarse = refined = np.zeros((len(frames), *recording.size), np.bool_)
            truth = None
            if before is not None and found.compared:
                truth = read_rows(path, before, first, end) > 0
            found.count(inside, coarse, refined, truth)
            if label is not None:
                label[first:end] = refined.swapaxes(1, 2)
    return found


def check_labels(recording: Recording, *, replace: bool, compare: bool) -> None:
    """Whether a recording's labels can be written, or compared with.

    Raises:
        ValueError: its frames are not in a file; it has labels that nobody asked to replace; there
            are no masks to compare with.
    """
    if isinstance(recording, LazyRecording):
        raise ValueError(
            f"{recording.name}: its frames are drawn when they are read, there is no file that "
            "could hold labels; simulate without --lazy"
        )
    if compare and not recording.has_masks:
        has = "labels but no masks" if recording.has_labels else "no labels"
        raise ValueError(
            f"{recording.source} has {has}; --compare needs masks to compare with, leave it out "
            "to write some"
        )
    if recording.has_labels and not (compare or replace):
        raise ValueError(
            f"{recording.source} has labels; --replace overwrites them, --compare only says how "
            "far they agree"
        )


def destination(recording: Recording) -> Path:
    """The file that gets the labels: the recording's own, but for one in `unlabelled/`, which stays
    there, its namesake in `pixel-level/`."""
    folder = recording.source.parent.parent
    if folder.name != UNLABELLED:
        return recording.source
    return folder.with_name(LABELLED) / "videos" / recording.source.name


@contextmanager
def _new_label(recording: Recording, *, wanted: bool) -> Iterator[h5py.Dataset | None]:
    """A new dataset `label` [T, W, H] in a copy of the file; `destination` at the end."""
    if not wanted:
        yield None
        return
    height, width = recording.size
    count = recording.num_frames
    target = destination(recording)
    with in_one_step(target.resolve()) as beside:  # a link stays one
        shutil.copy(recording.source, beside)
        with h5py.File(beside, "r+") as file:
            if "label" in file:
                del file["label"]  # its room is used again
            yield file.create_dataset(
                "label",
                (count, width, height),
                np.uint8,
                chunks=(min(CHUNK, count), width, height),
                compression="gzip",
                compression_opts=1,
            )
        if target != recording.source:
            _copy_series(recording.source.parent.parent, target.parent.parent, recording.name)


def _copy_series(source: Path, target: Path, name: str) -> None:
    """Copy the times and currents of a recording from one part to another."""
    for kind in ("timestamps", "currents"):
        file = Path(kind) / f"{name}.csv"
        if (source / file).is_file():
            with in_one_step(target / file) as beside:
                shutil.copy(source / file, beside)


def _blocks(data: h5py.Dataset) -> Iterator[Frames]:
    """Stretches of frames that fit in memory, in whole chunks of the file."""
    count = int(data.shape[0])
    chunk = int(data.chunks[0]) if data.chunks else 1
    step = chunk * max(1, BLOCK_BYTES // (chunk * int(np.prod(data.shape[1:]))))
    for start in range(0, count, step):
        yield np.arange(start, min(start + step, count))

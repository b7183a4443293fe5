"""Scores of whole recordings, or of the stretches of a recording that a split holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import lightning as L
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fmbench.alarms.rule import Floats
from fmbench.data import FurnaceData
from fmbench.data.datamodule import Split
from fmbench.data.recording import Recording
from fmbench.data.splits import split_lists
from fmbench.data.windows import Ints
from fmbench.format.columns import stretches
from fmbench.progress import ShowProgress
from fmbench.simulator import read_tags
from fmbench.training.lit import Detector
from fmbench.training.loop import interruptible, quiet
from fmbench.training.predict import elapsed
from fmbench.types import Prediction

BLOCK = 1024
"""Decisions that are predicted at a time; the masks of a day would fill the memory."""


class Stretch(NamedTuple):
    """Frames `start` to `stop`, exclusive, of a recording."""

    recording: Recording
    start: int
    stop: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Footage:
    """Consecutive decisions on a stretch of a recording.

    Attributes:
        recording: its name.
        seconds: (n,) times of the decisions since the recording's first frame.
        logits: (n, K) of the checkpoint.
        label: (n,) class of each decision's frame; 0 is normal.
        events: (E, 2) onset and end of each run of abnormal frames, seconds.
        begun: (E,) whether an event began before the stretch, so that its onset is not known.
        tags: (n,) bits of `fmbench.simulator.Tag`; None if the recordings have none.
    """

    recording: str
    seconds: Floats
    logits: Tensor
    label: NDArray[np.int64]
    events: Floats
    begun: NDArray[np.bool_]
    tags: NDArray[np.int64] | None


def footage_of(data: FurnaceData, split: Split) -> list[Stretch]:
    """The footage of a split, by recording and time.

    A recording whose listed frames all belong to the split is taken whole. Of others, the stretches
    between listed frames that hold no frame of another split.

    Raises:
        ValueError: there is none.
    """
    root = data.opened
    if split == "test":  # recordings too short for a validation cut can still be tested
        lists = {name: root.splits.get(name, {}) for name in ("train", "val", "test")}
    else:
        lists = dict(split_lists(root, data.val_fraction, data.guard_seconds))
    found = []
    for recording in root.recordings:
        own = lists[split].get(recording.name, np.array([], np.int64))
        if not len(own):
            continue
        others = [
            each[recording.name]
            for name, each in lists.items()
            if name != split and len(each.get(recording.name, ()))
        ]
        if not others:
            found.append(Stretch(recording, 0, recording.num_frames))
            continue
        for start, stop in runs_between(own, np.unique(np.concatenate(others))):
            found.append(Stretch(recording, start, stop))
    if not found:
        raise ValueError(
            f"{root.folder} has no {split} recordings ({split}.json); an alarm rule is chosen on "
            "val and measured on test: `fmbench data select` makes the lists"
        )
    return found


def runs_between(own: Ints, others: Ints) -> list[tuple[int, int]]:
    """First frame of each run of `own` without a frame of `others` in between, and one past its
    last; both sorted."""
    before = np.searchsorted(others, own)
    first = np.flatnonzero(np.diff(before, prepend=-1))
    last = np.append(first[1:], len(own)) - 1
    return [(int(own[a]), int(own[b]) + 1) for a, b in zip(first, last, strict=True)]


def decision_frames(times: Floats, start: int, stop: int, every: float) -> Ints:
    """The first frame at or after `start` of each `every` seconds, up to `stop`.

    Args:
        times: (N,) seconds of the recording's frames, ascending.
        start, stop: frames, the latter exclusive.
        every: seconds.
    """
    slots = np.floor((times[start:stop] - times[start]) / every + 1e-6)
    return np.asarray(start + np.unique(slots, return_index=True)[1], np.int64)


def scored(
    detector: Detector,
    data: FurnaceData,
    footage: Sequence[Stretch],
    every: float,
    show: ShowProgress,
) -> list[Footage]:
    """Logits of a decision every `every` seconds.

    Raises:
        ValueError: recordings without labels, or without a usable window.
    """
    found = []
    tables = []
    for recording, start, stop in footage:
        if not recording.has_labels:
            raise ValueError(
                f"{recording.name} has no labels; alarms are measured on labelled ones"
            )
        rate = recording.plant.frame_rate
        times = elapsed(recording.seconds, int(recording.seconds[0]), rate)
        frames = decision_frames(times, start, stop, every)
        usable = data.windows_of(recording.name, frames=frames.tolist())[1]["frame"].to_numpy()
        tables.append((times, usable))
    done, total = 0, sum(len(frame) for _, frame in tables)
    with quiet(), interruptible():
        engine = L.Trainer(logger=False, enable_checkpointing=False, enable_progress_bar=False)
        for (recording, start, stop), (times, frame) in zip(footage, tables, strict=True):
            logits = []
            for at in range(0, len(frame), BLOCK):
                block = frame[at : at + BLOCK]
                show(done, total, recording.name)
                loader, _ = data.windows_of(recording.name, frames=block.tolist())
                answers = cast(list[Prediction], engine.predict(detector, dataloaders=loader))
                logits += [answer.logits.float().cpu() for answer in answers]
                done += len(block)
            labels = recording.class_of(np.arange(recording.num_frames))
            events = [(start + a, start + b) for a, b in stretches(labels[start:stop] > 0)]
            tags = read_tags(data.opened.folder, recording.name) if recording.synthetic else None
            found.append(
                Footage(
                    recording=recording.name,
                    seconds=times[frame],
                    logits=torch.cat(logits),
                    label=labels[frame].astype(np.int64),
                    events=np.array([(times[a], times[b - 1]) for a, b in events]).reshape(-1, 2),
                    begun=np.array([a == start for a, _ in events], np.bool_),
                    tags=None if tags is None else tags[frame].astype(np.int64),
                )
            )
        show(done, total, "done")
    return found

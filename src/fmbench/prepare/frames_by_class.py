"""Table I of a root: how many frames are normal and abnormal, by part, recording and split."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd

from fmbench.data.recording import Recording
from fmbench.data.root import Part, Root, open_root, part_folder

ROWS = ("normal", "abnormal", "total")


def table_one(root: str | Path) -> pd.DataFrame:
    """Frames by class (rows) and part (columns, with a total), as the paper's Table I.

    Raises:
        ValueError: no such folder, no recordings, or files that cannot be used.
    """
    counts = {part.part: _frames_of([*part.recordings]) for part in labelled(root)}
    table = pd.DataFrame(counts, index=list(ROWS), dtype=np.int64)
    table["total"] = table.sum(axis=1)
    return table


def table_of_recordings(root: str | Path) -> pd.DataFrame:
    """One row per recording: part, frames by class, seconds of current, frames in each list.

    Raises:
        ValueError: no such folder, no recordings, or files that cannot be used.
    """
    rows = []
    for part in labelled(root):
        for recording in part.recordings:
            normal, abnormal, total = _frames_of([recording])
            listed = {
                split: len(part.splits.get(split, {}).get(recording.name, ()))
                for split in ("train", "val", "test")
            }
            rows.append(
                {
                    "part": part.part,
                    "recording": recording.name,
                    "normal": normal,
                    "abnormal": abnormal,
                    "frames": total,
                    "seconds of current": len(recording.currents.seconds)
                    / recording.plant.current_rate,
                    **listed,
                    "unlisted": total - sum(listed.values()),
                }
            )
    return pd.DataFrame(rows)


def table_of_splits(root: str | Path) -> pd.DataFrame:
    """One row per part and split: frames by class.

    Raises:
        ValueError: no such folder, no recordings, or files that cannot be used.
    """
    rows = []
    for part in labelled(root):
        for split, lists in part.splits.items():
            labels = [
                recording.labels(lists[recording.name])
                for recording in part.recordings
                if recording.name in lists
            ]
            abnormal = int(sum(int(each.sum()) for each in labels))
            total = sum(len(each) for each in labels)
            rows.append((part.part, split, total - abnormal, abnormal, total))
    return pd.DataFrame(rows, columns=["part", "split", *ROWS])


def labelled(root: str | Path) -> Iterator[Root]:
    """The labelled parts of a root."""
    labelled = [part for part in get_args(Part) if part != "unlabelled"]
    inside = [part for part in labelled if (Path(root) / part).is_dir()]
    name = Path(root).name
    for part in inside or [name if name in labelled else "pixel-level"]:
        part_folder(root, part)
        yield open_root(root, part)


def _frames_of(recordings: list[Recording]) -> tuple[int, int, int]:
    """Normal, abnormal and all frames."""
    labels = [recording.labels(np.arange(recording.num_frames)) for recording in recordings]
    abnormal = sum(int(each.sum()) for each in labels)
    total = sum(len(each) for each in labels)
    return total - abnormal, abnormal, total

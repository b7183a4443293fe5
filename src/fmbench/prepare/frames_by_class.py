"""Table I of a root: how many frames each class has, by part, recording and split."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fmbench.data.recording import Recording
from fmbench.data.root import Part, Root, open_root, part_folder
from fmbench.types import BENCHMARK

OF_ABNORMAL = "abnormal: "
"""Before the name of a class whose frames are also among the abnormal ones."""


def table_one(root: str | Path) -> pd.DataFrame:
    """Frames by class (rows) and part (columns, with a total), as the paper's Table I.

    The rows, as the columns of the other tables, are normal, abnormal, with more than two classes
    also each class that is not normal, and total.

    Raises:
        ValueError: no such folder, no recordings, or files that cannot be used.
    """
    counts = {part.part: _frames_of(part.recordings) for part in labelled(root)}
    table = pd.DataFrame(counts, dtype=np.int64)
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
            counts = _frames_of([recording])
            total = counts.pop("total")
            listed = {
                split: len(part.splits.get(split, {}).get(recording.name, ()))
                for split in ("train", "val", "test")
            }
            rows.append(
                {
                    "part": part.part,
                    "recording": recording.name,
                    **counts,
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
            counts = _frames_of(part.recordings, lists)
            rows.append({"part": part.part, "split": split, **counts})
    names = ["part", "split", *_named([0, 0], BENCHMARK.classes)]
    return pd.DataFrame(rows, columns=None if rows else names)


def labelled(root: str | Path) -> Iterator[Root]:
    """The labelled parts of a root."""
    labelled = [part for part in get_args(Part) if part != "unlabelled"]
    inside = [part for part in labelled if (Path(root) / part).is_dir()]
    name = Path(root).name
    for part in inside or [name if name in labelled else "pixel-level"]:
        part_folder(root, part)
        yield open_root(root, part)


def _frames_of(
    recordings: Sequence[Recording], lists: Mapping[str, NDArray[np.int64]] | None = None
) -> dict[str, int]:
    """Frames by class, and all: those that `lists` names, or all."""
    classes = recordings[0].classes
    counts = np.zeros(len(classes), np.int64)
    for each in recordings:
        if lists is None or each.name in lists:
            frames = np.arange(each.num_frames) if lists is None else lists[each.name]
            counts += np.bincount(each.class_of(frames), minlength=len(classes))
    return _named(counts.tolist(), classes)


def _named(counts: Sequence[int], classes: Sequence[str]) -> dict[str, int]:
    """Counts of the K classes by what a table calls them."""
    of_abnormal = zip(classes[1:], counts[1:], strict=True) if len(classes) > 2 else ()
    return {
        "normal": counts[0],
        "abnormal": sum(counts[1:]),
        **{f"{OF_ABNORMAL}{name}": count for name, count in of_abnormal},
        "total": sum(counts),
    }

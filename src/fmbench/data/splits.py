"""The frames of train, val and test: disjoint, and validation apart from train by a guard."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import combinations

import numpy as np

from fmbench.data.recording import Recording
from fmbench.data.root import Root
from fmbench.data.windows import Ints
from fmbench.format.lists import SPLITS

Lists = Mapping[str, Ints]
"""Recording name to (n,) sorted label frames."""


def check_disjoint(root: Root) -> None:
    """Raises: ValueError: a frame is in two lists; names recording and lists."""
    for first, second in combinations(root.splits, 2):
        lists = root.splits
        for name in lists[first].keys() & lists[second].keys():
            both = np.intersect1d(lists[first][name], lists[second][name])
            if both.size:
                raise ValueError(
                    f"{root.folder}: frame {both[0]} of {name} and {both.size - 1} more are in "
                    f"both {first} and {second}"
                )


def split_lists(root: Root, val_fraction: float, guard_seconds: float) -> Mapping[str, Lists]:
    """Label frames of train, val and test.

    Without a val.json, validation is the last `val_fraction` of each recording's train list, and
    train loses the frames within `guard_seconds` before it. Test frames never validate.

    Raises:
        ValueError: no train frame of a recording is left.
    """
    lists: dict[str, Lists] = {split: root.splits.get(split, {}) for split in SPLITS}
    if "val" not in root.splits and val_fraction > 0:
        train = lists["train"]
        cut = {
            recording.name: _cut(recording, train[recording.name], val_fraction, guard_seconds)
            for recording in root.recordings
            if len(train.get(recording.name, ()))
        }
        lists["train"] = {name: kept for name, (kept, _) in cut.items()}
        lists["val"] = {name: val for name, (_, val) in cut.items()}
    return lists


def _cut(recording: Recording, train: Ints, fraction: float, guard: float) -> tuple[Ints, Ints]:
    """Train and validation frames: the end of the list, and a gap before it."""
    count = math.ceil(len(train) * fraction)
    rest, val = train[: len(train) - count], train[len(train) - count :]
    kept = rest[recording.seconds[rest] < recording.seconds[val].min() - guard]
    if not len(kept):
        raise ValueError(
            f"{recording.name}: of {len(train)} train frames none is left to train on, after "
            f"{count} for validation and a gap of {guard:g} s; lower current_samples, "
            "guard_seconds or val_fraction, or set val_fraction to 0"
        )
    return kept, val

"""Which frames of labelled recordings train, validate and test: contiguous blocks with guards
between, and in each about as many normal frames as abnormal ones (Sec. IV-A)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fmbench.data.recording import Recording
from fmbench.data.root import Root
from fmbench.data.windows import Ints
from fmbench.format.columns import stretches
from fmbench.format.lists import SPLITS, list_file, write_list

By = Literal["time", "recording"]
SHARES = (0.7, 0.15, 0.15)
MANY = 10
"""From so many recordings on, whole ones are held out by default."""


class Selection(NamedTuple):
    """What was chosen of a part.

    Attributes:
        lists: split, then recording name, to (n,) sorted frames.
        dropped: events that were left out whole, so that abnormal frames are no more than asked.
        longest_normal: frames that a normal stretch between two events may have at most; None where
            none was shortened.
    """

    lists: Mapping[str, Mapping[str, Ints]]
    dropped: int
    longest_normal: int | None


def select(
    root: Root,
    *,
    by: By | None = None,
    shares: Sequence[float] = SHARES,
    guard_seconds: float,
    ratio: float | None = 1.0,
    seed: int = 0,
) -> Selection:
    """Choose frames.

    Args:
        root: labelled recordings.
        by: time parts each recording into a train, a validation and a test block; recording holds
            out whole ones. None: recording from MANY on.
        shares: of train, val and test.
        guard_seconds: at least so much lies between two blocks of a recording.
        ratio: normal frames for each abnormal one, in each split: normal stretches lose what is
            farthest from their events, or whole events are dropped. None keeps all.
        seed: of the order in which recordings, or events to be dropped, are drawn.

    Raises:
        ValueError: recordings without labels, too short or too few for the blocks, or a split
            without an abnormal or a normal frame.
    """
    if len(shares) != 3 or min(shares) < 0 or abs(sum(shares) - 1) > 1e-6 or not shares[0]:
        raise ValueError(f"shares are {list(shares)}; three numbers that sum to 1, train above 0")
    unlabelled = [each.name for each in root.recordings if not each.has_labels]
    if unlabelled:
        raise ValueError(f"{root.folder}: {unlabelled[0]} has no labels; annotate it first")
    labels = {each.name: each.labels(np.arange(each.num_frames)) for each in root.recordings}
    by = by or ("recording" if len(root.recordings) >= MANY else "time")
    rng = np.random.default_rng(seed)
    if by == "recording":
        blocks = _whole(root, shares, rng)
    else:
        blocks = _in_time(root, labels, shares, guard_seconds)
    lists: dict[str, dict[str, Ints]] = {}
    dropped, longest = 0, None
    for split, of_split in blocks.items():
        kept = of_split
        if ratio is not None:
            kept, gone, limit = _balanced(of_split, labels, ratio, rng)
            dropped += gone
            longest = limit if longest is None else min(longest, limit or longest)
        _check_both(split, kept, labels, root)
        lists[split] = kept
    return Selection(lists, dropped, longest)


def write_lists(folder: Path, selection: Selection, *, replace: bool = False) -> list[Path]:
    """Write `train.json`, `val.json`, `test.json` of a part; returns their paths.

    Raises:
        ValueError: they are there already.
    """
    there = [split for split in SPLITS if list_file(folder, split).exists()]
    if there and not replace:
        raise ValueError(
            f"{list_file(folder, there[0])} is there already; --replace to make it anew"
        )
    written = []
    for split, frames in selection.lists.items():
        written.append(list_file(folder, split))
        write_list(written[-1], {name: each for name, each in frames.items() if len(each)})
    for split in set(there) - set(selection.lists):
        list_file(folder, split).unlink()  # of a split that is no more, once the new ones stand
    return written


def _whole(
    root: Root, shares: Sequence[float], rng: np.random.Generator
) -> dict[str, dict[str, Ints]]:
    """Whole recordings in each split, in random order, about by the share of frames."""
    wanted = [split for split, share in zip(SPLITS, shares, strict=True) if share]
    if len(root.recordings) < len(wanted):
        raise ValueError(
            f"{len(root.recordings)} recordings cannot be shared among {', '.join(wanted)};"
            " --by time parts each recording"
        )
    order = [root.recordings[k] for k in rng.permutation(len(root.recordings))]
    total = sum(each.num_frames for each in order)
    blocks: dict[str, dict[str, Ints]] = {split: {} for split in wanted}
    for place, recording in enumerate(order):
        left = len(order) - place
        empty = [split for split in wanted if not blocks[split]]
        behind = empty if left <= len(empty) else wanted
        # To whom most is missing of its share.
        missing = {
            split: shares[SPLITS.index(split)]
            - sum(len(frames) for frames in blocks[split].values()) / total
            for split in behind
        }
        split = max(missing, key=lambda each: missing[each])
        blocks[split][recording.name] = np.arange(recording.num_frames)
    return blocks


def _in_time(
    root: Root, labels: Mapping[str, NDArray[np.bool_]], shares: Sequence[float], guard: float
) -> dict[str, dict[str, Ints]]:
    """Blocks of each recording in the order train, val, test; no event is in two."""
    wanted = [(split, share) for split, share in zip(SPLITS, shares, strict=True) if share]
    blocks: dict[str, dict[str, Ints]] = {split: {} for split, _ in wanted}
    for recording in root.recordings:
        seconds = recording.seconds
        usable = float(seconds[-1] - seconds[0]) - guard * (len(wanted) - 1)
        if usable < guard:
            raise ValueError(
                f"{recording.name} is {seconds[-1] - seconds[0]} s long; {len(wanted) - 1} guards"
                f" of {guard:g} s leave too little of it. --by recording holds out whole recordings"
            )
        inside = _cannot_cut(labels[recording.name])
        start = 0
        for k, (split, share) in enumerate(wanted):
            stop = recording.num_frames
            if k < len(wanted) - 1:
                stop = int(np.searchsorted(seconds, seconds[start] + share * usable))
                stop = _outside(inside, min(stop, recording.num_frames), recording)
            blocks[split][recording.name] = np.arange(start, stop)
            if stop < recording.num_frames:
                after = int(np.searchsorted(seconds, seconds[stop - 1] + guard, side="right"))
                start = _outside(inside, after, recording)
    return blocks


def _cannot_cut(labels: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(N + 1,) where a cut before frame i would part an event."""
    return np.concatenate([[False], labels[:-1] & labels[1:], [False]])


def _outside(inside: NDArray[np.bool_], frame: int, recording: Recording) -> int:
    """The first place from `frame` on where a cut parts no event."""
    free = np.flatnonzero(~inside[frame:-1])
    if not len(free):
        raise ValueError(
            f"{recording.name}: an event fills it from frame {frame} to its end, nothing is left"
            " for the next block. --by recording holds out whole recordings"
        )
    return frame + int(free[0])


def _balanced(
    blocks: Mapping[str, Ints],
    labels: Mapping[str, NDArray[np.bool_]],
    ratio: float,
    rng: np.random.Generator,
) -> tuple[dict[str, Ints], int, int | None]:
    """Frames with about `ratio` normal ones for each abnormal; events dropped, longest normal
    stretch."""
    abnormal = sum(int(labels[name][frames].sum()) for name, frames in blocks.items())
    normal = sum(len(frames) for frames in blocks.values()) - abnormal
    if normal > ratio * abnormal:
        return _shortened(blocks, labels, ratio * abnormal)
    events = [
        (name, start, stop)
        for name, frames in blocks.items()
        for start, stop in stretches(labels[name][frames])
    ]
    gone: dict[str, list[tuple[int, int]]] = {name: [] for name in blocks}
    over, dropped = abnormal - normal / ratio, 0
    for k in rng.permutation(len(events)):
        name, start, stop = events[k]
        nearer = stop - start <= 2 * over  # to the ratio, without it
        if nearer and dropped < len(events) - 1:
            gone[name].append((start, stop))
            over -= stop - start
            dropped += 1
    kept = {}
    for name, frames in blocks.items():
        keep = np.ones(len(frames), bool)
        for start, stop in gone[name]:
            keep[start:stop] = False
        kept[name] = frames[keep]
    return kept, dropped, None


def _shortened(
    blocks: Mapping[str, Ints], labels: Mapping[str, NDArray[np.bool_]], wanted: float
) -> tuple[dict[str, Ints], int, int | None]:
    """Normal stretches of at most so many frames that `wanted` are left in all; of each, what is
    nearest to its events stays."""
    far = {name: _distance(labels[name][frames]) for name, frames in blocks.items()}
    distances = np.sort(np.concatenate([each[each > 0] for each in far.values()]))
    limit = int(distances[min(len(distances) - 1, max(0, round(wanted) - 1))]) if wanted else 0
    kept = {name: frames[far[name] <= limit] for name, frames in blocks.items()}
    return kept, 0, 2 * limit


def _distance(labels: NDArray[np.bool_]) -> Ints:
    """(n,) frames to the nearest abnormal frame, 0 for these; beyond all where there is none."""
    place = np.flatnonzero(labels)
    if not len(place):
        return np.full(len(labels), np.iinfo(np.int32).max, np.int64)
    at = np.arange(len(labels))
    after = np.searchsorted(place, at).clip(max=len(place) - 1)
    before = (after - 1).clip(min=0)
    return np.asarray(np.minimum(np.abs(place[after] - at), np.abs(at - place[before])))


def _check_both(
    split: str, frames: Mapping[str, Ints], labels: Mapping[str, NDArray[np.bool_]], root: Root
) -> None:
    seen = [labels[name][each] for name, each in frames.items()]
    for kind, found in (
        ("abnormal", any(each.any() for each in seen)),
        ("normal", any(not each.all() for each in seen)),
    ):
        if not found:
            raise ValueError(
                f"{root.folder}: the {split} part has no {kind} frame; use other shares, another"
                " --seed, or --by the other way"
            )

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
"""With at least so many recordings, whole ones are held out by default."""


class Selection(NamedTuple):
    """The frames chosen in a part.

    Attributes:
        lists: split, then recording name, to (n,) sorted frames.
        dropped: number of events left out whole, so that `ratio` holds.
        longest_normal: largest number of frames of a normal stretch between two events; None if no
            stretch is shortened.
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
        by: time splits each recording into a train, a validation and a test block; recording holds
            out whole recordings. None: recording if there are at least MANY, else time.
        shares: of train, val and test.
        guard_seconds: least time between two blocks of a recording.
        ratio: normal frames for each abnormal one, in each split: normal stretches lose the frames
            farthest from their events, or whole events are dropped. None keeps all frames.
        seed: of the order in which recordings, or events to drop, are drawn.

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
    for split, frames in blocks.items():
        lists[split] = frames
        if ratio is not None:
            lists[split], gone, limit = _balanced(frames, labels, ratio, rng)
            dropped += gone
            longest = limit if longest is None else min(longest, limit or longest)
        _check_both(split, lists[split], labels, root)
    return Selection(lists, dropped, longest)


def write_lists(folder: Path, selection: Selection, *, replace: bool = False) -> list[Path]:
    """Write `train.json`, `val.json`, `test.json` of a part; returns their paths.

    Raises:
        ValueError: they exist already.
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
    """Whole recordings in each split, drawn in random order; frames are about as the shares."""
    wanted = [split for split, share in zip(SPLITS, shares, strict=True) if share]
    if len(root.recordings) < len(wanted):
        raise ValueError(
            f"{len(root.recordings)} recordings cannot be shared among {', '.join(wanted)};"
            " --by time parts each recording"
        )
    order = [root.recordings[k] for k in rng.permutation(len(root.recordings))]
    total = sum(each.num_frames for each in order)
    blocks: dict[str, dict[str, Ints]] = {split: {} for split in wanted}

    def missing(split: str) -> float:
        """The part of a split's share that it does not have yet."""
        frames = sum(len(each) for each in blocks[split].values())
        return float(shares[SPLITS.index(split)] - frames / total)

    for place, recording in enumerate(order):
        left = len(order) - place
        empty = [split for split in wanted if not blocks[split]]
        split = max(empty if left <= len(empty) else wanted, key=missing)
        blocks[split][recording.name] = np.arange(recording.num_frames)
    return blocks


def _in_time(
    root: Root, labels: Mapping[str, NDArray[np.bool_]], shares: Sequence[float], guard: float
) -> dict[str, dict[str, Ints]]:
    """Blocks of each recording in the order train, val, test; no event is in two blocks."""
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
    """(N + 1,) whether a cut before frame i would split an event."""
    return np.concatenate([[False], labels[:-1] & labels[1:], [False]])


def _outside(inside: NDArray[np.bool_], frame: int, recording: Recording) -> int:
    """The first frame, from `frame` on, before which a cut splits no event."""
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
    """Returns frames with about `ratio` normal ones for each abnormal one, the number of events
    dropped, and the longest normal stretch."""
    abnormal = sum(int(labels[name][frames].sum()) for name, frames in blocks.items())
    normal = sum(len(frames) for frames in blocks.values()) - abnormal
    if normal > ratio * abnormal:
        return _shortened(blocks, labels, ratio * abnormal)
    events = [
        (name, start, stop)
        for name, frames in blocks.items()
        for start, stop in stretches(labels[name][frames])
    ]
    keep = {name: np.ones(len(frames), bool) for name, frames in blocks.items()}
    over, dropped = abnormal - normal / ratio, 0
    for k in rng.permutation(len(events)):
        name, start, stop = events[k]
        nearer = stop - start <= 2 * over  # to the ratio, without it
        if nearer and dropped < len(events) - 1:
            keep[name][start:stop] = False
            over -= stop - start
            dropped += 1
    return {name: frames[keep[name]] for name, frames in blocks.items()}, dropped, None


def _shortened(
    blocks: Mapping[str, Ints], labels: Mapping[str, NDArray[np.bool_]], wanted: float
) -> tuple[dict[str, Ints], int, int | None]:
    """Shortens normal stretches until `wanted` normal frames are left in all; the frames nearest to
    an event stay."""
    far = {name: _distance(labels[name][frames]) for name, frames in blocks.items()}
    distances = np.sort(np.concatenate([each[each > 0] for each in far.values()]))
    limit = int(distances[min(len(distances) - 1, max(0, round(wanted) - 1))]) if wanted else 0
    kept = {name: frames[far[name] <= limit] for name, frames in blocks.items()}
    return kept, 0, 2 * limit


def _distance(labels: NDArray[np.bool_]) -> Ints:
    """(n,) distance to the nearest abnormal frame, in frames; 2**31 - 1 where there is none."""
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
    seen = np.concatenate([labels[name][each] for name, each in frames.items()])
    for kind, found in (("abnormal", seen.any()), ("normal", not seen.all())):
        if not found:
            raise ValueError(
                f"{root.folder}: the {split} part has no {kind} frame; use other shares, another"
                " --seed, or --by the other way"
            )

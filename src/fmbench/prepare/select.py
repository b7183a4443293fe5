"""Which frames of labelled recordings train, validate and test: contiguous blocks with guards
between, and in each about as many normal frames as abnormal ones (Sec. IV-A)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fmbench.data.root import Root
from fmbench.data.windows import Ints
from fmbench.format.columns import stretches
from fmbench.format.lists import SPLITS, list_file, write_list
from fmbench.prepare.blocks import Timeline, few, in_time

By = Literal["time", "recording"]
SHARES = (0.7, 0.15, 0.15)
MANY = 10
"""With at least so many recordings, whole ones are held out by default."""
RARE = 0.1
"""Share of a class in a split below which `select` and `fit` warn."""
Blocks = dict[str, dict[str, Ints]]
"""Split to recording name to (n,) sorted frames."""


class Selection(NamedTuple):
    """The frames chosen in a part.

    Attributes:
        lists: split, then recording name, to (n,) sorted frames.
        dropped: number of events left out whole, so that `ratio` holds.
        longest_normal: largest number of frames of a normal stretch between two events; None if no
            stretch is shortened.
        notes: what else the user must know, a sentence each.
    """

    lists: Mapping[str, Mapping[str, Ints]]
    dropped: int
    longest_normal: int | None
    notes: Sequence[str] = ()


def select(
    root: Root,
    *,
    by: By | None = None,
    shares: Sequence[float] = SHARES,
    guard_seconds: float,
    ratio: float | None = 1.0,
    seed: int = 0,
) -> Selection:
    """Choose frames. Recordings without labels are left out.

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
        ValueError: no recording has labels, or the labelled footage does not suffice for both
            classes in each split: says what is missing.
    """
    if len(shares) != 3 or min(shares) < 0 or abs(sum(shares) - 1) > 1e-6 or not shares[0]:
        raise ValueError(f"shares are {list(shares)}; three numbers that sum to 1, train above 0")
    unlabelled = [each.name for each in root.recordings if not each.has_labels]
    known = [each for each in root.recordings if each.has_labels]
    if not known:
        raise ValueError(f"{root.folder}: {unlabelled[0]} has no labels; annotate it first")
    notes = [f"{name} has no labels, so it is left out; annotate it first" for name in unlabelled]
    kinds = {each.name: each.class_of(np.arange(each.num_frames)) for each in known}
    labels = {name: each > 0 for name, each in kinds.items()}
    wanted = {split: share for split, share in zip(SPLITS, shares, strict=True) if share}
    how = by or ("recording" if len(known) >= MANY else "time")
    rng = np.random.default_rng(seed)
    if how == "recording":
        blocks = _whole(root, labels, wanted, rng)
    else:
        lines = [
            Timeline(each.name, each.seconds, labels[each.name], plant=root.plant) for each in known
        ]
        try:
            blocks, more = in_time(lines, wanted, guard_seconds, ratio or 1.0)
        except ValueError as error:
            blocks, more = _whole_instead(root, labels, wanted, rng, by, error)
        notes += more
    lists: Blocks = {}
    dropped, longest = 0, None
    for split, frames in blocks.items():
        lists[split] = frames
        if ratio is not None:
            lists[split], gone, limit = _balanced(frames, kinds, ratio, rng)
            dropped += gone
            longest = limit if longest is None else min(longest, limit or longest)
        notes += _rare(split, lists[split], labels, few(root.plant))
        notes += _lacking(split, lists[split], kinds, known[0].classes)
    return Selection(lists, dropped, longest, notes)


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
    root: Root,
    labels: Mapping[str, NDArray[np.bool_]],
    wanted: Mapping[str, float],
    rng: np.random.Generator,
) -> Blocks:
    """Whole recordings in each split, drawn in random order; frames are about as the shares.

    Each split first gets what has both classes: a recording, or one of each class.
    """
    order = [[*labels][k] for k in rng.permutation(len(labels))]
    total = sum(map(len, labels.values()))
    frames = dict.fromkeys(wanted, 0)
    blocks: Blocks = {split: {} for split in wanted}

    def deal(names: Sequence[str], splits: Sequence[str]) -> None:
        """Give recordings to the split that lacks most of its share."""
        split = max(splits, key=lambda each: wanted[each] - frames[each] / total)
        for name in names:
            blocks[split][name] = np.arange(len(labels[name]))
            frames[split] += len(labels[name])

    both = [name for name in order if labels[name].any() and not labels[name].all()]
    normal = [name for name in order if not labels[name].any()]
    abnormal = [name for name in order if labels[name].all()]
    bases = [[name] for name in both] + [[*pair] for pair in zip(normal, abnormal, strict=False)]
    if len(bases) < len(wanted):
        raise ValueError(_too_few(root, len(both), len(abnormal), len(normal), [*wanted]))
    for base in bases[: len(wanted)]:
        deal(base, [split for split in wanted if not blocks[split]])
    dealt = {name for base in bases[: len(wanted)] for name in base}
    for name in order:
        if name not in dealt:
            deal([name], [*wanted])
    return blocks


def _whole_instead(
    root: Root,
    labels: Mapping[str, NDArray[np.bool_]],
    wanted: Mapping[str, float],
    rng: np.random.Generator,
    by: By | None,
    refused: ValueError,
) -> tuple[Blocks, list[str]]:
    """Whole recordings where they cannot be parted, if that was not asked for."""
    try:
        blocks = _whole(root, labels, wanted, rng)
    except ValueError:
        raise ValueError(f"{root.folder}: {refused}") from None
    if by == "time":
        raise ValueError(f"{root.folder}: {refused}\n--by recording works, too.")
    return blocks, ["whole recordings are held out: they are too short to be parted in time"]


def _rare(
    split: str, frames: Mapping[str, Ints], labels: Mapping[str, NDArray[np.bool_]], least: int
) -> list[str]:
    """What results on a split with hardly a frame of one class mean."""
    every = np.concatenate([labels[name][each] for name, each in frames.items()])
    abnormal = int(every.sum())
    normal = len(every) - abnormal
    if min(normal, abnormal) >= max(least, RARE * len(every)):
        return []
    kind = "abnormal" if abnormal < normal else "normal"
    return [
        f"{split.upper()} HAS {normal} NORMAL AND {abnormal} ABNORMAL FRAMES: its metrics will say "
        f"little. More {kind} footage would help, or other --shares"
    ]


def _lacking(
    split: str,
    frames: Mapping[str, Ints],
    kinds: Mapping[str, NDArray[np.uint8]],
    classes: Sequence[str],
) -> Iterator[str]:
    """Of more than two classes, those of which a split has no frame; where they are; what to do."""
    listed = {int(k) for name, each in frames.items() for k in np.unique(kinds[name][each])}
    for kind, name in enumerate(classes if len(classes) > 2 else ()):
        if kind in listed:
            continue
        there = [each for each, of in kinds.items() if (of == kind).any()]
        which = ", ".join(there[:3]) + " and others" * (len(there) > 3)
        where = f"frames of it are in {which}" if there else "no recording has a frame of it"
        yield (
            f"{split.upper()} HAS NO FRAME OF {name}: a model cannot be "
            f"{'trained' if split == 'train' else 'judged'} on it there; {where}. More footage"
            " of it would help, or another --seed, --shares or --by"
        )


def _too_few(root: Root, both: int, abnormal: int, normal: int, wanted: Sequence[str]) -> str:
    """Why whole recordings cannot be held out."""
    missing = len(wanted) - both - min(abnormal, normal)
    return (
        f"{root.folder}: each of {', '.join(wanted)} needs a recording with normal and abnormal "
        f"frames, or one of each. {both} {_have(both)} both, {abnormal} abnormal ones only, "
        f"{normal} normal ones only: {missing} more {_recordings(missing)} with both would do. "
        "--by time parts recordings"
    )


def _have(count: int) -> str:
    return "recording has" if count == 1 else "recordings have"


def _recordings(count: int) -> str:
    return "recording" if count == 1 else "recordings"


def _balanced(
    blocks: Mapping[str, Ints],
    kinds: Mapping[str, NDArray[np.uint8]],
    ratio: float,
    rng: np.random.Generator,
) -> tuple[dict[str, Ints], int, int | None]:
    """Returns frames with about `ratio` normal ones for each abnormal one, the number of events
    dropped, and the longest normal stretch. An event with the last frames of a class is kept."""
    labels = {name: each > 0 for name, each in kinds.items()}
    abnormal = sum(int(labels[name][frames].sum()) for name, frames in blocks.items())
    normal = sum(len(frames) for frames in blocks.values()) - abnormal
    if normal > ratio * abnormal:
        return _shortened(blocks, labels, ratio * abnormal)
    events = [
        (name, start, stop)
        for name, frames in blocks.items()
        for start, stop in stretches(labels[name][frames])
    ]
    classes = [{*kinds[name][blocks[name][start:stop]].tolist()} for name, start, stop in events]
    left = Counter(kind for of_event in classes for kind in of_event)
    keep = {name: np.ones(len(frames), bool) for name, frames in blocks.items()}
    over, dropped = abnormal - normal / ratio, 0
    for k in rng.permutation(len(events)):
        name, start, stop = events[k]
        nearer = stop - start <= 2 * over  # to the ratio, without it
        if nearer and all(left[kind] > 1 for kind in classes[k]):
            keep[name][start:stop] = False
            over -= stop - start
            left.subtract(classes[k])
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

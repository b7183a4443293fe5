"""Cuts recordings in time: blocks with guards between them, each with frames of both classes; no
event is in two of them. Tells what is missing where that cannot be.

Cuts lie beside events if they can; else a guard takes the begin or the end of an event. A block
that ends earlier never delays the next. The greatest number of blocks in a recording is therefore
what is found by ending each as early as possible.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from math import ceil
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fmbench.data.windows import Ints
from fmbench.format.columns import stretches
from fmbench.types import BENCHMARK, Plant

FEW = int(BENCHMARK.frame_rate)
"""Least frames of each class in a block: a second, of the benchmark's frame rate."""
_CUTS = 240
"""Most places of a recording that are tried for a cut."""
Span = tuple[int, int]
"""First frame of a block, and the one after its last."""


def few(plant: Plant) -> int:
    """Least frames of each class in a block: a second."""
    return max(1, round(FEW * plant.frame_rate / BENCHMARK.frame_rate))


class Timeline:
    """Times and labels of a recording, and where it can be cut.

    Args:
        name: of the recording.
        seconds: (N,) sorted second of each frame.
        labels: (N,) whether abnormal.
        whole: whether an event is in a block whole, or not at all; else a guard may take a part.
        plant: its rates are used.
    """

    def __init__(
        self,
        name: str,
        seconds: Ints,
        labels: NDArray[np.bool_],
        *,
        whole: bool = False,
        plant: Plant = BENCHMARK,
    ) -> None:
        self.name = name
        self.plant = plant
        self.seconds = seconds - seconds[0]
        self.labels = labels
        self.whole = whole
        inside = np.concatenate([[False], labels[:-1] & labels[1:], [False]])
        self.beside = np.flatnonzero(~inside)
        """Sorted places where a cut parts no event: before frame i, or N."""
        self.abnormal = np.concatenate([[0], np.cumsum(labels)])
        self.normal = np.arange(len(labels) + 1) - self.abnormal

    @property
    def few(self) -> int:
        """Least frames of each class in a block."""
        return few(self.plant)

    @property
    def end(self) -> int:
        """Length in seconds."""
        return int(self.seconds[-1]) + 1

    def behind_event(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """The first place at or after each that parts no event."""
        found: NDArray[np.int64] = self.beside[np.searchsorted(self.beside, places)]
        return found

    def next_start(self, ends: NDArray[np.int64], guard: float) -> NDArray[np.int64]:
        """Where the next block starts at the earliest; N where no frame is left for it."""
        later = np.searchsorted(self.seconds, self.seconds[ends - 1] + guard, side="right")
        return (
            self.behind_event(later) if self.whole else np.maximum(later, self.behind_event(ends))
        )

    def earliest_end(self, start: int) -> int | None:
        """Where a block from `start` has enough of both classes; None if it never has."""
        place = max(
            int(np.searchsorted(counts, counts[start] + self.few))
            for counts in (self.normal, self.abnormal)
        )
        if place > len(self.labels):
            return None
        return int(self.behind_event(np.array([place]))[0]) if self.whole else place

    def most_blocks(self, guard: float, limit: int) -> list[Span]:
        """As many blocks as there can be, `limit` at most, each as early as possible."""
        found: list[Span] = []
        start = 0
        while len(found) < limit and (end := self.earliest_end(start)) is not None:
            found.append((start, end))
            start = int(self.next_start(np.array([end]), guard)[0])
        return found

    def content(
        self, start: NDArray[np.int64], stop: NDArray[np.int64], ratio: float
    ) -> NDArray[np.float64]:
        """Abnormal frames of blocks for which there are `ratio` normal ones each; 0 where there are
        too few of a class."""
        normal = self.normal[stop] - self.normal[start]
        abnormal = self.abnormal[stop] - self.abnormal[start]
        enough = (normal >= self.few) & (abnormal >= self.few) & (stop > start)
        return np.where(enough, np.minimum(normal / ratio, abnormal), 0.0)

    def best_blocks(self, shares: Sequence[float], guard: float, ratio: float) -> list[Span]:
        """One to three blocks whose balanced frames are as near to the shares as can be, or none.

        They maximise the sum of share times log(content): contents are as the shares where they can
        be moved freely, and none is close to 0.
        """
        count = len(self.labels)
        fallback = self.most_blocks(guard, len(shares))
        if len(fallback) < len(shares):
            return []
        if len(shares) == 1:
            return [(0, count)]
        places = self.beside if self.whole else np.arange(1, count + 1)
        step = max(1, len(places) // _CUTS)
        ends = np.union1d(places[::step], [stop for _, stop in fallback[:-1]])
        ends = ends[ends > 0]
        starts = self.next_start(ends, guard)
        whole = np.full(len(ends), count)
        with np.errstate(divide="ignore"):
            first = shares[0] * np.log(self.content(np.zeros_like(ends), ends, ratio))
            last = shares[-1] * np.log(self.content(starts, whole, ratio))
            if len(shares) == 2:
                k = int(np.argmax(first + last))
                return [(0, int(ends[k])), (int(starts[k]), count)]
            middle = shares[1] * np.log(self.content(starts[:, None], ends[None, :], ratio))
        score = first[:, None] + middle + last[None, :]
        a, b = np.unravel_index(int(np.argmax(score)), score.shape)
        return [(0, int(ends[a])), (int(starts[a]), int(ends[b])), (int(starts[b]), count)]


def in_time(
    lines: Sequence[Timeline], shares: Mapping[str, float], guard: float, ratio: float
) -> tuple[dict[str, dict[str, Ints]], list[str]]:
    """Split to recording to (n,) frames, and what the user must know about recordings that are not
    parted: these go to the first split whole.

    Args:
        lines: the recordings.
        shares: of each split, all above 0.
        guard: least seconds between two blocks of a recording.
        ratio: normal frames wanted for each abnormal one.

    Raises:
        ValueError: not every split can have both classes; says what is missing.
    """
    splits, weights = [*shares], [*shares.values()]
    spans: dict[str, dict[str, Span]] = {}
    for line in lines:
        for whole in (True, False):  # events are cut only where it must be
            one = Timeline(line.name, line.seconds, line.labels, whole=whole, plant=line.plant)
            if line.name not in spans and (found := one.best_blocks(weights, guard, ratio)):
                spans[line.name] = dict(zip(splits, found, strict=True))
    if not spans:
        spans = _shared_out(lines, shares, guard, ratio)
    notes = []
    blocks: dict[str, dict[str, Ints]] = {split: {} for split in splits}
    for line in lines:
        own = spans.setdefault(line.name, {splits[0]: (0, len(line.labels))})
        if len(own) < len(splits):
            why = Missing.of(line, len(splits), guard)
            notes.append(f"{line.name} goes to {' and '.join(own)} only: {why}")
        notes += _cut_events(line, own)
        for split, span in own.items():
            blocks[split][line.name] = np.arange(*span)
    return blocks, notes


def _cut_events(line: Timeline, spans: Mapping[str, Span]) -> list[str]:
    """Events of which a guard takes a part, in words."""
    found = []
    for start, stop in stretches(line.labels):
        for split, (first, last) in spans.items():
            kept = min(stop, last) - max(start, first)
            if 0 < kept < stop - start:
                begin, end = int(line.seconds[start]), int(line.seconds[stop - 1]) + 1
                left = kept / line.plant.frame_rate
                found.append(
                    f"{line.name}: the event from {begin} s to {end} s is cut: "
                    f"{left:.0f} s of it are in {split}, a guard takes the rest"
                )
    return found


def _shared_out(
    lines: Sequence[Timeline], shares: Mapping[str, float], guard: float, ratio: float
) -> dict[str, dict[str, Span]]:
    """Blocks where no recording has room for all: each split has one recording, or a part of one;
    the others go to the first split."""
    splits = [*shares]
    room = [len(line.most_blocks(guard, len(splits))) for line in lines]
    if sum(room) < len(splits):
        raise ValueError(what_is_missing(lines, splits, guard))
    best, found = -np.inf, dict[str, dict[str, Span]]()
    for chosen in product(range(len(lines)), repeat=len(splits)):
        if any(chosen.count(k) > room[k] for k in set(chosen)):
            continue
        spans: dict[str, dict[str, Span]] = {}
        contents = dict.fromkeys(splits, 0.0)
        for k, line in enumerate(lines):
            own = [split for split, of in zip(splits, chosen, strict=True) if of == k]
            blocks = line.best_blocks([shares[split] for split in own], guard, ratio) if own else []
            spans[line.name] = dict(zip(own, blocks, strict=True))
            for split, (start, stop) in spans[line.name].items():
                contents[split] += line.content(np.array(start), np.array(stop), ratio).item()
            if not own:
                span = np.array(0), np.array(len(line.labels))
                spans[line.name] = {splits[0]: (0, len(line.labels))}
                contents[splits[0]] += line.content(*span, ratio).item()
        score = sum(shares[split] * np.log(content) for split, content in contents.items())
        if score > best:
            best, found = score, spans
    return found


class Missing(NamedTuple):
    """What a recording lacks to be parted.

    Attributes:
        parts, wanted: number of its parts that can have both classes, and of those wanted.
        ready: seconds from its start at which the next part could begin.
        end: its length in seconds.
        normal, abnormal: seconds of either class from `ready` on.
        event: begin and end, in seconds, of the last event of the parts that there can be.
    """

    parts: int
    wanted: int
    ready: int
    end: int
    normal: float
    abnormal: float
    event: tuple[int, int] | None

    @classmethod
    def of(cls, line: Timeline, wanted: int, guard: float) -> Missing:
        found = line.most_blocks(guard, wanted)
        ready, place, event = 0, 0, None
        if found:
            last = found[-1][1]
            place = int(line.next_start(np.array([last]), guard)[0])
            later = line.seconds[place] if place < len(line.labels) else line.end
            ready = max(ceil(int(line.seconds[last - 1]) + guard), int(later))
            start, stop = [each for each in stretches(line.labels) if each[0] < last][-1]
            event = int(line.seconds[start]), int(line.seconds[stop - 1]) + 1
        normal, abnormal = (
            float(counts[-1] - counts[place]) / line.plant.frame_rate
            for counts in (line.normal, line.abnormal)
        )
        return cls(len(found), wanted, ready, line.end, normal, abnormal, event)

    @property
    def without_event(self) -> int:
        """Seconds without an event that another part lacks."""
        return max(self.ready + 1 - self.end, 0) + 2 if self.normal < 1 else 0

    @property
    def lacks_event(self) -> bool:
        """Whether another part lacks an event."""
        return self.abnormal < 1

    def __str__(self) -> str:
        has = f"{self.normal:.0f} s of normal and {self.abnormal:.0f} s of abnormal frames"
        if self.event is None:
            return f"it has {has}, where a part needs a second of either"
        return (
            f"parts that end as early as can be take all up to the event from {self.event[0]} s to "
            f"{self.event[1]} s; the next could begin at {self.ready} s of {self.end} s, and from "
            f"there on {has} are left, where a part needs a second of either"
        )


def what_is_missing(lines: Sequence[Timeline], splits: Sequence[str], guard: float) -> str:
    """Why no part of the lines suffices for all splits, what to film, and which options work."""
    each = {line.name: Missing.of(line, len(splits), guard) for line in lines}
    parts = sum(one.parts for one in each.values())
    name = min(each, key=lambda name: each[name].without_event + 2 * each[name].lacks_event)
    one, lacking = each[name], len(splits) - parts
    recipe = [f"{one.without_event} s without an event"] if one.without_event else []
    recipe += ["an event of 2 s or longer"] if one.lacks_event else []
    again = [f"{ceil(guard) + 3} s without an event", "an event of 2 s or longer"]
    recipe += (lacking - 1) * again
    total = one.without_event + 2 * one.lacks_event + (lacking - 1) * (ceil(guard) + 5)
    lines_of_message = [
        f"each of {', '.join(splits)} needs normal and abnormal frames, {guard:g} s apart from the "
        f"others, and no event in common; the footage suffices for {parts} of {len(splits)}",
        f"{name}: {one}.",
        f"Missing at the end of {name}: {', then '.join(recipe)}; {total} s in all.",
    ]
    works = []
    if (shorter := _longest_guard(lines, len(splits), guard)) is not None:
        samples = int((shorter - 2) * lines[0].plant.current_rate)
        then = f", with --data.current_samples {samples} in training" if samples > 0 else ""
        works.append(f"--guard_seconds {shorter}{then}")
    if parts == 2 < len(splits):
        works.append("--shares 0.8,0,0.2, without a validation part")
    if works:
        lines_of_message.append(f"What works now: {'; or '.join(works)}.")
    return "\n".join(lines_of_message)


def _longest_guard(lines: Sequence[Timeline], wanted: int, guard: float) -> int | None:
    """The longest guard in whole seconds below `guard` that leaves room; None if none does."""
    low, high = -1, ceil(guard)
    while high - low > 1:
        middle = (low + high) // 2
        if sum(len(line.most_blocks(middle, wanted)) for line in lines) >= wanted:
            low = middle
        else:
            high = middle
    return low if low >= 0 else None

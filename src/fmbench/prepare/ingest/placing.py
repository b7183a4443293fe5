"""When the files of a video were taken: by their names, their containers, or their stamps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import av

from fmbench.prepare.ingest.clip import Clip
from fmbench.prepare.ingest.scan import continues
from fmbench.prepare.ingest.video_files import dated

ROUNDED = 1.5
"""Seconds by which clocks may differ that are given to the second."""
NAMED = 3
"""Places or files that a remark names."""


def place(clips: Sequence[Clip]) -> tuple[list[float], list[str]]:
    """Seconds from the first frame of all to the first of each clip, and remarks.

    Raises:
        ValueError: clips overlap, or their clocks have no known relation.
    """
    if len(clips) == 1:
        return [0.0], []
    names = [clip.path.name for clip in clips]
    clocks, of = [dated(clip.path) for clip in clips], "the date and time in their names"
    if None in clocks:
        clocks, of = [created_at(clip.path) for clip in clips], "the times at which they were made"
    if None in clocks:
        of = "their time stamps"
    starts, gaps, restarted = [0.0], [], False
    for k, (before, clip) in enumerate(pairwise(clips), 1):
        length = float(before.shown[-1]) + before.scan.step * before.scan.unit
        mine, its = clocks[k], clocks[k - 1]
        gap = 0.0 if None in clocks or mine is None or its is None else mine - its - length
        if gap < -ROUNDED:
            raise ValueError(
                f"{clip.path} begins {-gap:.1f} s before the end of {before.path}, by {of}. Give"
                " files that follow each other, in order, or ingest each by itself"
            )
        if gap <= ROUNDED:
            found = _gap_of_stamps(before, clip, clips[0], trusted=None not in clocks)
            restarted |= found is None
            gap = found or 0.0
        if gap > 2 * before.scan.step * before.scan.unit:
            gaps.append(f"{gap:.1f} s between {names[k - 1]} and {names[k]}")
        starts.append(starts[-1] + length + gap)
    order = f"{len(clips)} files, in this order: {few(names, most=6)}; placed by {of}"
    said = [f"gaps: {few(gaps)}"] if gaps else []
    if restarted and None in clocks:
        said.append(
            "their clocks start again: such a file is taken to follow the one before it without a"
            " gap"
        )
    return starts, [order, *(said or ["no gaps between them"])]


def _gap_of_stamps(before: Clip, clip: Clip, first: Clip, *, trusted: bool) -> float | None:
    """Seconds between two files by their time stamps; None where the second's clock was restarted.

    Raises:
        ValueError: it goes back, but was not restarted, and no other clock is `trusted`.
    """
    start, end = clip.scan.raw[0], before.scan.raw[1]
    gap = start - end
    slack = 2 * before.scan.step * before.scan.unit
    if clip.scan.stamped and gap >= -slack and (not trusted or gap <= ROUNDED):
        return max(gap, 0.0)
    swapped = abs(clip.scan.raw[1] - before.scan.raw[0]) <= slack
    if trusted or (continues(start, first.scan.raw[0]) and not swapped):
        return None
    raise ValueError(
        f"the time stamps of {clip.path} begin at {start:.1f} s, those of {before.path} end at"
        f" {end:.1f} s: the files overlap, or are not in order. Give them in order, with"
        " date and time in their names, or ingest each by itself"
    )


def created_at(path: Path) -> float | None:
    """The container's creation time, if any, in seconds since 1970 (no zone, mostly UTC)."""
    try:
        with av.open(str(path)) as container:
            text = container.metadata.get("creation_time")
        return None if text is None else _wall_clock(text)
    except (av.FFmpegError, ValueError):  # --start can replace it
        return None


def _wall_clock(text: str) -> float | None:
    """ISO 8601 to seconds since 1970, ignoring the zone; None for the years 1904 and 1970, which
    cameras write whose clock was never set."""
    when = datetime.fromisoformat(text).replace(tzinfo=UTC)
    return when.timestamp() if when.year > 1970 else None


def few(parts: Iterable[str], most: int = NAMED, last: str = ", ") -> str:
    """The first parts, and how many more there are."""
    named = [*parts]
    if len(named) > most:
        return f"{', '.join(named[:most])} and {len(named) - most} more"
    return last.join([", ".join(named[:-1]), named[-1]]) if len(named) > 1 else "".join(named)

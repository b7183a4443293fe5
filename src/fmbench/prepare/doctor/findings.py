"""Findings about a data set: how severe each is and what to do about it. Reads no files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import permutations
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fmbench.format.columns import moment
from fmbench.format.mat import stem
from fmbench.prepare.check import distance_back
from fmbench.prepare.faults import Fault, Kind, sentence
from fmbench.prepare.ingest.align import SURE, Offset

Severity = Literal["fault", "serious", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("fault", "serious", "warning", "note")
"""The first two make the exit status 1."""
SEVERITY_MEANING: Mapping[Severity, str] = {
    "fault": "files cannot be used as they are",
    "serious": "results would mean something else than they say",
    "warning": "look at it before training",
    "note": "nothing to do",
}
APART = 1.0
"""Tolerated difference of two clocks in seconds: the resolution of the files."""
FAR = 4.0
"""Robust deviations from which a recording's brightness is reported."""
NARROW = 2.55
"""Least robust deviation in grey levels, 1 % of the range."""
CLIPPED = 0.05
"""Share of pixels at 0 or at 255 from which it is reported."""
RARE = 0.1
"""Share of a class in a split below which it is reported."""


class Finding(NamedTuple):
    """One thing to look at before training.

    Attributes:
        severity: see SEVERITY_MEANING.
        what: what was found, in a sentence.
        todo: what to do about it.
        recording: name; empty if the finding concerns a part or the whole data set.
        time: first occurrence, or a line or frame; empty if it concerns the whole recording.
        place: file or part.
    """

    severity: Severity
    what: str
    todo: str
    recording: str = ""
    time: str = ""
    place: str = ""

    def __str__(self) -> str:
        where = ", ".join(part for part in (self.place, self.recording, self.time) if part)
        return f"{self.severity}: {where + ': ' if where else ''}{self.what} {self.todo}"


def stops(findings: Iterable[Finding]) -> bool:
    """Whether one of them is a fault or serious."""
    return any(each.severity in SEVERITIES[:2] for each in findings)


def of_faults(faults: Sequence[Fault], root: Path) -> list[Finding]:
    """Faults as findings, without windows that reach back: `of_guards` reports these."""
    found = []
    for fault in faults:
        if fault.kind is Kind.REACHES_BACK:
            continue
        path = Path(fault.file)
        place = str(path.relative_to(root)) if path.is_relative_to(root) else str(path)
        what = sentence(fault.message)
        found.append(
            Finding(
                "warning" if fault.warning else "fault",
                what[:1].upper() + what[1:],
                fault.kind.remedy,
                stem(path.name) if path.suffix in (".csv", ".mat") else "",
                fault.position,
                "" if place == "." else place,
            )
        )
    return found


def of_offset(offset: Offset | None, recording: str = "", place: str = "") -> list[Finding]:
    """Offset of the clocks of one recording, or of all pooled (no `recording`). A single recording
    is reported only if its offset is sure and the clocks differ."""
    if offset is None:
        return []
    measured = f"{offset.seconds:+.1f} s (confidence {offset.confidence:.1f}, {offset.hours:.1f} h)"
    if offset.sure and abs(offset.seconds) > APART:
        what = f"The clocks differ: the video's is off from the currents' by {measured}."
        todo = f"Ingest again with --offset {offset.seconds:.1f}."
        return [Finding("serious", what, todo, recording, "", place)]
    if recording:
        return []
    if offset.sure:
        what = f"Video and currents run on one clock, as far as the signals show: {measured}."
        return [Finding("note", what, "Nothing.")]
    what = (
        f"Whether video and currents run on one clock is not sure: best guess {measured}; "
        f"{SURE:g} is sure."
    )
    return [Finding("note", what, "Nothing: the guess is not to be relied on.")]


def of_drift(first: Offset | None, second: Offset | None) -> list[Finding]:
    """Offset of the first half of the footage against the second; nothing unless both are sure."""
    if first is None or second is None or not (first.sure and second.sure):
        return []
    change = second.seconds - first.seconds
    measured = f"{first.seconds:+.1f} s in the first half, {second.seconds:+.1f} s in the second"
    if abs(change) > APART:
        todo = "Ingest the recordings of each half with an --offset of their own."
        return [Finding("serious", f"The clocks drift apart: {measured}.", todo)]
    return [Finding("note", f"The clocks do not drift: {measured}.", "Nothing.")]


def median_brightness(histogram: NDArray[np.int64]) -> float:
    """Median grey level of (256,) counts."""
    return float(np.searchsorted(histogram.cumsum(), histogram.sum() / 2))


def deviations(medians: Sequence[float]) -> NDArray[np.float64]:
    """(n,) robust z of each median; 0 if there are fewer than three."""
    values = np.asarray(medians, dtype=np.float64)
    if len(values) < 3:
        return np.zeros(len(values))
    off = values - np.median(values)
    return np.asarray(off / max(1.4826 * float(np.median(np.abs(off))), NARROW))


def of_exposure(
    recording: str, *, dark: float, bright: float, median: float, deviation: float, place: str = ""
) -> list[Finding]:
    """Exposure of one recording.

    Args:
        dark: share of pixels whose three channels are 0, in the median frame.
        bright: share of pixels of which a channel is 255, in the median frame.
        median: grey level.
        deviation: robust z of the median among all recordings.
    """
    found = []
    if bright >= CLIPPED:
        what = f"Over-exposed: {bright:.1%} of pixels are at 255 in the median frame."
        todo = "Shorten the exposure or close the aperture; what was clipped cannot be recovered."
        found.append(Finding("warning", what, todo, recording, "", place))
    if dark >= CLIPPED:
        what = (
            f"Under-exposed, or a black border: {dark:.1%} of pixels are at 0 in the median frame."
        )
        todo = "Look at the frames; choose the region (--roi) without the border."
        found.append(Finding("warning", what, todo, recording, "", place))
    if abs(deviation) > FAR:
        side = "brighter" if deviation > 0 else "darker"
        what = f"Much {side} than the others: median {median:.0f}, robust z {deviation:+.1f}."
        todo = "Compare camera, exposure and region with the other recordings."
        found.append(Finding("warning", what, todo, recording, "", place))
    return found


def of_guards(
    recording: str,
    lists: Mapping[str, NDArray[np.int64]],
    seconds: NDArray[np.int64],
    longest: float,
    place: str = "",
) -> list[Finding]:
    """Frames of one split that follow those of another so closely that their windows overlap them.

    Args:
        lists: split to (n,) sorted frames of the recording.
        seconds: (N,) sorted second of each frame.
        longest: seconds that the longest window reaches back.
    """
    found = []
    for split, other in permutations([name for name, frames in lists.items() if len(frames)], 2):
        mine = lists[split]
        gap = distance_back(mine, lists[other], seconds)
        close = gap < longest
        if not close.any():
            continue
        first = int(mine[close][0])
        what = (
            f"{int(close.sum())} {split} windows reach back into {other}: a guard of "
            f"{gap[close].min():.0f} s, where the longest window is {longest:g} s."
        )
        todo = f"fmbench data select ROOT --replace --guard_seconds {longest:g}, or longer."
        found.append(Finding("warning", what, todo, recording, moment(seconds[first]), place))
    return found


def of_balance(split: str, normal: int, abnormal: int, place: str = "") -> list[Finding]:
    """Class balance of the labelled frames of one split."""
    total = normal + abnormal
    if not total:
        what, todo = f"{split} lists no labelled frame.", "fmbench data select ROOT --replace."
        return [Finding("serious" if split != "val" else "warning", what, todo, "", "", place)]
    if not normal or not abnormal:
        kind = "abnormal" if normal else "normal"
        what = f"{split} has {total} frames, none of them {kind}."
        todo = "Move recordings between the splits: fmbench data select ROOT --replace."
        return [Finding("serious", what, todo, "", "", place)]
    if min(normal, abnormal) / total < RARE:
        what = f"{split} is out of balance: {abnormal / total:.1%} of {total} frames are abnormal."
        todo = "fmbench data select ROOT --replace --ratio 1; or expect accuracy to say little."
        return [Finding("warning", what, todo, "", "", place)]
    return []


def of_classes(
    split: str, counts: Sequence[int], classes: Sequence[str], place: str = ""
) -> list[Finding]:
    """Of more than two classes, those that are rare among the labelled frames of one split, or that
    it lacks, unless `of_balance` says so."""
    total = sum(counts)
    if len(classes) < 3 or not counts[0] or not sum(counts[1:]):
        return []
    found = []
    for name, count in zip(classes, counts, strict=True):
        if not count:
            what = f"{split} has {total} frames, none of them {name}."
            todo = (
                "Move recordings between the splits: fmbench data select ROOT --replace; it says"
                " which have the class."
            )
            severity: Severity = "warning" if split == "val" else "serious"
            found.append(Finding(severity, what, todo, "", "", place))
        elif count / total < 2 * RARE / len(classes):  # RARE is of two classes
            what = f"{split} has few frames of {name}: {count / total:.1%} of {total}."
            todo = "More footage of it; or expect its recall and macro_f1 to say little."
            found.append(Finding("warning", what, todo, "", "", place))
    return found

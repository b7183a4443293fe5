"""What is wrong with a data set, how bad that is, and what to do about it. Nothing here reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import permutations
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fmbench.format.columns import format_seconds
from fmbench.prepare.faults import Fault
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
"""Seconds by which two clocks may differ: a second is what the files resolve."""
FAR = 4.0
"""Robust deviations from which a recording's brightness is told."""
NARROW = 2.55
"""Grey levels, 1 % of the range: recordings that agree better than this count as this far apart."""
CLIPPED = 0.05
"""Share of pixels at 0 or at 255 from which it is told."""
RARE = 0.1
"""Share of a class in a split below which it is told."""

ADVICE = (
    ("truncated", "Copy the file again."),
    ("damaged", "Copy the file again; if it is damaged at its source, leave the recording out."),
    ("no HDF5 file", "Save it again with -v7.3, or copy it again."),
    ("cannot be read", "Copy the file again."),
    ("seconds of current are missing", "Train with --data.gaps hold or drop, or repair the log."),
    ("rows of current, not", "Train with --data.gaps hold or drop, or repair the log."),
    ("odd number of current rows", "Add or remove a row; two a second are expected."),
    ("is repeated", "Remove the rows that stand twice."),
    ("has no current", "Train with --data.gaps hold or drop, or list no frame of that second."),
    ("out of order", "Sort the rows by time, or ingest the recording again."),
    ("is no time", "Write the time as YYYY-MM-DD HH:MM:SS."),
    ("no finite number", "Repair the row, or delete its second and train with --data.gaps hold."),
    ("rows for", "Write one row for each frame, or ingest the recording again."),
    ("has no 'label'", "Label it: fmbench data annotate; or move it to unlabelled/."),
    ("mask values", "Write masks of 0 and 1."),
    ("values outside", "Write the frames as whole numbers from 0 to 255."),
    ("is in no list", "Nothing, if it is meant; otherwise fmbench data select ROOT --replace."),
    ("as well", "Take them out of one list: fmbench data select ROOT --replace."),
    ("listed twice", "List each frame once."),
    ("are outside", "List only frames that the recording has."),
    ("no recording is called", "Correct the name, or take it out of the list."),
    ("a second recording called", "Rename one of the two."),
    ("phases differ", "Write the same phases for all recordings."),
    ("holds no recordings", "Ingest or annotate recordings first: fmbench data ingest --help."),
    ("train.json: is missing", "Write it: fmbench data select ROOT."),
    ("test.json: is missing", "Write it: fmbench data select ROOT."),
    ("is missing", "Add the file, or remove what belongs to it."),
)


class Finding(NamedTuple):
    """Something to look at.

    Attributes:
        severity: as SEVERITY_MEANING says.
        what: in a sentence.
        todo: what to do about it.
        recording: its name; empty where it concerns the part or the whole.
        time: when it first happens, or a line or frame; empty where it concerns the whole.
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
    """What the check found; windows that reach over are told by `of_guards` instead."""
    found = []
    for fault in faults:
        if fault.warning and "reach back into" in fault.message:
            continue
        path = Path(fault.file)
        place = str(path.relative_to(root)) if path.is_relative_to(root) else str(path)
        name = path.name.split(".", 1)[0] if path.suffix in (".csv", ".mat") else ""
        unit = "line" if path.suffix == ".csv" else "frame"
        told = f"{place}: {fault.message}"
        todo = next(
            (todo for sign, todo in ADVICE if sign in told),
            "Repair the file, then run fmbench data check again.",
        )
        found.append(
            Finding(
                "warning" if fault.warning else "fault",
                _sentence(fault.message),
                todo,
                name,
                "" if fault.row is None else f"{unit} {fault.row}",
                "" if place == "." else place,
            )
        )
    return found


def of_offset(offset: Offset | None, recording: str = "", place: str = "") -> list[Finding]:
    """The clocks of one recording, or of all pooled (no `recording`). A single recording is told
    only where it is sure and the clocks differ."""
    if offset is None:
        return []
    told = f"{offset.seconds:+.1f} s (confidence {offset.confidence:.1f}, {offset.hours:.1f} h)"
    if offset.sure and abs(offset.seconds) > APART:
        what = f"The clocks differ: the video's is off from the currents' by {told}."
        todo = f"Ingest again with --offset {offset.seconds:.1f}."
        return [Finding("serious", what, todo, recording, "", place)]
    if recording:
        return []
    if offset.sure:
        what = f"Video and currents run on one clock, as far as can be told: {told}."
        return [Finding("note", what, "Nothing.")]
    what = (
        f"Whether video and currents run on one clock is not sure: best guess {told}; "
        f"{SURE:g} is sure."
    )
    return [Finding("note", what, "Nothing: the guess is not to be relied on.")]


def of_drift(first: Offset | None, second: Offset | None) -> list[Finding]:
    """The offset of the first half of the footage against the second, where both are sure."""
    if first is None or second is None or not (first.sure and second.sure):
        return []
    change = second.seconds - first.seconds
    told = f"{first.seconds:+.1f} s in the first half, {second.seconds:+.1f} s in the second"
    if abs(change) > APART:
        todo = "Ingest the recordings of each half with an --offset of their own."
        return [Finding("serious", f"The clocks drift apart: {told}.", todo)]
    return [Finding("note", f"The clocks do not drift: {told}.", "Nothing.")]


def median_brightness(histogram: NDArray[np.int64]) -> float:
    """Of (256,) counts of grey levels."""
    return float(np.searchsorted(histogram.cumsum(), histogram.sum() / 2))


def deviations(medians: Sequence[float]) -> NDArray[np.float64]:
    """(n,) robust z of each; 0 where fewer than three can be compared."""
    values = np.asarray(medians, dtype=np.float64)
    if len(values) < 3:
        return np.zeros(len(values))
    off = values - np.median(values)
    return np.asarray(off / max(1.4826 * float(np.median(np.abs(off))), NARROW))


def of_exposure(
    recording: str, *, dark: float, bright: float, median: float, deviation: float, place: str = ""
) -> list[Finding]:
    """One recording.

    Args:
        dark: share of pixels whose three channels are 0.
        bright: share of pixels of which a channel is 255.
        median: grey level.
        deviation: robust z of the median among all recordings.
    """
    found = []
    if bright >= CLIPPED:
        what = f"Over-exposed: {bright:.1%} of pixels are at 255."
        todo = "Shorten the exposure or close the aperture; what was clipped cannot be recovered."
        found.append(Finding("warning", what, todo, recording, "", place))
    if dark >= CLIPPED:
        what = f"Under-exposed, or a black border: {dark:.1%} of pixels are at 0."
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
    """Frames of one split so soon after those of another that their windows hold them.

    Args:
        lists: split to (n,) sorted frames of the recording.
        seconds: (N,) of its frames, in order.
        longest: seconds that a window reaches back.
    """
    found = []
    for split, other in permutations([name for name, frames in lists.items() if len(frames)], 2):
        mine, theirs = lists[split], lists[other]
        before = np.searchsorted(theirs, mine, side="right") - 1
        gap = np.where(before >= 0, seconds[mine] - seconds[theirs[before]], np.inf)
        close = gap < longest
        if not close.any():
            continue
        first = int(mine[close][0])
        what = (
            f"{int(close.sum())} {split} windows reach back into {other}: a guard of "
            f"{gap[close].min():.0f} s, where the longest window is {longest:g} s."
        )
        todo = f"fmbench data select ROOT --replace --guard_seconds {longest:g}, or longer."
        time = moment(seconds[first])
        found.append(Finding("warning", what, todo, recording, time, place))
    return found


def of_balance(split: str, normal: int, abnormal: int, place: str = "") -> list[Finding]:
    """Class balance of one split."""
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


def moment(second: float | np.integer[Any]) -> str:
    """A time of day; of a file without times, the time from its start."""
    value = int(second)
    if value < 86400 * 365:  # no clock: seconds from the start
        return f"{value // 3600}:{value // 60 % 60:02d}:{value % 60:02d}"
    return format_seconds(np.array([value]))[0]


def _sentence(text: str) -> str:
    text = text.strip()
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith('.') else '.'}"

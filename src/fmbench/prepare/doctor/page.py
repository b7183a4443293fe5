"""The page: one HTML file that refers to nothing outside it."""

from __future__ import annotations

from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from fmbench.data.recording import Recording
from fmbench.data.windows import Ints
from fmbench.format.columns import moment
from fmbench.format.lists import SPLITS
from fmbench.page import render, svg
from fmbench.page.traces import current_traces
from fmbench.prepare.doctor.examination import Examined, Report, Split, counts_of, hours_of
from fmbench.prepare.doctor.examine import EXPOSED, seconds_of, spread
from fmbench.prepare.doctor.findings import (
    SEVERITIES,
    SEVERITY_MEANING,
    Finding,
    median_brightness,
)
from fmbench.prepare.doctor.reading import UNREADABLE, frame_times, frames_at
from fmbench.tabular import SIMULATED
from fmbench.types import BENCHMARK

SHOWN, FRAMES = 12, 12
"""Recordings shown in full, and frames of each."""
ROWS = 500
"""Most rows of a table; the page gives the number of the others."""
PICTURES = 1_100_000
"""Most bytes of all JPEGs of a page."""


def page(report: Report) -> str:
    """The HTML of a report."""
    shown = chosen(report)
    frames = sum(each.recording.num_frames for each in report.recordings)
    classes = _class_names(report)
    severities = [each.severity for each in report.findings]
    return render(
        "fmbench.prepare.doctor",
        "page.html",
        title=f"Doctor: {report.root.resolve().name}",
        banner=SIMULATED if report.simulated else "",
        simulated=SIMULATED,
        exposed=EXPOSED,
        report=report,
        frames=frames,
        hours=f"{hours_of(report.recordings):.1f}",
        severities=[(each, severities.count(each), SEVERITY_MEANING[each]) for each in SEVERITIES],
        findings=[_finding(each) for each in report.findings[:ROWS]],
        classes=[(name, "number") for name in classes],
        parts=_parts(report, len(classes)),
        splits=[_split(row, len(classes)) for row in report.splits],
        recordings=[_row(each, each in shown) for each in report.recordings[:ROWS]],
        sections=[_section(each, PICTURES // len(shown)) for each in shown],
    )


def chosen(report: Report) -> list[Examined]:
    """Recordings shown in full: those with findings first, then others, evenly spaced."""
    worst: dict[tuple[str, str], int] = {}
    for finding in report.findings:
        key = finding.place.split("/", 1)[0], finding.recording
        worst.setdefault(key, SEVERITIES.index(finding.severity))
    able = [each for each in report.recordings if not each.refused]
    first = [each for each in able if _key(each) in worst]
    first = sorted(first, key=lambda each: worst[_key(each)])[:SHOWN]
    others = [each for each in able if _key(each) not in worst]
    first += [others[k] for k in spread(len(others), SHOWN - len(first))]
    return sorted(first, key=_key)


def _key(each: Examined) -> tuple[str, str]:
    return each.place, each.recording.name


def _finding(each: Finding) -> tuple[str, ...]:
    badge = Markup('<span class="badge {0}">{0}</span>').format(each.severity)
    place = each.place or "–"
    return badge, each.what, each.recording or "all", each.time or "–", place, each.todo


def _class_names(report: Report) -> list[str]:
    """Headings of the counts of frames by class."""
    found = [each.classes for each in report.recordings if each.kinds is not None]
    most = max(found, key=len, default=BENCHMARK.classes)
    return [*most] if len(most) > 2 else [name.capitalize() for name in BENCHMARK.classes]


def _parts(report: Report, classes: int) -> list[tuple[str | int, ...]]:
    """Part, recordings, frames of each class and all frames, of labelled recordings."""
    labelled: dict[str, list[Examined]] = {}
    for each in report.recordings:
        if each.kinds is not None:
            labelled.setdefault(each.place or report.root.resolve().name, []).append(each)
    rows: list[tuple[str | int, ...]] = []
    for part, of_part in labelled.items():
        counts = counts_of(of_part)
        rows.append((part, len(of_part), *_padded(counts, classes), sum(counts)))
    return rows


def _split(row: Split, classes: int) -> tuple[str | int, ...]:
    place, split, *counts = row
    total = sum(counts)
    share = f"{sum(counts[1:]) / total:.1%}" if total else "–"
    return f"{place}: {split}" if place else split, *_padded(counts, classes), total, share


def _padded(counts: list[int], classes: int) -> list[int]:
    return counts + [0] * (classes - len(counts))


def _row(each: Examined, shown: bool) -> tuple[str | int, ...]:
    recording = each.recording
    link = Markup('<a href="#{}">{}</a>').format(_anchor(each), recording.name)
    seconds = seconds_of(recording)
    first = (
        link if shown else recording.name,
        each.place or "–",
        moment(seconds[0]) if seconds is not None and len(seconds) else "unknown",
        recording.num_frames,
        "–" if each.labels is None else f"{each.labels.mean():.1%}",
    )
    if each.refused:
        return *first, f"could not be read: {each.refused}"
    median = median_brightness(each.histogram)
    label = f"Brightness of {recording.name}: median {median:.0f} of 255"
    return (
        *first,
        offset_words(each),
        svg.histogram(each.histogram, label),
        f"{median:.0f}",
        f"{each.deviation:+.1f}",
        f"{each.dark:.1%}",
        f"{each.bright:.1%}",
    )


def offset_words(each: Examined) -> str:
    """Offset of one recording, or why there is none."""
    if each.offset is None:
        return f"none: {each.unsure}" if each.unsure else "not estimated"
    measured = f"{each.offset.seconds:+.1f} s ({each.offset.confidence:.1f})"
    return measured if each.offset.sure else f"not sure: {measured}"


def _anchor(each: Examined) -> str:
    """Identifier of letters and digits, whatever characters the name has."""
    return "r" + f"{each.place}/{each.recording.name}".encode().hex()


def _section(each: Examined, most: int) -> dict[str, Any]:
    """Frames, currents and spans of one recording; its JPEGs have at most `most` bytes."""
    recording, rate = each.recording, each.recording.plant.frame_rate
    try:
        times = frame_times(recording.seconds, rate)
        clock = True
    except UNREADABLE:
        times, clock = np.arange(recording.num_frames) / rate, False
    span = (float(times[0]), float(times[-1]) + 1 / rate)
    return {
        "recording": recording,
        "anchor": _anchor(each),
        "place": each.place,
        "offset": offset_words(each),
        "clock": clock,
        "pictures": _pictures(each, times, most),
        "currents": _currents(each.recording, span) if clock else [],
        "lanes": _lanes(each, times, span),
        "start": moment(span[0]),
        "end": moment(span[1]),
    }


def _pictures(each: Examined, times: NDArray[np.float64], most: int) -> list[dict[str, str]] | str:
    """Frames evenly spaced; or why they cannot be read."""
    index = spread(each.recording.num_frames, FRAMES)
    try:
        sources = svg.jpegs(list(frames_at(each.recording, index)), most)
    except UNREADABLE as error:
        return f"Its frames cannot be read: {error}"
    pictures, second = [], each.recording.plant.frame_rate
    for frame, source in zip(index, sources, strict=True):
        kind = "" if each.labels is None else ("abnormal" if each.labels[frame] else "normal")
        name = "" if each.kinds is None else each.classes[each.kinds[frame]]
        near = (which for which, of in each.lists.items() if _near(of, int(frame), second))
        split = next(near, "")
        words = ", ".join(filter(None, (name, split)))
        date_and_time = moment(times[frame])
        place = f"Frame {frame} of {each.recording.name} at {date_and_time}"
        alt = ", ".join(filter(None, (place, words)))
        when = date_and_time.split(" ")[-1]
        pictures.append({"kind": kind, "source": source, "alt": alt, "when": when, "words": words})
    return pictures


def _near(frames: Ints, frame: int, second: float) -> bool:
    """Whether a frame within a second of `frame` is listed: lists may skip frames."""
    place = int(np.searchsorted(frames, frame - second))
    return place < len(frames) and int(frames[place]) <= frame + second


def _lanes(
    each: Examined, times: NDArray[np.float64], span: tuple[float, float]
) -> list[tuple[str, Markup]]:
    """Filmed, abnormal and listed frames, as lanes along time; of more than two classes, a lane for
    each that is not normal."""
    columns = svg.columns_of(times, span)
    whole = len(times)
    lanes: list[tuple[str, str, Ints]] = []
    if each.kinds is not None:
        for k, name in enumerate(each.classes[1:], 1):
            lanes.append((name, "abnormal", np.flatnonzero(each.kinds == k)))
    lanes += [(split, split, each.lists[split]) for split in SPLITS if split in each.lists]
    rows = [("filmed", _lane("filmed", "filmed", columns, whole))]
    for name, kind, frames in lanes:
        words = f"{name} {len(frames) / whole:.0%}"
        rows.append((words, _lane(name, kind, columns[frames], whole)))
    return rows


def _lane(name: str, kind: str, columns: Ints, whole: int) -> Markup:
    label = f"{name}: {len(columns):,} of {whole:,} frames along time"
    return svg.lane(svg.marked(columns), kind, label)


def _currents(recording: Recording, span: tuple[float, float]) -> list[tuple[Markup, Markup]] | str:
    """One trace for each phase; or why there is none."""
    try:
        return current_traces(recording, span) or "No current was logged while it was filmed."
    except UNREADABLE as error:
        return f"Its currents cannot be read: {error}"

"""The page: one HTML file that needs nothing beside it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

import numpy as np

from fmbench.data.windows import Ints
from fmbench.format.lists import SPLITS
from fmbench.prepare.doctor import svg
from fmbench.prepare.doctor.examine import EXPOSED, Examined, Report, seconds_of, spread
from fmbench.prepare.doctor.findings import (
    SEVERITIES,
    SEVERITY_MEANING,
    Finding,
    median_brightness,
    moment,
)
from fmbench.prepare.doctor.reading import UNREADABLE, frame_times, frames_at
from fmbench.prepare.doctor.style import STYLE
from fmbench.tabular import SIMULATED
from fmbench.types import FRAME_RATE

SHOWN, FRAMES = 12, 12
"""Recordings shown in full, and frames of each."""
ROWS = 500
"""Rows of a table; what is more is only counted."""
PICTURES = 1_100_000
"""Bytes of all JPEGs of a page."""
NUMBER = ' class="number"'
NUMBERS = (
    "Recordings", "Normal", "Abnormal", "Total", "Share abnormal", "Frames", "Median", "z", "At 0",
    "At 255",
)  # fmt: skip
"""Columns that stand to the right."""


def page(report: Report) -> str:
    """The HTML of what was found."""
    shown = chosen(report)
    title = f"Doctor: {report.root.resolve().name}"
    body = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="banner" role="note"><strong>{SIMULATED}</strong></p>'
        if report.simulated
        else "",
        _summary(report),
        _findings(report),
        _counts(report),
        _recordings(report, shown),
        *(_recording(each, PICTURES // max(1, len(shown))) for each in shown),
    ]
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en">',
            '<head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            '<link rel="icon" href="data:,">',
            f"<title>{escape(title)}</title>",
            f"<style>{STYLE}</style></head>",
            f"<body><main>{chr(10).join(body)}</main></body></html>",
            "",
        ]
    )


def chosen(report: Report) -> list[Examined]:
    """The recordings shown in full: those with findings first, then others evenly spread."""
    worst: dict[tuple[str, str], int] = {}
    for finding in report.findings:
        key = finding.place.split("/", 1)[0], finding.recording
        worst.setdefault(key, SEVERITIES.index(finding.severity))
    able = [each for each in report.recordings if not each.refused]
    told = [each for each in able if _key(each) in worst]
    told.sort(key=lambda each: worst[_key(each)])
    told = told[:SHOWN]
    others = [each for each in able if _key(each) not in worst]
    told += [others[k] for k in spread(len(others), SHOWN - len(told))]
    return sorted(told, key=lambda each: (each.place, each.recording.name))


def _key(each: Examined) -> tuple[str, str]:
    return each.place, each.recording.name


def _table(head: Sequence[str], rows: Iterable[str], caption: str) -> str:
    """A table that scrolls by itself; `rows` are the insides of `tr`."""
    columns = "".join(
        f'<th scope="col"{NUMBER if each in NUMBERS else ""}>{escape(each)}</th>' for each in head
    )
    lines = "\n".join(f"<tr>{row}</tr>" for row in rows)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}">'
        f"<table><caption>{escape(caption)}</caption>"
        f"<thead><tr>{columns}</tr></thead><tbody>\n{lines}\n</tbody></table></div>"
    )


def _cells(*values: object) -> str:
    return "".join(f"<td>{escape(str(value))}</td>" for value in values)


def _numbers(*values: object) -> str:
    return "".join(f"<td{NUMBER}>{escape(str(value))}</td>" for value in values)


def _name(name: str) -> str:
    return f'<th scope="row">{escape(name)}</th>'


def _summary(report: Report) -> str:
    counts = {
        severity: sum(each.severity == severity for each in report.findings)
        for severity in SEVERITIES
    }
    frames = sum(each.recording.num_frames for each in report.recordings)
    unopened = f"; {report.unopened} more cannot be opened" if report.unopened else ""
    told = "".join(
        f'<li><span class="badge {severity}">{count} {severity}</span> '
        f"{SEVERITY_MEANING[severity]}</li>"
        for severity, count in counts.items()
    )
    return (
        f"<p>{len(report.recordings)} recordings, {frames:,} frames, "
        f"{frames / FRAME_RATE / 3600:.1f} h{unopened}.</p>"
        f'<ul class="summary">{told}</ul>'
    )


def _findings(report: Report) -> str:
    if not report.findings:
        return "<h2>Findings</h2><p>None.</p>"
    rows = [_finding(each) for each in report.findings[:ROWS]]
    left = len(report.findings) - len(rows)
    more = f"<p>{left} more are printed by the command only.</p>" if left else ""
    head = ("Severity", "What", "Recording", "When", "Where", "What to do")
    return f"<h2>Findings</h2>{_table(head, rows, 'Findings, the worst first')}{more}"


def _finding(each: Finding) -> str:
    badge = f'<th scope="row"><span class="badge {each.severity}">{each.severity}</span></th>'
    what = f'<td class="text">{escape(each.what)}</td>'
    todo = f'<td class="text">{escape(each.todo)}</td>'
    where = f'<td class="name">{escape(each.recording or "all")}</td>'
    where += f'<td class="when">{escape(each.time or "–")}</td>' + _cells(each.place or "–")
    return badge + what + where + todo


def _counts(report: Report) -> str:
    parts: dict[str, list[Examined]] = {}
    for each in report.recordings:
        if each.labels is not None:
            parts.setdefault(each.place, []).append(each)
    text = ["<h2>Table I and splits</h2>"]
    if not parts:
        text.append("<p>No recording has labels.</p>")
    counts = []
    for place, of_part in parts.items():
        total = sum(len(each.labels) for each in of_part if each.labels is not None)
        abnormal = sum(int(each.labels.sum()) for each in of_part if each.labels is not None)
        name = place or report.root.resolve().name
        normal = f"{total - abnormal:,}"
        counts.append(_name(name) + _numbers(len(of_part), normal, f"{abnormal:,}", f"{total:,}"))
    if counts:
        head = ("Part", "Recordings", "Normal", "Abnormal", "Total")
        text.append(_table(head, counts, "Table I: frames by class"))
    rows = []
    for place, split, normal_frames, abnormal in report.splits:
        total = normal_frames + abnormal
        share = f"{abnormal / total:.1%}" if total else "–"
        name = f"{place}: {split}" if place else split
        figures = (f"{normal_frames:,}", f"{abnormal:,}", f"{total:,}", share)
        rows.append(_name(name) + _numbers(*figures))
    if rows:
        head = ("Split", "Normal", "Abnormal", "Total", "Share abnormal")
        text.append(_table(head, rows, "Listed frames by split"))
    for place, words in report.compared.items():
        at = f" of {place}" if place else ""
        text.append(
            f"<p>Looked for frames that stand in train and again in val or test: {escape(words)} "
            f"frames{escape(at)} compared.</p>"
        )
    return "".join(text)


def _recordings(report: Report, shown: Sequence[Examined]) -> str:
    rows = [_row(each, each in shown) for each in report.recordings[:ROWS]]
    left = len(report.recordings) - len(rows)
    text = [
        "<h2>Recordings</h2>",
        f"<p>Offset: what to add to the video's clock, with its confidence; estimated for "
        f"{escape(report.footage)}. Brightness: grey levels of at most {EXPOSED} frames of each. "
        f"z: robust deviations of the median from that of the others.</p>",
    ]
    head = (
        "Recording", "Part", "Start", "Frames", "Abnormal", "Offset", "Brightness", "Median", "z",
        "At 0", "At 255",
    )  # fmt: skip
    text.append(_table(head, rows, "All recordings"))
    if left:
        text.append(f"<p>{left} more recordings are in no row here.</p>")
    if len(shown) < len(report.recordings):
        text.append(
            f"<p>Of {len(report.recordings)} recordings {len(shown)} are shown in full below: "
            "those with findings first. The others stand in the table only.</p>"
        )
    return "".join(text)


def _row(each: Examined, shown: bool) -> str:
    recording = each.recording
    name = escape(recording.name)
    link = f'<a href="#{_anchor(each)}">{name}</a>' if shown else name
    seconds = seconds_of(recording)
    start = moment(seconds[0]) if seconds is not None and len(seconds) else "unknown"
    abnormal = "–" if each.labels is None else f"{each.labels.mean():.1%}"
    first = (
        f'<th scope="row" class="name">{link}</th><td class="part">{escape(each.place or "–")}</td>'
    )
    first += f'<td class="when">{escape(start)}</td>'
    first += _numbers(f"{recording.num_frames:,}", abnormal)
    if each.refused:
        return first + f'<td colspan="6">could not be read: {escape(each.refused)}</td>'
    median = median_brightness(each.histogram)
    label = f"Brightness of {recording.name}: median {median:.0f} of 255"
    picture = svg.histogram(each.histogram, label)
    return (
        f'{first}<td class="offset">{escape(offset_words(each))}</td><td>{picture}</td>'
        + _numbers(f"{median:.0f}", f"{each.deviation:+.1f}")
        + _numbers(f"{each.dark:.1%}", f"{each.bright:.1%}")
    )


def offset_words(each: Examined) -> str:
    """The offset of one recording, or why there is none."""
    if each.offset is None:
        return "not estimated" if each.unsure == "not estimated" else f"none: {each.unsure}"
    told = f"{each.offset.seconds:+.1f} s ({each.offset.confidence:.1f})"
    return told if each.offset.sure else f"not sure: {told}"


def _anchor(each: Examined) -> str:
    """An identifier of letters and digits, whatever the recording is called."""
    return "r" + f"{each.place}/{each.recording.name}".encode().hex()


def _recording(each: Examined, most: int) -> str:
    """Frames, currents and spans of one recording."""
    recording = each.recording
    head = f'<section id="{_anchor(each)}"><h2>{escape(recording.name)}</h2>'
    simulated = f'<p class="quiet">{SIMULATED}</p>' if recording.synthetic else ""
    facts = f"<p>{recording.num_frames:,} frames{' of ' + escape(each.place) if each.place else ''}"
    facts += f"; offset of the clocks: {escape(offset_words(each))}."
    seconds = seconds_of(recording)
    try:
        if seconds is None:
            raise ValueError("its times cannot be read")
        times = frame_times(seconds)
        clock = True
    except ValueError:
        times, clock = np.arange(recording.num_frames) / FRAME_RATE, False
        facts += " Its times cannot be used: times below are counted from its start."
    try:
        frames = _frames(each, times, most)
    except UNREADABLE as error:
        frames = f"<p>Its frames cannot be read: {escape(str(error))}</p>"
    span = (float(times[0]), float(times[-1]) + 1 / FRAME_RATE)
    lanes = _lanes(each, times, span)
    currents = _currents(each, span) if clock else ""
    axis = (
        f'<div class="axis"><span>{escape(moment(span[0]))}</span>'
        f"<span>{escape(moment(span[1]))}</span></div>"
    )
    return (
        f"{head}{simulated}{facts}</p>{frames}"
        f'<div class="time">{currents}{lanes}<span></span>{axis}</div></section>'
    )


def _frames(each: Examined, times: np.ndarray[tuple[int], np.dtype[np.float64]], most: int) -> str:
    index = spread(each.recording.num_frames, FRAMES)
    pictures = svg.jpegs(list(frames_at(each.recording, index)), most)
    items = []
    for frame, picture in zip(index, pictures, strict=True):
        kind = "" if each.labels is None else ("abnormal" if each.labels[frame] else "normal")
        split = next((name for name, of in each.lists.items() if _near(of, int(frame))), "")
        words = ", ".join(part for part in (kind, split) if part)
        when = moment(times[frame])
        alt = f"Frame {frame} of {each.recording.name} at {when}{', ' if words else ''}{words}"
        items.append(
            f'<figure class="{kind}"><img src="{picture}" alt="{escape(alt)}" width="64" '
            f'height="64"><figcaption>{escape(when.split(" ")[-1])}<br>{escape(words)}'
            "</figcaption></figure>"
        )
    return f'<div class="sheet">{"".join(items)}</div>'


def _near(frames: Ints, frame: int) -> bool:
    """Whether a frame within a second of `frame` is listed: lists may skip frames."""
    place = int(np.searchsorted(frames, frame - FRAME_RATE))
    return place < len(frames) and int(frames[place]) <= frame + FRAME_RATE


def _lanes(
    each: Examined,
    times: np.ndarray[tuple[int], np.dtype[np.float64]],
    span: tuple[float, float],
) -> str:
    """Filmed, abnormal and each split, as lanes along time."""
    columns = svg.columns_of(times, span)
    whole = len(times)
    rows = [("filmed", svg.marked(columns), whole)]
    if each.labels is not None:
        rows.append(("abnormal", svg.marked(columns[each.labels]), int(each.labels.sum())))
    for split in SPLITS:
        if split in each.lists:
            listed = each.lists[split]
            rows.append((split, svg.marked(columns[listed]), len(listed)))
    return "".join(
        f"<span>{kind}{f' {count / whole:.0%}' if kind != 'filmed' else ''}</span>"
        + svg.lane(marked, kind, f"{kind}: {count:,} of {whole:,} frames along time")
        for kind, marked, count in rows
    )


def _currents(each: Examined, span: tuple[float, float]) -> str:
    try:
        seconds, values = each.recording.currents
    except UNREADABLE as error:
        return f'<p class="wide">Its currents cannot be read: {escape(str(error))}</p>'
    within = np.arange(len(seconds)) - np.searchsorted(seconds, seconds)
    times = seconds + np.minimum(within, 1) / 2
    inside = (times >= span[0]) & (times < span[1])
    if not inside.any():
        return '<p class="wide">No current was logged while it was filmed.</p>'
    amperes = values[inside].astype(np.float64)
    limits = float(amperes.min()), float(amperes.max())
    text = ""
    for phase, column in enumerate(amperes.T):
        kiloamperes = f"{column.min() / 1000:.1f} to {column.max() / 1000:.1f} kA"
        label = f"Current of phase {phase + 1} of {each.recording.name}, {kiloamperes}"
        text += f"<span>phase {phase + 1}<br>{kiloamperes}</span>"
        text += svg.trace(times[inside], column, span, limits, f"phase{phase % 3 + 1}", label)
    return text

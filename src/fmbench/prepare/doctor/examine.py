"""Reads a data set once and collects its findings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from fmbench.data.recording import Recording
from fmbench.data.windows import Ints, WindowSpec
from fmbench.format.lists import SPLITS
from fmbench.prepare.check import check_root, part_folders
from fmbench.prepare.doctor import findings
from fmbench.prepare.doctor.duplicates import Prints, compared, of_duplicates, sampled
from fmbench.prepare.doctor.examination import (
    Examined,
    Report,
    Split,
    counts_of,
    hours_of,
)
from fmbench.prepare.doctor.findings import Finding
from fmbench.prepare.doctor.reading import (
    UNREADABLE,
    described,
    frames_at,
    lists_of,
    open_readable,
)
from fmbench.prepare.ingest.align import Described, Offset, estimate

EXPOSED = 60
"""Frames of a recording from which its brightness is measured."""
Show = Callable[[int, int, str], None]
Pairs = Sequence[tuple[Described, Described]]


def examine(root: Path, *, hours: float = 24.0, progress: Show | None = None) -> Report:
    """Examine every part of `root`; files that cannot be read are among the findings.

    Args:
        root: folder with pixel-level/, class-level/ or unlabelled/, or one of these.
        hours: of footage that the offset of the clocks is estimated from at most, evenly spread
            over the recordings; 0 for all.
        progress: called with (done, total, recording) after each recording.

    Raises:
        ValueError: no such folder, or negative hours.
    """
    if hours < 0:
        raise ValueError(f"--hours is {hours:g}; it must be at least 0")
    folders = part_folders(root)
    found = _checked(root)
    parts: dict[str, list[Examined]] = {}
    unopened = 0
    for folder in folders:
        place = "" if folder == root else folder.name
        parts[place], refused = _open_part(folder, place)
        found += _unreported(refused, found, place)
        unopened += len(refused)
    seen = [each for of_part in parts.values() for each in of_part]
    total = hours_of(seen)
    every = max(1, int(np.ceil(total / hours))) if hours else 1
    pairs: list[tuple[Described, Described]] = []
    for k, each in enumerate(seen):
        try:
            _examine(each, pairs if k % every == 0 else None)
        except UNREADABLE as error:
            each.refused = str(error)
            found += _unreported({each.recording.name: each.refused}, found, each.place)
        if progress:
            progress(k + 1, len(seen), each.recording.name)
    found += _of_offsets(seen, pairs)
    splits: list[Split] = []
    compared_frames: dict[str, str] = {}
    for place, of_part in parts.items():
        found += _of_part(place, of_part)
        rows = _balances(place, of_part)
        splits += rows
        classes = of_part[0].recording.classes if of_part else ()
        for _, split, *counts in rows:
            found += findings.of_balance(split, counts[0], sum(counts[1:]), place)
            found += findings.of_classes(split, counts, classes, place)
        more, words = _duplicates(place, of_part)
        found += more
        if words:
            compared_frames[place] = words
    return Report(
        root=root,
        findings=sorted(found, key=lambda each: findings.SEVERITIES.index(each.severity)),
        recordings=seen,
        unopened=unopened,
        splits=splits,
        simulated=any(each.recording.synthetic for each in seen),
        footage=f"{len(pairs)} of {len(seen)} recordings",
        compared=compared_frames,
    )


def _open_part(folder: Path, place: str) -> tuple[list[Examined], dict[str, str]]:
    """Recordings with their lists, and the error of each that cannot be opened."""
    recordings, refused = open_readable(folder)
    lists = lists_of(folder, recordings)
    opened = []
    for each in recordings:
        own = {split: of[each.name] for split, of in lists.items() if each.name in of}
        opened.append(Examined(recording=each, place=place, lists=own))
    return opened, refused


def _checked(root: Path) -> list[Finding]:
    try:
        return findings.of_faults(check_root(root), root)
    except UNREADABLE as error:
        return [Finding("fault", f"The check stopped: {error}.", "Repair the file named.")]


def _unreported(refused: Mapping[str, str], found: Sequence[Finding], place: str) -> list[Finding]:
    """Recordings that cannot be read and that have no fault in `found`."""
    known = {each.recording for each in found if each.severity == "fault"}
    todo = "Copy the files again, or leave the recording out."
    return [
        Finding("fault", f"Cannot be examined: {reason}.", todo, name, "", place)
        for name, reason in refused.items()
        if name not in known
    ]


def _examine(each: Examined, pairs: list[tuple[Described, Described]] | None) -> None:
    recording = each.recording
    if recording.num_frames == 0:
        raise ValueError("it has no frames")
    if recording.has_labels:
        each.kinds = recording.class_of(np.arange(recording.num_frames))
    dark, bright = [], []
    for frame in frames_at(recording, spread(recording.num_frames, EXPOSED)):
        grey = frame.astype(np.uint16).sum(axis=2) // 3
        each.histogram += np.bincount(grey.ravel(), minlength=256)
        dark.append(np.mean(grey == 0))
        bright.append(np.mean((frame == 255).any(axis=2)))
    # A flare that fills some frames is not the camera's exposure.
    each.dark, each.bright = float(np.median(dark)), float(np.median(bright))
    if pairs is None:
        return
    try:
        pair = described(recording)
    except ValueError as error:
        each.unsure = str(error)
        return
    pairs.append(pair)
    each.offset = pooled([pair])
    each.unsure = "too short to tell"


def spread(length: int, count: int) -> Ints:
    """At most `count` of `length` positions, evenly spaced, each in the middle of its share."""
    count = min(length, count)
    return ((np.arange(count) + 0.5) * length / max(count, 1)).astype(np.int64)


def _of_offsets(seen: Sequence[Examined], pairs: Pairs) -> list[Finding]:
    found = []
    for each in seen:
        found += findings.of_offset(each.offset, each.recording.name, each.place)
    ordered = sorted(pairs, key=lambda pair: pair[0].start)
    found += findings.of_offset(pooled(ordered))
    first, second = halves(ordered)
    return found + findings.of_drift(pooled(first), pooled(second))


def pooled(pairs: Pairs) -> Offset | None:
    """Common offset of all `pairs`; None if there is too little footage."""
    try:
        return estimate(pairs)
    except ValueError:
        return None


def halves(pairs: Pairs) -> tuple[Pairs, Pairs]:
    """Footage before and after its middle; the recording that spans the middle is cut."""
    middle = sum(len(video.values) for video, _ in pairs) // 2
    first, second = [], []
    before = 0
    for video, currents in pairs:
        cut = min(max(middle - before, 0), len(video.values))
        before += len(video.values)
        if cut:
            first.append((video._replace(values=video.values[:cut]), currents))
        if cut < len(video.values):
            rest = Described(video.start + cut / 2, video.values[cut:])
            second.append((rest, currents))
    return first, second


def _of_part(place: str, seen: Sequence[Examined]) -> list[Finding]:
    """Exposure and guards of the recordings of a part."""
    found: list[Finding] = []
    whole = [each for each in seen if each.histogram.any()]
    medians = [findings.median_brightness(each.histogram) for each in whole]
    deviations = findings.deviations(medians)
    for each, median, deviation in zip(whole, medians, deviations, strict=True):
        each.deviation = float(deviation)
        found += findings.of_exposure(
            each.recording.name,
            dark=each.dark,
            bright=each.bright,
            median=median,
            deviation=each.deviation,
            place=place,
        )
    for each in seen:
        longest = WindowSpec(plant=each.recording.plant).seconds
        seconds = seconds_of(each.recording)
        if seconds is not None and (np.diff(seconds) >= 0).all():
            found += findings.of_guards(each.recording.name, each.lists, seconds, longest, place)
    return found


def seconds_of(recording: Recording) -> Ints | None:
    """(N,) second of each frame; None if they cannot be read."""
    try:
        return recording.seconds
    except UNREADABLE:
        return None


def _balances(place: str, seen: Sequence[Examined]) -> list[Split]:
    """Part, split, and frames of each class, of each split that has a list."""
    rows: list[Split] = []
    for split in SPLITS:
        listed = [each for each in seen if split in each.lists]
        if listed:
            rows.append((place, split, *counts_of(listed, split)))
    return rows


def _duplicates(place: str, seen: Sequence[Examined]) -> tuple[list[Finding], str]:
    """Frames of val and test that are in train too, and how many frames were compared."""
    prints: dict[str, Prints] = {}
    totals: dict[str, int] = {}
    for split in SPLITS:
        lists = {
            each.recording.name: each.lists[split]
            for each in seen
            if split in each.lists and not each.refused
        }
        if not lists:
            continue
        totals[split] = sum(len(frames) for frames in lists.values())
        prints[split] = Prints.none()
        chosen = sampled(lists)
        for each in seen:
            frames = chosen.get(each.recording.name)
            if frames is None:
                continue
            seconds = seconds_of(each.recording)
            try:
                for frame, picture in zip(frames, frames_at(each.recording, frames), strict=True):
                    rate = each.recording.plant.frame_rate
                    second = frame // rate if seconds is None else seconds[frame]
                    prints[split].add(each.recording.name, int(frame), int(second), picture)
            except UNREADABLE:
                continue  # reported when the recording was examined, or by the check
    if "train" not in prints:
        return [], ""
    found = []
    for split, others in prints.items():
        if split != "train":
            found += of_duplicates(split, prints["train"], others, place)
    return found, compared((split, of, totals[split]) for split, of in prints.items())

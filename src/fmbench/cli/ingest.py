"""`fmbench data ingest`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fmbench.config.hints import File, Folder
from fmbench.format.columns import format_second
from fmbench.prepare.ingest import (
    Offset,
    RawVideo,
    find_offset,
    read_plc,
    read_region,
    write_contact_sheet,
)
from fmbench.prepare.ingest import ingest as write_recording
from fmbench.prepare.ingest.match import GapPolicy
from fmbench.prepare.ingest.times import parse_times
from fmbench.prepare.ingest.video import read_frame_times
from fmbench.progress import progress_bar


def ingest(
    *,
    video: File,
    current: File | None = None,
    out: Folder,
    roi: str | None = None,
    start: str | None = None,
    timestamps: File | None = None,
    offset: str = "0",
    time: str | None = None,
    phases: str | None = None,
    time_format: str | None = None,
    gaps: GapPolicy = "fail",
    size: int = 64,
    name: str | None = None,
    threads: int = 0,
) -> int:
    """Make a recording from a raw video and the log of a PLC.

    25 frames and 2 samples of current a second, cropped to the furnace. Without --roi, a contact
    sheet is written to read the region from.

    Args:
        video: what FFmpeg reads: .mp4, .avi, .mkv, …
        current: CSV of the PLC, with a header.
        out: data root; the recording is written into DIR/unlabelled.
        roi: x,y,w,h in pixels, or a YAML file: frame: [x, y, w, h].
        start: clock of the first frame, "YYYY-MM-DD HH:MM:SS".
        timestamps: instead of --start: CSV with the time of each frame.
        offset: seconds to add to the video's clock to have the PLC's; or auto.
        time: column of the time (default: the first).
        phases: columns of the currents, separated by commas (default: all others).
        time_format: format of times in both CSVs, as for strptime.
        size: pixels to a side of the frames written.
        name: name of the recording (default: the video's).
        threads: threads of the decoder; 0: its choice.
    """
    source = RawVideo(video, threads=threads)
    if roi is None:
        sheet = write_contact_sheet(source, out / f"{video.stem}-contact-sheet.jpg")
        tall, wide = source.size
        print(
            f"{video.name}: {source.num_frames} frames of {wide} x {tall}, {source.rate:.4g} a"
            f" second, {source.shown[-1]:.1f} s.\n{sheet} has a grid in its pixels: read off where"
            " the furnace is and go on with --roi x,y,w,h"
        )
        return 0
    region = read_region(roi, source)
    if current is None:
        raise ValueError("--current is missing; give the CSV of the PLC")
    if size < 8:
        raise ValueError(f"--size is {size}; it must be at least 8")
    columns = [column.strip() for column in (phases or "").split(",") if column.strip()]
    log = read_plc(current, time=time, phases=columns, form=time_format)
    times = _times(source, start=start, timestamps=timestamps, form=time_format)
    shift: float | Offset | None = _seconds(offset)
    if shift is None:
        with progress_bar("comparing") as show:
            shift = find_offset(
                source,
                times,
                log,
                region,
                progress=lambda done, total: show(done, total, video.name),
            )
    with progress_bar("ingesting") as show:
        report = write_recording(
            source,
            times,
            log,
            region,
            root=out,
            name=name or video.stem.split(".")[0],
            currents=current,
            size=(size, size),
            offset=shift,
            gaps=gaps,
            progress=lambda done, total: show(done, total, video.name),
        )
    print(
        f"{out}/unlabelled/videos/{report.name}.mat: {report.frames} frames from {report.start},"
        f" {report.seconds} s of current ({report.repeated} frames repeated, {report.left_out} of"
        f" {report.source_frames} left out)"
    )
    for remark in report.remarks:
        print(f"note: {remark}")
    return 0


def _seconds(text: str) -> float | None:
    """A number, or None for `auto`."""
    if text == "auto":
        return None
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"--offset is {text!r}; it takes seconds, or auto") from None


def _times(
    video: RawVideo, *, start: str | None, timestamps: Path | None, form: str | None
) -> NDArray[np.float64]:
    """(N,) seconds since 1970 of every frame."""
    if start is not None and timestamps is not None:
        raise ValueError("--start and --timestamps both say when frames were taken; give one")
    if timestamps:
        return read_frame_times(timestamps, video.num_frames, form)
    if start is None:
        created = video.created()
        if created is None:
            raise ValueError(
                "the video carries no clock: give either --start, the time of its first frame, or"
                " --timestamps, a CSV with a time for each"
            )
        print(
            f"note: the first frame is of {format_second(created)}, as {video.path.name} says that"
            " it was made; zones and delays are not known: correct it by --offset, or give --start"
        )
        return np.asarray(created + video.shown)
    try:
        first = parse_times(pd.Series([start]), Path("--start"), form)[0]
    except ValueError:
        raise ValueError(f"--start is {start!r}; it takes YYYY-MM-DD HH:MM:SS[.fff]") from None
    return np.asarray(first + video.shown)

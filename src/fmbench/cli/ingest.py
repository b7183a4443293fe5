"""`fmbench data ingest`."""

from __future__ import annotations

from fmbench.config.hints import File, Folder
from fmbench.prepare.ingest import (
    LogOptions,
    Offset,
    RawVideo,
    Remarks,
    find_offset,
    read_plc,
    read_region,
    to_half_seconds,
    write_contact_sheet,
)
from fmbench.prepare.ingest import ingest as write_recording
from fmbench.prepare.ingest.match import GapPolicy
from fmbench.prepare.ingest.sampling import describe_rate
from fmbench.prepare.ingest.video_clock import on_one_clock
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
    log: LogOptions,
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
        current: log of the PLC, as CSV or another text with a time and currents in each row.
        out: data root; the recording is written into DIR/unlabelled.
        roi: x,y,w,h in pixels, or a YAML file: frame: [x, y, w, h].
        start: clock of the first frame, "YYYY-MM-DD HH:MM:SS[.fff]", with or without a zone (Z,
            +02:00).
        timestamps: instead of --start: CSV with the time of each frame.
        offset: seconds to add to the video's clock to have the PLC's; or auto.
        log: how the log is written.
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
    remarks = Remarks(lambda text: print(f"note: {text}", flush=True))
    told = Remarks(lambda text: print(f"log: {text}", flush=True))
    rows = read_plc(current, log, remarks, told)
    times, seconds = on_one_clock(
        source, rows, current, start=start, timestamps=timestamps, options=log, remarks=remarks
    )
    describe_rate(seconds, log.between, remarks)
    samples = to_half_seconds(seconds, rows.values, slot=log.slot, between=log.between)
    shift: float | Offset | None = _seconds(offset)
    if shift is None:
        with progress_bar("comparing") as show:
            shift = find_offset(
                source,
                times,
                samples,
                region,
                progress=lambda done, total: show(done, total, video.name),
            )
    with progress_bar("ingesting") as show:
        report = write_recording(
            source,
            times,
            samples,
            region,
            root=out,
            name=name or video.stem.split(".")[0],
            currents=current,
            size=(size, size),
            offset=shift,
            gaps=gaps,
            remarks=remarks,
            progress=lambda done, total: show(done, total, video.name),
        )
    print(
        f"{out}/unlabelled/videos/{report.name}.mat: {report.frames} frames from {report.start},"
        f" {report.seconds} s of current ({report.repeated} frames repeated, {report.left_out} of"
        f" {report.source_frames} left out)"
    )
    return 0


def _seconds(text: str) -> float | None:
    """A number, or None for `auto`."""
    if text == "auto":
        return None
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"--offset is {text!r}; it takes seconds, or auto") from None

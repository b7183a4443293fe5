"""`fmbench data ingest`."""

from __future__ import annotations

from pathlib import Path

from fmbench.config.hints import File, Files, Folder
from fmbench.format.names import name_from, valid_name
from fmbench.format.plant import plant_file, read_plant
from fmbench.format.rates import in_amperes, rate_words
from fmbench.prepare.ingest import (
    LogOptions,
    Offset,
    RawVideo,
    Remarks,
    find_offset,
    read_plc,
    read_region,
    to_samples,
    write_contact_sheet,
)
from fmbench.prepare.ingest import ingest as write_recording
from fmbench.prepare.ingest.match import GapPolicy
from fmbench.prepare.ingest.resample import LABELLED, PART, new_name
from fmbench.prepare.ingest.sampling import describe_rate
from fmbench.prepare.ingest.states import States
from fmbench.prepare.ingest.video_clock import on_one_clock
from fmbench.prepare.ingest.video_files import find_videos
from fmbench.progress import progress_bar
from fmbench.types import BENCHMARK


def ingest(
    *,
    video: Files = (),
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

    25 frames and 2 samples of current a second, unless DIR/root.yaml says other rates and channels;
    cropped to the furnace. Without --roi, a contact sheet is written to read the region from.

    Args:
        video: what FFmpeg reads: .mp4, .avi, .mkv, .ts, …; several files that continue each other,
            a folder, or a pattern ('cam/*.ts').
        current: log of the PLC, as CSV or another text with a time and currents in each row.
        out: data root; the recording is written into DIR/unlabelled, with --label_column into
            DIR/class-level. DIR/root.yaml, if there is one, has its rates, channels and classes.
        roi: x,y,w,h in pixels, or a YAML file: frame: [x, y, w, h].
        start: clock of the first frame, "YYYY-MM-DD HH:MM:SS[.fff]", with or without a zone (Z,
            +02:00).
        timestamps: instead of --start: CSV with the time of each frame.
        offset: seconds to add to the video's clock to have the PLC's; or auto.
        log: how the log is written.
        size: pixels to a side of the frames written.
        name: name of the recording (default: from the first video's).
        threads: threads of the decoder; 0: its choice.
    """
    if not video:
        raise ValueError("--video is missing; see fmbench data ingest --help")
    plant = read_plant(out / PART)
    files = find_videos(video)
    name = _name(files[0]) if name is None else valid_name(name)
    source = RawVideo(files, threads=threads)
    if roi is None:
        sheet = write_contact_sheet(source, out / f"{name}-contact-sheet.jpg")
        for remark in source.remarks():
            print(f"note: {remark}")
        tall, wide = source.size
        print(
            f"{source.label}: {source.num_frames} frames of {wide} x {tall}, {source.rate:.4g} a"
            f" second, {source.length:.1f} s.\n{sheet} has a grid in its pixels: read off where"
            " the furnace is and go on with --roi x,y,w,h"
        )
        return 0
    region = read_region(roi, source)
    if current is None:
        raise ValueError("--current is missing; give the CSV of the PLC")
    if size < 8:
        raise ValueError(f"--size is {size}; it must be at least 8")
    remarks = Remarks(lambda text: print(f"note: {text}", flush=True))
    layout = Remarks(lambda text: print(f"log: {text}", flush=True))
    rows = read_plc(current, log, remarks, layout, plant)
    times, seconds = on_one_clock(
        source, rows, current, start=start, timestamps=timestamps, options=log, remarks=remarks
    )
    describe_rate(seconds, log.between, remarks, plant)
    samples = to_samples(seconds, rows.values, plant, slot=log.slot, between=log.between)
    states = None if rows.kinds is None else States(seconds, rows.kinds)
    part = PART if states is None else LABELLED
    name = new_name(out, name, part)  # before the frames are read
    shift: float | Offset | None = _seconds(offset)
    if shift is None:
        amperes = rows.values[:, in_amperes(plant.channels)]
        if not amperes.shape[1]:
            raise ValueError(
                "--offset auto compares the picture with currents in A, and root.yaml names none;"
                " give --offset in seconds"
            )
        compared = to_samples(seconds, amperes, slot=log.slot, between=log.between)
        with progress_bar("comparing") as show:
            shift = find_offset(
                source,
                times,
                compared,
                region,
                progress=lambda done, total: show(done, total, source.label),
            )
    with progress_bar("ingesting") as show:
        report = write_recording(
            source,
            times,
            samples,
            region,
            root=out,
            name=name,
            currents=current,
            size=(size, size),
            offset=shift,
            gaps=gaps,
            remarks=remarks,
            states=states,
            progress=lambda done, total: show(done, total, source.label),
        )
    print(
        f"{out}/{part}/videos/{report.name}.mat: {report.frames} frames from {report.start},"
        f" {report.seconds} s of current ({report.repeated} frames repeated, {report.left_out} of"
        f" {report.source_frames} left out)"
    )
    if plant != BENCHMARK:
        print(
            f"{plant.frame_rate:g} frames a second, {rate_words(plant.period, plant.samples)}"
            f"{' of ' * bool(plant.channels)}{', '.join(each.name for each in plant.channels)},"
            f" as in {plant_file(out / PART)}"
        )
    return 0


def _name(video: Path) -> str:
    """The name of a video's recording."""
    name = name_from(video.stem)
    if name != video.stem:
        print(f"note: the recording is named {name!r}; --name gives another name")
    return name


def _seconds(text: str) -> float | None:
    """A number, or None for `auto`."""
    if text == "auto":
        return None
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"--offset is {text!r}; it takes seconds, or auto") from None

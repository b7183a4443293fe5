"""`fmbench data ingest`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fmbench.config.hints import File, Files, Folder
from fmbench.format.names import name_from, valid_name
from fmbench.format.plant import plant_file, read_plant
from fmbench.format.rates import in_amperes, rate_words
from fmbench.prepare.ingest import (
    LABELLED,
    PART,
    LogOptions,
    Offset,
    Remarks,
    Samples,
    read_plc,
    to_samples,
)
from fmbench.prepare.ingest.sampling import GapPolicy, describe_rate, no_samples
from fmbench.prepare.ingest.states import States
from fmbench.progress import progress_bar
from fmbench.types import BENCHMARK, Plant

if TYPE_CHECKING:  # a machine that only predicts may lack PyAV
    from fmbench.prepare.ingest import IngestReport, RawVideo


@dataclass(frozen=True, kw_only=True)
class RawFiles:
    """A raw video, the log of a PLC, and how they become a recording.

    Args:
        video: what FFmpeg reads: .mp4, .avi, .mkv, .ts, …; several files that continue each other,
            a folder, or a pattern ('cam/*.ts').
        current: log of the PLC, as CSV or another text with a time and currents in each row.
        roi: x,y,w,h in pixels, or a YAML file: frame: [x, y, w, h].
        start: clock of the first frame, "YYYY-MM-DD HH:MM:SS[.fff]", with or without a zone (Z,
            +02:00).
        timestamps: instead of --start: CSV with the time of each frame.
        offset: seconds to add to the video's clock to have the PLC's; or auto.
        log: how the log is written.
        gaps: what to do where frames or currents are missing: fail; mask leaves frames, or seconds
            of current, out; hold repeats the last.
        name: name of the recording (default: from the first video's).
        threads: threads of the decoder; 0: its choice.
    """

    video: Files = ()
    current: File | None = None
    roi: str | None = None
    start: str | None = None
    timestamps: File | None = None
    offset: str = "0"
    log: LogOptions = field(default_factory=LogOptions)
    gaps: GapPolicy = "fail"
    name: str | None = None
    threads: int = 0

    @property
    def part(self) -> str:
        """The part of the data set that the recording is written into."""
        return PART if self.log.label_column is None else LABELLED

    def opened(self) -> tuple[RawVideo, str]:
        """The video, and the name of its recording.

        Raises:
            ValueError: no video that can be read, or a name that is not allowed.
        """
        from fmbench.prepare.ingest import RawVideo
        from fmbench.prepare.ingest.video_files import find_videos

        if not self.video:
            raise ValueError("--video is missing; see fmbench data ingest --help")
        files = find_videos(self.video)
        name = _name(files[0]) if self.name is None else valid_name(self.name)
        return RawVideo(files, threads=self.threads), name


def ingest(*, raw: RawFiles, out: Folder, size: str | None = None) -> int:
    """Make a recording from a raw video and the log of a PLC.

    25 frames and 2 samples of current a second, unless DIR/root.yaml says other rates and channels;
    cropped to the furnace. Without --roi, a contact sheet is written to read the region from.

    Args:
        out: data root; the recording is written into DIR/unlabelled, with --label_column into
            DIR/class-level. DIR/root.yaml, if there is one, has its rates, channels and classes.
        size: pixels to a side of the frames written, or height,width (default: frame_size of the
            root's root.yaml, else 64).
    """
    pixels = frame_size(out / PART, size)
    source, name = raw.opened()
    if raw.roi is None:
        print(contact_sheet(source, out / f"{name}-contact-sheet.jpg"))
        return 0
    if raw.current is None:
        raise ValueError("--current is missing; give the CSV of the PLC")
    report = write_raw(raw, source, name, out=out, size=pixels)
    print(f"{out}/{raw.part}/videos/{report.name}.mat: {in_words(report)}")
    plant = read_plant(out / PART)
    if plant != BENCHMARK:
        print(
            f"{plant.frame_rate:g} frames a second, {rate_words(plant.period, plant.samples)}"
            f"{' of ' * bool(plant.channels)}{', '.join(each.name for each in plant.channels)},"
            f" as in {plant_file(out / PART)}"
        )
    return 0


def contact_sheet(source: RawVideo, path: Path) -> str:
    """Write a picture to read the region from; returns what the video is and what to do next."""
    from fmbench.prepare.ingest import write_contact_sheet

    sheet = write_contact_sheet(source, path)
    for remark in source.remarks():
        print(f"note: {remark}")
    tall, wide = source.size
    return (
        f"{source.label}: {source.num_frames} frames of {wide} x {tall}, {source.rate:.4g} a"
        f" second, {source.length:.1f} s.\n{sheet} has a grid in its pixels: read off where"
        " the furnace is and go on with --roi x,y,w,h"
    )


def write_raw(
    raw: RawFiles,
    source: RawVideo,
    name: str,
    *,
    out: Path,
    size: tuple[int, int] | None = None,
    phases: int | None = None,
) -> IngestReport:
    """Write a recording into `out`/unlabelled, with a column of labels into `out`/class-level, and
    print what is noticed.

    Args:
        raw: its sources; without a log, the recording has no currents.
        source, name: of `raw.opened()`.
        out: data root.
        size: (H, W) of the frames written; None: as the root says.
        phases: the number that the log must have; None: any.

    Raises:
        ValueError: an option or a file that cannot be used.
        OSError: it cannot be written.
    """
    from fmbench.prepare.ingest import find_offset, ingest, read_region
    from fmbench.prepare.ingest.resample import new_name

    if raw.roi is None:
        raise ValueError("--roi is missing; give x,y,w,h")
    region = read_region(raw.roi, source)
    remarks = Remarks(lambda text: print(f"note: {text}", flush=True))
    clocked = _on_one_clock(raw, source, read_plant(out / PART), remarks)
    found = clocked.samples.values.shape[2]
    if phases is not None and raw.current is not None and found != phases:
        raise ValueError(
            f"{raw.current} has {found} phases of current, the checkpoint reads {phases}; --phases"
            " names the columns"
        )
    name = new_name(out, name, raw.part)  # before the frames are read
    shift: float | Offset | None = _seconds(raw.offset)
    if shift is None:
        if clocked.amperes is None:
            raise ValueError("--offset auto compares video and log; give --current")
        if not clocked.amperes.values.shape[2]:
            raise ValueError(
                "--offset auto compares the picture with currents in A, and root.yaml names none;"
                " give --offset in seconds"
            )
        with progress_bar("comparing") as show:
            shift = find_offset(
                source,
                clocked.times,
                clocked.amperes,
                region,
                progress=lambda done, total: show(done, total, source.label),
            )
    with progress_bar("ingesting") as show:
        return ingest(
            source,
            clocked.times,
            clocked.samples,
            region,
            root=out,
            name=name,
            currents=raw.current or Path(),
            size=size or frame_size(out / PART),
            offset=shift,
            gaps=raw.gaps,
            remarks=remarks,
            states=clocked.states,
            progress=lambda done, total: show(done, total, source.label),
        )


def in_words(report: IngestReport) -> str:
    """What a recording holds."""
    return (
        f"{report.frames} frames from {report.start}, {report.seconds} s of current"
        f" ({report.repeated} frames repeated, {report.left_out} of {report.source_frames} left"
        " out)"
    )


class _Clocked(NamedTuple):
    """Frames, samples and labels on one clock, in seconds since 1970."""

    times: NDArray[np.float64]
    """(N,) of the frames."""
    samples: Samples
    """Of no phase without a log."""
    amperes: Samples | None = None
    """Those of the currents at the benchmark's rate; None without a log."""
    states: States | None = None


def _on_one_clock(raw: RawFiles, source: RawVideo, plant: Plant, remarks: Remarks) -> _Clocked:
    from fmbench.prepare.ingest.video_clock import frame_times, on_one_clock

    log = raw.log
    if raw.current is None:
        times = frame_times(
            source, start=raw.start, timestamps=raw.timestamps, options=log, remarks=remarks
        )
        return _Clocked(times, no_samples(times, plant))
    layout = Remarks(lambda text: print(f"log: {text}", flush=True))
    rows = read_plc(raw.current, log, remarks, layout, plant)
    times, seconds = on_one_clock(
        source,
        rows,
        raw.current,
        start=raw.start,
        timestamps=raw.timestamps,
        options=log,
        remarks=remarks,
    )
    describe_rate(seconds, log.between, remarks, plant)
    amperes = rows.values[:, in_amperes(plant.channels)]
    return _Clocked(
        times,
        to_samples(seconds, rows.values, plant, slot=log.slot, between=log.between),
        to_samples(seconds, amperes, slot=log.slot, between=log.between),
        None if rows.kinds is None else States(seconds, rows.kinds),
    )


def frame_size(root: Path, text: str | None = None) -> tuple[int, int]:
    """Height and width of the frames: as given, else as the root's root.yaml says, else 64."""
    stated = read_plant(root).frame_size
    if text is None:
        return stated or (64, 64)
    sides = text.split(",")
    if len(sides) > 2 or not all(side.strip().isdecimal() for side in sides):
        raise ValueError(f"--size is {text!r}; it takes pixels, as 64, or height,width, as 100,140")
    height, width = int(sides[0]), int(sides[-1])
    if min(height, width) < 8:
        raise ValueError(f"--size is {text}; it must be at least 8")
    if stated not in (None, (height, width)):
        raise ValueError(
            f"--size is {text}, but {plant_file(root)} says frame_size: {list(stated)}; leave"
            " --size out, or change the file"
        )
    return height, width


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

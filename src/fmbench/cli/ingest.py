"""`fmbench data ingest`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from fmbench.cli.bar import progress
from fmbench.config.parser import Parser


def ingest(argv: list[str]) -> int:
    """A raw video and a PLC's log to a recording in the benchmark's files."""
    parser = Parser(
        "data ingest",
        "Video and PLC log to a recording: 25 frames and 2 samples of current a second, cropped to"
        " the furnace. Without --roi a contact sheet is written to pick one from.",
    )
    option = parser.option
    option("video", str | None, None, "what FFmpeg reads: .mp4, .avi, .mkv, …", metavar="FILE")
    option("current", str | None, None, "CSV of the PLC, with a header", metavar="FILE")
    option("out", str | None, None, "data root; the recording goes into DIR/unlabelled")
    option("roi", str | None, None, "x,y,w,h in pixels, or a YAML file: frame: [x, y, w, h]")
    option("start", str | None, None, 'clock of the first frame, "YYYY-MM-DD HH:MM:SS"')
    option("timestamps", str | None, None, "instead of --start: CSV, a time a frame")
    option("offset", str, "0", "seconds to add to the video's clock to have the PLC's; or auto")
    option("time", str | None, None, "column of the time (default: the first)")
    option("phases", str | None, None, "columns of the currents, separated by commas (all others)")
    option("time_format", str | None, None, "of times in both CSVs, as strptime has it")
    option("gaps", Literal["fail", "mask", "hold"], "fail", "where either file has nothing")
    option("size", int, 64, "pixels to a side of the frames written")
    option("name", str | None, None, "of the recording (default: the video's)")
    option("threads", int, 0, "of the decoder; 0: its choice")
    values, _ = parser.values(argv)
    for needed in ("video", "out"):
        if values[needed] is None:
            raise ValueError(f"--{needed} is missing; see fmbench data ingest --help")
    from fmbench.prepare.ingest import RawVideo, read_region, write_contact_sheet

    video = RawVideo(Path(values["video"]), threads=values["threads"])
    out = Path(values["out"])
    if values["roi"] is None:
        sheet = write_contact_sheet(video, out / f"{video.path.stem}-contact-sheet.jpg")
        tall, wide = video.size
        print(
            f"{video.path.name}: {video.num_frames} frames of {wide} x {tall}, {video.rate:.4g} a"
            f" second, {video.shown[-1]:.1f} s.\n{sheet} has a grid in its pixels: read off where"
            " the furnace is and go on with --roi x,y,w,h"
        )
        return 0
    return _write(video, read_region(values["roi"], video), values, out)


def _write(video: Any, region: Any, values: dict[str, Any], out: Path) -> int:
    from fmbench.prepare.ingest import find_offset, read_plc
    from fmbench.prepare.ingest import ingest as write

    if values["current"] is None:
        raise ValueError("--current is missing; give the CSV of the PLC")
    if values["size"] < 8:
        raise ValueError(f"--size is {values['size']}; it must be at least 8")
    log_file = Path(values["current"])
    phases = [name.strip() for name in (values["phases"] or "").split(",") if name.strip()]
    log = read_plc(log_file, time=values["time"], phases=phases, form=values["time_format"])
    times = _times(video, values)
    offset = _seconds(values["offset"])
    if offset is None:
        with progress("comparing") as show:
            offset = find_offset(
                video,
                times,
                log,
                region,
                progress=lambda done, total: show(done, total, video.path.name),
            )
    with progress("ingesting") as show:
        report = write(
            video,
            times,
            log,
            region,
            root=out,
            name=values["name"] or video.path.stem.split(".")[0],
            currents=log_file,
            size=(values["size"], values["size"]),
            offset=offset,
            gaps=values["gaps"],
            progress=lambda done, total: show(done, total, video.path.name),
        )
    print(
        f"{out}/unlabelled/videos/{report.name}.mat: {report.frames} frames from {report.start},"
        f" {report.seconds} s of current ({report.repeated} frames repeated, {report.left_out} of"
        f" {report.source_frames} left out)"
    )
    for remark in report.remarks:
        print(f"note: {remark}")
    return 0


def _seconds(text: str) -> Any:
    """A number, or None for `auto`."""
    if text == "auto":
        return None
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"--offset is {text!r}; it takes seconds, or auto") from None


def _times(video: Any, values: dict[str, Any]) -> Any:
    """(N,) seconds since 1970 of every frame."""
    from fmbench.format.columns import format_second
    from fmbench.prepare.ingest.times import parse_times
    from fmbench.prepare.ingest.video import read_frame_times

    if values["start"] is not None and values["timestamps"] is not None:
        raise ValueError("--start and --timestamps both say when frames were taken; give one")
    form = values["time_format"]
    if values["timestamps"]:
        return read_frame_times(Path(values["timestamps"]), video.num_frames, form)
    if values["start"] is None:
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
        return created + video.shown
    try:
        start = parse_times(pd.Series([values["start"]]), Path("--start"), form)
    except ValueError:
        raise ValueError(
            f"--start is {values['start']!r}; it takes YYYY-MM-DD HH:MM:SS[.fff]"
        ) from None
    return np.asarray(start[0] + video.shown)

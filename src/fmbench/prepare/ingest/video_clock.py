"""The time of each frame of a video, by the clock of the log."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fmbench.format.columns import format_second, read_columns
from fmbench.prepare.ingest.order import HOUR
from fmbench.prepare.ingest.plc import LogOptions, PlcLog
from fmbench.prepare.ingest.remarks import Remarks
from fmbench.prepare.ingest.times import Times, parse_times, spread_within_seconds
from fmbench.prepare.ingest.video import RawVideo
from fmbench.prepare.ingest.zones import find_zone, to_utc

NO_CLOCK = (
    "the video carries no clock: give either --start, the time of its first frame, or --timestamps,"
    " a CSV with a time for each"
)


def frame_times(
    video: RawVideo,
    *,
    start: str | None,
    timestamps: Path | None,
    options: LogOptions,
    remarks: Remarks,
) -> NDArray[np.float64]:
    """(N,) times of the frames of a video without a log, in seconds since 1970; see `on_one_clock`.

    Raises:
        ValueError: no clock is given.
    """
    frames = _frames(video, start, timestamps, options, remarks)
    if frames is None:
        raise ValueError(NO_CLOCK)
    if frames.clock == "utc":
        remarks.append("times have zones: the recording's clock is UTC")
    return frames.seconds


def on_one_clock(
    video: RawVideo,
    log: PlcLog,
    path: Path,
    *,
    start: str | None,
    timestamps: Path | None,
    options: LogOptions,
    remarks: Remarks,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(N,) times of the frames and (R,) times of the log's rows, in seconds since 1970.

    Both are in UTC if zones are known, by offsets or by `options.zone`; else both are as written.

    Args:
        video: the frames.
        log: the rows.
        path: the log's file, for messages.
        start: time of the first frame.
        timestamps: instead of `start`: a CSV with the time of each frame.
        options: the zone and the format of the times.
        remarks: what is assumed is added.

    Raises:
        ValueError: no clock is given, one of both has a zone and the other has none, or a time is
            in an hour that comes twice.
    """
    source = str(timestamps) if timestamps else "--start"
    frames = _frames(video, start, timestamps, options, remarks)
    if log.clock == "elapsed":
        if frames is None or timestamps:
            raise ValueError(
                f"{path} has elapsed seconds, not times: give --start, the time at which both the"
                " video and the log's second 0 begin (--offset corrects a difference); without"
                " --timestamps"
            )
        remarks.append(f"{path.name} has elapsed seconds; its second 0 is taken at --start")
        return frames.seconds, log.seconds + frames.seconds[0]
    if frames is None:
        raise ValueError(NO_CLOCK)
    if (start or timestamps) and frames.clock != log.clock:
        with_zone, without = (source, str(path)) if frames.clock == "utc" else (str(path), source)
        raise ValueError(
            f"{with_zone} has times with a zone (or since 1970), {without} without: they cannot be"
            f" compared. Give the zone of those in {without}, as --zone Europe/Berlin"
            + (
                ', or --start with its offset, as "2030-05-01 06:00:00+02:00"'
                * (without == "--start")
            )
        )
    if frames.clock == "utc" and log.clock == "utc":
        remarks.append("times have zones: the recording's clock is UTC")
    seconds = frames.seconds
    if log.repeated and log.clock == "local":
        begin, end = log.repeated
        if ((seconds >= begin) & (seconds < end)).any() and seconds[0] >= begin:
            raise ValueError(
                f"{source}: {format_second(seconds[0])} is in the hour that {path} has twice,"
                " before and after its clock goes back; give --zone, as --zone Europe/Berlin, and"
                ' times with their offset, as --start "2030-10-27 02:30:00+02:00"'
            )
        if seconds[0] >= end:
            seconds = seconds + HOUR
    return seconds, log.seconds


def _frames(
    video: RawVideo,
    start: str | None,
    timestamps: Path | None,
    options: LogOptions,
    remarks: Remarks,
) -> Times | None:
    """None where nothing says when frames were taken."""
    if start is not None and timestamps is not None:
        raise ValueError("--start and --timestamps both say when frames were taken; give one")
    if timestamps is not None:
        return _in_zone(
            _read_frame_times(timestamps, video.num_frames, options), options, timestamps
        )
    if video.unrated:
        raise ValueError(
            f"{video.unrated} states neither time stamps nor a rate, so that its speed is not"
            " known; give --timestamps, a CSV with the time of each frame, or put it into a"
            f" container at the camera's rate: ffmpeg -framerate RATE -i {video.unrated.name} -c"
            f" copy {video.unrated.stem}.mkv"
        )
    if start is None:
        created, by = video.dated(), "has in its name"
        if created is None:
            created, by = video.created(), "says that it was made"
        if created is None:
            return None
        remarks.append(
            f"the first frame is of {format_second(created)}, as {video.paths[0].name} {by};"
            " zones and delays are not known: correct it by --offset, or give --start"
        )
        return Times(created + video.shown, "local", "the file's")
    first = start_of(start, options)
    return first._replace(seconds=first.seconds[0] + video.shown)


def start_of(start: str, options: LogOptions) -> Times:
    """The one time that `--start` gives.

    Raises:
        ValueError: it is no date and time.
    """
    try:
        first = parse_times(pd.Series([start]), Path("--start"))
    except ValueError as error:
        if "cannot be told apart" in str(error):
            error = ValueError("day and month cannot be told apart")
        raise ValueError(
            f"--start is {start!r}; it takes YYYY-MM-DD HH:MM:SS[.fff], with a zone as"
            " YYYY-MM-DD HH:MM:SS+02:00"
        ) from None
    if first.clock == "elapsed":
        raise ValueError(f"--start is {start!r}; it takes YYYY-MM-DD HH:MM:SS[.fff]")
    return _in_zone(first, options, Path("--start"))


def _read_frame_times(path: Path, frames: int, options: LogOptions) -> Times:
    """Of the first column of a CSV with a header; frames of one whole second are spread over it."""
    column = read_columns(path).iloc[:, 0]
    if len(column) != frames:
        raise ValueError(f"{path} has {len(column)} times, the video {frames} frames")
    times = parse_times(column, path, options.time_format)
    if times.clock == "elapsed":
        raise ValueError(f"{path}: {column.iloc[0]!r} is an elapsed time; a date is needed")
    return times._replace(seconds=spread_within_seconds(times.seconds))


def _in_zone(times: Times, options: LogOptions, path: Path) -> Times:
    if options.zone is None or times.clock != "local":
        return times
    lines = None if path == Path("--start") else np.arange(len(times.seconds)) + 2
    return times._replace(
        seconds=to_utc(times.seconds, find_zone(options.zone), path, lines), clock="utc"
    )

"""Which videos and logs `fmbench data ingest` reads: each is made, ingested and compared.

    python benchmarks/formats.py --into benchmarks/formats.md

Encoders write videos whose frame k shows the number k, and logs hold known currents. Each row runs
the command on such a file. `right` compares the recording with what was made: each frame must show
the number of the instant at which it stands, to the nearest frame; each sample must be the value of
its half second.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from datetime import datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import pandas as pd

from fmbench.cli import main as fmbench
from fmbench.format.columns import parse_seconds
from fmbench.tabular import markdown

TESTS = Path(__file__).parents[1] / "tests"
sys.path[:0] = [str(TESTS / name) for name in ("", "cli", "prepare")]

from test_plc import BEGIN, Layout  # noqa: E402 -- the tests' makers of files
from test_video import KINDS, X264, cut, harmed, made, source_of  # noqa: E402

COUNT, RATE = 100, 25
"""Frames of a video, and frames a second."""
SECONDS = COUNT // RATE
START = f"{BEGIN:%Y-%m-%d %H:%M:%S}"
AMPERES = np.array([12000.0, 12500.0, 13000.0])
Array = np.ndarray[Any, np.dtype[Any]]


class Outcome(NamedTuple):
    """One run of the command."""

    status: int
    out: str
    error: str

    def said(self, folder: Path) -> str:
        """Its refusal, shortened, without the folder of the files."""
        text = self.error.strip().splitlines()[0] if self.error.strip() else ""
        text = text.removeprefix("fmbench: error: ").replace(f"{folder}/", "").replace("|", "\\|")
        return text if len(text) < 160 else f"{text[:157]}…"

    def notes(self) -> str:
        lines = [line.removeprefix("note: ") for line in self.out.splitlines() if "note: " in line]
        return "; ".join(line if len(line) < 110 else f"{line[:107]}…" for line in lines)


def run(*words: str | Path) -> Outcome:
    out, error = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(error):
        status = fmbench([str(word) for word in words])
    return Outcome(status, out.getvalue(), error.getvalue())


# Videos


class Video(NamedTuple):
    """A video and what is known of it.

    Attributes:
        make: writes it into a folder; returns what --video takes.
        options: of ingest.
        times: (n,) second at which the frame with the number k is shown.
        turned: quarter turns that bring a frame's stripes upright.
        roi: region, of the picture as shown.
        lost: whether frames are lost, so that the nearest of the others stands for them at most.
    """

    make: Callable[[Path], Sequence[Path | str]]
    options: Sequence[str] = ()
    times: Array = np.arange(COUNT) / RATE
    turned: int = 0
    roi: str = "0,0,128,96"
    lost: bool = False


def kind(name: str, **more: Any) -> Callable[[Path], list[Path]]:
    return lambda folder: [made(folder / name, count=COUNT, **{**KINDS.get(name, {}), **more})]


def joined(folder: Path) -> list[Path]:
    half = COUNT // 2
    each = [made(folder / f"{k}.ts", count=half, first=half * k) for k in range(2)]
    (folder / "joined.ts").write_bytes(b"".join(path.read_bytes() for path in each))
    return [folder / "joined.ts"]


def several(folder: Path) -> list[str]:
    half = COUNT // 2
    for k in range(2):
        made(folder / f"cam{k}.mp4", count=half, first=half * k)
    return [f"{folder}/cam*.mp4"]


def dropped(folder: Path) -> list[Path]:
    """An AVI whose frames 30 to 44 were dropped: empty chunks stand for them."""
    import av

    whole = made(folder / "whole.avi", count=COUNT, **KINDS["mjpeg.avi"])
    with av.open(str(whole)) as source, av.open(str(folder / "dropped.avi"), "w") as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        for k, packet in enumerate(each for each in source.demux(video=0) if each.size):
            if not 30 <= k < 45:
                packet.stream = stream
                out.mux(packet)
    return [folder / "dropped.avi"]


def two_streams(folder: Path) -> list[Path]:
    """A small second stream beside the main one, as recorders store."""
    import av

    main = made(folder / "main.mp4", count=COUNT)
    small = made(folder / "small.mp4", count=COUNT, size=(64, 48))
    with (
        av.open(str(main)) as first,
        av.open(str(small)) as second,
        av.open(str(folder / "two.mkv"), "w") as out,
    ):
        sources = [each.streams.video[0] for each in (second, first)]  # the small one comes first
        streams = [out.add_stream_from_template(each) for each in sources]
        for source, stream in zip((second, first), streams, strict=True):
            for packet in source.demux(video=0):
                if packet.dts is not None:
                    packet.stream = stream
                    out.mux(packet)
    return [folder / "two.mkv"]


def raw_mjpeg(folder: Path) -> list[Path]:
    """With a file of times, since it states no rate."""
    times = [BEGIN + timedelta(seconds=k / RATE) for k in range(COUNT)]
    (folder / "times.csv").write_text("\n".join(["time", *map(str, times)]) + "\n")
    return kind("raw.mjpeg", form="mjpeg", **KINDS["mjpeg.mkv"])(folder)


def not_square(stream: Any) -> None:
    stream.codec_context.sample_aspect_ratio = Fraction(4, 3)


def interlaced(stream: Any) -> None:
    stream.codec_context.flags |= 1 << 18  # AV_CODEC_FLAG_INTERLACED_DCT


def full_range(stream: Any) -> None:
    stream.codec_context.color_range = 2


def videos() -> dict[str, Video]:
    uneven = np.cumsum(np.random.default_rng(0).integers(1500, 5000, COUNT)).tolist()
    uneven = [each - uneven[0] for each in uneven]
    slow = np.arange(COUNT) / 10
    fast = np.arange(COUNT) / 50
    from_vfr = np.array(uneven) / 90000
    harm = {"mp4": "zeroed", "avi": "flipped"}
    return {
        "MP4, H.264 with B-frames": Video(kind("h264.mp4")),
        "MP4, fragmented": Video(kind("fragmented.mp4")),
        "MP4, HEVC": Video(kind("hevc.mp4")),
        "MKV, H.264": Video(kind("h264.mkv")),
        "MKV, HEVC of 10 bits": Video(kind("hevc10.mkv")),
        "MOV, ProRes 4:2:2 of 10 bits": Video(kind("prores.mov")),
        "AVI, MJPEG": Video(kind("mjpeg.avi")),
        "AVI, MJPEG, frames dropped (empty chunks)": Video(dropped, ["--gaps", "mask"], lost=True),
        "AVI, H.264 with B-frames": Video(kind("h264.avi")),
        "AVI, MPEG-4": Video(kind("mpeg4.avi")),
        "MPEG-TS, H.264": Video(kind("h264.ts")),
        "MPEG-TS, MPEG-2": Video(kind("mpeg2.ts")),
        "MPEG-TS, HEVC, begins in an open GOP": Video(
            lambda folder: [cut(*kind("open-gop.ts")(folder), folder / "cut.ts", 0.25)],
            lost=True,
        ),
        "MPEG-TS, two segments joined byte by byte": Video(joined),
        "WebM, VP9": Video(kind("vp9.webm")),
        "WebM, VP8 with hidden frames": Video(kind("vp8.webm")),
        "MP4, AV1": Video(kind("av1.mp4", codec="libsvtav1", options={"crf": "10", "preset": "9"})),
        "MKV, FFV1": Video(kind("ffv1.mkv")),
        "AVI, uncompressed RGB": Video(kind("rgb.avi")),
        "H.264 without a container": Video(kind("h264.h264")),
        "MJPEG without a container": Video(raw_mjpeg, ["--timestamps", "times.csv"]),
        "variable rate, 18 to 60 frames a second": Video(
            kind("v.mp4", at=uneven), ["--gaps", "mask"], from_vfr
        ),
        "10 frames a second": Video(kind("ten.mp4", rate=10), ["--gaps", "hold"], slow),
        "50 frames a second": Video(kind("fifty.mp4", rate=50), (), fast),
        "interlaced": Video(
            kind(
                "i.ts", options={**X264, "x264-params": "interlaced=1:keyint=20"}, setup=interlaced
            )
        ),
        "turned by 90 degrees": Video(
            kind("r.mp4", setup=lambda stream: stream.set_display_rotation(90)),
            turned=3,
            roi="0,0,96,128",
        ),
        "pixels of 4:3": Video(kind("a.mp4", setup=not_square), roi="0,0,171,96"),
        "full range": Video(kind("full.mkv", pixels="yuvj420p", setup=full_range)),
        "several files, by a pattern": Video(several, ["--name", "several"]),
        "two video streams, the smaller one first": Video(two_streams),
        **{
            f"{suffix.upper()}, H.264, a packet {how}": Video(
                lambda folder, suffix=suffix, how=how: [
                    harmed(*kind(f"h264.{suffix}")(folder), 45, how)
                ],
                ["--gaps", "mask"],
                lost=True,
            )
            for suffix, how in harm.items()
        },
        "the second half of a file is missing": Video(
            lambda folder: [cut(*kind("h264.ts")(folder), folder / "half.ts", 0, 0.5)],
            lost=True,
        ),
        "a picture instead of a video": Video(lambda folder: [picture(folder / "photo.png")]),
    }


def picture(path: Path) -> Path:
    import cv2

    cv2.imwrite(str(path), np.full((96, 128, 3), 90, np.uint8))
    return path


def constant_log(folder: Path) -> Path:
    rows = [f"{BEGIN + timedelta(seconds=k / 2)},9000,9100,9200" for k in range(-4, 60)]
    (folder / "plc.csv").write_text("\n".join(["time,A,B,C", *rows]) + "\n")
    return folder / "plc.csv"


def check_video(folder: Path, video: Video) -> list[str]:
    """Outcome, frames, seconds, and whether each frame is that of its time."""
    given = video.make(folder)
    words: list[str | Path] = ["data", "ingest", "--video", *given, "--roi", video.roi]
    words += ["--current", constant_log(folder), "--out", folder / "root"]
    done, used, without = run(*words, "--start", START), "", ""
    if done.status and video.options:
        without, used = f"refused without: {done.said(folder)}", " ".join(video.options)
        options = [str(folder / o) if o.endswith(".csv") else o for o in video.options]
        start = [] if "--timestamps" in options else ["--start", START]
        done = run(*words, *start, *options)
    if done.status:
        return ["refused", done.said(folder), "", "", ""]
    part = folder / "root" / "unlabelled"
    [mat] = part.glob("videos/*.mat")
    with h5py.File(mat) as file:
        frames = file["data"][:].transpose(0, 3, 2, 1)
    seconds = parse_seconds(pd.read_csv(part / "timestamps" / f"{mat.stem}.csv")["time"])
    seconds = seconds - parse_seconds(pd.Series([START]))[0]
    clock = seconds + (np.arange(len(seconds)) - np.searchsorted(seconds, seconds)) / RATE
    shows = np.array([source_of(np.ascontiguousarray(np.rot90(f, video.turned))) for f in frames])
    numbers = video.times[shows]
    if "cut.ts" in str(given[0]):  # its first packet is an unknown number of frames after 0
        clock = clock + np.median(numbers - clock)
    there = numbers if video.lost else video.times
    nearest = np.abs(there - clock[:, None]).min(axis=1)
    fine = np.abs(numbers - clock) <= nearest + 2e-3
    # A file of times has whole seconds: within one that lacks frames, the second counts.
    short = (np.bincount(seconds) < RATE)[seconds]
    fine |= short & (np.abs(numbers - seconds - 0.5) <= 0.5 + 1 / RATE)
    right = bool(fine.all())
    how = f"`{used}`" if used else "as is"
    said = "; ".join(filter(None, [without, done.notes()]))
    lasting = f"{len(np.unique(seconds))}"
    return [how, said, str(len(frames)), lasting, "yes" if right else "NO"]


# Logs


class Log(NamedTuple):
    """A log and its options.

    Attributes:
        make: writes it into a folder.
        options: of ingest, if it is refused without.
        wanted: (2 * SECONDS, 3) amperes of each half second.
    """

    make: Callable[[Path], Path]
    options: Sequence[str] = ()
    wanted: Array | None = None


def truth(second: Array) -> Array:
    """(n, 3) amperes at the given seconds; each half second has another value."""
    return AMPERES + 100 * np.floor(2 * second)[:, None] + np.array([0.0, 3.5, -2.25])


SLOTS = np.arange(2 * SECONDS) / 2
TIMES = np.arange(-8, 2 * SECONDS + 8) / 2
PLAIN = {
    "separator": "comma", "decimal": ".", "thousands": "", "encoding": "utf-8", "above": 0,
    "units": "brackets", "trailing": False, "quoted": False, "times": "iso", "digits": 3,
    "newline": "\n",
}  # fmt: skip


def layout(**changes: Any) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        times = [BEGIN + timedelta(seconds=float(t)) for t in TIMES]
        Layout(**{**PLAIN, **changes}).write(folder / "log.csv", times, truth(TIMES))
        return folder / "log.csv"

    return make


def table(
    times: Array,
    values: Array,
    *,
    head: str = "time,Ia [A],Ib [A],Ic [A]",
    above: str = "",
    below: str = "",
    line: Callable[[str, Array], str] | None = None,
    name: str = "log.csv",
    encoding: str = "utf-8",
) -> Callable[[Path], Path]:
    """A log of rows as `line` writes them, by default a time and three values."""

    def write(folder: Path) -> Path:
        rows = []
        for when, row in zip(times, values, strict=True):
            moment = BEGIN + timedelta(seconds=float(when))
            text = f"{moment:%Y-%m-%d %H:%M:%S}.{moment.microsecond // 1000:03d}"
            plain = f"{text},{row[0]:.6g},{row[1]:.6g},{row[2]:.6g}"
            rows.append(line(text, row) if line else plain)
        content = above + "\n".join([head, *rows]) + "\n" + below
        (folder / name).write_bytes(content.encode(encoding))
        return folder / name

    return write


def held() -> tuple[Array, Array]:
    """Rows only where a value changes, at uneven times."""
    times = np.array([-3.7, -1.2, 0.3, 0.9, 2.6, 3.1, 5.0])
    values = AMPERES + 250 * np.arange(len(times))[:, None]
    return times, values


def of_held() -> Array:
    times, values = held()
    fine = np.arange(0, SECONDS, 1e-3) + 5e-4
    at = values[np.searchsorted(times, fine, side="right") - 1]
    return at.reshape(2 * SECONDS, -1, 3).mean(1)


def ramp(second: Array) -> Array:
    return AMPERES + 40 * second[:, None]


def logs() -> dict[str, Log]:
    quick = np.arange(-2000, 1000 * SECONDS + 2000) / 1000
    slow = np.arange(-20, SECONDS + 30, 10.0)
    slow_wanted = ramp(SLOTS + 0.25)
    slow_wanted[0] = ramp(np.zeros(1))[0]  # the half second that has a row has its value
    marked = truth(TIMES)
    marked[[3, 14], 1] = -9999
    lost = truth(SLOTS)
    lost[6] = lost[5]  # a half second that lacks a phase is held as a whole
    both = "time,{},Ia [A],Ib [A],Ic [A]"
    good = truth(TIMES)
    return {
        "comma, UTF-8": Log(layout()),
        "comma, UTF-8 with BOM": Log(layout(encoding="utf-8-sig")),
        "semicolon, decimal comma": Log(layout(separator="semicolon", decimal=",")),
        "tab": Log(layout(separator="tab")),
        "blanks": Log(layout(separator="blanks", times="T", units="none")),
        "pipe, quoted cells": Log(layout(separator="pipe", quoted=True)),
        "comma, quoted decimal commas": Log(layout(decimal=",", quoted=True)),
        "4 lines above the header": Log(layout(above=4)),
        "units in a row below the header": Log(layout(units="row A", separator="semicolon")),
        "kA in the header": Log(layout(units="brackets kA", digits=6)),
        "kA, without a unit": Log(layout_in_ka, ["--unit", "kA"]),
        "UTF-16": Log(layout(encoding="utf-16")),
        "Windows-1252": Log(layout(encoding="cp1252", separator="semicolon", decimal=",")),
        "GBK": Log(layout(encoding="gbk")),
        "a separator at the end of each row": Log(layout(trailing=True)),
        "Windows line ends": Log(layout(newline="\r\n")),
        "thousands separators, `12.600,5`": Log(
            layout(separator="semicolon", decimal=",", thousands=".")
        ),
        "thousands alone, `12,600`": Log(
            layout(separator="semicolon", thousands=",", digits=0),
            ["--decimal", "."],
            truth(SLOTS).round(),
        ),
        "day first, `20.05.2030`": Log(layout(times="day first")),
        "day first, slashes": Log(layout(times="slashes")),
        "month first, AM and PM": Log(layout(times="month first")),
        "slashes, no day above 12": Log(
            ambiguous, ["--time_format", "%d/%m/%Y %H:%M:%S.%f", "--start", "2030-05-06 06:00:00"]
        ),
        "date and time in two columns": Log(layout(times="two columns", separator="semicolon")),
        "two columns of date and time": Log(
            table(TIMES, good, head=both.format("written"), line=later), ["--time", "time"]
        ),
        "days as Excel counts them": Log(layout(times="Excel")),
        "milliseconds since 1970": Log(layout(times="ms"), ["--start", f"{START}Z"]),
        "elapsed seconds": Log(layout_elapsed),
        "ISO with Z": Log(layout(times="Z"), ["--start", f"{START}Z"]),
        "1000 rows a second": Log(table(quick, truth(quick + 1e-6)), (), truth(SLOTS)),
        "a row every 10 s": Log(table(slow, ramp(slow)), (), slow_wanted),
        "event-driven": Log(table(*held()), ["--between", "hold"], of_held()),
        "a row per tag and value": Log(per_tag, ["--phases", "Ia,Ib,Ic"]),
        "newest row first": Log(table(TIMES[::-1], good[::-1])),
        "two exports joined, the header twice": Log(twice),
        "a line of sums at the end": Log(table(TIMES, good, below="Sum,1200000,1300000,1400000\n")),
        "-9999 for missing values": Log(
            table(TIMES, marked), ["--missing=-9999", "--gaps", "hold"], lost
        ),
        "`Bad` for missing values": Log(
            table(TIMES, marked, line=lambda t, row: f"{t},{words(row)}"), ["--gaps", "hold"], lost
        ),
        "exponents, `1.2e+04`": Log(
            table(TIMES, good, line=lambda t, row: ",".join([t, *(f"{v:.7e}" for v in row)]))
        ),
        "voltages beside currents, no units": Log(
            table(
                TIMES,
                good,
                head="time,Ua,Ub,Uc,Ia,Ib,Ic",
                line=lambda t, row: f"{t},231,229,230,{row[0]},{row[1]},{row[2]}",
            ),
            ["--phases", "Ia,Ib,Ic"],
        ),
        "a quality of each value, `Good`": Log(
            table(
                TIMES,
                good,
                head="time,Ia [A],q,Ib [A],q.1,Ic [A],q.2",
                line=lambda t, row: f"{t},{row[0]},Good,{row[1]},Good,{row[2]},Good",
            ),
        ),
        "JSON": Log(as_json),
        "Excel, .xlsx": Log(as_excel),
    }


def layout_in_ka(folder: Path) -> Path:
    rows = truth(TIMES) / 1000
    head = "time,Ia,Ib,Ic"
    return table(TIMES, rows, head=head, line=lambda t, row: ",".join([t, *map(str, row)]))(folder)


def layout_elapsed(folder: Path) -> Path:
    times = np.arange(0, 2 * SECONDS + 8) / 2
    rows = [f"{t:.1f},{a},{b},{c}" for t, (a, b, c) in zip(times, truth(times), strict=True)]
    (folder / "log.csv").write_text("\n".join(["t [s],Ia [A],Ib [A],Ic [A]", *rows]) + "\n")
    return folder / "log.csv"


def ambiguous(folder: Path) -> Path:
    begin = datetime(2030, 5, 6, 6)
    rows = [
        f"{begin + timedelta(seconds=float(t)):%d/%m/%Y %H:%M:%S.%f},{a},{b},{c}"
        for t, (a, b, c) in zip(TIMES, truth(TIMES), strict=True)
    ]
    (folder / "log.csv").write_text("\n".join(["time,Ia [A],Ib [A],Ic [A]", *rows]) + "\n")
    return folder / "log.csv"


def later(text: str, row: Array) -> str:
    """A row that was written two seconds after it was measured."""
    when = datetime.fromisoformat(text) + timedelta(seconds=2)
    return f"{text},{when},{row[0]},{row[1]},{row[2]}"


def words(row: Array) -> str:
    return ",".join("Bad" if value == -9999 else f"{value}" for value in row)


def per_tag(folder: Path) -> Path:
    rows = ["time,tag,value"]
    for when, row in zip(TIMES, truth(TIMES), strict=True):
        moment = f"{BEGIN + timedelta(seconds=float(when)):%Y-%m-%d %H:%M:%S.%f}"
        rows += [
            f"{moment},{tag},{value}" for tag, value in zip(("Ia", "Ib", "Ic"), row, strict=True)
        ]
    (folder / "log.csv").write_text("\n".join(rows) + "\n")
    return folder / "log.csv"


def twice(folder: Path) -> Path:
    half = len(TIMES) // 2
    first = table(TIMES[:half], truth(TIMES[:half]))(folder).read_text()
    second = table(TIMES[half:], truth(TIMES[half:]))(folder).read_text()
    (folder / "log.csv").write_text(first + second)
    return folder / "log.csv"


def as_json(folder: Path) -> Path:
    rows = [{"time": str(BEGIN), "Ia": 12000.0}]
    (folder / "log.json").write_text(json.dumps(rows))
    return folder / "log.json"


def as_excel(folder: Path) -> Path:
    """The container of an .xlsx."""
    with zipfile.ZipFile(folder / "log.xlsx", "w") as file:
        file.writestr("[Content_Types].xml", '<?xml version="1.0"?><Types/>')
        file.writestr("xl/workbook.xml", '<?xml version="1.0"?><workbook/>')
    return folder / "log.xlsx"


def check_log(folder: Path, clip: Path, log: Log) -> list[str]:
    """Outcome, what was said, seconds, and whether each sample is that of its half second."""
    words: list[str | Path] = ["data", "ingest", "--video", clip, "--roi", "0,0,128,96"]
    words += ["--current", log.make(folder), "--name", "x"]
    plain = run(*words, "--start", START, "--out", folder / "root")
    found = [] if plain.status else measured(folder / "root", log)
    if found and (found[-1] == "yes" or not log.options):
        return ["as is", plain.notes(), *found]
    if not log.options:
        return ["refused", plain.said(folder), "", ""]
    without = f"refused without: {plain.said(folder)}"
    if found:
        without = f"without the option, other values; said: {plain.notes() or 'NOTHING'}"
    start = [] if "--start" in log.options else ["--start", START]
    done = run(*words, *start, *log.options, "--out", folder / "again")
    if done.status:
        return ["refused", done.said(folder), "", ""]
    return [f"`{' '.join(log.options)}`", without, *measured(folder / "again", log)]


def measured(root: Path, log: Log) -> list[str]:
    """Seconds of current in the recording, and whether they are those that are known."""
    found = pd.read_csv(root / "unlabelled" / "currents" / "x.csv")
    values = found.drop(columns=found.columns[0]).to_numpy()
    wanted = truth(SLOTS) if log.wanted is None else log.wanted
    same = values.shape == wanted.shape and np.allclose(values, wanted, rtol=2e-5)
    return [f"{len(values) / 2:g}", "yes" if same else "NO"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--into", type=Path)
    parser.add_argument("--only", default="", help="rows whose name contains this")
    given = parser.parse_args()
    of_videos = [["video", "read", "said", "frames", "seconds", "right"]]
    of_logs = [["log", "read", "said", "seconds", "right"]]
    with tempfile.TemporaryDirectory() as name:
        for k, (what, video) in enumerate(videos().items()):
            if given.only in what:
                folder = Path(name) / f"video-{k}"
                folder.mkdir()
                of_videos.append([what, *check_video(folder, video)])
                print(*of_videos[-1], sep=" | ", flush=True)
        clip = made(Path(name) / "clip.mp4", count=COUNT)
        for k, (what, log) in enumerate(logs().items()):
            if given.only in what:
                folder = Path(name) / f"log-{k}"
                folder.mkdir()
                of_logs.append([what, *check_log(folder, clip, log)])
                print(*of_logs[-1], sep=" | ", flush=True)
    text = "\n\n".join(
        [
            "# Which videos and logs are read",
            f"`python benchmarks/formats.py`: each file is made, {COUNT} frames or {SECONDS} s of"
            " known content, and read by `fmbench data ingest`. `read`: as is, or with the option"
            " that it needs, or refused. `right`: each frame shows the number of the instant at"
            " which it stands, each sample is the value of its half second. Encoders of FFmpeg"
            " made the videos; other cameras may write other files.",
            markdown(of_videos),
            markdown(of_logs),
            "How recordings may be stored, with their sizes and speeds: [storage.md](storage.md).",
        ]
    )
    if given.into:
        given.into.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

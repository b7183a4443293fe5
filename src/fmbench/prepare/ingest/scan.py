"""The packets of a video file and their time stamps, without decoding.

Stamps are made continuous where a 33-bit clock of MPEG-TS passes its end, and where segments were
joined byte by byte, each with its own clock.
"""

from __future__ import annotations

import errno
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from numpy.typing import NDArray

Ticks = NDArray[np.int64]
_NONE = np.iinfo(np.int64).min
_WRAP = 1 << 33
"""Ticks after which the clock of MPEG-TS and MPEG-PS starts again at 0."""
_BACK = 0.5
"""Seconds that a clock must go back to be another segment's."""
EARLY = 3
"""Packets by which FFmpeg marks a damage of MPEG-TS too early, since it cuts packets afterwards."""
SAME_START, NEAR_ZERO = 1.0, 5.0
"""Seconds: a clock that starts this close to the first segment's start, or both to 0, was
restarted."""
WITHOUT_STAMPS = ("avi", "h264", "hevc", "m4v", "mjpeg", "mpegvideo", "obu")
"""Formats, as FFmpeg names them, that store no time for a frame. All but AVI are streams without a
container: their rate, if any, is in the stream itself."""


@dataclass(frozen=True)
class Scan:
    """The P packets of a video stream, in the order of the file; those without data or without a
    picture to show are left out.

    Attributes:
        ticks: (P,) time stamps, continuous; in units of `unit` seconds.
        keys: (P,) whether decoding can start there.
        broken: (P,) whether the file is known to lack a part there, or before it.
        joins: first packet of each further segment whose clock was restarted.
        raw: time stamps of the first frame and of the end as the file has them, in seconds.
        step: from one frame to the next, in ticks.
        stamped: whether the stamps are the file's own; False if they are counted by its rate.
        rated: whether the file states a rate, where frames are counted; else FFmpeg takes 25.
        ordered: whether stamps tell the order of presentation (not those of an AVI with B-frames).
        seekable: whether each stamp stands for one place of the file.
        counted: packets by the container's count; 0 where it has none.
        total: packets read, with those that are not shown.
        container: its name.
        others: pictures of video streams that are not read, in words; empty if there is one stream.
        stopped: why reading ended early; empty if it did not.
    """

    ticks: Ticks
    keys: NDArray[np.bool_]
    broken: NDArray[np.bool_]
    joins: tuple[int, ...]
    raw: tuple[float, float]
    unit: float
    step: int
    stamped: bool
    rated: bool
    ordered: bool
    seekable: bool
    counted: int
    total: int
    container: str
    others: str
    stopped: str


@contextmanager
def opened(path: Path, threads: int = 0) -> Iterator[tuple[InputContainer, av.VideoStream]]:
    """A file and its video stream.

    Raises:
        ValueError: the file cannot be opened, or has no video.
    """
    try:
        # Clocks that pass their end are joined here, since FFmpeg takes a restart for one.
        container = av.open(str(path), options={"correct_ts_overflow": "0"})
    except av.FFmpegError as error:
        raise ValueError(_refusal(path, error)) from None
    with container:
        found = streams_of(container)
        if not found:
            raise ValueError(_refusal(path, None))
        stream = found[0]
        stream.thread_type = "AUTO"
        stream.codec_context.thread_count = threads
        stream.codec_context.copy_opaque = True  # a frame names the packet that it is from
        yield container, stream


def streams_of(container: InputContainer) -> list[av.VideoStream]:
    """Its video streams, the one of the largest picture first; a cover picture is none."""
    cover = av.stream.Disposition.attached_pic
    found = [each for each in container.streams.video if not each.disposition & cover]
    return sorted(found, key=lambda each: -(each.width or 0) * (each.height or 0))


def packets(container: InputContainer, stream: av.VideoStream) -> Iterator[Any]:
    """Packets with data; `opaque` is the index of those that are shown.

    Raises:
        Stopped: the container is damaged from here on.
    """
    index = 0
    try:
        for packet in container.demux(stream):
            if packet.size and not packet.is_discard:
                packet.opaque = index
                index += 1
            yield packet
    except av.FFmpegError as error:
        raise Stopped(error.strerror) from None


class Stopped(Exception):  # noqa: N818 -- ends the reading, is no fault of ours
    """A container cannot be read further."""


def scan(path: Path) -> Scan:
    """Read the stamps of all packets.

    Raises:
        ValueError: the file has no video, or segments whose clocks have no known relation.
    """
    pts, dts, duration = array("q"), array("q"), array("q")
    flags, total, stopped = bytearray(), 0, ""
    with opened(path) as (container, stream):
        try:
            for packet in packets(container, stream):
                total += bool(packet.size)
                if packet.size and not packet.is_discard:
                    pts.append(_NONE if packet.pts is None else packet.pts)
                    dts.append(_NONE if packet.dts is None else packet.dts)
                    duration.append(packet.duration or 0)
                    flags.append(packet.is_keyframe + 2 * packet.is_corrupt)
        except Stopped as error:
            stopped = str(error)
        if not len(pts):
            raise ValueError(_refusal(path, None))
        unit, container_name = float(stream.time_base or 1), container.format.name.split(",")[0]
        rate = float(stream.average_rate or stream.guessed_rate or 25)
        sizes = [f"{each.width} x {each.height}" for each in streams_of(container)]
        rated = container_name == "avi" or bool(stream.codec_context.framerate)
        counted, declared = stream.frames, _declared_length(container, stream)
    given, decoding, lasting = (np.array(each, np.int64) for each in (pts, dts, duration))
    shown, clock = _filled(given, decoding, lasting, step=max(1, round(1 / rate / unit)))
    stamped = bool((given != _NONE).any())
    if container_name in ("mpegts", "mpeg"):
        shown, clock = _unwrapped(shown, clock)
    joins = np.flatnonzero(np.diff(clock) < -_BACK / unit) + 1
    marks = np.frombuffer(bytes(flags), np.uint8)
    keys = (marks & 1).astype(bool)
    begin, end = np.split(shown, joins)[0].min(), np.split(shown, joins)[-1].max()
    spliced = _spliced(path, shown, joins, unit)
    ticks = np.sort(spliced)
    step = max(1, int(np.median(np.diff(ticks))) if len(ticks) > 1 else int(lasting[0]))
    length = (ticks[-1] - ticks[0] + step) * unit
    if not counted and declared and declared - length > max(_BACK, 2 * step * unit):
        counted = total + round((declared - length) / (step * unit))
    return Scan(
        ticks=spliced,
        keys=keys,
        broken=_broken(marks, keys, joins),
        joins=tuple(joins.tolist()),
        raw=(float(begin) * unit, float(end + step) * unit),
        unit=unit,
        step=step,
        stamped=stamped and container_name not in WITHOUT_STAMPS,
        rated=rated,
        ordered=stamped and len(np.unique(given - decoding)) > 1,
        seekable=stamped
        and not len(joins)
        and np.array_equal(spliced, given)
        and bool((np.diff(ticks) > 0).all()),
        counted=counted,
        total=total,
        container=container_name,
        others=", ".join(sizes[1:]),
        stopped=stopped,
    )


def continues(start: float, first: float) -> bool:
    """Whether a clock that begins at `start` was restarted, so that its segment may follow the one
    before it; `first` is where the first segment's clock begins (seconds)."""
    return abs(start - first) <= SAME_START or (0 <= start < NEAR_ZERO and 0 <= first < NEAR_ZERO)


def _filled(pts: Ticks, dts: Ticks, duration: Ticks, step: int) -> tuple[Ticks, Ticks]:
    """Stamps of presentation and of decoding, of which neither is missing."""
    shown = np.where(pts == _NONE, dts, pts)
    missing = np.flatnonzero(shown == _NONE)
    if len(missing) == len(shown):  # an elementary stream: counted by its rate
        step = int(np.median(duration)) or step
        shown = np.arange(len(shown)) * step
    else:
        for k in missing:
            shown[k] = shown[k - 1] + (duration[k - 1] or step) if k else shown[shown != _NONE][0]
    return shown, np.where(dts == _NONE, shown, dts)


def _unwrapped(shown: Ticks, clock: Ticks) -> tuple[Ticks, Ticks]:
    """Stamps that continue where a 33-bit clock starts again."""
    ahead = _nearest(shown - clock)
    clock = np.cumsum(np.concatenate([clock[:1], _nearest(np.diff(clock))]))
    return clock + ahead, clock


def _nearest(ticks: Ticks) -> Ticks:
    """Differences of 33-bit clocks, the smallest possible."""
    return np.asarray((ticks + _WRAP // 2) % _WRAP - _WRAP // 2)


def _spliced(path: Path, shown: Ticks, joins: NDArray[np.intp], unit: float) -> Ticks:
    """Stamps that continue over `joins`.

    Raises:
        ValueError: a clock goes back, but was not restarted.
    """
    result = shown.copy()
    edges = [0, *joins.tolist(), len(shown)]
    for begin, start, stop in zip(edges, edges[1:], edges[2:], strict=False):
        before, mine = result[begin:start], shown[start:stop]
        step = int(np.median(np.diff(np.sort(before)))) if len(before) > 1 else 0
        end = int(before.max()) + step
        if not continues(mine.min() * unit, shown[: joins[0]].min() * unit):
            at = (end - result[:start].min()) * unit
            raise ValueError(
                f"{path}: segments are joined at {at:.1f} s, where the clock goes back from"
                f" {shown[begin:start].max() * unit:.1f} s to {mine.min() * unit:.1f} s: the time"
                " between them is not known. Give the segments as separate files whose names have"
                " date and time"
            )
        result[start:stop] = mine + (end - int(mine.min()))
    return result


def _broken(
    marks: NDArray[np.uint8], keys: NDArray[np.bool_], joins: NDArray[np.intp]
) -> NDArray[np.bool_]:
    """Packets that FFmpeg marks as damaged, and segments that begin between key frames.

    A mark shortly before a key frame is not taken: a joint of segments makes it, and a packet that
    is truly damaged shows when it is decoded.
    """
    starts = np.concatenate([[0], joins]).astype(np.int64)
    fresh = keys.copy()
    fresh[starts] = True
    broken = (marks & 2).astype(bool)
    for late in range(1, EARLY + 1):
        broken[:-late] &= ~fresh[late:]
    broken[starts] |= ~keys[starts]
    return np.asarray(broken)


def _declared_length(container: InputContainer, stream: av.VideoStream) -> float:
    """Seconds of the video by the header of a Matroska file; 0 where it does not say."""
    if not container.format.name.startswith("matroska"):
        return 0.0  # FFmpeg finds the length of others by reading their end
    text = stream.metadata.get("DURATION", "")
    try:
        hours, minutes, seconds = map(float, text.split(":"))
        return hours * 3600 + minutes * 60 + seconds
    except ValueError:  # another muxer's text, or none
        pass
    return (container.duration or 0) / 1e6 if len(container.streams) == 1 else 0.0


def _refusal(path: Path, error: av.FFmpegError | None) -> str:
    if error is not None and error.errno in (errno.EACCES, errno.EPERM):
        return f"{path}: no permission to read it"
    if path.is_file() and not path.stat().st_size:
        return f"{path} is empty (0 bytes)"
    return (
        f"{path}: no video that can be read; a file that was cut off while it was recorded"
        " may lack its index (repair it with the recorder's tool, or record .mkv or .avi)"
    )

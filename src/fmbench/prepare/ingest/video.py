"""A raw video file: its frames in order, and the time of each.

PyAV reads it. decord holds many decoded frames in memory (1.9 to 3.9 GB at 1440 x 2560, for any
length).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import av
import cv2
import numpy as np
from av.container import InputContainer
from numpy.typing import NDArray


class RawVideo:
    """Frames of a file that FFmpeg can read (.mp4, .avi, .mkv, …).

    Args:
        path: the file.
        threads: of the decoder; 0 lets it choose.

    Attributes:
        num_frames: N, frames in the file.
        expected: frames by the container's count; 0 where it has none.
        size: (H, W) in pixels.
        shown: (N,) float64, seconds from the first frame, by the container's time stamps.

    Raises:
        ValueError: no such file, or no video with a frame.
    """

    def __init__(self, path: Path, *, threads: int = 0) -> None:
        if not path.is_file():
            raise ValueError(f"{path}: no such file")
        self.path = path
        self._threads = threads
        try:
            with self._opened() as (container, stream):
                taken = [
                    packet.dts if packet.pts is None else packet.pts
                    for packet in container.demux(stream)
                    if packet.size and not packet.is_discard
                ]
                self.size = (stream.height, stream.width)
                unit = float(stream.time_base or 1)
            self._ticks = np.sort(np.array(taken, np.int64))
            self.num_frames = len(taken)
            self.shown = (self._ticks - self._ticks[0]) * unit
        except (av.FFmpegError, IndexError, TypeError):  # no file of video, no stream, no frame
            raise ValueError(
                f"{path}: no video that can be read; a file that was cut off while it was recorded"
                " may lack its index (repair it with the recorder's tool, or record .mkv or .avi)"
            ) from None
        self.expected = _counted(path)

    @property
    def rate(self) -> float:
        """Frames a second, by the median step."""
        return float(1 / np.median(np.diff(self.shown))) if self.num_frames > 1 else 0.0

    def created(self) -> float | None:
        """The container's creation time, if any, in seconds since 1970 (no zone, mostly UTC)."""
        try:
            with self._opened() as (container, _):
                text = container.metadata.get("creation_time")
            return None if text is None else _wall_clock(text)
        except (av.FFmpegError, ValueError):  # --start can replace it
            return None

    def frame(self, index: int) -> NDArray[np.uint8]:
        """(H, W, 3), RGB.

        Raises:
            ValueError: it cannot be decoded; names its time.
        """
        tick = int(self._ticks[index])
        try:
            with self._opened() as (container, stream):
                container.seek(tick, stream=stream)  # to the key frame before it
                for frame in container.decode(stream):
                    if frame.pts is None or frame.pts >= tick:
                        return rgb(frame)
        except av.FFmpegError:
            pass
        raise ValueError(self._damaged(index))

    def __iter__(self) -> Iterator[av.VideoFrame]:
        """Every frame in order; `rgb` converts it to an array.

        Raises:
            ValueError: a frame cannot be decoded; names its time.
        """
        count = 0
        try:
            with self._opened() as (container, stream):
                for count, frame in enumerate(container.decode(stream), 1):  # noqa: B007
                    yield frame
        except av.FFmpegError:
            raise ValueError(self._damaged(count)) from None
        if count < self.num_frames:
            raise ValueError(self._damaged(count))

    @contextmanager
    def _opened(self) -> Iterator[tuple[InputContainer, av.VideoStream]]:
        with av.open(str(self.path)) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            stream.codec_context.thread_count = self._threads
            yield container, stream

    def _damaged(self, index: int) -> str:
        return (
            f"{self.path}: frame {index} of {self.num_frames}, at {self.shown[index]:.2f} s, cannot"
            " be decoded; the file is damaged there"
        )

    def cut_off(self) -> str:
        """A sentence about frames that the container counts but the file lacks; empty if none."""
        if self.expected - self.num_frames <= 1:  # some count one that is never shown
            return ""
        return (
            f"the container counts {self.expected} frames, {self.num_frames} can be decoded: the"
            f" file ends at {self.shown[-1]:.1f} s"
        )


def rgb(frame: av.VideoFrame) -> NDArray[np.uint8]:
    """(H, W, 3)."""
    return np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)


def _wall_clock(text: str) -> float | None:
    """ISO 8601 to seconds since 1970, ignoring the zone; None for the years 1904 and 1970, which
    cameras write whose clock was never set."""
    when = datetime.fromisoformat(text).replace(tzinfo=UTC)
    return when.timestamp() if when.year > 1970 else None


def _counted(path: Path) -> int:
    """Frames by the container's count, or FFmpeg's estimate where there is none."""
    capture = cv2.VideoCapture(str(path))
    try:
        return max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
    finally:
        capture.release()

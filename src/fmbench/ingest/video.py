"""A raw video file: its frames in order, and when each was taken."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fmbench.data.series import read_columns
from fmbench.ingest.clock import parse_times, spread_within_seconds
from fmbench.ingest.decoder import decord


class RawVideo:
    """Frames of a file that decord reads (.mp4, .avi, .mkv, …).

    Args:
        path: the file.
        threads: of the decoder; 0 lets it choose.

    Attributes:
        num_frames: N that can be decoded.
        expected: how many the container says there are, or 0 where it does not say.
        size: (H, W) in pixels.
        shown: (N,) float64, seconds from the first frame, as the container has them.

    Raises:
        ValueError: no such file, no video, or no frame in it.
    """

    def __init__(self, path: Path, *, threads: int = 0) -> None:
        if not path.is_file():
            raise ValueError(f"{path}: no such file")
        self.path = path
        try:
            self._reader = decord.VideoReader(str(path), num_threads=threads)
            self.num_frames = len(self._reader)
            first = self._reader[0]
        except (decord.DECORDError, RuntimeError, IndexError):
            raise ValueError(
                f"{path}: no video that can be read; a file that was cut off while it was recorded"
                " may lack its index (repair it with the recorder's tool, or record .mkv or .avi)"
            ) from None
        if len(first.shape) != 3 or first.shape[2] != 3:  # decord2 3.4 misreads frames of 96 x 64
            raise ValueError(
                f"{path}: decord reads frames of shape {tuple(first.shape)}, not height, width and"
                " 3 colours; write the video anew, larger or in another format"
            )
        self.size = (int(first.shape[0]), int(first.shape[1]))
        self.expected = _counted(path)
        starts = self._reader.get_frame_timestamp(range(self.num_frames))[:, 0]
        self.shown = (starts - starts[0]).astype(np.float64)

    @property
    def rate(self) -> float:
        """Frames a second, by the median step."""
        return float(1 / np.median(np.diff(self.shown))) if self.num_frames > 1 else 0.0

    def created(self) -> float | None:
        """Seconds since 1970, as the container says that the recording began (a clock without
        zone: mostly UTC); None where it does not say."""
        import av

        try:
            with av.open(str(self.path)) as container:
                said = container.metadata.get("creation_time")
            return None if said is None else _wall_clock(said)
        except (av.FFmpegError, ValueError):  # it is only a hint: --start is still there
            return None

    def frame(self, index: int) -> NDArray[np.uint8]:
        """(H, W, 3), RGB."""
        return _seen(self._reader[index])

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        """Every frame in order, (H, W, 3) RGB.

        Raises:
            ValueError: one that cannot be decoded; names its time.
        """
        self._reader.seek(0)
        for index in range(self.num_frames):
            try:
                yield _seen(self._reader.next())
            except (decord.DECORDError, RuntimeError, StopIteration):
                raise ValueError(
                    f"{self.path}: frame {index} of {self.num_frames}, at"
                    f" {self.shown[index]:.2f} s, cannot be decoded; the file is damaged there"
                ) from None

    def cut_off(self) -> str:
        """How much the container promises that is not there; empty if all is."""
        if self.expected - self.num_frames <= 1:  # some count one that they do not show
            return ""
        return (
            f"the container counts {self.expected} frames, {self.num_frames} can be decoded: the"
            f" file ends at {self.shown[-1]:.1f} s"
        )


def read_frame_times(path: Path, frames: int, form: str | None) -> NDArray[np.float64]:
    """(N,) seconds since 1970 of every frame, from the first column of a CSV with a header; frames
    of one whole second are spread over it.

    Raises:
        ValueError: no CSV, another number of rows than frames, or a time that is none.
    """
    column = read_columns(path).iloc[:, 0]
    if len(column) != frames:
        raise ValueError(f"{path} has {len(column)} times, the video {frames} frames")
    return spread_within_seconds(parse_times(column, path, form))


class _Shared:
    """A decoded frame to NumPy by DLPack: a copy of 1440 x 2560 takes as long as decoding it."""

    def __init__(self, frame: Any) -> None:
        self.frame = frame

    def __dlpack__(self, **asked: object) -> Any:
        return self.frame.to_dlpack()

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)  # kDLCPU


def _seen(frame: Any) -> NDArray[np.uint8]:
    """The decoder's own memory as an array, kept as long as the array is."""
    return np.asarray(np.from_dlpack(_Shared(frame)), np.uint8)


def _wall_clock(text: str) -> float | None:
    """ISO 8601 to seconds since 1970, its zone left out; None for the year 1904 or 1970, which a
    camera writes whose clock was never set."""
    when = datetime.fromisoformat(text).replace(tzinfo=UTC)
    return when.timestamp() if when.year > 1970 else None


def _counted(path: Path) -> int:
    """Frames by the container's own count (OpenCV asks FFmpeg, which estimates where none is)."""
    capture = cv2.VideoCapture(str(path))
    try:
        return max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
    finally:
        capture.release()

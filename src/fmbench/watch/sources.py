"""Live video: what is opened again when it is lost, and what grows."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

import av

from fmbench.prepare.ingest.video_files import dated, find_videos, in_order

OPEN_SECONDS, READ_SECONDS = 10.0, 5.0
"""Longest waits for a connection, and for data on it."""
IDLE = 0.05
"""Seconds between two looks at a file that grows."""
PROBE = {"probesize": "500000", "analyzeduration": "1000000"}
"""Bytes, and microseconds, from which the format of a stream is found."""


@dataclass
class Opened:
    """A container that is being read.

    Attributes:
        container: of PyAV.
        name: for messages.
        live: whether frames come as they are taken, so that their time is that of their arrival.
        start: seconds since 1970 of the first frame, if the file's name says so.
        current: false while frames are read that were there before the watch began.
    """

    container: Any
    name: str
    live: bool
    start: float | None = None
    tail: Tail | None = None

    @property
    def current(self) -> bool:
        return self.tail is None or self.tail.caught_up


class Tail:
    """A file as FFmpeg reads it, which waits for more at its end.

    Args:
        path: the file.
        over: whether nothing more will come, asked at its end.
    """

    def __init__(self, path: Path, over: Callable[[], bool]) -> None:
        self._file: IO[bytes] = path.open("rb")
        self._path, self._over = path, over
        self._inode = path.stat().st_ino
        self.caught_up = False

    def read(self, size: int) -> bytes:
        """Up to `size` bytes; none where the file is over or was replaced."""
        while True:
            if data := self._file.read(size):
                return data
            self.caught_up = True
            if self._over() or self._replaced():
                return b""
            time.sleep(IDLE)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _replaced(self) -> bool:
        try:
            now = self._path.stat()
        except FileNotFoundError:
            return True
        return now.st_ino != self._inode or now.st_size < self._file.tell()


class VideoSource:
    """A camera, a file or a folder of segments.

    Args:
        text: an address (rtsp://…, http://…), a device (/dev/video0), a file or a folder.
        replay: read files to their end as fast as they can be decoded, instead of following them.
        stamped: whether the time of a file's frames is counted from its start, not their arrival.
        threads: of the decoder; 0 lets it choose.

    Raises:
        ValueError: no such file or folder, or a replay of what is no file.
    """

    def __init__(self, text: str, *, replay: bool, stamped: bool, threads: int = 0) -> None:
        self.text, self.replay, self._stamped = text, replay, stamped
        self.threads = threads
        self.path = None if "://" in text else Path(text)
        self.stopped = threading.Event()
        self._done: set[Path] = set()
        self._begun = False
        device = self.path is not None and self.path.is_char_device()
        if (self.path is None or device) and replay:
            raise ValueError(f"{text} is no file: --speed max reads files; leave it out")
        if (self.path is None or device) and stamped:
            raise ValueError(
                f"{text} is live: its frames have the time at which they come; leave --start out"
            )
        self.device = device
        if self.path is not None and not device and not self.path.exists():
            raise ValueError(f"{text}: no such file or folder")

    @property
    def endless(self) -> bool:
        """Whether the end of a container is a loss, not the end."""
        return not self.replay

    def open(self) -> Iterator[Opened]:
        """Containers, one after the other; the caller closes each.

        Raises:
            OSError, av.FFmpegError: one cannot be opened.
        """
        if self.path is None or self.device:
            yield self._address()
        elif self.replay:
            for path in find_videos([self.path]):
                yield Opened(av.open(str(path)), path.name, False, dated(path))
        else:
            yield from self._growing(self.path)

    def _address(self) -> Opened:
        options = dict(PROBE)
        if self.text.startswith("rtsp"):
            options |= {"rtsp_transport": "tcp", "timeout": str(int(READ_SECONDS * 1e6))}
        container = av.open(
            self.text,
            format="v4l2" if self.device else None,
            options=options,
            timeout=(OPEN_SECONDS, READ_SECONDS),
        )
        return Opened(container, self.text, True)

    def _growing(self, path: Path) -> Iterator[Opened]:
        """The file, or the segments of a folder from the newest on."""
        while not self.stopped.is_set():
            chosen = self._next(path)
            if chosen is None:
                time.sleep(IDLE)
                continue
            tail = Tail(chosen, partial(self._over, path, chosen))
            if self._begun and path.is_dir():
                tail.caught_up = True  # the whole of a new segment is new
            try:
                container = av.open(tail, options=PROBE)
            except av.FFmpegError as error:
                tail.close()
                raise OSError(
                    f"{chosen}: {error.strerror}; a file that is still written can be read as .ts"
                    " or .mkv, not as .mp4"
                ) from None
            self._begun = True
            start = dated(chosen) if self._stamped else None
            yield Opened(container, chosen.name, not self._stamped, start, tail)
            tail.close()
            if path.is_dir():
                self._done.add(chosen)
            else:
                return

    def _over(self, path: Path, now: Path) -> bool:
        return self.stopped.is_set() or self._next(path, now) is not None

    def _next(self, path: Path, now: Path | None = None) -> Path | None:
        """The segment to read, or the one after `now`; of a file, itself."""
        if not path.is_dir():
            return path if now is None else None
        files = in_order(
            [each for each in path.iterdir() if each.is_file() and not each.name.startswith(".")]
        )
        if now is not None:
            return files[files.index(now) + 1] if now in files[:-1] else None
        if not self._begun and not self._stamped:
            return files[-1] if files else None
        return next((each for each in files if each not in self._done), None)

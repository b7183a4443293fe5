"""A thread that decodes video and hands over small pictures, and opens the source again when it is
lost."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from fmbench.prepare.ingest.picture import Look, look_of
from fmbench.prepare.ingest.region import Region, read_region
from fmbench.watch.clock import FrameClock
from fmbench.watch.grid import Grid, Placed, Plan
from fmbench.watch.sources import Opened, VideoSource

PAUSES = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
"""Seconds between attempts to open a source that is lost; the last one again and again."""
WAITING = 256
"""Pictures that may wait to be judged."""
VIEW, VIEWS = 480, 0.2
"""Width in pixels of the pictures kept for clips of alarms; seconds between two."""


@dataclass(frozen=True)
class Picture:
    """A small picture at an instant.

    Attributes:
        k: the instant.
        seconds: its time, since 1970.
        small: (3, H, W) of the furnace.
        arrival: monotonic time at which its frame was there.
        origin: seconds since 1970 of instant 0.
        view: the whole picture as JPEG, of some of them.
    """

    k: int
    seconds: float
    small: NDArray[np.uint8]
    arrival: float
    origin: float
    view: bytes | None = None


class Lost(NamedTuple):
    """The source is lost; `why` says how it is known."""

    why: str
    waits: float


class Back(NamedTuple):
    """The source gives pictures, for the first time or again."""

    size: tuple[int, int]
    name: str


class End(NamedTuple):
    """The files are read, or an error that no new attempt can change."""

    error: ValueError | None = None


Item = Picture | Lost | Back | End


class _Frame(NamedTuple):
    """A decoded frame and what converts it."""

    frame: Any
    look: Look
    number: int
    arrival: float


class _Sized(NamedTuple):
    size: tuple[int, int]


class Reader(threading.Thread):
    """Decodes a source until it ends.

    Args:
        source: what is read.
        clock: times of frames.
        plan: instants that are wanted.
        roi: the region, as `--roi` gives it; None: the whole picture.
        size: (H, W) of the small pictures.
        begin: the second of instant 0, from the time of the first frame.
        views: whether pictures are kept for clips.
    """

    def __init__(
        self,
        source: VideoSource,
        clock: FrameClock,
        plan: Plan,
        *,
        roi: str | None,
        size: tuple[int, int],
        begin: Callable[[float], int],
        views: bool = True,
    ) -> None:
        super().__init__(daemon=True, name="video")
        self.items: queue.Queue[Item] = queue.Queue(WAITING)
        self.dropped, self.step = 0, 0.0
        self._source, self._clock, self._plan = source, clock, plan
        self._roi, self._size, self._begin, self._views = roi, size, begin, views
        self._grid: Grid[_Frame] | None = None
        self._region: Region | None = None
        self._index = -1
        self._last: tuple[int, NDArray[np.uint8]] | None = None
        self._view_at = -1e18
        self._tries = 0

    def stop(self) -> None:
        """End soon."""
        self._source.stopped.set()

    def run(self) -> None:
        """Read until the end; every error becomes an item."""
        cv2.setNumThreads(1)
        while not self._source.stopped.is_set():
            try:
                why = self._read()
            except ValueError as error:  # av.FFmpegError may be one, too
                if not isinstance(error, av.FFmpegError):
                    self._put(End(error))
                    return
                why = _words(error)
            except (OSError, av.FFmpegError) as error:
                why = _words(error)
            except Exception as error:  # a thread that dies silently would leave watching blind
                why = f"{type(error).__name__}: {error}"
            if not self._source.endless:
                self._put(End(ValueError(f"{self._source.text}: {why}") if why else None))
                return
            pause = PAUSES[min(self._tries, len(PAUSES) - 1)]
            self._tries += 1
            self._put(Lost(why or "the stream has ended", pause))
            self._source.stopped.wait(pause)

    def _read(self) -> str:
        """Read all containers that the source opens; why it ended, if it should not have."""
        for opened in self._source.open():
            with opened.container as container:
                stream = container.streams.best("video")
                if stream is None:
                    return f"{opened.name} has no video"
                self._clock.enter(opened.start)
                self._all(opened, stream)
        if self._grid is not None and not self._source.endless:
            for placed in self._grid.finish():
                self._hand_over(placed)
        if self._index < 0 and not self._source.endless:
            return "no frame that can be decoded"
        return ""

    def _all(self, opened: Opened, stream: Any) -> None:
        """Every frame of a container that can be decoded."""
        unit = float(stream.time_base)
        step = 1 / float(stream.average_rate or stream.guessed_rate or 25)
        self.step = step
        stream.thread_type = "SLICE" if opened.live else "AUTO"
        stream.codec_context.thread_count = self._source.threads
        look: Look | None = None
        counted = 0
        for frame in _decoded(opened.container, stream):
            if self._source.stopped.is_set():
                return
            ticks = frame.pts if frame.pts is not None else round(counted * step / unit)
            counted += 1
            if opened.live and not opened.current:
                continue  # of before the watch
            if look is None or look.coded != (frame.height, frame.width):
                look = self._entered(opened, frame, stream)
            self._index += 1
            arrival, seconds = time.monotonic(), self._clock.of(ticks, unit, step)
            if self._grid is None:
                self._grid = Grid(self._plan, self._begin(seconds), step)
            for placed in self._grid.place(seconds, _Frame(frame, look, self._index, arrival)):
                self._hand_over(placed)

    def _entered(self, opened: Opened, frame: Any, stream: Any) -> Look:
        """The look of a container's pictures, in which the region must lie.

        Raises:
            ValueError: the region is outside of the first picture.
            OSError: it is outside of one that came later.
        """
        look = look_of(frame, stream.sample_aspect_ratio)
        tall, wide = look.size
        try:
            self._region = read_region(self._roi or f"0,0,{wide},{tall}", _Sized(look.size))
        except ValueError as error:
            if self._region is None:
                raise
            raise OSError(f"the picture is {wide} x {tall} now: {error}") from None
        self._tries = 0
        self._put(Back(look.size, opened.name))
        return look

    def _hand_over(self, placed: Placed[_Frame]) -> None:
        if not self._plan.wants(placed.k):
            return
        assert self._grid is not None
        assert self._region is not None
        frame, look, number, arrival = placed.frame
        view = None
        if self._last is None or self._last[0] != number:
            shown = look.rgb(frame)
            small = self._region.cut(shown, number, self._size).transpose(2, 0, 1)
            self._last = number, np.ascontiguousarray(small)
            if self._views and self._grid.at(placed.k) - self._view_at >= VIEWS:
                self._view_at = self._grid.at(placed.k)
                view = _jpeg(shown, self._region.box(number))
        self._put(
            Picture(
                placed.k, self._grid.at(placed.k), self._last[1], arrival, self._grid.origin, view
            )
        )

    def _put(self, item: Item) -> None:
        """Hand an item over; a replay waits, a live picture that cannot be judged is dropped."""
        while not self._source.stopped.is_set():
            try:
                self.items.put(item, timeout=0.5)
                return
            except queue.Full:
                if self._source.endless and isinstance(item, Picture):
                    self.dropped += 1
                    return


def _decoded(container: Any, stream: Any) -> Iterator[Any]:
    """Frames; after a damage, those from the next key frame on."""
    whole = False
    for packet in container.demux(stream):
        try:
            frames = packet.decode()
        except av.FFmpegError:
            whole = False
            continue
        for frame in frames:
            whole = (whole or bool(frame.key_frame)) and not frame.is_corrupt
            if whole:
                yield frame


def _jpeg(shown: NDArray[np.uint8], box: tuple[int, int, int, int]) -> bytes:
    """A picture of at most VIEW pixels across, with the region drawn."""
    tall, wide = shown.shape[:2]
    scale = min(1.0, VIEW / wide)
    side = (max(2, round(wide * scale) // 2 * 2), max(2, round(tall * scale) // 2 * 2))
    small = cv2.resize(shown, side, interpolation=cv2.INTER_AREA)
    x, y, width, height = (round(each * scale) for each in box)
    cv2.rectangle(small, (x, y), (x + width - 1, y + height - 1), (255, 255, 255), 1)
    return bytes(cv2.imencode(".jpg", small[:, :, ::-1])[1])


def _words(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__

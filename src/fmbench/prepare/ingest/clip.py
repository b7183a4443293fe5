"""One video file: each decoded frame gets the time stamp of its own packet."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from fmbench.prepare.ingest.picture import Look, look_of
from fmbench.prepare.ingest.scan import Stopped, opened, packets, scan

PROBED = 24
"""Frames decoded when a file is opened."""
REACH = 32
"""Packets within which a decoder puts frames into order, or reports an error late."""
SOUGHT = (0, 2, 20)
"""Seconds before a frame to seek to: in MPEG-TS, FFmpeg may find a place too late."""
SEEN, LOST, HIDDEN = range(3)
Picture = Callable[[], NDArray[np.uint8]]


class Changed(Exception):  # noqa: N818 -- asks for another pass, is no fault
    """Other frames can be decoded than was known; `Clip.state` is right now."""


class Clip:
    """Frames of a file, numbered in the order of presentation, also those that cannot be decoded.

    Args:
        path: the file.
        threads: of the decoder; 0 lets it choose.

    Attributes:
        scan: its packets.
        shown: (N,) float64, seconds from the first frame.
        state: (N,) SEEN; LOST if a frame is damaged or needs a damaged one; HIDDEN if its packet
            has no picture of its own, or one that comes after a later one. Known for the first
            frames only until all were decoded.
        look: how frames are shown.

    Raises:
        ValueError: no video, none that can be decoded, or segments whose times are not known.
    """

    def __init__(self, path: Path, *, threads: int = 0) -> None:
        self.path = path
        self._threads = threads
        self.scan = scan(path)
        ticks = np.sort(self.scan.ticks)
        self.shown = (ticks - ticks[0]) * self.scan.unit
        self._counted = False  # whether frames are numbered by counting: the stamps have no order
        self._number = np.empty(len(ticks), np.int64)
        self._number[np.argsort(self.scan.ticks, kind="stable")] = np.arange(len(ticks))
        self._look: Look | None = None
        self.state = np.full(len(ticks), SEEN, np.uint8)
        self.state[self._number[self._spread(self.scan.broken, {})]] = LOST
        try:
            for _ in self._frames(len(ticks) - 1, most=PROBED):
                pass
        except Changed:
            pass
        if self._look is None:
            raise ValueError(
                f"{path}: none of its {len(ticks)} frames can be decoded; it has no key frame, or"
                " is damaged"
            )
        self.look: Look = self._look

    def __len__(self) -> int:
        return len(self.state)

    def number_of(self, packet: int) -> int:
        """Number of the first frame that is presented from a packet on."""
        return int(self._number[packet:].min())

    def frames(self, last: int | None = None) -> Iterator[tuple[int, Picture]]:
        """Number of each frame that can be decoded, ascending, and what converts it to RGB.

        Args:
            last: the last frame wanted; None for all.

        Raises:
            Changed: at the end, if other frames were decoded than `state` says.
            ValueError: the size of the picture changes.
        """
        return self._frames(len(self) - 1 if last is None else last)

    def sought(self, index: int) -> NDArray[np.uint8] | None:
        """(H, W, 3) of a frame, read from the key frame before it; None if it is not found so."""
        if not self.scan.seekable or self._counted:
            return None
        tick = int(np.sort(self.scan.ticks)[index])
        for earlier in SOUGHT:
            try:
                with opened(self.path, self._threads) as (container, stream):
                    container.seek(tick - round(earlier / self.scan.unit), stream=stream)
                    found = next(
                        frame
                        for packet in container.demux(stream)
                        for frame in _decoded(packet)
                        if frame.pts is None or frame.pts >= tick
                    )
            except (av.FFmpegError, StopIteration):
                continue
            if found.pts == tick and not found.is_corrupt:
                return self.look.rgb(found)
        return None

    def _frames(self, last: int, most: int = 0) -> Iterator[tuple[int, Picture]]:
        """`frames`; with `most`, of the first frames only."""
        order: dict[int, int] = {}  # packet of each decoded frame, and its place in the output
        damaged = np.zeros(len(self), bool)
        errors: list[int] = []
        newest, sent, fields, complete = -1, 0, False, True
        count = _Counter(self.scan.keys)
        late = np.zeros(len(self), bool)
        with opened(self.path, self._threads) as (container, stream):
            codec = stream.codec_context.name
            for packet, found in _all_decoded(container, stream):
                sent = max(sent, -1 if packet.opaque is None else packet.opaque)
                if found is None:
                    errors.append(sent)
                for frame in found or ():
                    if frame.opaque is None:
                        continue
                    if self._look is None:
                        self._look = look_of(frame, stream.sample_aspect_ratio)
                    of = int(frame.opaque)  # type: ignore[call-overload]
                    order[of] = len(order)
                    damaged[of] |= frame.is_corrupt
                    fields |= frame.interlaced_frame
                    number = count(of) if self._counted else int(self._number[of])
                    if number >= len(self):
                        continue
                    late[of] = number < newest
                    if number > newest:
                        newest = number
                        if not most and self.state[number] == SEEN and number <= last:
                            self._check_size(frame, number)
                            yield number, partial(self._look.rgb, frame)
                if newest >= last or (most and len(order) >= most):
                    complete = False
                    break
        if late.any() and not self.scan.ordered and not self._counted and not errors:
            self._counted = True
            raise Changed
        if not order:
            return
        silent = fields or codec not in ("h264", "hevc")
        stop = len(self) if complete else newest + 1
        self._judge(order, damaged, late, errors, silent, stop, probing=bool(most))

    def _judge(
        self,
        order: dict[int, int],
        damaged: NDArray[np.bool_],
        late: NDArray[np.bool_],
        errors: list[int],
        silent: bool,
        stop: int,
        probing: bool,
    ) -> None:
        """Set `state` of the frames before `stop` by what was decoded.

        Args:
            order: place in the output by packet.
            damaged: (N,) packets whose frames are.
            late: (N,) packets whose frames came after a later one.
            errors: packets at which the decoder reported errors.
            silent: whether packets without a frame, and without an error, are no damage.
            stop: number of the first frame that may not have been decoded yet.
            probing: whether nothing was decoded before.

        Raises:
            Changed: the state was another one.
        """
        got = np.zeros(len(self), bool)
        got[list(order)] = True
        due = self._number < stop
        if self._counted and stop < len(self):
            due = np.arange(len(self)) < max(order) - REACH
        without = due & ~got
        near = np.zeros(len(self) + 1, np.int64)
        for at in errors:
            near[max(0, at - REACH)] += 1
            near[min(at + 1, len(self))] -= 1
        failed = without & (np.cumsum(near)[:-1] > 0) if silent else without
        lost = self._spread((damaged | self.scan.broken | failed) & (due | damaged), order)
        state = self.state.copy()
        if self._counted:
            state[:stop] = LOST
            count = _Counter(self.scan.keys)
            for packet in order:
                number = count(packet)
                if number < len(self) and not lost[packet]:
                    state[number] = SEEN
        else:
            seen = np.where(got & ~late, SEEN, HIDDEN).astype(np.uint8)
            seen[lost] = LOST
            state[self._number[due]] = seen[due]
            state[self._number[lost]] = LOST
        if not probing and stop < len(self):  # a loss may reach back from later frames
            state[self.state == LOST] = LOST
        if not np.array_equal(state, self.state):
            self.state = state
            raise Changed

    def _spread(self, broken: NDArray[np.bool_], order: dict[int, int]) -> NDArray[np.bool_]:
        """(N,) packets from each broken one to the next key frame, and those after that key frame
        that are shown before it. Where frames are counted, those before it of which the order is
        not certain as well."""
        keys = np.flatnonzero(self.scan.keys)
        lost = np.zeros(len(broken), bool)
        if not len(keys):
            return lost | broken
        for packet in np.flatnonzero(broken).tolist():
            if lost[packet]:
                continue
            place = int(np.searchsorted(keys, packet, side="right"))
            end = int(keys[place]) if place < len(keys) else len(broken)
            start = packet
            if self._counted:
                start = max(packet - REACH // 2, int(keys[place - 1]) if place else 0)
            lost[start:end] = True
            for late in range(end + 1, min(end + REACH, len(broken))):
                if self.scan.keys[late]:
                    break
                if self._counted:
                    lost[late] |= order.get(late, len(broken)) < order.get(end, -1)
                else:
                    lost[late] |= self.scan.ticks[late] < self.scan.ticks[end]
        return lost

    def _check_size(self, frame: av.VideoFrame, number: int) -> None:
        if self._look and (frame.height, frame.width) != self._look.coded:
            tall, wide = self._look.coded
            raise ValueError(
                f"{self.path}: the picture changes from {wide} x {tall} to {frame.width} x"
                f" {frame.height} at {self.shown[number]:.1f} s; split the file there"
            )


class _Counter:
    """Numbers frames by their order in the output; a key frame, of which the place is known, sets
    the count right after a loss."""

    def __init__(self, keys: NDArray[np.bool_]) -> None:
        self._keys = keys
        self._next = 0
        self._since: list[int] = []

    def __call__(self, packet: int) -> int:
        number = self._next
        if self._keys[packet]:
            number = max(number, packet + sum(other > packet for other in self._since))
            self._since = []
        else:
            self._since.append(packet)
        self._next = number + 1
        return number


def _all_decoded(
    container: av.container.InputContainer, stream: av.VideoStream
) -> Iterator[tuple[Any, list[av.VideoFrame] | None]]:
    """Every packet and the frames that come out with it; None at an error."""
    try:
        for packet in packets(container, stream):
            try:
                yield packet, packet.decode()
            except av.FFmpegError:
                yield packet, None
    except Stopped:
        while True:  # what the decoder still holds
            try:
                rest = stream.codec_context.decode(None)
            except av.FFmpegError:
                return
            yield packet, rest
            return


def _decoded(packet: Any) -> list[av.VideoFrame]:
    try:
        return list(packet.decode())
    except av.FFmpegError:
        return []

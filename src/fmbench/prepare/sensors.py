"""Failed sensors of a recording, in words and with their times."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fmbench.format.columns import Currents, moment
from fmbench.format.mat import frames_and_labels, open_mat, upright
from fmbench.health import Failed, Failure, Looks, failed_currents, failed_frames, look
from fmbench.types import BENCHMARK, Plant

_BLOCK = 2**24
"""Values that a file holds in frames of which one a second is read at a time."""


class Sensor(NamedTuple):
    """A failed sensor of a recording.

    Attributes:
        kind: how it failed.
        first, last: the first and last sample of current, or frame.
        seconds: the clock at either, whole seconds.
        what: what was found, with its times.
    """

    kind: Failed
    first: int
    last: int
    seconds: tuple[int, int]
    what: str


def every(frame_rate: float) -> int:
    """Frames from one look to the next: those of a second."""
    return max(1, round(frame_rate))


def of_currents(currents: Currents, plant: Plant = BENCHMARK) -> list[Sensor]:
    """Failed phases of sorted currents."""
    found = failed_currents(currents.values, plant.current_rate, plant.channels)
    last = len(currents.seconds) - 1
    return [_timed(each, currents.seconds, 1, last, plant.period) for each in found]


def of_samples(
    seconds: NDArray[np.int64], values: NDArray[np.float64], plant: Plant = BENCHMARK
) -> list[str]:
    """Failed phases of (S,) seconds with samples (S, N, C), in words. Wrong units and impossible
    values are left out: the log's reader reports them."""
    samples = values.reshape(-1, values.shape[2]).astype(np.float32)
    found = of_currents(Currents(np.repeat(seconds, values.shape[1]), samples), plant)
    return [each.what for each in found if each.kind not in (Failed.UNIT, Failed.OUT_OF_RANGE)]


def of_frames(
    looks: Looks, seconds: NDArray[np.int64], frame_rate: float = BENCHMARK.frame_rate
) -> list[Sensor]:
    """Failures of the camera.

    Args:
        looks: at one frame of each second.
        seconds: (N,) second of each frame.
        frame_rate: frames a second.
    """
    step = every(frame_rate)
    # A rate such as 29.97 has a look every 1.001 s, which counts as a second.
    found = failed_frames(looks, min(frame_rate, 1.0))
    return [_timed(each, seconds, step, len(seconds) - 1) for each in found]


def _timed(
    failure: Failure, seconds: NDArray[np.int64], step: int, end: int, period: int = 1
) -> Sensor:
    """`step` frames or samples lie between two that were judged; `end` is the last."""
    first, last = failure.start * step, min(failure.stop * step - 1, end)
    span = int(seconds[first]), int(seconds[last])
    what = f"{failure.what}, from {moment(span[0])} to {moment(span[1])}"
    if (failure.start, last) == (0, end):
        what += " (all the time)"
    else:
        what += f" ({span[1] - span[0] + period} s)"
    return Sensor(failure.kind, first, last, span, what)


class Watch:
    """Looks at one frame a second of blocks of frames that pass.

    Args:
        frame_rate: frames a second.
        every: frames from one look to the next, by default those of a second; 1 if only one a
            second passes.
    """

    def __init__(
        self, frame_rate: float = BENCHMARK.frame_rate, *, every: int | None = None
    ) -> None:
        self._rate = frame_rate
        self._every = every or max(1, round(frame_rate))
        self._looks: list[Looks] = []
        self._seen = 0
        self._before: NDArray[np.uint8] | None = None

    def see(self, frames: NDArray[np.uint8]) -> None:
        """The next frames (n, 3, H, W) of the recording."""
        chosen = frames[-self._seen % self._every :: self._every]
        self._seen += len(frames)
        if len(chosen):
            self._looks.append(look(chosen, self._before))
            self._before = chosen[-1].copy()  # the block may be filled anew

    def passing(
        self, blocks: Iterable[tuple[NDArray[np.uint8], None]]
    ) -> Iterator[tuple[NDArray[np.uint8], None]]:
        """The blocks, each seen on its way."""
        for frames, labels in blocks:
            self.see(frames)
            yield frames, labels

    def found(self, seconds: NDArray[np.int64]) -> list[Sensor]:
        """Failures of the camera; `seconds` (N,) of all frames of the recording."""
        return of_frames(Looks.joined(self._looks), seconds, self._rate) if self._looks else []


def of_file(
    path: Path, seconds: NDArray[np.int64], frame_rate: float = BENCHMARK.frame_rate
) -> list[Sensor]:
    """Failures of the camera in a `.mat` file, of which one frame a second is read.

    Args:
        path: the file.
        seconds: (N,) second of each frame.
        frame_rate: frames a second.

    Raises:
        ValueError, OSError: the file cannot be read.
    """
    watch, second = Watch(frame_rate, every=1), every(frame_rate)
    with open_mat(path) as file:
        data, _ = frames_and_labels(path, file)
        step = second * max(1, _BLOCK // int(np.prod(data.shape[1:])) // second)
        for start in range(0, len(data), step):
            rows = data[start : start + step : second]
            with np.errstate(invalid="ignore"):  # NaN is the reader's to refuse
                watch.see(upright(rows.astype(np.uint8, copy=False)))
    return watch.found(seconds)

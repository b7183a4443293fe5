"""Frames at the instants that a detector reads, small and cut to the furnace."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median
from typing import Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

HOLD = 0.5
"""Seconds for which a picture stands for those that are missing; longer is a lost stream."""
Frame = TypeVar("Frame")


@dataclass(frozen=True)
class Plan:
    """Which instants are read, counted from the first whole second.

    Attributes:
        rate: instants a second.
        frames, stride: of a clip.
        step: instants from one decision to the next.
    """

    rate: float
    frames: int
    stride: int
    step: int

    @property
    def span(self) -> int:
        """Instants from the first of a clip to its last."""
        return (self.frames - 1) * self.stride

    @property
    def second(self) -> int:
        """Instants of a second."""
        return max(1, round(self.rate))

    def decides(self, k: int) -> bool:
        """Whether there is a decision at instant k: at the last of `step`, so that the log of its
        second is complete."""
        return (k + 1) % self.step == 0

    def looks(self, k: int) -> bool:
        """Whether the camera is judged at instant k."""
        return (k + 1) % self.second == 0

    def wants(self, k: int) -> bool:
        """Whether a clip shows instant k, or the camera is judged by it."""
        if k <= self.span or k % self.second == 0 or self.looks(k):
            return True  # early clips repeat their first frame, at a whole second
        return any((k + j * self.stride + 1) % self.step == 0 for j in range(self.frames))


class Placed(NamedTuple, Generic[Frame]):
    """The frame of an instant."""

    k: int
    frame: Frame
    held: bool
    """Whether it is an earlier one, since none came."""


class Grid(Generic[Frame]):
    """Finds for each instant the nearest frame, as `fmbench data ingest` does.

    Args:
        plan: the instants.
        origin: seconds since 1970 of instant 0.
        step: seconds between two frames of the source, as far as known.
    """

    def __init__(self, plan: Plan, origin: float, step: float) -> None:
        self._plan, self.origin = plan, origin
        self._next = 0
        self._before: tuple[float, Frame] | None = None
        self._steps: deque[float] = deque([step], maxlen=51)

    def at(self, k: int) -> float:
        """Seconds since 1970 of an instant."""
        return self.origin + k / self._plan.rate

    def place(self, time: float, frame: Frame) -> Iterator[Placed[Frame]]:
        """The instants that a frame decides; one before the last frame's time decides none."""
        if self._before is not None:
            if time <= self._before[0]:
                return
            self._steps.append(time - self._before[0])
        reach = max(median(self._steps), 1 / self._plan.rate) + 1e-3
        last = math.floor((time - self.origin) * self._plan.rate + 1e-9)
        if self._before is not None and last - self._next > 3600 * self._plan.rate:
            self._next = last - self._plan.second  # a gap of hours
        while (instant := self.at(self._next)) <= time:
            k, self._next = self._next, self._next + 1
            after = time - instant
            before = math.inf if self._before is None else instant - self._before[0]
            if min(before, after) <= reach:
                chosen = self._before if before <= after else (time, frame)
                assert chosen is not None
                yield Placed(k, chosen[1], False)
            elif self._before is not None and before <= HOLD:
                yield Placed(k, self._before[1], True)
        self._before = (time, frame)

    def finish(self) -> Iterator[Placed[Frame]]:
        """The instants after the last frame that it is near to."""
        if self._before is None:
            return
        reach = max(median(self._steps), 1 / self._plan.rate) + 1e-3
        while self.at(self._next) - self._before[0] <= reach:
            yield Placed(self._next, self._before[1], False)
            self._next += 1


def first_second(time: float) -> int:
    """The first whole second of a video whose first frame is at `time`."""
    return math.ceil(time - 1e-3)


class Pictures:
    """The small pictures of the newest instants.

    Args:
        keep: instants.
    """

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._kept: dict[int, NDArray[np.uint8]] = {}
        self.newest = -1

    def add(self, k: int, small: NDArray[np.uint8]) -> None:
        """(3, H, W) at an instant after all others."""
        self._kept[k] = small
        self.newest = k
        while next(iter(self._kept)) < k - self._keep:
            del self._kept[next(iter(self._kept))]

    def has(self, wanted: NDArray[np.int64]) -> bool:
        """Whether all these instants are there."""
        return all(int(k) in self._kept for k in wanted)

    def __getitem__(self, k: int) -> NDArray[np.uint8]:
        return self._kept[k]

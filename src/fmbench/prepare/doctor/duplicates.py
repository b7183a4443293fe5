"""Frames of train that occur again in val or test."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from fmbench.format.columns import moment
from fmbench.prepare.doctor.findings import Finding

Bytes = NDArray[np.uint8]
MOST = 2000
"""Most frames of a split that are compared."""
SIDE = 64
"""Side in pixels at which frames are compared (the benchmark's own)."""
BITS = 4
"""Bits of 64 that may differ: noise of one grey level left the hashes of 86 % of 1,000 simulated
frames unchanged, and changed at most 4 bits of 99.5 %."""


class Prints(NamedTuple):
    """Fingerprints of the compared frames of one split.

    Attributes:
        recording: (n,) name of each frame's recording.
        frame: (n,) position in the recording.
        second: (n,) seconds since 1970.
        exact: (n,) digest of the bytes.
        average: (n, 8) uint8, one bit for each of 8 x 8 cells: brighter than their mean.
        grey: (n, SIDE * SIDE) uint8.
    """

    recording: list[str]
    frame: list[int]
    second: list[int]
    exact: list[bytes]
    average: list[Bytes]
    grey: list[Bytes]

    @classmethod
    def none(cls) -> Prints:
        return cls([], [], [], [], [], [])

    def add(self, recording: str, frame: int, second: int, picture: Bytes) -> None:
        """Append the fingerprint of an (H, W, 3) frame."""
        whole = cv2.cvtColor(np.ascontiguousarray(picture), cv2.COLOR_RGB2GRAY)
        small = cv2.resize(whole, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        grey = np.asarray(small, dtype=np.uint8)
        self.recording.append(recording)
        self.frame.append(frame)
        self.second.append(second)
        self.exact.append(hashlib.blake2b(picture.tobytes(), digest_size=16).digest())
        self.average.append(average_hash(grey))
        self.grey.append(grey.ravel())


class Pair(NamedTuple):
    """Positions of the same picture in two `Prints`."""

    train: int
    other: int
    exact: bool


def step_of(total: int) -> int:
    """Stride at which `total` frames are compared: a power of two, so that the frames compared of a
    long list are a subset of those of a short one, and a copied recording is compared to itself."""
    step = 1
    while total > MOST * step:
        step *= 2
    return step


def sampled(lists: Mapping[str, NDArray[np.int64]]) -> dict[str, NDArray[np.int64]]:
    """Recording name to the listed frames that are compared, at most `MOST` in all."""
    step = step_of(sum(len(frames) for frames in lists.values()))
    while True:
        chosen = {name: frames[frames % step == 0] for name, frames in lists.items()}
        if sum(len(frames) for frames in chosen.values()) <= MOST:
            return {name: frames for name, frames in chosen.items() if len(frames)}
        step *= 2


def average_hash(grey: Bytes) -> Bytes:
    """(8,) bytes, 64 bits, of a grey frame of any size."""
    cells = cv2.resize(grey, (8, 8), interpolation=cv2.INTER_AREA).astype(np.float64)
    return np.packbits(cells.ravel() > cells.mean())


def pairs(train: Prints, other: Prints) -> list[Pair]:
    """For each frame of `other`, the first of `train` with the same bytes, or with an average hash
    that differs in at most BITS bits and a mean absolute difference below one grey level."""
    if not train.frame:
        return []
    same: dict[bytes, int] = {}
    for k, exact in enumerate(train.exact):
        same.setdefault(exact, k)
    averages = np.stack(train.average)
    cells = np.stack([_cells(grey) for grey in train.grey])
    found = []
    for k, exact in enumerate(other.exact):
        if exact in same:
            found.append(Pair(same[exact], k, True))
            continue
        bits = np.unpackbits(averages ^ other.average[k], axis=1).sum(axis=1)
        near = np.flatnonzero(bits <= BITS)
        # The difference of cell means is a lower bound: few frames need the whole sum.
        near = near[np.abs(cells[near] - _cells(other.grey[k])).mean(axis=1) < 1]
        for candidate in near:
            off = np.abs(train.grey[candidate].astype(np.int16) - other.grey[k]).mean()
            if off < 1:
                found.append(Pair(int(candidate), k, False))
                break
    return found


def of_duplicates(split: str, train: Prints, other: Prints, place: str = "") -> list[Finding]:
    """One finding for each pair of recordings that share frames."""
    shared: dict[tuple[str, str], list[Pair]] = {}
    for pair in pairs(train, other):
        names = train.recording[pair.train], other.recording[pair.other]
        shared.setdefault(names, []).append(pair)
    found = []
    for (mine, theirs), each in shared.items():
        first = each[0]
        exact = sum(pair.exact for pair in each)
        what = (
            f"{len(each)} of the compared {split} frames are also in train ({exact} byte for "
            f"byte): the first is frame {other.frame[first.other]}, which is frame "
            f"{train.frame[first.train]} of {mine} at {moment(train.second[first.train])}."
        )
        todo = (
            f"Leave a guard between train and {split}: fmbench data select ROOT --replace."
            if mine == theirs
            else f"Leave one of the two recordings out, or keep both in one split, not {split}."
        )
        time = moment(other.second[first.other])
        found.append(Finding("serious", what, todo, theirs, time, place))
    return found


def compared(prints: Iterable[tuple[str, Prints, int]]) -> str:
    """How many frames of each split were compared, in words."""
    return ", ".join(f"{len(of.frame):,} of {total:,} {split}" for split, of, total in prints)


def _cells(grey: Bytes) -> NDArray[np.float64]:
    """(64,) means over 8 x 8 cells."""
    square = grey.reshape(8, SIDE // 8, 8, SIDE // 8)
    return np.asarray(square.mean(axis=(1, 3)).ravel())

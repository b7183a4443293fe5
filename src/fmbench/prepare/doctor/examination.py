"""Results of an examination: one recording, and a whole data set."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fmbench.data.recording import Recording
from fmbench.data.windows import Ints
from fmbench.prepare.doctor.findings import Finding
from fmbench.prepare.ingest.align import Offset
from fmbench.types import BENCHMARK

Split = tuple[str, str, *tuple[int, ...]]
"""Part, split, and frames of each class."""


@dataclass(kw_only=True)
class Examined:
    """Measurements of one recording.

    Attributes:
        recording: the files.
        place: its part; empty if the data set is itself a part.
        lists: split to (n,) sorted frames.
        kinds: (N,) class of each frame; None without labels.
        histogram: (256,) counts of grey levels.
        dark: share of pixels whose channels are all 0, in the median frame.
        bright: share of pixels of which a channel is 255, in the median frame.
        deviation: robust z of the median brightness among the recordings of the part.
        offset: between its two clocks; None if not estimated.
        unsure: why an estimate failed; empty if none was tried.
        refused: why the recording could not be examined; empty if it could.
    """

    recording: Recording
    place: str
    lists: Mapping[str, Ints]
    kinds: NDArray[np.uint8] | None = None
    histogram: NDArray[np.int64] = field(default_factory=lambda: np.zeros(256, np.int64))
    dark: float = 0.0
    bright: float = 0.0
    deviation: float = 0.0
    offset: Offset | None = None
    unsure: str = ""
    refused: str = ""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes; two are called normal and abnormal."""
        names = self.recording.classes
        return names if len(names) > 2 else BENCHMARK.classes

    @property
    def labels(self) -> NDArray[np.bool_] | None:
        """(N,) whether abnormal; None without labels."""
        return None if self.kinds is None else self.kinds > 0


@dataclass(kw_only=True)
class Report:
    """Everything that was found in a data set.

    Attributes:
        root: its folder.
        findings: the most severe first.
        recordings: those that could be opened, sorted by part and name.
        unopened: number of recordings that could not be opened.
        splits: part, split, and frames of each class, one row each.
        simulated: whether any recording is simulated.
        footage: recordings that the pooled offset was estimated from, in words.
        compared: part to how many frames of each split were compared, in words.
    """

    root: Path
    findings: list[Finding]
    recordings: list[Examined]
    unopened: int
    splits: list[Split]
    simulated: bool
    footage: str
    compared: dict[str, str]


def counts_of(labelled: Iterable[Examined], split: str = "") -> list[int]:
    """Frames of each class, listed in `split` or all, of recordings with labels."""
    counts = np.zeros(2, np.int64)
    for each in labelled:
        if each.kinds is not None:
            kinds = each.kinds[each.lists[split]] if split else each.kinds
            found = np.bincount(kinds, minlength=len(each.recording.classes))
            counts = np.pad(counts, (0, max(0, len(found) - len(counts))))
            counts[: len(found)] += found
    return counts.tolist()


def hours_of(seen: Iterable[Examined]) -> float:
    """Hours of footage of all recordings."""
    return sum(each.recording.num_frames / each.recording.plant.frame_rate for each in seen) / 3600

"""A subset of the training windows by blocks of time, since neighbours are near-duplicates."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

from torch import Tensor

from fmbench.types import Batch


class Parts(NamedTuple):
    """The two sides of a batch's windows. A window may be on neither side, never on both."""

    chosen: Tensor
    """(B,) bool."""
    rest: Tensor
    """(B,) bool."""
    block: Tensor
    """(B,) int64, the same for all windows of one block of one recording."""


@dataclass(frozen=True, kw_only=True)
class TimeBlocks:
    """A choice of blocks of each recording, the same in every epoch, process and run.

    A block is `seconds` of one recording's clock. Chosen blocks are spaced evenly; the start of the
    count differs between recordings, so that short ones are chosen in turn.

    Attributes:
        share: share of chosen blocks, in (0, 1); whole thousandths or simple fractions.
        seconds: length of a block.
        history: seconds that a window covers before the label's instant. A window that overlaps a
            block of the other side is on neither side. 0: such overlaps are harmless.

    Raises:
        ValueError: share or history is out of range.
    """

    share: float
    seconds: int = 600
    history: float = 0

    def __post_init__(self) -> None:
        if not 0.001 <= self.share <= 0.999:
            raise ValueError(f"a share of {self.share} of the blocks; it must be in [0.001, 0.999]")
        if self.history >= self.seconds:
            raise ValueError(
                f"blocks of {self.seconds} s are too short for windows that reach back "
                f"{self.history:g} s; they must be longer than that"
            )

    def split(self, batch: Batch) -> Parts:
        """The sides of a batch's windows.

        Raises:
            ValueError: the batch has no `recording` or no `second`.
        """
        if batch.recording is None or batch.second is None:
            raise ValueError(
                "this training chooses windows by recording and second, and the batch lacks them"
            )
        index = batch.second.div(self.seconds, rounding_mode="floor")
        begin = batch.second - math.ceil(
            self.history
        )  # int64: float32 would round seconds since 1970
        first = begin.div(self.seconds, rounding_mode="floor")
        side, past = self._chosen(index, batch.recording), self._chosen(first, batch.recording)
        return Parts(side & past, ~side & ~past, (batch.recording << 40) + index)

    def _chosen(self, index: Tensor, recording: Tensor) -> Tensor:
        """p of every q consecutive blocks, evenly spaced; exact in whole numbers."""
        share = Fraction(self.share).limit_denominator(1000)
        return (index + recording) * share.numerator % share.denominator < share.numerator

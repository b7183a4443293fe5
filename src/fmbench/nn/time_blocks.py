"""A part of the training windows, chosen by blocks of time: neighbours are near-duplicates."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

from torch import Tensor

from fmbench.types import Batch


class Parts(NamedTuple):
    """Which windows of a batch are on which side. A window may be on neither, never on both."""

    chosen: Tensor
    """(B,) bool."""
    rest: Tensor
    """(B,) bool."""
    block: Tensor
    """(B,) int64, of one block of one recording: windows that belong together."""


@dataclass(frozen=True, kw_only=True)
class TimeBlocks:
    """A choice of blocks of each recording, the same in every epoch, process and run.

    A block is `seconds` of one recording's clock. Chosen ones are spaced evenly; each recording
    begins to count elsewhere, so that short ones are chosen in turn.

    Attributes:
        share: of the blocks that are chosen, in (0, 1); in whole thousandths or simple fractions.
        seconds: length of a block.
        history: seconds that a window reaches back from the label's instant. One that reaches into
            a block of the other side is on neither: what it shows was seen there. 0 where that
            does no harm.

    Raises:
        ValueError: a number that is not allowed.
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
            ValueError: the batch does not say where its windows are from.
        """
        if batch.recording is None or batch.second is None:
            raise ValueError(
                "this training chooses windows by recording and second, and the batch lacks them"
            )
        index = batch.second.div(self.seconds, rounding_mode="floor")
        begin = batch.second - math.ceil(self.history)  # float32 would lose seconds since 1970
        first = begin.div(self.seconds, rounding_mode="floor")
        side, past = self._chosen(index, batch.recording), self._chosen(first, batch.recording)
        return Parts(side & past, ~side & ~past, (batch.recording << 40) + index)

    def _chosen(self, index: Tensor, recording: Tensor) -> Tensor:
        """p of every q blocks in a row, at even distances; whole numbers, hence exact."""
        share = Fraction(self.share).limit_denominator(1000)
        return (index + recording) * share.numerator % share.denominator < share.numerator

"""Blocks of time: every window's side, its history, and who may never meet."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fmbench.nn import TimeBlocks
from fmbench.types import Batch

START = 1_683_754_407  # a second of 2023, beyond what float32 tells from its neighbours


def windows(seconds: Tensor, recording: int | Tensor = 0) -> Batch:
    which = torch.as_tensor(recording).expand(len(seconds))
    return Batch(None, None, torch.zeros(len(seconds)), None, which, seconds)


@given(
    share=st.sampled_from([0.1, 0.2, 0.25, 0.3, 0.5, 0.7]),
    seconds=st.integers(20, 90),
    history=st.integers(0, 19),
    recording=st.integers(0, 7),
)
@settings(max_examples=30, deadline=None)
def test_no_second_is_seen_from_both_sides(
    share: float, seconds: int, history: int, recording: int
) -> None:
    batch = windows(START + torch.arange(2000), recording)
    chosen, rest, _ = TimeBlocks(share=share, seconds=seconds, history=history).split(batch)
    assert batch.second is not None
    seen = [
        {int(end) - back for end in batch.second[side] for back in range(history + 1)}
        for side in (chosen, rest)
    ]
    assert seen[0]
    assert seen[1]
    assert not seen[0] & seen[1]


@pytest.mark.parametrize("share", [0.1, 0.2, 0.25, 1 / 3, 0.3, 0.5, 0.75])
def test_the_share_of_blocks_is_met_exactly_and_evenly(share: float) -> None:
    blocks = TimeBlocks(share=share, seconds=10)
    starts = torch.arange(3000) * 10
    chosen, rest, block = blocks.split(windows(starts))
    assert chosen.sum() == pytest.approx(3000 * share, abs=1)
    assert torch.equal(rest, ~chosen)  # nothing lies between without a history
    gaps = chosen.nonzero()[:, 0].diff()
    assert gaps.max() - gaps.min() <= 1
    assert len(block.unique()) == 3000


def test_all_windows_of_a_block_share_its_number_and_its_side() -> None:
    chosen, _, block = TimeBlocks(share=0.5, seconds=60).split(
        windows(torch.arange(600), torch.arange(600) % 2)
    )
    assert len(block.unique()) == 20
    for number in block.unique():
        assert len(chosen[block == number].unique()) == 1
        assert (block == number).sum() == 30


def test_a_window_whose_history_crosses_to_the_other_side_is_on_neither() -> None:
    seconds = torch.tensor([599, 600, 629, 630, 1199, 1200, 1229, 1230])
    chosen, rest, _ = TimeBlocks(share=0.5, seconds=600, history=30).split(windows(seconds))
    assert chosen.tolist() == [True, False, False, False, False, False, False, True]
    assert rest.tolist() == [False, False, False, True, True, False, False, False]


def test_recordings_shorter_than_a_block_are_chosen_in_turn() -> None:
    seconds = torch.full((40,), START)
    chosen, _, _ = TimeBlocks(share=0.25).split(windows(seconds, torch.arange(40)))
    assert chosen.sum() == 10


def test_the_choice_is_the_same_wherever_a_window_comes_in_a_batch() -> None:
    blocks = TimeBlocks(share=0.3, seconds=50, history=7.5)
    seconds, which = START + torch.arange(500), torch.arange(500) % 3
    order = torch.randperm(500, generator=torch.Generator().manual_seed(0))
    straight = blocks.split(windows(seconds, which))
    shuffled = blocks.split(windows(seconds[order], which[order]))
    for one, other in zip(straight, shuffled, strict=True):
        assert torch.equal(one[order], other)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"share": 0.0}, r"a share of 0.0 of the blocks; it must be in \[0.001, 0.999\]"),
        ({"share": 1.0}, "a share of 1.0"),
        ({"share": 0.2, "seconds": 60, "history": 60}, "60 s are too short for windows .* 60 s"),
    ],
)
def test_blocks_that_cannot_be_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TimeBlocks(**options)


def test_windows_from_nowhere_are_refused() -> None:
    with pytest.raises(ValueError, match="by recording and second, and the batch lacks them"):
        TimeBlocks(share=0.2).split(Batch(None, None, torch.zeros(2)))

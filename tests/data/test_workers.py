"""Batches that come from a worker process."""

from __future__ import annotations

import pickle
from collections.abc import Iterable
from multiprocessing.reduction import ForkingPickler
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fmbench.data.workers import SMALL
from fmbench.types import Batch


def copied(parts: Any) -> Any:
    """As one process sends it and another receives it."""
    return pickle.loads(ForkingPickler.dumps(parts))


def batch(size: int, frames: int | None, samples: int | None, masked: bool) -> Batch:
    draw = torch.Generator().manual_seed(size)
    video = mask = current = None
    if frames:
        stored = (size, frames, 3, 32, 48)
        video = torch.randint(256, stored, dtype=torch.uint8, generator=draw)
        video = video.transpose(-1, -2).transpose(1, 2)
        if masked:
            mask = torch.randint(2, (size, 32, 48), dtype=torch.uint8, generator=draw)
            mask = mask.transpose(-1, -2)
    if samples:
        current = torch.rand(size, samples, 3, generator=draw)
    label, recording, second = torch.randint(2**40, (3, size), generator=draw)
    return Batch(video, current, label, mask, recording, second)


def shared(parts: Iterable[Tensor | None]) -> list[Tensor]:
    return [part for part in parts if part is not None and part.untyped_storage().is_shared()]


@given(
    size=st.integers(1, 40),
    frames=st.none() | st.integers(1, 4),
    samples=st.none() | st.integers(1, 240),
    masked=st.booleans(),
)
def test_a_batch_arrives_as_it_was_sent(
    size: int, frames: int | None, samples: int | None, masked: bool
) -> None:
    before = batch(size, frames, samples, masked)
    after = copied(before)
    assert isinstance(after, Batch)
    for one, other in zip(before, after, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            assert one.dtype == other.dtype
            assert torch.equal(one, other)
            other.zero_()  # what arrives may be written to


@pytest.mark.parametrize("size", [1, 16, 64])
def test_memory_is_shared_of_large_tensors_only(size: int) -> None:
    whole = batch(size, 4, 240, True)
    large = [part.shape for part in whole if part is not None and part.nbytes > SMALL]
    assert [part.shape for part in shared(copied(whole))] == large
    assert len(shared(copied(tuple(whole)))) == len(whole)  # PyTorch's own way


def test_a_label_that_is_kept_keeps_no_picture() -> None:
    label = copied(batch(16, 4, 60, True)).label
    assert label.untyped_storage().nbytes() == label.nbytes

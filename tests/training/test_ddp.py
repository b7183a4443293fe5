"""Any number of processes measures every window exactly once."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fmbench.data.order import EvenBatches
from fmbench.training.lit import interleaved


@given(st.integers(1, 200), st.integers(1, 20), st.integers(1, 7))
def test_every_window_comes_once_and_processes_have_equally_many_batches(
    windows: int, batch_size: int, processes: int
) -> None:
    if windows < processes:
        with pytest.raises(ValueError, match="cannot be shared by"):
            EvenBatches(windows, batch_size, processes, 0)
        return
    shares = [[*EvenBatches(windows, batch_size, processes, rank)] for rank in range(processes)]
    assert len({len(share) for share in shares}) == 1
    flat = [[window for batch in share for window in batch] for share in shares]
    assert sorted(window for share in flat for window in share) == list(range(windows))
    assert all(batch for share in shares for batch in share)
    if windows >= processes * batch_size > processes:
        assert max(len(batch) for share in shares for batch in share) <= batch_size
    order = interleaved([torch.tensor(share) for share in flat])
    assert order.tolist() == list(range(windows))

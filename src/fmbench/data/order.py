"""The order of windows in training and in evaluation, and the resumable loader."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch.utils.data import DataLoader, DistributedSampler, Sampler

from fmbench.data.dataset import WindowDataset
from fmbench.types import Batch


class TrainOrder(DistributedSampler[int]):
    """A new random order, or a new random subset, of training windows for every epoch.

    Order, subset and flips depend on (seed, epoch) alone. Each of `num_replicas` processes takes
    its own share; Lightning does not replace a DistributedSampler.

    Args:
        dataset: the windows.
        windows: number to draw per epoch, without repetition; all if None or if there are fewer.
        flip: flip half of the windows, at random.
        seed: of the order, the subset and the flips.
        num_replicas: processes that share the epoch.
        rank: of this process.
    """

    def __init__(
        self,
        dataset: WindowDataset,
        *,
        windows: int | None = None,
        flip: bool = False,
        seed: int = 0,
        num_replicas: int = 1,
        rank: int = 0,
    ) -> None:
        super().__init__(dataset, num_replicas, rank, seed=seed, drop_last=True)
        self.drawn = min(windows or len(dataset), len(dataset))
        self.flip = flip
        self._resumed = (-1, 0)

    def resume(self, epoch: int, windows: int) -> None:
        """Resume in `epoch` after `windows` windows of this process' share."""
        self.epoch = epoch
        self._resumed = (epoch, windows)

    def __len__(self) -> int:
        return self.drawn // self.num_replicas

    def share(self) -> NDArray[np.int64]:
        """This process' windows of the epoch, in order; ~i for a flipped one."""
        rng = np.random.default_rng((self.seed, self.epoch))
        order = rng.choice(len(self.dataset), self.drawn, replace=False)  # type: ignore[arg-type]
        if self.flip:
            order = np.where(rng.random(self.drawn) < 0.5, ~order, order)
        return order[self.rank :: self.num_replicas][: len(self)]

    def __iter__(self) -> Iterator[int]:
        epoch, start = self._resumed
        return iter(self.share()[start if epoch == self.epoch else 0 :].tolist())


class EvenBatches(Sampler[list[int]]):
    """Every window once, in order, over all processes: window i is process i mod `num_replicas`'s.

    DistributedSampler repeats windows to equalise the shares; counts would then depend on the
    number of processes. Here all processes have the same number of batches, as training
    synchronises buffers at each batch, and only the batches' sizes differ.

    Args:
        windows: number of windows, at least `num_replicas`.
        batch_size: largest batch, if 2 or more.
        num_replicas: processes that share the windows.
        rank: of this process.

    Raises:
        ValueError: fewer windows than processes.
    """

    def __init__(self, windows: int, batch_size: int, num_replicas: int = 1, rank: int = 0) -> None:
        if windows < num_replicas:
            raise ValueError(f"{windows} windows cannot be shared by {num_replicas} processes")
        longest = -(-windows // num_replicas)
        count = min(-(-longest // batch_size), windows // num_replicas)
        self.batches = np.array_split(np.arange(rank, windows, num_replicas), count)

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[int]]:
        return iter([batch.tolist() for batch in self.batches])


class WindowLoader(DataLoader[Batch]):
    """A DataLoader that Lightning treats as resumable: `FurnaceData.state_dict` holds its place."""

    def batch(self, index: int) -> pd.DataFrame:
        """Recording, frame and time of each window of a training batch of the current epoch."""
        assert isinstance(self.sampler, TrainOrder)
        assert isinstance(self.sampler.dataset, WindowDataset)
        assert self.batch_size is not None
        first = index * self.batch_size
        drawn = self.sampler.share()[first : first + self.batch_size]
        return self.sampler.dataset.table().iloc[np.where(drawn < 0, ~drawn, drawn)]

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass

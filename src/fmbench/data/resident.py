"""Windows whose frames, masks and currents lie in the memory of the training's device.

They give the batches of `WindowDataset`, byte for byte and with the same strides. A batch moves
nothing to the device but the indices of its windows.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor, distributed
from torch.utils.data import DataLoader, Dataset

from fmbench.data.dataset import WindowDataset
from fmbench.data.fit import Fit
from fmbench.data.recording import Recording, stored_size
from fmbench.data.windows import Ints, clip_index, current_index
from fmbench.progress import ShowProgress, progress_bar
from fmbench.types import Batch

BLOCK = 256
"""Frames that a process reads or renders at a time: 3 MB, of which each holds two."""
SHOWN = 64 * BLOCK
"""From this number of frames or masks on, reading them takes seconds, and progress is shown."""


class ResidentWindows(Dataset[Batch]):
    """The windows of a `WindowDataset` on a device.

    Every frame that a window shows is stored once, as on disk; a mask and its label belong to one
    window.

    Args:
        windows: to hold.
        device: where.
        processes: that read or render the recordings' frames, beside this one.

    Raises:
        ValueError: recordings that cannot be read.
    """

    def __init__(self, windows: WindowDataset, device: torch.device, processes: int = 0) -> None:
        self.windows, self.device = windows, device
        self._recording = torch.from_numpy(windows.which.astype(np.int64)).to(device)
        self._second = torch.from_numpy(windows.second).to(device)
        if windows.modality.has_video:
            wanted, rows = reached(windows)
            self._rows = torch.from_numpy(rows).to(device)
            self._backwards = torch.from_numpy(windows.backwards).to(device)
            self._frames = _read(windows, wanted, False, device, processes)
        if windows.label is None:
            wanted = [windows.frame[part].astype(np.int64) for part in _parts(windows)]
            self._masks = _read(windows, wanted, True, device, processes)
            label = self._masks.flatten(1).amax(1)  # K = 2, eq. (13): the sum exceeds 0.5
            self._label = label.to(torch.int64)
        else:
            self._label = torch.from_numpy(windows.label).to(device)
        if windows.modality.has_current:
            amperes, start = contiguous_currents(windows)
            self._amperes = torch.from_numpy(amperes).to(device)
            self._start = torch.from_numpy(start).to(device)
            self._steps = torch.arange(windows.spec.current_samples, device=device)

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int) -> Batch:
        """A batch of one."""
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """Row k is window `indices[k]`; ~i is window i with its picture flipped."""
        given = np.asarray(indices, dtype=np.int64)
        packed = np.concatenate([np.where(given < 0, ~given, given), np.flatnonzero(given < 0)])
        # One copy, for which this process does not wait.
        moved = torch.from_numpy(packed).to(self.device, non_blocking=True)
        chosen, flipped = moved[: len(given)], moved[len(given) :]
        video = current = mask = None
        if self.windows.modality.has_video:
            rows = self._rows.index_select(0, chosen)  # (B, T)
            clips = self._frames.index_select(0, rows.flatten())
            clips = rearrange(clips, "(b t) c x y -> b t c x y", t=rows.shape[1])
            video = self._turned(clips, flipped).transpose(1, 2)
        if self.windows.modality.has_current:
            rows = self._start.index_select(0, chosen)[:, None] + self._steps  # (B, L)
            current = self._amperes.index_select(0, rows.flatten())
            current = rearrange(current, "(b l) c -> b l c", l=rows.shape[1])
        if self.windows.label is None:
            masks = self._masks.index_select(0, chosen)
            if self.windows.fit:
                masks = self.windows.fit.masks(masks, self.windows.size)
            mask = self._turned(masks, flipped)
        label, recording, second = (
            each.index_select(0, chosen) for each in (self._label, self._recording, self._second)
        )
        return Batch(video, current, label, mask, recording, second)

    def release(self) -> None:
        """Free the memory, even where a loader that nobody uses any more still refers to this."""
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(self, name, torch.empty(0))

    def _turned(self, memory: Tensor, flipped: Tensor) -> Tensor:
        """As `WindowDataset._turned`: flip the rows `flipped`, then put the axes in order."""
        if len(flipped):
            axis = -2 if self.windows.swapped else -1
            turned = memory.index_select(0, flipped).index_select(axis, self._backwards)
            memory.index_copy_(0, flipped, turned)
        return memory.transpose(-1, -2) if self.windows.swapped else memory


def hold(
    windows: Sequence[WindowDataset], device: torch.device, processes: int = 1
) -> list[ResidentWindows]:
    """Put windows on a device, their recordings read or rendered by all cores.

    Args:
        windows: of one part, such as those of training and validation.
        device: where.
        processes: that do the same at the same time on this machine, for devices of their own or,
            on the CPU, in the same memory.

    Raises:
        ValueError: the device has less memory than they take, or recordings cannot be read.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    mine = max(1, (cores or 1) // processes)
    return [ResidentWindows(each, device, mine) for each in windows]


def check_room(windows: Sequence[WindowDataset], device: torch.device, processes: int = 1) -> None:
    """Raises: ValueError: windows take more bytes than are free; see `hold` for the arguments."""
    shared = 1 if device.type == "cuda" else processes
    needed, free = shared * sum(map(size_of, windows)), free_bytes(device)
    if free is not None and needed > free:
        each = f" ({shared} processes, {needed / shared / 1e9:.2f} GB each)" if shared > 1 else ""
        raise ValueError(
            f"data.resident: the windows take {needed / 1e9:.2f} GB{each}; {device} has "
            f"{free / 1e9:.2f} GB free. Set data.resident to false, or list fewer frames or "
            "recordings (fmbench data select)"
        )


def size_of(windows: WindowDataset) -> int:
    """Bytes of a `ResidentWindows`."""
    count, size = len(windows), 2 * 8 * len(windows) + 8 * len(windows)  # place, time and label
    pixels = int(np.prod(windows.recordings[0].size))
    if windows.modality.has_video:
        wanted, rows = reached(windows)
        size += (
            3 * int(np.prod(windows.size)) * sum(map(len, wanted))
            + rows.nbytes
            + windows.backwards.nbytes
        )
    if windows.label is None:
        size += pixels * count
    if windows.modality.has_current:
        amperes, start = contiguous_currents(windows)
        size += amperes.nbytes + start.nbytes + 8 * windows.spec.current_samples
    return size


def free_bytes(device: torch.device) -> int | None:
    """Bytes that are free on a device; of the CPU, those that Linux calls available."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    table = Path("/proc/meminfo")
    if not table.exists():
        return None
    found = re.search(r"^MemAvailable:\s+(\d+) kB", table.read_text(), re.M)
    return 1024 * int(found[1]) if found else None


def reached(windows: WindowDataset) -> tuple[list[Ints], NDArray[np.int32]]:
    """The frames that windows show.

    Returns:
        For each recording, the sorted positions of these frames; and (N, T) int32, for each window
        the rows of its frames where those of all recordings follow each other.
    """
    wanted, rows, base = [], [], 0
    for recording, part in zip(windows.recordings, _parts(windows), strict=True):
        clip = clip_index(windows.frame[part], windows.spec.frames, windows.spec.stride)
        shown = np.zeros(recording.num_frames, np.bool_)
        shown[clip] = True
        wanted.append(np.flatnonzero(shown))
        rows.append((base + np.cumsum(shown) - 1).astype(np.int32)[clip])
        base += len(wanted[-1])
    return wanted, np.concatenate(rows)


def contiguous_currents(windows: WindowDataset) -> tuple[NDArray[np.float32], Ints]:
    """Currents in which every window is L rows in succession.

    A short history does not lie in the recordings in this way; its L rows are added at the end,
    once for the windows that share it.

    Returns:
        (R, C) amperes, and (N,) each window's first row.
    """
    samples, base = windows.spec.current_samples, windows.base[windows.which]
    short = windows.end - base < samples
    ends, place, again = np.unique(windows.end[short], return_index=True, return_inverse=True)
    rows = current_index(ends, base[short][place], samples, windows.spec.history)
    start = np.where(short, 0, windows.end - samples)
    start[short] = len(windows.amperes) + samples * again
    return np.concatenate([windows.amperes, windows.amperes[rows.ravel()]]), start


def _parts(windows: WindowDataset) -> Iterator[slice]:
    """For each recording, its windows; they follow each other."""
    bounds = np.searchsorted(windows.which, np.arange(len(windows.recordings) + 1))
    for start, stop in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        yield slice(start, stop)


class _Blocks(Dataset[Tensor]):
    """Frames (n, 3, H, W), fitted, or masks (n, H, W) of classes, as on disk; n is BLOCK at
    most."""

    def __init__(
        self, recordings: Sequence[Recording], wanted: Sequence[Ints], masks: bool, fit: Fit | None
    ) -> None:
        self.recordings, self.masks, self.fit = recordings, masks, fit
        self.blocks = [
            (k, frames[at : at + BLOCK])
            for k, frames in enumerate(wanted)
            for at in range(0, len(frames), BLOCK)
        ]

    def __len__(self) -> int:
        return len(self.blocks)

    def __getitem__(self, item: int) -> Tensor:
        k, index = self.blocks[item]
        recording = self.recordings[k]
        channels = () if self.masks else (3,)
        out = np.empty((len(index), *channels, *stored_size(recording)), np.uint8)
        if self.masks:
            recording.read_masks(index, out)
        else:
            recording.read_frames(index, out)
            if self.fit:
                return self.fit.frames(torch.from_numpy(out), self.fit.shape(recording))
        return torch.from_numpy(out)


def _read(
    windows: WindowDataset,
    wanted: Sequence[Ints],
    masks: bool,
    device: torch.device,
    processes: int,
) -> Tensor:
    """Frames or masks of all recordings in succession, on the device."""
    blocks = _Blocks(windows.recordings, wanted, masks, windows.fit)
    count, what = sum(map(len, wanted)), "masks" if masks else "frames"
    shape = (count, *stored_size(windows.recordings[0])) if masks else (count, 3, *windows.size)
    memory = torch.empty(shape, dtype=torch.uint8, device=device)
    helpers = processes if len(blocks) > processes > 1 else 0
    loader = DataLoader(
        blocks,
        batch_size=None,
        num_workers=helpers,
        generator=torch.Generator().manual_seed(0),  # leaves the random stream of a resumed run
    )
    at = 0
    first = not (distributed.is_available() and distributed.is_initialized()) or (
        distributed.get_rank() == 0
    )
    with progress_bar("data.resident") if first and count >= SHOWN else _silence() as show:
        for block in loader:
            memory[at : at + len(block)].copy_(block)
            at += len(block)
            show(at, count, what)
    return memory


@contextmanager
def _silence() -> Iterator[ShowProgress]:
    yield lambda *_: None

"""Small recordings in the benchmark's format, written without fmbench, for tests.

Layout: the released files, as h5py shows them: `data` (T, 3, W, H), `label` (T, W, H).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import h5py
import numpy as np

BEGIN = datetime(2023, 5, 10, 21, 33, 27)


@dataclass
class Written:
    """What was written, upright."""

    name: str
    frames: np.ndarray  # (N, 3, H, W) uint8
    masks: np.ndarray  # (N, H, W) uint8, 0 or 1
    times: list[str]  # (N,) second of each frame
    currents: list[tuple[str, list[float]]]  # (R,) second and amperes of each sample
    train: list[int]
    test: list[int]


def write_root(
    path: Path,
    *,
    recordings: int = 2,
    seconds: int = 60,
    seed: int = 0,
    size: tuple[int, int] = (64, 64),
    part: str = "pixel-level",
    chunked: bool = False,
    userblock: int = 0,
) -> list[Written]:
    """Write `path`/`part` and return what was written.

    The seconds hold 24 to 26 frames; in the middle the camera stalls for 3 s. An abnormal stretch
    shows as a red box and as larger swings of the first phase. The last third is the test list, the
    tenth of it before that is in no list.
    """
    folder = path / part
    for kind in ("videos", "currents", "timestamps"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    written = [make_recording(f"furnace-{k}", seconds, size, seed + k) for k in range(recordings)]
    for recording in written:
        labels = recording.masks if part == "pixel-level" else recording.masks.max((1, 2))
        write_mat(
            folder / "videos" / f"{recording.name}.mat",
            recording.frames,
            labels.reshape(len(labels), *(labels.shape[1:] or (1, 1))),
            chunked=chunked,
            userblock=userblock,
        )
        write_csv(
            folder / "timestamps" / f"{recording.name}.csv",
            "time",
            [[time] for time in recording.times],
        )
        write_csv(
            folder / "currents" / f"{recording.name}.csv",
            "time,A,B,C",
            [[time, *(f"{value:.6g}" for value in row)] for time, row in recording.currents],
        )
    write_lists(folder, written)
    return written


def make_recording(name: str, seconds: int, size: tuple[int, int], seed: int) -> Written:
    rng = np.random.default_rng(seed)
    counts = rng.choice([24, 25, 25, 25, 26], seconds)
    counts[seconds // 2 : seconds // 2 + 3] = 0
    second = np.repeat(np.arange(seconds), counts)
    n = len(second)
    height, width = size
    frames = rng.integers(0, 200, (n, 3, height, width), dtype=np.uint8)
    frames[:, :, 0, :] = np.arange(width)  # top row: a ramp to the right, so axes can be told apart
    masks = np.zeros((n, height, width), np.uint8)
    abnormal = (second // 7 + seed) % 2 == 1
    top, left = height // 2, width // 4
    masks[abnormal, top : top + height // 4, left : left + width // 8] = 1
    frames[:, 0][masks == 1] = 250
    begin = BEGIN + timedelta(days=seed)
    clock = [str(begin + timedelta(seconds=s)) for s in range(seconds)]
    swing = 300 + 2000 * ((np.arange(seconds) // 7 + seed) % 2).repeat(2)
    amperes = 9000 + 300 * rng.standard_normal((2 * seconds, 3))
    amperes[:, 0] += swing * rng.standard_normal(2 * seconds)
    currents = [
        (clock[row // 2], [float(f"{v:.6g}") for v in amperes[row]]) for row in range(2 * seconds)
    ]
    first_test = n - n // 3
    return Written(
        name,
        frames,
        masks,
        [clock[s] for s in second],
        currents,
        train=list(range(first_test - n // 30)),
        test=list(range(first_test, n)),
    )


def write_mat(
    path: Path,
    frames: np.ndarray,
    labels: np.ndarray | None,
    *,
    chunked: bool = False,
    userblock: int = 0,
) -> None:
    """MATLAB writes a user block of 512 bytes, and chunks with gzip unless told not to."""
    storage = {"compression": "gzip", "compression_opts": 1, "chunks": True} if chunked else {}
    with h5py.File(path, "w", userblock_size=userblock) as file:
        file.create_dataset("data", data=frames.swapaxes(2, 3), **storage)
        if labels is not None:
            file.create_dataset("label", data=labels.swapaxes(1, 2), **storage)


def write_csv(path: Path, header: str, rows: list[list[str]]) -> None:
    path.write_text("\n".join([header, *(",".join(row) for row in rows)]) + "\n")


def write_lists(folder: Path, written: list[Written]) -> None:
    for split in ("train", "test"):
        lists = {f"{recording.name}.mat": getattr(recording, split) for recording in written}
        (folder / f"{split}.json").write_text(json.dumps(lists))

"""Recordings of a plant with 5 frames a second, whose first phase swings in abnormal stretches."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch

from fmbench.alarms.footage import Footage
from recordings import BEGIN, write_csv, write_mat

RATE = 5
Spans = Sequence[tuple[int, int]]


def write_plant(
    root: Path, splits: Mapping[str, Sequence[Spans]], *, seconds: int = 240, swing: float = 3000.0
) -> None:
    """Write a root whose splits hold whole recordings.

    Args:
        root: the folder.
        splits: of each split, the abnormal seconds of each recording.
        seconds: length of every recording.
        swing: amperes by which the first phase swings where it is abnormal.
    """
    folder = root / "pixel-level"
    for kind in ("videos", "currents", "timestamps"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    (root / "root.yaml").write_text(f"frame_rate: {RATE}\n")
    number = 0
    for split, recordings in splits.items():
        listed = {}
        for spans in recordings:
            name = f"{split}-{number}"
            write_recording(folder, name, spans, seconds, swing, number)
            listed[f"{name}.mat"] = list(range(seconds * RATE))
            number += 1
        (folder / f"{split}.json").write_text(json.dumps(listed))


def write_recording(
    folder: Path, name: str, spans: Spans, seconds: int, swing: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    second = np.repeat(np.arange(seconds), RATE)
    abnormal = np.zeros(seconds, np.bool_)
    for start, stop in spans:
        abnormal[start:stop] = True
    frames = rng.integers(0, 200, (len(second), 3, 8, 8), dtype=np.uint8)
    masks = np.zeros((len(second), 8, 8), np.uint8)
    masks[abnormal[second], 2:4, 2:4] = 1
    write_mat(folder / "videos" / f"{name}.mat", frames, masks)
    clock = [str(BEGIN + timedelta(days=seed, seconds=s)) for s in range(seconds)]
    write_csv(folder / "timestamps" / f"{name}.csv", "time", [[clock[s]] for s in second])
    amperes = 9000 + 200 * rng.standard_normal((2 * seconds, 3))
    amperes[:, 0] += swing * abnormal.repeat(2)
    rows = [[clock[k // 2], *(f"{v:.6g}" for v in row)] for k, row in enumerate(amperes)]
    write_csv(folder / "currents" / f"{name}.csv", "time,A,B,C", rows)


def footage(
    seconds: int,
    events: Sequence[tuple[float, float]] = (),
    *,
    odds: np.ndarray | None = None,
    begun: Sequence[bool] = (),
) -> Footage:
    """Decisions at 0, 1, … `seconds` - 1."""
    now = np.arange(seconds, dtype=np.float64)
    spans = np.array(events, np.float64).reshape(-1, 2)
    label = np.any([(now >= a) & (now <= b) for a, b in spans] or [now < 0], axis=0)
    given = np.zeros(seconds) if odds is None else odds
    return Footage(
        recording="r",
        seconds=now,
        logits=torch.from_numpy(np.stack([np.zeros(seconds), given], axis=1)),
        label=label.astype(np.int64),
        events=spans,
        begun=np.array(begun or [False] * len(spans), np.bool_),
        tags=None,
    )

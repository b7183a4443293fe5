"""Recordings of three classes: those of `recordings.write_root`, where the second of two abnormal
stretches is of another class and looks so: its region is blue, and its second phase swings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from recordings import Written, write_csv, write_root

CLASSES = ("normal", "crack", "burn-through")


def write_three_classes(path: Path, *, part: str = "pixel-level", **options: Any) -> list[Written]:
    """Write `path`/`part` and `path`/root.yaml; the masks returned hold class indices."""
    written = write_root(path, part=part, **options)
    write_classes(path, CLASSES)
    for recording in written:
        abnormal = recording.masks.any(axis=(1, 2))
        stretch = np.cumsum(np.diff(abnormal, prepend=False) & abnormal)
        other = abnormal & (stretch % 2 == 0)
        recording.masks[other] *= 2
        blue = recording.masks == 2
        recording.frames[:, 0][blue], recording.frames[:, 2][blue] = 20, 250
        seconds = {time for time, is_other in zip(recording.times, other, strict=True) if is_other}
        for time, amperes in recording.currents:
            if time in seconds:
                amperes[:2] = amperes[1::-1]
        labels = recording.masks if part == "pixel-level" else recording.masks.max((1, 2))
        relabel(path / part / "videos" / f"{recording.name}.mat", labels, recording.frames)
        rows = [[time, *(f"{value:.6g}" for value in row)] for time, row in recording.currents]
        write_csv(path / part / "currents" / f"{recording.name}.csv", "time,A,B,C", rows)
    return written


def write_classes(path: Path, classes: tuple[str, ...]) -> None:
    (path / "root.yaml").write_text(f"classes: [{', '.join(classes)}]\n")


def relabel(path: Path, labels: np.ndarray, frames: np.ndarray | None = None) -> None:
    """Write other labels, upright masks (n, H, W) or classes (n,), into a .mat file."""
    with h5py.File(path, "r+") as file:
        if frames is not None:
            file["data"][...] = frames.swapaxes(2, 3)
        del file["label"]
        masks = labels.reshape(len(labels), *(labels.shape[1:] or (1, 1)))
        file.create_dataset("label", data=masks.swapaxes(1, 2))

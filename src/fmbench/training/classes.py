"""Whether training and validation have windows of each class: a warning before training."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from fmbench.data import FurnaceData
from fmbench.data.datamodule import Split
from fmbench.data.dataset import WindowDataset
from fmbench.data.recording import upright_masks
from fmbench.data.windows import Ints

MOST = 500
"""Windows whose masks are read, where labels are masks."""
FEW, RARE = 10, 0.1
"""Windows of a class, and its share of all, below both of which its metrics are chance."""
CONSEQUENCE = {
    ("train", 1): "a model can only learn to answer normal",
    ("train", 0): "a model can only learn to answer abnormal",
    ("val", 1): "val/f1, val/mdr and val/miou say nothing, and val/acc counts false alarms only",
    ("val", 0): "val/fdr says nothing, and val/acc and val/f1 are best if all is called abnormal",
}
OF_A_CLASS = {
    "train": "a model cannot learn to answer {}",
    "val": "val/recall_{} says nothing, and val/macro_f1 little",
}
"""The consequence with more than two classes."""


def rare_classes(data: FurnaceData) -> Iterator[str]:
    """A warning for each class of which train or val has no window, or hardly one."""
    splits: list[Split] = ["train", "val"] if data.validates else ["train"]
    for split in splits:
        labels = labels_of(data.dataset(split))
        for kind, name in enumerate(data.classes):
            count = int((labels == kind).sum())
            if count < min(FEW, max(1, RARE * len(labels))) and (labels >= 0).any():
                found = f"only {count}" if count else "none"
                binary = len(data.classes) == 2
                why = CONSEQUENCE[split, kind] if binary else OF_A_CLASS[split].format(name)
                yield (
                    f"WARNING: of {len(labels)} {split} windows, {found} are {name}: "
                    f"{why}. Split anew: fmbench data select ROOT --replace"
                )


def labels_of(windows: WindowDataset) -> Ints:
    """(n,) class indices, -1 without labels; of masks, at most MOST evenly spaced windows."""
    if windows.label is not None:
        return windows.label
    fewer = windows.evenly(MOST)
    found = [
        upright_masks(recording, fewer.frame[rows]).max(axis=(1, 2))
        for recording, rows in fewer.runs(fewer.which)
    ]
    return np.concatenate(found).astype(np.int64)

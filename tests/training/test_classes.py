"""A split that lacks a class is told before a training."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fmbench.data import FurnaceData
from fmbench.training.classes import rare_classes
from recordings import write_root
from test_cli import Command, fmbench

__all__ = ["fmbench"]  # a fixture


@pytest.fixture
def lists(tmp_path: Path) -> tuple[Path, dict[bool, list[int]]]:
    """A root, and the frames of either class of its recording."""
    [written] = write_root(tmp_path / "root", recordings=1, seconds=60, size=(16, 16))
    abnormal = written.masks.any(axis=(1, 2))
    return tmp_path / "root", {kind: np.flatnonzero(abnormal == kind).tolist() for kind in (0, 1)}


def write(root: Path, **splits: list[int]) -> None:
    free = np.setdiff1d(np.arange(1400), np.concatenate([*splits.values()]))
    for split, frames in (splits | {"test": free[:5].tolist()}).items():
        (root / f"pixel-level/{split}.json").write_text(json.dumps({"furnace-0.mat": frames}))


@pytest.mark.parametrize(
    ("normal", "abnormal", "said"),
    [
        (50, 50, None),
        (50, 10, None),
        (6, 6, None),
        (50, 0, "of 50 val windows, none are abnormal: val/f1, val/mdr and val/miou say nothing"),
        (0, 50, "of 50 val windows, none are normal: val/fdr says nothing"),
        (50, 3, "of 53 val windows, only 3 are abnormal: val/f1"),
    ],
)
def test_a_fit_says_that_validation_lacks_a_class(
    lists: tuple[Path, dict[bool, list[int]]],
    fmbench: Command,
    normal: int,
    abnormal: int,
    said: str | None,
) -> None:
    root, frames = lists
    val = sorted(frames[False][-50:][:normal] + frames[True][-50:][:abnormal])
    train = sorted(frames[False][:200] + frames[True][:200])
    write(root, train=train, val=val)
    flags = ["--model", "fmformer", "--modality", "current", "--config", "smoke"]
    flags += ["--data.root", root, "--data.current_samples", "8", "--data.epoch_windows", "16"]
    flags += ["--data.val_windows", "1000"]
    done = fmbench("fit", *flags, "--net.depth", "1", "--net.dim", "24", "--run", root / "run")
    assert done.status == 0, done.err
    lines = [line for line in done.out.splitlines() if line.startswith("WARNING: ")]
    assert len(lines) == (said is not None)
    if said:
        assert lines[0].startswith(f"WARNING: {said}")
        assert lines[0].endswith("Split anew: fmbench data select ROOT --replace")


@pytest.mark.parametrize("modality", ["current", "visual"])  # visual: labels are masks
def test_a_training_part_of_one_class_is_told(
    lists: tuple[Path, dict[bool, list[int]]], modality: str
) -> None:
    root, frames = lists
    write(root, train=frames[False][:200], val=sorted(frames[True][-50:] + frames[False][-50:]))
    data = FurnaceData(root=root, modality=modality, current_samples=8)
    [warning] = rare_classes(data)
    assert "of 200 train windows, none are abnormal: a model can only learn to answer" in warning

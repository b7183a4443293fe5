"""Resident windows: the batches of the loader, byte for byte, from the memory of a device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from fmbench.data import resident
from fmbench.data.datamodule import FurnaceData
from fmbench.data.resident import hold, reached, size_of
from fmbench.types import Batch
from recordings import write_lists, write_root

SIZE = (16, 24)
SMALL = {"frames": 4, "stride": 3, "current_samples": 16, "batch_size": 32}
PARTS = ("pixel-level", "class-level")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both parts; the lists of one recording leave frames out, so that clips show unlisted ones."""
    folder = tmp_path_factory.mktemp("furnaces")
    for part in PARTS:
        written = write_root(folder, size=SIZE, seconds=60, part=part)
        written[1].train = written[1].train[::7]
        written[1].test = written[1].test[::5]
        write_lists(folder / part, written)
    return folder


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from fmbench.simulator import write_dataset

    folder = tmp_path_factory.mktemp("simulated") / "lazy"
    write_dataset(folder, preset="tiny", seed=3, lazy=True)
    return folder


def assert_same(mine: DataLoader[Batch], theirs: DataLoader[Batch]) -> None:
    """Equal values, types and strides: other strides could lead to other roundings."""
    count = 0
    for one, other in zip(mine, theirs, strict=True):
        for a, b in zip(one, other, strict=True):
            assert (a is None) == (b is None)
            if a is not None and b is not None:
                assert (a.dtype, a.stride()) == (b.dtype, b.stride())
                assert torch.equal(a, b)
        count += 1
    assert count > 1


def assert_same_data(loaded: FurnaceData, held: FurnaceData) -> None:
    """Three epochs of training, then validation and test."""
    trains = held.train_dataloader(), loaded.train_dataloader()
    for epoch in range(3):
        for loader in trains:
            loader.sampler.set_epoch(epoch)
        assert_same(*trains)
    assert_same(held.val_dataloader(), loaded.val_dataloader())
    assert_same(held.test_dataloader(), loaded.test_dataloader())


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("modality", ["cross", "visual", "current"])
@pytest.mark.parametrize("axes", ["image", "official"])
def test_batches_are_those_of_the_loader(root: Path, part: str, modality: str, axes: str) -> None:
    options = {**SMALL, "part": part, "modality": modality, "axes": axes, "epoch_windows": 200}
    assert_same_data(
        FurnaceData(root=root, **options), FurnaceData(root=root, **options, resident=True)
    )


@pytest.mark.parametrize(
    "options",
    [
        {"history": "pad"},
        {"history": "drop"},
        {"early": "drop"},
        {"gaps": "hold", "causal": True},
        {"gaps": "drop", "history": "pad"},
        {"flip": False, "stride": 9},
        {"val_windows": 40, "test_windows": 50},
        {"current_samples": 1, "frames": 1},
    ],
)
def test_every_way_to_build_a_window_gives_the_same(root: Path, options: dict[str, Any]) -> None:
    options = {**SMALL, "epoch_windows": 128, **options}
    assert_same_data(
        FurnaceData(root=root, **options), FurnaceData(root=root, **options, resident=True)
    )


def test_rendered_recordings_give_the_same_with_helpers(
    rendered: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {**SMALL, "epoch_windows": 128, "val_windows": 100, "test_windows": 100}
    loaded = FurnaceData(root=rendered, **options)
    held = FurnaceData(root=rendered, **options, resident=True)
    windows = [held.dataset("train").evenly(300), held.dataset("val"), held.dataset("test")]
    monkeypatch.setattr(resident, "BLOCK", 64)
    monkeypatch.setattr(resident.os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    held._datasets["train"] = loaded._datasets["train"] = windows[0]
    held._held = dict(
        zip(("train", "val", "test"), hold(windows, torch.device("cpu")), strict=True)
    )
    assert_same_data(loaded, held)


def test_a_training_resumes_within_an_epoch(root: Path) -> None:
    options = {**SMALL, "epoch_windows": 200}
    resumed = []
    for held in (True, False):
        data = FurnaceData(root=root, **options, resident=held)
        data.load_state_dict({"epoch": 1, "windows": 64})
        loader = data.train_dataloader()
        loader.sampler.set_epoch(1)
        resumed.append(loader)
    assert_same(*resumed)
    whole = FurnaceData(root=root, **options, resident=True).train_dataloader()
    whole.sampler.set_epoch(1)
    assert torch.equal(next(iter(resumed[0])).video, list(whole)[2].video)


def test_a_frame_is_held_once_and_only_if_a_window_shows_it(root: Path) -> None:
    windows = FurnaceData(root=root, **SMALL).dataset("train")
    wanted, rows = reached(windows)
    shown = [set(), set()]
    for which, frame in zip(windows.which, windows.frame, strict=True):
        shown[which] |= {max(int(frame) - 3 * k, 0) for k in range(4)}
    assert [each.tolist() for each in wanted] == [sorted(each) for each in shown]
    assert len(wanted[1]) < 0.7 * windows.recordings[1].num_frames
    base = np.repeat([0, len(wanted[0])], np.bincount(windows.which))
    last = [
        wanted[which][row] for which, row in zip(windows.which, rows[:, -1] - base, strict=True)
    ]
    assert last == windows.frame.tolist()


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("modality", ["cross", "current"])
def test_the_memory_is_what_was_announced_and_is_given_back(
    root: Path, part: str, modality: str
) -> None:
    data = FurnaceData(root=root, **SMALL, part=part, modality=modality, resident=True)
    loader = data.train_dataloader()
    held = loader.dataset

    def taken() -> int:
        return sum(each.nbytes for each in vars(held).values() if isinstance(each, Tensor))

    assert taken() == size_of(data.dataset("train"))
    data.release()
    assert taken() == 0


def test_too_little_memory_is_told_in_one_line(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resident, "free_bytes", lambda device: 500_000)
    data = FurnaceData(root=root, **SMALL, resident=True)
    needed = size_of(data.dataset("train"))
    assert needed > 500_000
    message = (
        rf"data\.resident: the windows take {needed / 1e9:.2f} GB; cpu has 0\.00 GB free\. "
        r"Set data\.resident to false, or .*"
    )
    with pytest.raises(ValueError, match=message) as refused:
        data.train_dataloader()
    assert "\n" not in str(refused.value)
    monkeypatch.setattr(resident, "free_bytes", lambda device: needed)
    data.train_dataloader()
    with pytest.raises(ValueError, match=r"\(2 processes, "):
        resident.check_room([data.dataset("train")], torch.device("cpu"), 2)


def test_workers_would_have_nothing_to_do(root: Path) -> None:
    with pytest.raises(ValueError, match="num_workers is 2, but resident windows need no workers"):
        FurnaceData(root=root, resident=True, num_workers=2)

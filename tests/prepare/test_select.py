"""Lists of train, validation and test frames: whole events, guards, ratio."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fmbench.data import FurnaceData, open_root
from fmbench.data.root import Root
from fmbench.data.windows import WindowSpec
from fmbench.format.columns import stretches
from fmbench.prepare.check import check_root
from fmbench.prepare.select import select
from recordings import write_root
from test_cli import Command, fmbench, refused

__all__ = ["fmbench"]  # a fixture

RATE = 25


@dataclass
class Labelled:
    """A recording of which only labels and times matter."""

    name: str
    marks: NDArray[np.bool_]
    has_labels: bool = True

    @property
    def num_frames(self) -> int:
        return len(self.marks)

    @property
    def seconds(self) -> NDArray[np.int64]:
        return np.arange(self.num_frames) // RATE

    def labels(self, index: NDArray[np.int64]) -> NDArray[np.bool_]:
        return self.marks[index]


def root_of(*marks: NDArray[np.bool_], **facts: Any) -> Root:
    found = [Labelled(f"r{k}", each, **facts) for k, each in enumerate(marks)]
    return Root(Path("root"), "pixel-level", tuple(found), {}, {})  # type: ignore[arg-type]


def marks_of(lengths: list[tuple[int, int]]) -> NDArray[np.bool_]:
    """Normal and abnormal stretches in turn."""
    kinds = [
        np.full(n, kind) for pair in lengths for n, kind in zip(pair, (False, True), strict=True)
    ]
    return np.concatenate([*kinds, np.zeros(50, bool)])


recordings = st.lists(
    st.lists(st.tuples(st.integers(60, 900), st.integers(1, 400)), min_size=8, max_size=20).map(
        marks_of
    ),
    min_size=3,
    max_size=5,
)


@given(recordings, st.sampled_from([2.0, 5.0]), st.sampled_from([None, 1.0, 0.5, 2.0]))
def test_blocks_lie_apart_and_part_no_event(
    marks: list[NDArray[np.bool_]], guard: float, ratio: float | None
) -> None:
    root = root_of(*marks)
    try:
        found = select(root, by="time", guard_seconds=guard, ratio=ratio)
    except ValueError as error:
        assert "leave too little" in str(error) or " part has no " in str(error) or "fills" in str(error)  # fmt: skip  # noqa: E501, PT017
        return
    for recording in root.recordings:
        parts = [found.lists[split][recording.name] for split in ("train", "val", "test")]
        for before, after in pairwise(parts):
            if len(before) and len(after):
                gap = recording.seconds[after[0]] - recording.seconds[before[-1]]
                assert gap > guard
        labels = recording.labels(np.arange(recording.num_frames))
        for start, stop in stretches(labels):
            shares = [np.isin(np.arange(start, stop), part).mean() for part in parts]
            assert sorted(shares)[:2] == [0, 0]
            assert max(shares) in (0, 1)  # whole, or not at all


@given(recordings, st.sampled_from([0.5, 1.0, 2.0]))
def test_normal_and_abnormal_come_to_the_ratio(
    marks: list[NDArray[np.bool_]], ratio: float
) -> None:
    root = root_of(*marks)
    labels = {each.name: each.labels(np.arange(each.num_frames)) for each in root.recordings}
    found = select(root, by="recording", guard_seconds=5, ratio=ratio)
    assert sorted(name for lists in found.lists.values() for name in lists) == sorted(labels)
    for lists in found.lists.values():
        abnormal = sum(int(labels[name][frames].sum()) for name, frames in lists.items())
        normal = sum(len(frames) for frames in lists.values()) - abnormal
        longest = max(stop - start for name in lists for start, stop in stretches(labels[name]))
        events = sum(len(stretches(labels[name])) for name in lists)
        # Normal stretches are cut frame by frame, on both sides of every event; events are whole.
        assert abs(normal - ratio * abnormal) <= max(2 * events + 1, ratio * longest)


def test_of_a_normal_stretch_what_is_nearest_to_its_events_stays() -> None:
    marks = marks_of([(300, 40), (500, 40), (300, 40)])
    found = select(root_of(marks, marks, marks), by="recording", guard_seconds=5, ratio=1.0)
    (frames,) = found.lists["train"].values()
    assert found.longest_normal is not None
    between = frames[(frames >= 340) & (frames < 840)] - 340
    half = found.longest_normal // 2
    assert between.tolist() == [*range(half), *range(500 - half, 500)]


def test_the_last_event_of_a_split_stays() -> None:
    marks = marks_of([(100, 900)])
    found = select(root_of(marks, marks, marks), by="recording", guard_seconds=5)
    assert found.dropped == 0
    assert all(len(frames) == 1050 for lists in found.lists.values() for frames in lists.values())


def test_the_draw_follows_the_seed() -> None:
    marks = [marks_of([(100 + 10 * k, 50)] * 9) for k in range(12)]
    lists = [
        {split: sorted(of) for split, of in select(
            root_of(*marks), guard_seconds=5, seed=seed
        ).lists.items()}
        for seed in (0, 0, 1)
    ]  # fmt: skip
    assert lists[0] == lists[1]
    assert lists[0] != lists[2]
    assert [len(lists[0][split]) for split in ("train", "val", "test")] == [8, 2, 2]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"shares": (0.5, 0.5)}, "three numbers that sum to 1"),
        ({"shares": (0.5, 0.5, 0.5)}, "three numbers that sum to 1"),
        ({"by": "time", "guard_seconds": 100}, "2 guards of 100 s leave too little of it"),
        ({"by": "recording"}, "1 recordings cannot be shared among train, val, test"),
    ],
)
def test_what_cannot_be_chosen_is_refused(options: dict[str, Any], said: str) -> None:
    root = root_of(marks_of([(300, 100)] * 4))
    with pytest.raises(ValueError) as refusal:
        select(root, **({"guard_seconds": 5} | options))
    assert said in str(refusal.value)


def test_a_part_of_one_kind_is_refused() -> None:
    marks = np.concatenate([marks_of([(300, 100)] * 4), np.zeros(3000, bool)])
    with pytest.raises(ValueError, match="the val part has no abnormal frame"):
        select(root_of(marks), by="time", guard_seconds=5)
    with pytest.raises(ValueError, match="r0 has no labels; annotate it first"):
        select(root_of(marks, has_labels=False), by="time", guard_seconds=5)


def test_the_command_writes_lists_that_everything_reads(tmp_path: Path, fmbench: Command) -> None:
    write_root(tmp_path / "root", recordings=3, seconds=60, size=(32, 32))
    before = (tmp_path / "root/pixel-level/train.json").read_bytes()
    flags = ["data", "select", tmp_path / "root", "--by", "recording", "--shares", "0.34,0.33,0.33"]
    refused(fmbench(*flags), "train.json is there already; --replace to make it anew")
    assert (tmp_path / "root/pixel-level/train.json").read_bytes() == before
    done = fmbench(*flags, "--replace")
    assert done.status == 0, done.err
    assert "abnormal" in done.out
    root = open_root(tmp_path / "root")
    assert {split: len(lists) for split, lists in root.splits.items()} == {
        "train": 1, "val": 1, "test": 1,
    }  # fmt: skip
    assert [fault for fault in check_root(tmp_path / "root") if not fault.warning] == []
    data = FurnaceData(root=tmp_path / "root", modality="current", current_samples=12)
    assert len(data.table("test"))
    content = json.loads((tmp_path / "root/pixel-level/test.json").read_text())
    assert all(name.endswith(".mat") for name in content)
    short = fmbench(*flags, "--replace", "--guard_seconds", "3")
    assert f"less than a window of {WindowSpec().seconds:g} s" in short.out
    refused(fmbench(*flags, "--replace", "--ratio", "-1"), "--ratio is -1; it must be at least 0")
    refused(fmbench("data", "select", tmp_path / "gone"), f"no such folder: {tmp_path / 'gone'}")
    refused(fmbench(*flags[:3], "--shares", "a,b"), "--shares is 'a,b'; write 0.7,0.15,0.15")

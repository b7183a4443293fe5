"""Lists of train, validation and test frames: whole events, guards, ratio."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fmbench.data import FurnaceData, open_root
from fmbench.data.root import Root
from fmbench.data.windows import WindowSpec
from fmbench.format.columns import stretches
from fmbench.prepare import blocks
from fmbench.prepare.blocks import Timeline
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
    classes: tuple[str, ...] = ("normal", "abnormal")

    @property
    def num_frames(self) -> int:
        return len(self.marks)

    @property
    def seconds(self) -> NDArray[np.int64]:
        return np.arange(self.num_frames) // RATE

    def labels(self, index: NDArray[np.int64]) -> NDArray[np.bool_]:
        return self.marks[index]

    def class_of(self, index: NDArray[np.int64]) -> NDArray[np.uint8]:
        return self.marks[index].astype(np.uint8)


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
    st.lists(st.tuples(st.integers(200, 900), st.integers(25, 400)), min_size=4, max_size=9).map(
        marks_of
    ),
    min_size=3,
    max_size=4,
)


def check_blocks(root: Root, lists: Any, guard: float) -> None:
    """Blocks lie apart, no event is in two of them, and each split has both classes."""
    for recording in root.recordings:
        parts = [lists[split].get(recording.name, np.zeros(0, np.int64)) for split in lists]
        labels = recording.labels(np.arange(recording.num_frames))
        filled = [part for part in parts if len(part)]
        for before, after in pairwise(sorted(filled, key=lambda part: part[0])):
            assert recording.seconds[after[0]] - recording.seconds[before[-1]] > guard
        for start, stop in stretches(labels):
            inside = [((part >= start) & (part < stop)).any() for part in parts]
            assert sum(inside) <= 1
    for lists_of_split in lists.values():
        marks = np.concatenate(
            [each.labels(lists_of_split[each.name]) for each in root.recordings
             if each.name in lists_of_split]
        )  # fmt: skip
        assert marks.any()
        assert not marks.all()


@given(recordings, st.sampled_from([2.0, 5.0]), st.sampled_from([None, 1.0, 0.5, 2.0]))
def test_blocks_lie_apart_and_part_no_event(
    marks: list[NDArray[np.bool_]], guard: float, ratio: float | None
) -> None:
    root = root_of(*marks)
    found = select(root, by="time", guard_seconds=guard, ratio=ratio)  # three events are enough
    check_blocks(root, found.lists, guard)


# Ten to fifteen minutes


GUARD = WindowSpec().seconds
spans = st.lists(
    st.tuples(st.integers(2, 300), st.sampled_from([0.4, 1, 3, 20, 60, 150, 300])),
    min_size=0, max_size=9,
)  # fmt: skip


def footage(seconds: int, events: list[tuple[int, float]]) -> NDArray[np.bool_]:
    """Pause and length of each event, in seconds."""
    marks = np.zeros(25 * seconds, bool)
    at = 0
    for pause, length in events:
        at += 25 * pause
        marks[at : at + int(25 * length)] = True
        at += int(25 * length)
    return marks


def appended(marks: NDArray[np.bool_], recipe: str) -> NDArray[np.bool_]:
    """What a message asks for, and a normal second."""
    more = [marks]
    for words in recipe.split(", then "):
        seconds = re.search(r"(\d+) s", words)
        assert seconds, words
        more.append(np.full(25 * int(seconds[1]), words.startswith("an event")))
    return np.concatenate([*more, np.zeros(25, bool)])


@settings(max_examples=60)
@given(st.integers(600, 900), spans)
def test_short_footage_is_split_or_what_it_lacks_is_told_and_true(
    seconds: int, events: list[tuple[int, float]]
) -> None:
    marks = footage(seconds, events)
    root = root_of(marks)
    try:
        check_blocks(root, select(root, guard_seconds=GUARD).lists, GUARD)
        return
    except ValueError as error:
        lines = str(error).splitlines()
    assert len(lines) <= 6
    assert "frame 2" not in str(lines)
    missing = re.fullmatch(r"Missing at the end of r0: (.*); (\d+) s in all\.", lines[2])
    assert missing
    longer = root_of(appended(marks, missing[1]))
    assert longer.recordings[0].num_frames == len(marks) + 25 * (int(missing[2]) + 1)
    check_blocks(longer, select(longer, guard_seconds=GUARD).lists, GUARD)
    if not lines[3:]:
        return
    assert lines[3].startswith("What works now: ")
    if shorter := re.search(r"--guard_seconds (\d+)", lines[3]):
        guard = int(shorter[1])
        check_blocks(root, select(root, guard_seconds=guard).lists, guard)
        with pytest.raises(ValueError):
            select(root, guard_seconds=guard + 1)
        if samples := re.search(r"current_samples (\d+)", lines[3]):
            assert WindowSpec(current_samples=int(samples[1])).seconds <= guard
    if "--shares 0.8,0,0.2" in lines[3]:
        found = select(root, guard_seconds=GUARD, shares=(0.8, 0, 0.2))
        assert list(found.lists) == ["train", "test"]
        check_blocks(root, found.lists, GUARD)


@given(st.lists(st.booleans(), min_size=3, max_size=18), st.integers(1, 4), st.booleans())
def test_there_are_as_many_blocks_as_any_cuts_can_make(
    marks: list[bool], guard: int, whole: bool
) -> None:
    labels = np.array(marks)
    count = len(labels)
    events = stretches(labels)

    def fine(start: int, stop: int, last: int) -> bool:
        """A block after one that ends before `last`."""
        if last and start - (last - 1) <= guard:
            return False
        if not (labels[start:stop].any() and not labels[start:stop].all()):
            return False
        for low, high in events:
            if whole and (low < start < high or low < stop < high):
                return False
            if last and low < last and start < high:  # in both blocks
                return False
        return True

    def most(last: int) -> int:
        """Blocks after a cut, by trying every place."""
        return max(
            (1 + most(stop) for start in range(last, count) for stop in range(start + 1, count + 1)
             if fine(start, stop, last)),
            default=0,
        )  # fmt: skip

    line = Timeline("r", np.arange(count), labels, whole=whole)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "FEW", 1)
        found = line.most_blocks(guard, 99)
    assert len(found) == most(0)
    assert all(fine(*span, found[k - 1][1] if k else 0) for k, span in enumerate(found))


def test_contents_of_blocks_are_as_the_shares_where_they_can_be() -> None:
    marks = marks_of([(100, 100)] * 100)
    found = select(root_of(marks), by="time", guard_seconds=5, shares=(0.6, 0.3, 0.1))
    lengths = np.array([len(of["r0"]) for of in found.lists.values()])
    assert np.abs(lengths / lengths.sum() - (0.6, 0.3, 0.1)).max() < 0.02


def test_a_recording_that_cannot_be_parted_goes_to_train_and_the_others_are_parted() -> None:
    good, short = marks_of([(300, 100)] * 9), marks_of([(300, 100)])
    found = select(root_of(good, short), by="time", guard_seconds=5)
    assert {split: sorted(of) for split, of in found.lists.items()} == {
        "train": ["r0", "r1"], "val": ["r0"], "test": ["r0"],
    }  # fmt: skip
    [note] = found.notes
    assert note.startswith(
        "r1 goes to train only: parts that end as early as can be take all up to"
    )
    assert "the event from 12 s to 16 s; the next could begin at 18 s of 18 s, and from" in note


def test_recordings_with_room_for_two_or_one_share_the_splits_out() -> None:
    two, one = marks_of([(300, 100)] * 2), marks_of([(300, 100)])
    root = root_of(two, one)
    found = select(root, by="time", guard_seconds=5)
    check_blocks(root, found.lists, 5)
    assert sorted(len(of) for of in found.lists.values()) == [1, 1, 1]
    assert [note.split(" goes to ")[0] for note in found.notes if "goes to" in note] == ["r0", "r1"]


def test_recordings_of_one_class_each_are_held_out_in_pairs() -> None:
    marks = [np.full(500, k % 2 == 0) for k in range(6)]
    found = select(root_of(*marks), guard_seconds=5)
    assert found.notes == ["whole recordings are held out: they are too short to be parted in time"]
    check_blocks(root_of(*marks), found.lists, 5)
    with pytest.raises(ValueError, match="--by recording works, too"):
        select(root_of(*marks), by="time", guard_seconds=5)
    said = "0 recordings have both, 3 abnormal ones only, 1 normal ones only: 2 more recordings"
    with pytest.raises(ValueError, match=said):
        select(root_of(*marks[::2], marks[1]), by="recording", guard_seconds=5)


@given(st.lists(st.sampled_from(["both", "normal", "abnormal"]), min_size=3, max_size=14))
def test_whole_recordings_give_each_split_both_classes_or_say_how_many_lack(
    kinds: list[str],
) -> None:
    marks = {"both": marks_of([(300, 100)]), "normal": np.zeros(400, bool)}
    marks["abnormal"] = ~marks["normal"]
    root = root_of(*(marks[kind] for kind in kinds))
    try:
        found = select(root, by="recording", guard_seconds=5)
    except ValueError as error:
        more = re.search(r"(\d+) more", str(error))
        assert more
        for count in (int(more[1]) - 1, int(more[1])):
            enough = root_of(*(marks[kind] for kind in kinds), *count * [marks["both"]])
            if count == int(more[1]):
                check_blocks(enough, select(enough, by="recording", guard_seconds=5).lists, 5)
            else:
                with pytest.raises(ValueError):
                    select(enough, by="recording", guard_seconds=5)
        return
    check_blocks(root, found.lists, 5)
    assert sorted(name for of in found.lists.values() for name in of) == sorted(
        each.name for each in root.recordings
    )


def test_a_split_with_hardly_a_frame_of_a_class_is_told_loudly() -> None:
    marks = marks_of([(300, 100), (300, 100), (190, 6000)])[:-50]
    found = select(root_of(marks), by="time", guard_seconds=5)
    told = " ".join(found.notes)
    assert re.search("TEST HAS [0-9]{2} NORMAL AND 6000 ABNORMAL FRAMES", told)
    assert "its metrics will say little. More normal footage would help" in told
    assert "TRAIN" not in told


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
        ({"by": "time", "guard_seconds": 100}, "the footage suffices for 1 of 3"),
        ({"by": "recording"}, "1 recording has both"),
    ],
)
def test_what_cannot_be_chosen_is_refused(options: dict[str, Any], said: str) -> None:
    root = root_of(marks_of([(300, 100)] * 4))
    with pytest.raises(ValueError) as refusal:
        select(root, **({"guard_seconds": 5} | options))
    assert said in str(refusal.value)


def test_footage_of_one_class_is_refused_and_recordings_without_labels_are_left_out() -> None:
    for marks in (np.zeros(30_000, bool), np.ones(30_000, bool)):
        with pytest.raises(ValueError, match=r"it has .*, where a part needs a second of either"):
            select(root_of(marks), guard_seconds=5)
    marks = marks_of([(300, 100)] * 9)
    with pytest.raises(ValueError, match="r0 has no labels; annotate it first"):
        select(root_of(marks, has_labels=False), by="time", guard_seconds=5)
    root = root_of(marks, marks)
    root.recordings[1].has_labels = False
    found = select(root, guard_seconds=5)
    assert found.notes[0] == "r1 has no labels, so it is left out; annotate it first"
    assert all(list(of) == ["r0"] for of in found.lists.values())


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

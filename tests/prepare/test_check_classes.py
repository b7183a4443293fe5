"""`data check`, `data select` and the warnings of a training, where there are three classes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fmbench.data import FurnaceData, open_root
from fmbench.prepare.check import check_root
from fmbench.prepare.doctor import examine, page
from fmbench.prepare.faults import Kind
from fmbench.prepare.select import select
from fmbench.training.classes import rare_classes
from three_classes import CLASSES, relabel, write_classes, write_three_classes

FEW = {"frames": 2, "stride": 1, "current_samples": 8}


@pytest.mark.parametrize("part", ["pixel-level", "class-level"])
def test_check_counts_frames_whose_label_is_no_class(tmp_path: Path, part: str) -> None:
    [written] = write_three_classes(tmp_path, part=part, recordings=1, seconds=20, size=(16, 20))
    kinds = {Kind.CLASS_VALUES, Kind.MASK_VALUES, Kind.PLANT}
    assert not [each for each in check_root(tmp_path) if each.kind in kinds]
    labels = written.masks if part == "pixel-level" else written.masks.max((1, 2))
    labels[[50, 60, 61]] = 3
    path = tmp_path / part / "videos" / "furnace-0.mat"
    relabel(path, labels)
    [fault] = [each for each in check_root(tmp_path) if each.kind in kinds]
    assert str(fault).startswith(f"{path}, frame 50: labels that are no class; root.yaml has 3, ")
    assert "(3 frames)" in str(fault)
    assert not fault.warning


def test_check_reports_a_root_yaml_that_cannot_be_used(tmp_path: Path) -> None:
    write_three_classes(tmp_path, recordings=1, seconds=20, size=(16, 20))
    write_classes(tmp_path, ("normal", "normal"))
    found = [each for each in check_root(tmp_path) if each.kind is Kind.PLANT]
    assert [each.file for each in found] == [str(tmp_path / "root.yaml")]
    assert "two of the classes have one name" in found[0].message


def test_select_names_the_classes_that_a_split_lacks(tmp_path: Path) -> None:
    write_three_classes(tmp_path, recordings=4, seconds=28, size=(8, 8))
    root = open_root(tmp_path)
    whole = [np.arange(each.num_frames) for each in root.recordings]
    for each, index in zip(root.recordings[2:], whole[2:], strict=True):
        classes = each.class_of(index)
        relabel(each.source, np.where(classes == 2, 1, classes)[:, None, None] * np.ones((1, 8, 8)))
    root = open_root(tmp_path)
    found = select(root, by="recording", guard_seconds=1, shares=(0.5, 0.25, 0.25))
    lacking = set()
    for split, lists in found.lists.items():
        there = np.concatenate(
            [each.class_of(lists[each.name]) for each in root.recordings if each.name in lists]
        )
        lacking |= {(split, name) for k, name in enumerate(CLASSES) if k not in there}
    said = [note for note in found.notes if "HAS NO FRAME OF" in note]
    assert lacking
    assert {(note.split()[0].lower(), note.split(" OF ")[1].split(":")[0]) for note in said} == (
        lacking
    )
    assert all("frames of it are in furnace-0, furnace-1." in note for note in said)


@pytest.mark.parametrize("modality", ["current", "visual"])  # visual: labels are masks
def test_a_fit_warns_of_each_class_that_is_missing(tmp_path: Path, modality: str) -> None:
    [written] = write_three_classes(tmp_path, recordings=1, seconds=42, size=(16, 16))
    classes = written.masks.max((1, 2))
    train = np.flatnonzero(classes < 2)[:300].tolist()
    val = [*np.flatnonzero(classes != 1)[-400:]]
    for split, frames in (("train", train), ("val", val)):
        path = tmp_path / "pixel-level" / f"{split}.json"
        frames = [int(frame) for frame in frames if split == "train" or frame not in train]
        path.write_text(json.dumps({"furnace-0.mat": frames}))
    (tmp_path / "pixel-level" / "test.json").unlink()
    said = list(rare_classes(FurnaceData(root=tmp_path, modality=modality, **FEW)))
    assert len(said) == 2
    assert "train windows, none are burn-through: a model cannot learn to" in said[0]
    assert "val windows, none are crack: val/recall_crack says nothing" in said[1]


def test_the_doctor_counts_and_shows_each_class(tmp_path: Path) -> None:
    written = write_three_classes(tmp_path, recordings=3, seconds=30, size=(16, 20))
    kinds = [each.masks.max((1, 2)) for each in written]
    whole = {f"{each.name}.mat": [*range(len(each.frames))] for each in written}
    part = tmp_path / "pixel-level"
    (part / "train.json").write_text(json.dumps({"furnace-0.mat": whole["furnace-0.mat"]}))
    few = np.flatnonzero(kinds[2] == 2)[:5].tolist()
    some = [*np.flatnonzero(kinds[2] < 2).tolist(), *few]
    (part / "val.json").write_text(json.dumps({"furnace-2.mat": sorted(some)}))
    lacks = np.flatnonzero(kinds[1] < 2).tolist()
    (part / "test.json").write_text(json.dumps({"furnace-1.mat": lacks}))
    report = examine(tmp_path)
    rows = {split: counts for _, split, *counts in report.splits}
    assert rows["train"] == np.bincount(kinds[0], minlength=3).tolist()
    assert rows["test"] == [*np.bincount(kinds[1][lacks]), 0]
    said = {each.what: each.severity for each in report.findings}
    assert said[f"test has {len(lacks)} frames, none of them burn-through."] == "serious"
    assert said[f"val has few frames of burn-through: {5 / len(some):.1%} of {len(some)}."] == (
        "warning"
    )
    text = page(report)
    for name in CLASSES:
        assert f'<th scope="col" class="number">{name}</th>' in text
        assert f"<br>{name}, " in text  # below a picture
    assert "abnormal" not in text.split("<h2>furnace-0")[1].replace('class="abnormal"', "")
    share = (kinds[0] == 2).mean()
    assert f"<span>burn-through {share:.0%}</span>" in text

"""Events of several classes: from YAML and COCO to masks of class indices."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fmbench.data import open_root
from test_annotate import NAME, drawn, event, labels_of, mat, unlabelled, write_yaml
from test_cli import Command, fmbench, refused
from three_classes import CLASSES, write_classes

__all__ = ["fmbench"]  # a fixture


def events_of(root: Path) -> list[dict[str, Any]]:
    """Two events of a recording of three classes, of class 1 and 2."""
    [first] = drawn(unlabelled(root)[0])
    write_classes(root, CLASSES)
    second = event({frame: [3, 4, 15, 18] for frame in (380, 410)})
    return [first | {"class": "crack"}, second | {"class": "burn-through"}]


def annotate(fmbench: Command, root: Path, events: Path, *more: str) -> Any:
    return fmbench(
        "data", "annotate", "--events", events, "--root", root, "--pictures", root / "a", *more
    )


def check(root: Path, events: list[dict[str, Any]]) -> None:
    """Masks lie in the boxes of their events and hold their classes."""
    labels = labels_of(mat(root))
    for kind, one in enumerate(events, 1):
        part = labels[one["onset"] : one["offset"] + 1]
        assert set(np.unique(part)) == {0, kind}
        assert (part == kind).any(axis=(1, 2)).all()
        top, left, bottom, right = one["boxes"][one["onset"]]
        outside = labels[one["onset"]].copy()
        outside[top:bottom, left:right] = 0
        assert not outside.any()
    frames = sum(one["offset"] + 1 - one["onset"] for one in events)
    assert np.count_nonzero(labels.any(axis=(1, 2))) == frames
    [recording] = [each for each in open_root(root).recordings if each.name == NAME]
    assert recording.class_of(np.array([one["onset"] for one in events])).tolist() == [1, 2]


def test_masks_hold_the_class_of_their_event(fmbench: Command, tmp_path: Path) -> None:
    events = events_of(tmp_path / "root")
    path = write_yaml(tmp_path / "events.yaml", {"recordings": {NAME: events}})
    done = annotate(fmbench, tmp_path / "root", path)
    assert done.status == 0, done.err
    check(tmp_path / "root", events)


def coco(events: list[dict[str, Any]], *, track: bool) -> dict[str, Any]:
    """As annotation tools export it; categories in another order than the classes."""
    names = {"burn-through": 7, "crack": 9}
    images, annotations = [], []
    for number, one in enumerate(events):
        for frame, (top, left, bottom, right) in one["boxes"].items():
            images.append({"id": len(images), "recording": NAME, "frame": frame})
            box = {"image_id": len(images) - 1, "bbox": [left, top, right - left, bottom - top]}
            box["category_id"] = names[one["class"]]
            annotations.append(box | ({"track_id": number} if track else {}))
    categories = [{"id": number, "name": name} for name, number in names.items()]
    return {"images": images, "annotations": annotations, "categories": categories}


@pytest.mark.parametrize("track", [True, False])
def test_coco_categories_are_classes(fmbench: Command, tmp_path: Path, track: bool) -> None:
    events = events_of(tmp_path / "root")
    (tmp_path / "boxes.json").write_text(json.dumps(coco(events, track=track)))
    done = annotate(fmbench, tmp_path / "root", tmp_path / "boxes.json")
    assert done.status == 0, done.err
    check(tmp_path / "root", events)


def test_where_events_overlap_the_highest_class_counts(fmbench: Command, tmp_path: Path) -> None:
    events_of(tmp_path / "root")
    boxes = {100: [2, 2, 20, 20], 130: [2, 2, 20, 20]}
    both = [event(boxes) | {"class": name} for name in ("burn-through", "crack")]
    path = write_yaml(tmp_path / "events.yaml", {"recordings": {NAME: both}})
    done = annotate(fmbench, tmp_path / "root", path)
    assert done.status == 0, done.err
    assert set(np.unique(labels_of(mat(tmp_path / "root"))[100:131])) == {0, 2}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (None, "the event has no class; it must be one of crack, burn-through"),
        ("crak", "there is no abnormal class 'crak'; did you mean 'crack'?"),
        ("normal", "there is no abnormal class 'normal'"),
    ],
)
def test_a_class_that_is_missing_or_unknown_is_refused(
    fmbench: Command, tmp_path: Path, name: str | None, said: str
) -> None:
    first, second = events_of(tmp_path / "root")
    second = {key: value for key, value in second.items() if key != "class"}
    second |= {"class": name} if name else {}
    path = write_yaml(tmp_path / "events.yaml", {"recordings": {NAME: [first, second]}})
    refused(annotate(fmbench, tmp_path / "root", path), f"{NAME}, event 2: ", said)


@pytest.mark.parametrize(
    ("number", "name", "said"),
    [
        (5, "crack", "annotation 1: no category of 'categories' has its category_id, 5"),
        (9, "crak", f"{NAME}, event 1: class: there is no abnormal class 'crak'; did you mean"),
    ],
)
def test_a_category_that_is_no_class_is_refused(
    fmbench: Command, tmp_path: Path, number: int, name: str, said: str
) -> None:
    content = coco(events_of(tmp_path / "root"), track=True)
    content["annotations"][0]["category_id"] = number
    content["categories"][1]["name"] = name
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    refused(annotate(fmbench, tmp_path / "root", tmp_path / "boxes.json"), said)


@pytest.mark.parametrize("more", [{}, {"class": "leak"}])
def test_of_two_classes_the_class_may_be_left_out(
    fmbench: Command, tmp_path: Path, more: dict[str, str]
) -> None:
    first, _ = events_of(tmp_path / "root")
    write_classes(tmp_path / "root", ("normal", "leak"))
    one = {key: value for key, value in first.items() if key != "class"} | more
    path = write_yaml(tmp_path / "events.yaml", {"recordings": {NAME: [one]}})
    done = annotate(fmbench, tmp_path / "root", path)
    assert done.status == 0, done.err
    assert set(np.unique(labels_of(mat(tmp_path / "root")))) == {0, 1}

"""Key frames to masks: what is read, propagated, refined and written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from fmbench.cli import main
from fmbench.data.recording import MatRecording
from fmbench.data.root import open_root
from fmbench.prepare.annotate import Event, annotate, labels, masks, read_events, show
from fmbench.prepare.annotate.event_picture import event_picture
from fmbench.prepare.annotate.propagate import propagate
from fmbench.prepare.annotate.refine import cover, refine
from fmbench.prepare.check import check_root
from fmbench.simulator import Camera, SimConfig, simulate
from fmbench.simulator.sidecar import key_frames
from fmbench.tabular import SIMULATED
from recordings import Written, write_mat, write_root
from test_cli import Command, fmbench, refused

__all__ = ["fmbench"]

SIZE = (24, 40)
"""(H, W), unequal, so that a transposed mask shows."""
NAME = "furnace-0"


def event(boxes: dict[int, list[float]], apex: int | None = None) -> dict[str, Any]:
    """As it stands in YAML."""
    first, last = min(boxes), max(boxes)
    return {
        "onset": first, "apex": first if apex is None else apex, "offset": last, "boxes": boxes
    }  # fmt: skip


def made(boxes: dict[int, list[float]]) -> Event:
    frames = sorted(boxes)
    return Event(
        frames[0], frames[0], frames[-1],
        np.array(frames), np.array([boxes[frame] for frame in frames], float),
    )  # fmt: skip


EVENT = event({100: [10, 8, 20, 20], 150: [11, 9, 19, 17]}, apex=120)


def write_yaml(path: Path, content: Any) -> Path:
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def unlabelled(root: Path, **more: Any) -> list[Written]:
    """Two recordings of 20 s without labels: what ingesting a video leaves."""
    written = write_root(root, seconds=20, size=SIZE, **more)
    for one in written:
        path = root / "pixel-level" / "videos" / f"{one.name}.mat"
        write_mat(path, one.frames, None, chunked=more.get("chunked", False))
    return written


def drawn(one: Written) -> list[dict[str, Any]]:
    """Boxes around the true regions of a written recording, on the first and last frame of each."""
    abnormal = np.flatnonzero(one.masks.any(axis=(1, 2)))
    found = []
    for stretch in np.split(abnormal, np.flatnonzero(np.diff(abnormal) > 1) + 1):
        rows, columns = np.nonzero(one.masks[stretch[0]])
        box = [rows.min() - 2, columns.min() - 3, rows.max() + 3, columns.max() + 5]
        ends = {int(stretch[0]), int(stretch[-1])}
        found.append(event({frame: [int(side) for side in box] for frame in ends}))
    return found


def mat(root: Path, name: str = NAME) -> Path:
    return root / "pixel-level" / "videos" / f"{name}.mat"


def labels_of(path: Path) -> np.ndarray:
    """(N, H, W), read without fmbench."""
    with h5py.File(path, "r") as file:
        return file["label"][:].swapaxes(1, 2)


def recording_of(root: Path, name: str = NAME) -> MatRecording:
    return MatRecording(mat(root, name), root / "pixel-level")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    unlabelled(tmp_path / "root")
    return tmp_path / "root"


# Reading


def test_events_are_read_whatever_the_order_of_their_key_frames(root: Path, tmp_path: Path) -> None:
    boxes = {100: [1, 2, 9, 8.5], 130: [2, 2, 10, 9], 180: [3, 4, 12, 10]}
    recordings = open_root(root).recordings
    read = []
    for order in ((100, 130, 180), (180, 100, 130)):
        content = event({frame: boxes[frame] for frame in order}, apex=120)
        path = write_yaml(tmp_path / "events.yaml", {"recordings": {NAME: [content]}})
        read += read_events(path, recordings)[NAME]
    assert (read[0].onset, read[0].apex, read[0].offset) == (100, 120, 180)
    for one in read:
        assert one.keyframes.tolist() == [100, 130, 180]
        assert one.boxes.tolist() == list(boxes.values())


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"onest": 3}, ["there is no key 'onest'", "did you mean 'onset'?", "onset, apex, offset"]),
        ({"boxes": None}, ["boxes is None; it must be a mapping: key frames to four numbers each"]),
        ({"onset": -1}, ["onset", "frame -1 is outside", "frames 0 to"]),
        ({"offset": 10_000}, ["offset", "frame 10000 is outside", "frames 0 to"]),
        ({"onset": "100"}, ["onset is '100'; it must be a whole number"]),
        ({"onset": True}, ["onset is True; it must be a whole number"]),
        ({"apex": 99}, ["onset 100, apex 99, offset 150", "onset <= apex <= offset"]),
        ({"onset": 110, "apex": 120}, ["frame 100 lies outside the event", "110 to 150"]),
        ({"offset": 160}, ["no box at its offset, frame 160", "never beyond"]),
        ({"onset": 90}, ["no box at its onset, frame 90"]),
        ({"boxes": {100: [5, 5, 5, 9]}}, ["boxes.100: the box is empty: [5, 5, 5, 9]"]),
        ({"boxes": {100: [5, 9, 8, 5]}}, ["empty"]),
        ({"boxes": {100: [0, 0, 25, 9]}}, ["leaves the frame", "24 pixels high and 40 wide"]),
        ({"boxes": {100: [-1, 0, 20, 9]}}, ["leaves the frame"]),
        ({"boxes": {100: [0, 0, 9]}}, ["boxes.100[4] is missing", "[top, left, bottom, right]"]),
        ({"boxes": {100: [0, 0, 9, "9"]}}, ["boxes.100[4] is '9'", "four numbers"]),
        ({"boxes": {100: [0, 0, 9, float("nan")]}}, ["boxes.100[4] is nan", "four numbers"]),
        ({"boxes": {"100": [0, 0, 9, 9]}}, ["boxes.100 is '100'; it must be a whole number"]),
    ],
)  # fmt: skip
def test_an_event_that_cannot_be_is_refused_with_its_place(
    changes: dict[str, Any], parts: list[str], root: Path, fmbench: Command, tmp_path: Path
) -> None:
    path = write_yaml(tmp_path / "e.yaml", {"recordings": {NAME: [EVENT, EVENT | changes]}})
    before = mat(root).read_bytes()
    outcome = fmbench("data", "annotate", "--events", path, "--root", root)
    refused(outcome, str(path), NAME, "event 2", *parts)
    assert mat(root).read_bytes() == before


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", ["None is no mapping; its keys are recordings"]),
        ("recordings: {}", ["recordings is {}", "the name of each recording to a list"]),
        ("recordings: {furnace-0: 3}", ["recordings.furnace-0 is 3", "a list of events"]),
        ("recordings: {furnace-0: [3]}", ["event 1: 3 is no mapping"]),
        ("recordings: {furnace-0: [{onset: 1}]}", ["event 1: apex is missing"]),
        ("recordings: {furnace-9: []}", ["no recording is called 'furnace-9'", "did you mean"]),
        ("recordngs: {}", ["there is no key 'recordngs'; did you mean 'recordings'?"]),
        ("recordings: {furnace-0: []}\nmore: 1", ["there is no key 'more'"]),
        ("recordings: [", ["e.yaml:1"]),
        ("recordings: !!python/object/apply:os.getcwd []", ["python/object/apply"]),
        ("recordings:\n  furnace-0: []\n  furnace-0: []", ["e.yaml:3", "'furnace-0' stands here"]),
        (
            "recordings:\n  furnace-0:\n  - {onset: 1, apex: 1, offset: 1, boxes: "
            "{1: [0, 0, 9, 9], 1: [0, 0, 8, 8]}}",
            ["e.yaml:3", "1 stands here a second time"],
        ),
    ],
)  # fmt: skip
def test_yaml_that_says_no_events_is_refused(
    text: str, parts: list[str], root: Path, fmbench: Command, tmp_path: Path
) -> None:
    path = tmp_path / "e.yaml"
    path.write_text(text)
    refused(fmbench("data", "annotate", "--events", path, "--root", root), str(path), *parts)


def coco(**changes: Any) -> dict[str, Any]:
    """Two tracks in one recording, one in the other; images out of order."""
    return {
        "info": {"description": "whatever"},
        "categories": [{"id": 1, "name": "hot spot"}],
        "images": [
            {"id": 7, "file_name": f"batch/{NAME}/frame_000150.png"},
            {"id": 3, "file_name": f"{NAME}/frame_000100.png"},
            {"id": 4, "recording": NAME, "frame": 120},
            {"id": 5, "file_name": "furnace-1/frame_000030.png"},
        ],
        "annotations": [
            {"id": 1, "image_id": 7, "bbox": [9, 11, 8, 8], "attributes": {"track_id": 1}},
            {"id": 2, "image_id": 3, "bbox": [8, 10, 12, 10], "attributes": {"track_id": 1}},
            {"id": 3, "image_id": 4, "bbox": [7, 9, 14.5, 12], "attributes": {"track_id": 1}},
            {"id": 4, "image_id": 4, "bbox": [0, 0, 3, 3], "track_id": "b"},
            {"id": 5, "image_id": 5, "bbox": [0, 0, 3, 3], "track_id": 1},
        ],
    } | changes


def test_coco_tracks_are_events(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "events.json"
    path.write_text(json.dumps(coco()))
    found = read_events(path, open_root(root).recordings)
    first, second = found[NAME]
    assert (first.onset, first.apex, first.offset) == (100, 120, 150)
    assert first.boxes.tolist() == [[10, 8, 20, 20], [9, 7, 21, 21.5], [11, 9, 19, 17]]
    assert (second.onset, second.offset) == (120, 120)
    assert [(one.onset, one.offset) for one in found["furnace-1"]] == [(30, 30)]


IMAGE = {"id": 3, "file_name": f"{NAME}/frame_000100.png"}
BOX = {"image_id": 3, "bbox": [0, 0, 3, 3], "track_id": 1}


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ("{", ["is no JSON file"]),
        ([], ["[] is no mapping; its keys are images, annotations"]),
        (coco(images=None), ["images is None; it must be a list"]),
        (coco(images=[{"file_name": "a/b_1.png"}]), ["image 1: id is missing"]),
        (coco(images=[{"id": 3, "file_name": "first.png"}]), ["image 1", "NAME/frame_001200.png"]),
        (coco(images=[IMAGE], annotations=[BOX | {"image_id": 9}]), ["annotation 1", "the id 9"]),
        (coco(images=[IMAGE], annotations=[BOX | {"track_id": [1]}]), ["or text", "export"]),
        (coco(images=[IMAGE], annotations=[BOX | {"bbox": [1, 2]}]), ["[x, y, width, height]"]),
        (coco(images=[IMAGE], annotations=[BOX, BOX]), ["annotation 2", "two boxes at frame 100"]),
        (coco(images=[IMAGE], annotations=[]), ["holds no annotation"]),
        (coco(images=[IMAGE], annotations=[BOX | {"bbox": [0, 0, 99, 3]}]), ["leaves the frame"]),
        (coco(images=[{"id": 3, "recording": "x", "frame": 1}], annotations=[BOX]), ["called 'x'"]),
        (
            coco(images=[{"id": 3, "recording": NAME, "frame": 1.5}], annotations=[BOX]),
            ["image 1: frame is 1.5; it must be a whole number"],
        ),
        (
            coco(
                images=[IMAGE, {"id": 4, "recording": NAME, "frame": "120"}],
                annotations=[BOX, BOX | {"image_id": 4}],
            ),
            ["image 2: frame is '120'; it must be a whole number"],
        ),
    ],
)  # fmt: skip
def test_json_that_says_no_events_is_refused(
    content: Any, parts: list[str], root: Path, fmbench: Command, tmp_path: Path
) -> None:
    path = tmp_path / "events.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    refused(fmbench("data", "annotate", "--events", path, "--root", root), str(path), *parts)


# Propagation

corner = st.floats(0, 50).map(lambda value: round(value, 2))
side = st.floats(0.25, 14).map(lambda value: round(value, 2))
box = st.builds(lambda y, x, h, w: [y, x, y + h, x + w], corner, corner, side, side)
events_ = st.dictionaries(st.integers(0, 300), box, min_size=1, max_size=6).map(made)


@settings(deadline=None)
@given(one=events_)
def test_boxes_are_exact_at_key_frames_and_between_them_in_between(one: Event) -> None:
    np.testing.assert_allclose(propagate(one, one.keyframes), one.boxes, rtol=0, atol=1e-9)
    frames = np.arange(one.onset, one.offset + 1)
    found = propagate(one, frames)
    for k in range(len(one.keyframes) - 1):
        part = found[(frames >= one.keyframes[k]) & (frames <= one.keyframes[k + 1])]
        ends = one.boxes[k : k + 2]
        for read in (
            lambda b: (b[:, :2] + b[:, 2:]) / 2,  # centre
            lambda b: b[:, 2:] - b[:, :2],  # size
        ):
            assert (read(part) >= read(ends).min(axis=0) - 1e-9).all()
            assert (read(part) <= read(ends).max(axis=0) + 1e-9).all()
        # within the box around both, so never outside the frame
        assert (part[:, :2] >= ends[:, :2].min(axis=0) - 1e-9).all()
        assert (part[:, 2:] <= ends[:, 2:].max(axis=0) + 1e-9).all()


def test_centres_move_linearly_and_sizes_by_a_constant_factor() -> None:
    one = made({0: [0, 0, 2, 8], 4: [10, 20, 42, 28]})
    found = propagate(one, np.arange(5))
    centre = (found[:, :2] + found[:, 2:]) / 2
    np.testing.assert_allclose(centre[:, 0], np.linspace(1, 26, 5))
    np.testing.assert_allclose(centre[:, 1], np.linspace(4, 24, 5))
    np.testing.assert_allclose(found[:, 2] - found[:, 0], [2, 4, 8, 16, 32])  # doubles
    np.testing.assert_allclose(found[:, 3] - found[:, 1], 8)


def test_frames_beyond_an_event_have_no_box() -> None:
    with pytest.raises(ValueError, match="frames 3 to 9 of an event of 4 to 8"):
        propagate(made({4: [0, 0, 2, 2], 8: [0, 0, 2, 2]}), np.arange(3, 10))


# Refinement


@settings(deadline=None)
@given(
    one=st.builds(
        lambda y, x, h, w: [y, x, y + h, x + w],
        st.floats(0, 6), st.floats(0, 8), st.floats(0.01, 2), st.floats(0.01, 2),
    )
)  # fmt: skip
def test_a_box_covers_the_pixels_whose_centre_it_holds_and_always_one(one: list[float]) -> None:
    mask = cover(np.array([one]), (8, 10))[0]
    top, left, bottom, right = one
    rows = [y for y in range(8) if top <= y + 0.5 < bottom] or [int((top + bottom) / 2)]
    columns = [x for x in range(10) if left <= x + 0.5 < right] or [int((left + right) / 2)]
    assert set(zip(*np.nonzero(mask), strict=True)) == {(y, x) for y in rows for x in columns}


def weighted_median(guide: np.ndarray, source: np.ndarray, reach: int, sigma: float) -> np.ndarray:
    """By the definition: the value at which half of the window's weight is reached."""
    out = np.empty_like(source)
    height, width = source.shape
    for y in range(height):
        for x in range(width):
            window = (
                slice(max(0, y - reach), y + reach + 1),
                slice(max(0, x - reach), x + reach + 1),
            )
            apart = guide[window].astype(float).ravel() - float(guide[y, x])
            weights = np.exp(-(apart**2) / (2 * sigma**2))
            values = source[window].ravel()
            order = np.argsort(values, kind="stable")
            reached = np.cumsum(weights[order]) >= weights.sum() / 2
            out[y, x] = values[order][reached.argmax()]
    return out


@pytest.mark.parametrize("reach", [1, 3])
def test_opencvs_filter_is_the_weighted_median(reach: int) -> None:
    rng = np.random.default_rng(reach)
    guide = rng.integers(90, 130, (13, 17), dtype=np.uint8)
    for source in (
        rng.integers(0, 2, guide.shape, dtype=np.uint8),
        rng.integers(0, 200, guide.shape, dtype=np.uint8),
    ):
        found = cv2.ximgproc.weightedMedianFilter(guide, source, reach, sigma=7.0)
        np.testing.assert_array_equal(found, weighted_median(guide, source, reach, 7.0))


@pytest.mark.parametrize("box", [[4, 6, 14, 18], [0, 0, 9, 7.3], [12, 20, 20, 26]])
def test_refining_is_the_weighted_median_of_the_whole_frame_within_the_box(
    box: list[float],
) -> None:
    rng = np.random.default_rng(1)
    frame = rng.integers(90, 120, (1, 3, 20, 26), dtype=np.uint8)
    frame[0, 0, 5:12, 8:15] += 60  # a region that the box holds only partly, or not at all
    boxes = np.array([box], float)
    reach = max(1, round(0.3 * np.sqrt((box[2] - box[0]) * (box[3] - box[1]))))
    coarse = cover(boxes, (20, 26))
    wanted = coarse[0] & (weighted_median(frame[0, 0], coarse[0].astype(np.uint8), reach, 6.0) > 0)
    assert wanted.any()
    found = refine(frame, boxes, radius=0.3, sigma=6.0)
    np.testing.assert_array_equal(found[0], wanted)


@settings(max_examples=60, deadline=None)
@given(
    box=st.builds(
        lambda y, x, h, w: [y, x, min(y + h, 16), min(x + w, 20)],
        st.floats(0, 15), st.floats(0, 19), st.floats(0.1, 16), st.floats(0.1, 20),
    ),
    seed=st.integers(0, 99),
    contrast=st.sampled_from([1, 30, 250]),
)  # fmt: skip
def test_a_refined_mask_is_never_empty_and_never_outside_its_box(
    box: list[float], seed: int, contrast: int
) -> None:
    frame = np.random.default_rng(seed).integers(0, contrast, (1, 3, 16, 20), dtype=np.uint8)
    boxes = np.array([box])
    refined = refine(frame, boxes)
    assert refined.any()
    assert not (refined & ~cover(boxes, (16, 20))).any()


def test_a_region_is_found_in_a_box_more_than_twice_its_size() -> None:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:48, :64]
    region = ((y - 24) / 9) ** 2 + ((x - 30) / 6) ** 2 < 1
    frame = rng.normal(100, 3, (1, 3, 48, 64))
    frame[0, 0] += 40 * region
    boxes = np.array([[12.0, 21.0, 36.0, 39.0]])
    found = refine(frame.astype(np.uint8), boxes)[0]
    coarse = cover(boxes, (48, 64))[0]
    assert iou(coarse, region) < 0.45
    assert iou(found, region) > 0.8


@pytest.mark.parametrize(
    "knobs", [{"radius": 0.0}, {"sigma": -1.0}, {"sigma": float("nan")}, {"radius": float("inf")}]
)
def test_a_filter_without_extent_is_refused(knobs: dict[str, float]) -> None:
    frame = np.zeros((1, 3, 16, 16), np.uint8)
    with pytest.raises(ValueError, match="must be above 0"):
        refine(frame, np.array([[0.0, 0, 8, 8]]), **knobs)


def iou(mask: np.ndarray, truth: np.ndarray) -> float:
    return float((mask & truth).sum() / (mask | truth).sum())


def agreement(seed: int) -> tuple[float, float]:
    """IoU of boxes and of refined masks with the truth of a simulated recording."""
    run = simulate(SimConfig(seed=seed), 0, 300, start=700)
    camera = Camera(run)
    drawn_ = [
        Event(
            one["onset"], one["apex"], one["offset"],
            np.array(sorted(one["boxes"])),
            np.array([one["boxes"][k] for k in sorted(one["boxes"])], float),
        )
        for one in key_frames(camera)
    ]  # fmt: skip
    frames = np.arange(0, len(camera), 40)
    inside = np.any([masks.lasts(one, frames) for one in drawn_], axis=0)
    frames = frames[inside]
    coarse, refined = masks.masks_of(frames, camera.frames(frames), drawn_)
    truth = camera.masks(frames)
    return iou(coarse, truth), iou(refined, truth)


@pytest.mark.parametrize("seed", [5, 6, 8])
def test_refined_masks_are_nearer_to_a_simulated_truth_than_boxes(seed: int) -> None:
    coarse, refined = agreement(seed)
    assert refined > coarse + 0.05


# Writing


def test_a_recording_without_labels_gets_them(root: Path, fmbench: Command, tmp_path: Path) -> None:
    one, other = write_root(tmp_path / "truth", seconds=20, size=SIZE)
    path = write_yaml(tmp_path / "e.yaml", {"recordings": {NAME: drawn(one)}})
    before = mat(root, other.name).read_bytes()
    outcome = fmbench("data", "annotate", "--events", path, "--root", root)
    assert outcome.status == 0, outcome.err
    assert "IoU" not in outcome.out  # nothing to compare with
    with h5py.File(mat(root), "r") as file:
        assert file["label"].shape == (len(one.frames), SIZE[1], SIZE[0])
        assert file["label"].dtype == np.uint8
        np.testing.assert_array_equal(file["data"][:].swapaxes(2, 3), one.frames)
    found = labels_of(mat(root))
    assert set(np.unique(found)) == {0, 1}
    np.testing.assert_array_equal(found.any(axis=(1, 2)), one.masks.any(axis=(1, 2)))
    coarse = np.zeros_like(one.masks, bool)
    for each in drawn(one):
        coarse[each["onset"] : each["offset"] + 1] |= cover(
            np.array([each["boxes"][each["onset"]]], float), SIZE
        )
    assert iou(found > 0, one.masks > 0) > iou(coarse, one.masks > 0) + 0.05
    assert mat(root, other.name).read_bytes() == before
    assert not [fault for fault in check_root(root) if NAME in fault.file and not fault.warning]
    picture = cv2.imread(str(tmp_path / "annotation" / f"{NAME}-event-1.png"))
    assert picture.shape[1] > 800


def interrupted(*_: Any) -> Any:
    raise KeyboardInterrupt


def test_an_ingested_recording_is_made_a_labelled_one(
    root: Path, fmbench: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = write_root(root / "truth", recordings=1, seconds=20, size=SIZE)[0]
    unlabelled = (root / "pixel-level").rename(root / "unlabelled")
    (root / "pixel-level" / "videos").mkdir(parents=True)  # as an interrupted run leaves it
    path = write_yaml(root / "e.yaml", {"recordings": {NAME: drawn(one)}})
    before = {file: file.read_bytes() for file in unlabelled.rglob("*.*")}
    asked = ("data", "annotate", "--events", path, "--root", root)
    with monkeypatch.context() as failing:
        failing.setattr(labels, "read_rows", interrupted)
        assert fmbench(*asked).status == 130
    assert not [file for file in (root / "pixel-level").rglob("*") if file.is_file()]
    outcome = fmbench(*asked)
    assert outcome.status == 0, outcome.err
    assert f"written to {mat(root)}" in outcome.out
    assert labels_of(mat(root)).any()
    assert before == {file: file.read_bytes() for file in unlabelled.rglob("*.*")}
    for kind in ("timestamps", "currents"):
        copy = root / "pixel-level" / kind / f"{NAME}.csv"
        assert copy.read_bytes() == (unlabelled / kind / f"{NAME}.csv").read_bytes()
    assert [each.name for each in open_root(root).recordings] == [NAME]
    refused(fmbench(*asked), str(mat(root)), "has labels")  # the labelled one comes first
    other = write_yaml(root / "o.yaml", {"recordings": {"furnace-1": [EVENT]}})
    assert fmbench("data", "annotate", "--events", other, "--root", root).status == 0
    assert labels_of(mat(root, "furnace-1")).any()


def test_labels_are_replaced_only_if_asked_and_compared_without_a_change(
    fmbench: Command, tmp_path: Path
) -> None:
    one, other = write_root(tmp_path / "root", seconds=30, size=SIZE)
    mine, theirs = mat(tmp_path / "root"), mat(tmp_path / "root", other.name)
    write_mat(theirs, other.frames, None)
    content = {"recordings": {other.name: drawn(other), NAME: drawn(one)[:1]}}
    path = write_yaml(tmp_path / "e.yaml", content)
    asked = ("data", "annotate", "--events", path, "--root", tmp_path / "root")
    before = mine.read_bytes(), theirs.read_bytes()
    refused(fmbench(*asked), str(mine), "has labels", "--replace", "--compare")
    refused(fmbench(*asked, "--compare"), str(theirs), "has no labels", "--compare")
    refused(fmbench(*asked, "--compare", "--replace"), "give one of them")
    assert (mine.read_bytes(), theirs.read_bytes()) == before  # no first one written either

    write_yaml(path, {"recordings": {NAME: content["recordings"][NAME]}})
    compared = fmbench(*asked, "--compare")
    assert compared.status == 0, compared.err
    assert mine.read_bytes() == before[0]
    assert (tmp_path / "annotation" / f"{NAME}-event-1.png").is_file()
    event_ = content["recordings"][NAME][0]
    inside = slice(event_["onset"], event_["offset"] + 1)
    missed = int(one.masks.any(axis=(1, 2)).sum()) - (event_["offset"] + 1 - event_["onset"])
    assert missed > 0
    assert f"{missed} frames outside the events were labelled abnormal" in compared.out

    replaced = fmbench(*asked, "--replace")
    assert replaced.status == 0, replaced.err
    found = labels_of(mine)
    assert f"refined masks {iou(found[inside] > 0, one.masks[inside] > 0):.3f}" in compared.out
    assert compared.out.splitlines()[2:] == replaced.out.splitlines()[2:]
    assert not found[: event_["onset"]].any()
    assert not found[event_["offset"] + 1 :].any()


def test_class_labels_are_no_truth_and_can_be_replaced(tmp_path: Path) -> None:
    one = write_root(tmp_path, recordings=1, seconds=20, size=SIZE)[0]
    write_mat(mat(tmp_path), one.frames, one.masks.max((1, 2)).reshape(-1, 1, 1))
    events = [made({100: [4, 4, 12, 12], 110: [4, 4, 12, 12]})]
    with pytest.raises(ValueError, match="labels but no masks"):
        annotate(recording_of(tmp_path), events, compare=True)
    found = annotate(recording_of(tmp_path), events, replace=True)
    assert not found.compared
    assert labels_of(mat(tmp_path)).shape == one.masks.shape


@pytest.mark.parametrize("chunked", [False, True])
def test_blocks_make_no_difference_and_bound_what_is_read(
    chunked: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = [
        made({10: [4, 4, 12, 12], 90: [8, 8, 20, 30]}),
        made({60: [1, 20, 9, 38], 61: [1, 21, 9, 39], 200: [1, 20, 9, 38]}),  # overlaps
    ]
    results, longest = [], []
    for k, size in enumerate((labels.BLOCK_BYTES, 50_000)):
        unlabelled(tmp_path / str(k), chunked=chunked)
        read: list[int] = []
        monkeypatch.setattr(labels, "BLOCK_BYTES", size)
        monkeypatch.setattr(labels, "read_rows", counting(read))
        annotate(recording_of(tmp_path / str(k)), events)
        results.append(labels_of(mat(tmp_path / str(k))))
        longest.append(max(read))
    np.testing.assert_array_equal(*results)
    with h5py.File(mat(tmp_path / "1"), "r") as file:
        chunk = file["data"].chunks[0] if chunked else 1
    assert longest[1] <= max(chunk, 50_000 // (3 * SIZE[0] * SIZE[1]))
    whole = recording_of(tmp_path / "0")
    frames = np.arange(whole.num_frames)
    pictures = np.empty((len(frames), 3, SIZE[1], SIZE[0]), np.uint8)
    whole.read_frames(frames, pictures)
    _, refined = masks.masks_of(frames, pictures.swapaxes(2, 3), events)
    np.testing.assert_array_equal(results[0] > 0, refined)


def counting(read: list[int]) -> Callable[..., Any]:
    def rows(path: Path, dataset: h5py.Dataset, start: int, stop: int) -> np.ndarray:
        read.append(stop - start)
        return masks.read_rows(path, dataset, start, stop)

    return rows


def test_where_events_overlap_a_pixel_is_abnormal_in_either(root: Path) -> None:
    first = made({10: [0, 0, 10, 10], 30: [0, 0, 10, 10]})
    second = made({20: [5, 5, 20, 30], 40: [5, 5, 20, 30]})
    alone = []
    for events in ([first], [second]):
        annotate(recording_of(root), events, replace=True)
        alone.append(labels_of(mat(root)))
    annotate(recording_of(root), [first, second], replace=True)
    np.testing.assert_array_equal(labels_of(mat(root)), alone[0] | alone[1])
    assert alone[0][25].any()
    assert alone[1][25].any()


def test_an_interrupted_run_leaves_the_file_as_it_was(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = mat(root).read_bytes()
    calls = []

    def stopped(*args: Any) -> Any:
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return masks.read_rows(*args)

    monkeypatch.setattr(labels, "BLOCK_BYTES", 50_000)
    monkeypatch.setattr(labels, "read_rows", stopped)
    with pytest.raises(KeyboardInterrupt):
        annotate(recording_of(root), [made({0: [0, 0, 9, 9], 300: [0, 0, 9, 9]})])
    assert mat(root).read_bytes() == before
    assert sorted(path.name for path in mat(root).parent.iterdir()) == [
        "furnace-0.mat",
        "furnace-1.mat",
    ]


def test_replacing_again_and_again_does_not_make_the_file_grow(root: Path) -> None:
    events = [made({0: [0, 0, 9, 9], 300: [5, 5, 20, 20]})]
    sizes = []
    for _ in range(4):
        annotate(recording_of(root), events, replace=True)
        sizes.append(mat(root).stat().st_size)
    assert sizes[-1] <= sizes[1] + 4096


def test_a_link_stays_a_link_and_the_file_behind_it_gets_the_labels(
    root: Path, tmp_path: Path
) -> None:
    behind = mat(root).rename(tmp_path / "elsewhere.mat")
    mat(root).symlink_to(behind)
    annotate(recording_of(root), [made({5: [0, 0, 9, 9], 9: [0, 0, 9, 9]})])
    assert mat(root).is_symlink()
    assert labels_of(behind)[5].any()


def test_damaged_frames_are_named_and_nothing_is_changed(tmp_path: Path) -> None:
    unlabelled(tmp_path, chunked=True)
    with h5py.File(mat(tmp_path), "r") as file:
        chunk = file["data"].id.get_chunk_info(0)
    content = bytearray(mat(tmp_path).read_bytes())
    content[chunk.byte_offset : chunk.byte_offset + 40] = bytes(40)
    mat(tmp_path).write_bytes(content)
    with pytest.raises(ValueError, match="'/data' is damaged at or after frame 0"):
        annotate(recording_of(tmp_path), [made({5: [0, 0, 9, 9], 9: [0, 0, 9, 9]})])
    assert mat(tmp_path).read_bytes() == content


def test_frames_that_are_drawn_on_demand_cannot_hold_labels(
    fmbench: Command, tmp_path: Path
) -> None:
    assert main(["data", "simulate", "--preset", "tiny", "--lazy", "--out", "lazy"]) == 0
    name = open_root("lazy").recordings[0].name
    path = write_yaml(tmp_path / "e.yaml", {"recordings": {name: [EVENT]}})
    asked = ("data", "annotate", "--events", path, "--root", "lazy")
    refused(fmbench(*asked, "--compare"), name, "rendered when they are read", "without --lazy")


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--events", "e.yaml"], ["--root is missing"]),
        (["--root", "."], ["--events is missing"]),
        (["--events", "none.yaml", "--root", "root"], ["none.yaml: no such file"]),
        (["--events", "e.yaml", "--root", "nowhere"], ["no such folder: nowhere"]),
        (["--events", "e.yaml", "--root", "root", "--radius", "0"], ["--radius is 0"]),
        (["--events", "e.yaml", "--root", "root", "--sigma", "-2"], ["--sigma is -2"]),
        (["--events", "e.yaml", "--root", "root", "--sgima", "2"], ["did you mean --sigma?"]),
    ],
)
def test_wrong_usage_is_refused(
    words: list[str], parts: list[str], root: Path, fmbench: Command
) -> None:
    refused(fmbench("data", "annotate", *words), *parts)


# Pictures


def test_a_picture_shows_onset_apex_offset_and_says_if_it_is_simulated(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = Event(10, 40, 90, np.array([10, 90]), np.array([[4.0, 4, 12, 12], [8, 8, 20, 30]]))
    shown = show(recording_of(root), [one], one)
    assert {10, 40, 90} <= {each.frame for each in shown}
    assert len(shown) == 5
    assert all(each.picture.shape == (*SIZE, 3) and each.truth is None for each in shown)
    said: list[str] = []
    from matplotlib.figure import Figure

    monkeypatch.setattr(Figure, "supxlabel", lambda self, text, **_: said.append(text))
    marks = {10: "onset", 40: "apex", 90: "offset"}
    for synthetic in (False, True):
        path = tmp_path / f"{synthetic}.png"
        event_picture(path, shown, marks=marks, title="t", synthetic=synthetic)
        assert cv2.imread(str(path)) is not None
    assert said == [SIMULATED]


# The whole command on simulated recordings


@pytest.mark.slow
@pytest.mark.parametrize("seed", [9, 10])
def test_the_command_on_simulated_recordings(seed: int, fmbench: Command, tmp_path: Path) -> None:
    asked = ["data", "simulate", "--preset", "tiny", "--seed", str(seed), "--out", "sim"]
    assert main(asked) == 0
    root, suffix = tmp_path / "sim", ".keyframes.json"
    content = {}
    for path in sorted((root / "sidecar").glob(f"*{suffix}")):
        rows = json.loads(path.read_text())
        content[path.name.removesuffix(suffix)] = [
            row | {"boxes": {int(frame): box for frame, box in row["boxes"].items()}}
            for row in rows
        ]
    events = write_yaml(tmp_path / "e.yaml", {"recordings": content})
    truth = {name: labels_of(mat(root, name)) > 0 for name in content}
    for name in content:  # as if nobody had drawn a mask
        with h5py.File(mat(root, name), "r+") as file:
            del file["label"]
    outcome = fmbench("data", "annotate", "--events", events, "--root", root)
    assert outcome.status == 0, outcome.err
    for name, true in truth.items():
        coarse = np.zeros_like(true)
        for row in content[name]:
            one = made(row["boxes"])
            frames = np.arange(one.onset, one.offset + 1)
            coarse[frames] |= cover(propagate(one, frames), true.shape[1:])
        refined = labels_of(mat(root, name)) > 0
        np.testing.assert_array_equal(refined.any(axis=(1, 2)), coarse.any(axis=(1, 2)))
        assert iou(refined, true) > iou(coarse, true) + 0.05

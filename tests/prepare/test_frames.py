"""Frames to draw on: what is written, and what comes back as masks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmbench.data.root import open_root
from fmbench.prepare.annotate import read_events
from fmbench.prepare.annotate.frames import frames_at
from recordings import Written, write_mat, write_root
from test_cli import Command, fmbench, refused

__all__ = ["fmbench"]  # a fixture

SIZE = (24, 40)
"""(H, W), unequal, so that a transposed box shows."""
NAME = "20300501-run"
"""Eight digits and a hyphen, as Label Studio's prefix."""


@pytest.fixture
def plant(tmp_path: Path) -> tuple[Path, Written]:
    """A recording of 40 s without labels; in each other 7 s a red area glows."""
    root = tmp_path / "root"
    [written] = write_root(root, recordings=1, seconds=40, size=SIZE, part="unlabelled")
    for kind, ending in (("videos", "mat"), ("timestamps", "csv"), ("currents", "csv")):
        file = root / "unlabelled" / kind / f"{written.name}.{ending}"
        file.rename(file.with_name(f"{NAME}.{ending}"))
    for split in ("train", "test"):
        (root / "unlabelled" / f"{split}.json").unlink()
    dark = (written.frames // 8).astype(np.uint8)
    dark[:, 0][written.masks == 1] = 250
    written.frames = dark
    write_mat(root / "unlabelled/videos" / f"{NAME}.mat", dark, None)
    return root, written


def export(fmbench: Command, root: Path, out: Path, *flags: str) -> dict[str, Any]:
    done = fmbench("data", "frames", root, NAME, "--out", out, *flags)
    assert done.status == 0, done.err
    assert done.out.endswith(f"{out / NAME}.json\n")
    content: dict[str, Any] = json.loads((out / f"{NAME}.json").read_text())
    return content


def test_frames_are_those_of_the_recording_enlarged(
    plant: tuple[Path, Written], tmp_path: Path, fmbench: Command
) -> None:
    root, written = plant
    content = export(fmbench, root, tmp_path / "out", "--at", "0,3.2,39", "--scale", "5")
    times = np.array([written.times.index(t) for t in written.times])  # first frame of its second
    for image, second in zip(content["images"], (0, 3.2, 39), strict=True):
        frame = image["frame"]
        stamp = (np.datetime64(written.times[frame]) - np.datetime64(written.times[0])).astype(int)
        assert abs(stamp + (frame - times[frame]) / 25 - second) <= 0.06
        assert image["file_name"] == f"{NAME}/{NAME}_frame_{frame:06d}.png"
        picture = cv2.imread(str(tmp_path / "out" / image["file_name"]))[:, :, ::-1]
        assert picture.shape == (image["height"], image["width"], 3) == (120, 200, 3)
        shown = written.frames[frame].transpose(1, 2, 0)
        for corner in ((0, 0), (4, 4)):
            assert np.array_equal(picture[corner[0] :: 5, corner[1] :: 5], shown)
    assert content["annotations"] == []
    assert content["categories"] == [{"id": 1, "name": "abnormal", "supercategory": ""}]


def test_frames_every_few_seconds_pass_a_stall_of_the_camera(
    plant: tuple[Path, Written], tmp_path: Path, fmbench: Command
) -> None:
    content = export(fmbench, plant[0], tmp_path / "out", "--every", "5")
    frames = [image["frame"] for image in content["images"]]
    clock = np.array(plant[1].times, "datetime64[s]")
    seconds = (clock[frames] - clock[0]).astype(int).tolist()
    assert len(seconds) == 8
    assert all(abs(found - wanted) <= 2 for found, wanted in zip(seconds, range(0, 40, 5)))  # noqa: B905


def drawn(content: dict[str, Any], written: Written, *, tool: str) -> dict[str, Any]:
    """What a person draws around the red area, as the tool writes it."""
    annotations = []
    for image in content["images"]:
        rows, columns = np.nonzero(written.masks[image["frame"]])
        if not len(rows):
            continue
        factor = image["width"] / SIZE[1]
        top, bottom = (rows.min() - 1) * factor, (rows.max() + 2) * factor
        left, right = (columns.min() - 1) * factor, (columns.max() + 2) * factor
        polygon = [left, top, right, top, right, bottom, left, bottom]
        one = {"id": len(annotations) + 1, "image_id": image["id"], "category_id": 1, "iscrowd": 0}
        if tool == "label studio":
            one |= {"segmentation": [polygon], "area": 1.0, "ignore": 0}
        else:
            box = [round(each, 2) for each in (left, top, right - left, bottom - top)]
            one |= {"bbox": box, "segmentation": [], "attributes": {"occluded": False}}
        annotations.append(one)
    images = [dict(image) for image in content["images"]]
    for image in images:
        if tool == "label studio":
            name = Path(image["file_name"]).name
            image["file_name"] = rf"images\1\0a1b2c3d-{name}"
        for key in ("recording", "frame"):  # tools keep COCO's own keys only
            del image[key]
    return content | {"images": images, "annotations": annotations}


@pytest.mark.parametrize("tool", ["cvat", "label studio"])
@pytest.mark.parametrize("scale", [1, 8])
def test_what_is_drawn_on_them_becomes_masks_of_the_region(
    plant: tuple[Path, Written], tmp_path: Path, fmbench: Command, tool: str, scale: int
) -> None:
    root, written = plant
    frames = np.flatnonzero(written.masks.any(axis=(1, 2)))
    spans = np.split(frames, np.flatnonzero(np.diff(frames) > 1) + 1)
    clock = np.array(written.times, "datetime64[s]")
    step = np.arange(len(clock)) - np.searchsorted(clock, clock)
    count = np.searchsorted(clock, clock, side="right") - np.searchsorted(clock, clock)
    times = (clock - clock[0]).astype(float) + step / count
    ends = [frame for span in spans for frame in (span[0], span[-1] + 1, span[-1])]
    at = ",".join(f"{times[min(frame, len(times) - 1)]:.6f}" for frame in ends)
    content = export(fmbench, root, tmp_path / "out", "--at", at, "--scale", str(scale))
    path = tmp_path / "result.json"
    path.write_text(json.dumps(drawn(content, written, tool=tool)))
    done = fmbench("data", "annotate", "--events", path, "--root", root)
    assert done.status == 0, done.err
    with h5py.File(root / "pixel-level/videos" / f"{NAME}.mat") as file:
        masks = file["label"][:].swapaxes(1, 2) > 0
    truth = written.masks > 0
    assert (masks & truth).sum() / (masks | truth).sum() > 0.95
    assert np.array_equal(masks.any(axis=(1, 2)), truth.any(axis=(1, 2)))


coordinates = st.floats(0, 1)


@given(coordinates, coordinates, coordinates, coordinates, st.integers(1, 12))
def test_a_box_comes_back_in_pixels_of_the_frame(
    tmp_path_factory: pytest.TempPathFactory, x: float, y: float, w: float, h: float, scale: int
) -> None:
    class Only:
        name, size, num_frames = NAME, SIZE, 10
        classes = ("normal", "abnormal")

    height, width = SIZE
    box = np.array([x * (width - 1), y * (height - 1), 0, 0])
    box[2:] = 1 + w * (width - 1 - box[0]), 1 + h * (height - 1 - box[1])
    image = {"id": 1, "file_name": f"{NAME}_frame_000003.png"}
    image |= {"width": scale * width, "height": scale * height}
    drawn = {"image_id": 1, "bbox": (box * scale).round(2).tolist()}
    path = tmp_path_factory.mktemp("coco") / "one.json"
    path.write_text(json.dumps({"images": [image], "annotations": [drawn]}))
    [event] = read_events(path, [Only()])[NAME]  # type: ignore[list-item]
    expected = [box[1], box[0], box[1] + box[3], box[0] + box[2]]
    assert np.abs(event.boxes[0] - expected).max() <= 0.011 / scale + 1e-9


def test_frames_without_a_box_part_events_that_have_no_track(
    plant: tuple[Path, Written], tmp_path: Path
) -> None:
    images = [{"id": k, "recording": NAME, "frame": 10 * k} for k in range(8)]
    marked = [{"image_id": k, "bbox": [1, 1, 4 + k, 5]} for k in (5, 1, 2, 6)]
    path = tmp_path / "e.json"
    path.write_text(json.dumps({"images": images, "annotations": marked}))
    recordings = open_root(plant[0], "unlabelled").recordings
    events = read_events(path, recordings)[NAME]
    assert [(e.onset, e.apex, e.offset) for e in events] == [(10, 20, 20), (50, 60, 60)]
    path.write_text(json.dumps({"images": images, "annotations": [*marked, marked[0]]}))
    with pytest.raises(ValueError, match="two boxes at frame 50; give each event a track"):
        read_events(path, recordings)


@pytest.mark.parametrize(
    ("image", "box", "said"),
    [
        ({"width": 640, "height": 360}, [0, 0, 9, 9], "draw on frames, as fmbench data frames"),
        ({"width": 0, "height": 24}, [0, 0, 9, 9], "width is 0"),
        ({"width": 80, "height": 48}, [0, 0, 83, 9], "the box leaves the frame"),
    ],
)
def test_a_picture_that_is_no_frame_is_refused(
    plant: tuple[Path, Written], tmp_path: Path, image: dict[str, int], box: list[int], said: str
) -> None:
    path = tmp_path / "e.json"
    images = [{"id": 1, "recording": NAME, "frame": 3} | image]
    path.write_text(json.dumps({"images": images, "annotations": [{"image_id": 1, "bbox": box}]}))
    with pytest.raises(ValueError) as refusal:
        read_events(path, open_root(plant[0], "unlabelled").recordings)
    assert said in str(refusal.value)


@given(st.lists(st.integers(0, 30), min_size=1, max_size=30), st.data())
def test_the_nearest_frame_is_taken(counts: list[int], data: st.DataObject) -> None:
    counts[0] = max(counts[0], 1)

    class Timed:
        name = "r"
        seconds = 1_700_000_000 + np.repeat(np.arange(len(counts)), counts)

    times = np.concatenate([k + np.arange(n) / n for k, n in enumerate(counts) if n])
    wanted = data.draw(st.floats(0, float(times[-1])))
    [frame] = frames_at(Timed(), [wanted])  # type: ignore[arg-type]
    assert abs(times[frame] - wanted) == pytest.approx(np.abs(times - wanted).min())


def test_what_cannot_be_written_is_refused(
    plant: tuple[Path, Written], tmp_path: Path, fmbench: Command
) -> None:
    root, _ = plant
    flags = ["data", "frames", root]
    refused(fmbench(*flags, NAME), "give --at SECONDS,SECONDS,… or --every SECONDS, one of them")
    refused(fmbench(*flags, NAME, "--at", "1", "--every", "2"), "one of them")
    refused(fmbench(*flags, NAME, "--at", "a"), "--at is 'a'; it takes seconds, such as 12,40.5")
    refused(fmbench(*flags, NAME, "--at", "99"), f"99 s is outside {NAME}, of 0 to 39.")
    refused(fmbench(*flags, NAME, "--every", "0"), "--every is 0; it must be above 0")
    refused(fmbench(*flags, NAME, "--every", "9", "--scale", "0"), "--scale is 0")
    refused(fmbench(*flags, "x", "--every", "9"), f"no recording is called 'x'\nRecordings: {NAME}")
    assert not (tmp_path / "frames").exists()
    assert fmbench(*flags, NAME, "--at", "1").status == 0
    refused(fmbench(*flags, NAME, "--at", "2"), "already exists and is not empty")

"""COCO-style JSON, as annotation tools export the tracks of a video, to events.

`images` names recording and frame, by `file_name` ("NAME/frame_001200.png") or by the fields
`recording` and `frame`. An entry of `annotations` is one box of one track: `image_id`, `bbox`
[x, y, width, height], and `track_id`, beside them or within `attributes` as CVAT writes it. A track
is an event: its first and last box are onset and offset, its largest is the apex (the earliest of
several). Further keys, of which COCO has many, are left alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fmbench.files.yaml_json import read_json

LARGE = 1e9
"""Pixels; no frame has a larger side, and NaN is not below it."""
FILE = re.compile(r"(?:.*/)?(?P<recording>[^/]+)/[^/]*?(?<!\d)(?P<frame>\d{1,15})\.[A-Za-z]+")
IMAGE = "'file_name' as NAME/frame_001200.png, or 'recording' and 'frame'"


def read_coco(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Recording to events, each {onset, apex, offset, boxes}, unchecked beyond what makes a track.

    Raises:
        ValueError: no JSON, no COCO, an annotation without image, box or track, or a track with two
            boxes on one frame.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        content = {}
    images, annotations = content.get("images"), content.get("annotations")
    if not isinstance(images, list) or not isinstance(annotations, list):
        raise ValueError(f"{path}: expected COCO's lists 'images' and 'annotations'")
    places = {}
    for number, image in enumerate(images, 1):
        where = f"{path}: image {number}"
        if not isinstance(image, Mapping) or type(image.get("id")) not in (int, str):
            raise ValueError(f"{where} has no 'id', a whole number or text")
        places[image["id"]] = _place(where, image)
    tracks: dict[tuple[str, Any], dict[int, list[float]]] = {}
    for number, annotation in enumerate(annotations, 1):
        where = f"{path}: annotation {number}"
        image_id = annotation.get("image_id") if isinstance(annotation, Mapping) else None
        if type(image_id) not in (int, str) or image_id not in places:
            raise ValueError(f"{where} names no image of the list 'images' by 'image_id'")
        recording, frame = places[image_id]
        track = _track(where, annotation)
        boxes = tracks.setdefault((recording, track), {})
        if frame in boxes:
            raise ValueError(
                f"{where}: track {track!r} of {recording} has two boxes at frame {frame}; give "
                "each event a track of its own"
            )
        boxes[frame] = _corners(where, annotation.get("bbox"))
    events: dict[str, list[dict[str, Any]]] = {}
    for (recording, _), boxes in tracks.items():
        frames = sorted(boxes)
        marks = {"onset": frames[0], "apex": max(frames, key=lambda at: _area(boxes[at]))}
        event = {**marks, "offset": frames[-1], "boxes": boxes}
        events.setdefault(recording, []).append(event)
    if not events:
        raise ValueError(f"{path} holds no annotation")
    return events


def _place(where: str, image: Mapping[str, Any]) -> tuple[str, int]:
    """The recording and frame of an image."""
    if "recording" in image and type(image.get("frame")) in (int, float, str):
        return str(image["recording"]), image["frame"]
    match = FILE.fullmatch(str(image.get("file_name")))
    if match is None:
        raise ValueError(f"{where} does not say recording and frame; expected {IMAGE}")
    return match["recording"], int(match["frame"])


def _track(where: str, annotation: Mapping[str, Any]) -> Any:
    attributes = annotation.get("attributes")
    inner = attributes if isinstance(attributes, Mapping) else {}
    track = annotation.get("track_id", inner.get("track_id"))
    if type(track) not in (int, str):
        raise ValueError(
            f"{where} has no 'track_id' (beside 'bbox', or in 'attributes'); export tracks, so "
            "that the boxes of one event belong together"
        )
    return track


def _corners(where: str, box: Any) -> list[float]:
    """[x, y, width, height] as [top, left, bottom, right]."""
    if (
        not isinstance(box, list)
        or len(box) != 4
        or not all(type(side) in (int, float) and abs(side) < LARGE for side in box)
    ):
        raise ValueError(f"{where}: 'bbox' is {box!r}; expected [x, y, width, height]")
    x, y, width, height = box
    return [y, x, y + height, x + width]


def _area(box: list[float]) -> float:
    top, left, bottom, right = box
    return (bottom - top) * (right - left)

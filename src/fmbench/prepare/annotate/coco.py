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
from typing import Annotated, Any

from pydantic import AliasChoices, AliasPath, Field, model_validator

from fmbench.files.validated import Content, Text, validated
from fmbench.files.yaml_json import read_json

FILE = re.compile(r"(?:.*/)?(?P<recording>[^/]+)/[^/]*?(?<!\d)(?P<frame>\d{1,15})\.[A-Za-z]+")
PLACE = "'file_name' as NAME/frame_001200.png, or 'recording' and 'frame'"
TRACK = "beside 'bbox' or in 'attributes'; export tracks, so that an event's boxes belong together"
Side = Annotated[float, Field(allow_inf_nan=False)]
Sides = Annotated[tuple[Side, Side, Side, Side], Field(strict=False)]


class CocoFile(Content, extra="ignore"):
    """A COCO file."""

    images: list[Any]
    annotations: list[Any]


class CocoImage(Content, extra="ignore"):
    """A frame of a recording."""

    id: int | str
    recording: Text = Field(description=PLACE)
    frame: int = Field(description=PLACE)

    @model_validator(mode="before")
    @classmethod
    def _by_file_name(cls, content: Any) -> Any:
        if isinstance(content, Mapping) and not {"recording", "frame"} <= content.keys():
            match = FILE.fullmatch(str(content.get("file_name")))
            if match:
                return {**content, **match.groupdict(), "frame": int(match["frame"])}
        return content


class CocoBox(Content, extra="ignore"):
    """One box of one track."""

    image_id: int | str
    bbox: Sides = Field(description="[x, y, width, height]")
    track_id: int | str = Field(
        validation_alias=AliasChoices("track_id", AliasPath("attributes", "track_id")),
        description=TRACK,
    )


def read_coco(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Recording to events, each {onset, apex, offset, boxes}, unchecked beyond what makes a track.

    Raises:
        ValueError: no JSON, no COCO, an annotation without image, box or track, or a track with two
            boxes on one frame.
    """
    content = validated(CocoFile, read_json(path), str(path))
    images = [
        validated(CocoImage, entry, f"{path}: image {number}")
        for number, entry in enumerate(content.images, 1)
    ]
    places = {image.id: (image.recording, image.frame) for image in images}
    tracks: dict[tuple[str, Any], dict[int, list[float]]] = {}
    for number, entry in enumerate(content.annotations, 1):
        where = f"{path}: annotation {number}"
        one = validated(CocoBox, entry, where)
        if one.image_id not in places:
            raise ValueError(f"{where}: no image of 'images' has the id {one.image_id!r:.200}")
        recording, frame = places[one.image_id]
        boxes = tracks.setdefault((recording, one.track_id), {})
        if frame in boxes:
            raise ValueError(
                f"{where}: track {one.track_id!r} of {recording} has two boxes at frame {frame}; "
                "give each event a track of its own"
            )
        x, y, width, height = one.bbox
        boxes[frame] = [y, x, y + height, x + width]
    events: dict[str, list[dict[str, Any]]] = {}
    for (recording, _), boxes in tracks.items():
        frames = sorted(boxes)
        marks = {"onset": frames[0], "apex": max(frames, key=lambda at: _area(boxes[at]))}
        event = {**marks, "offset": frames[-1], "boxes": boxes}
        events.setdefault(recording, []).append(event)
    if not events:
        raise ValueError(f"{path} holds no annotation")
    return events


def _area(box: list[float]) -> float:
    top, left, bottom, right = box
    return (bottom - top) * (right - left)

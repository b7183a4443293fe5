"""COCO-style JSON, as annotation tools export the boxes of a video, to events.

`images` names recording and frame, by `file_name` ("NAME/frame_001200.png", or
"NAME_frame_001200.png" wherever it lies) or by the fields `recording` and `frame`; `width` and
`height` are those of the picture that was drawn on, which may be a frame enlarged. An entry of
`annotations` is one box: `image_id`, and `bbox` [x, y, width, height] or a polygon `segmentation`,
which stands for the box around it. Boxes of one `track_id`, beside them or within `attributes` as
CVAT writes it, are an event; without it, boxes of consecutive images of the recording are. Its
first and last box are onset and offset, its largest is the apex (the earliest of several). Where
`root.yaml` names more than two classes, an event's class is the name of its boxes' category.
Further keys, of which COCO has many, are left alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AliasChoices, AliasPath, Field, ValidationInfo, model_validator

from fmbench.files.validated import Content, Text, validated
from fmbench.files.yaml_json import read_json

FILE = re.compile(r"(?:.*/)?(?P<recording>[^/]+)/[^/]*?(?<!\d)(?P<frame>\d{1,15})\.[A-Za-z]+")
NAMED = re.compile(r"(?:.*/)?(?P<recording>[^/]+)_frame_(?P<frame>\d{1,15})\.[A-Za-z]+")
UPLOADED = re.compile(r"[0-9a-f]{8}-")
"""What Label Studio puts before the name of an uploaded file."""
PLACE = "'file_name' as NAME/frame_001200.png, or 'recording' and 'frame'"
TRACK = "beside 'bbox' or in 'attributes'; export tracks, so that an event's boxes belong together"
Side = Annotated[float, Field(allow_inf_nan=False)]
Sides = Annotated[tuple[Side, Side, Side, Side], Field(strict=False)]
Size = tuple[int, int]
Box = list[float]
"""[top, left, bottom, right)."""


class CocoFile(Content, extra="ignore"):
    """A COCO file."""

    images: list[Any]
    annotations: list[Any]
    categories: Any = None


class CocoImage(Content, extra="ignore"):
    """A frame of a recording."""

    id: int | str
    recording: Text = Field(description=PLACE)
    frame: int = Field(description=PLACE)
    width: Annotated[float, Field(ge=1)] | None = None
    height: Annotated[float, Field(ge=1)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _by_file_name(cls, content: Any, info: ValidationInfo[Mapping[str, Size]]) -> Any:
        if isinstance(content, Mapping) and not {"recording", "frame"} <= content.keys():
            return {**content, **_place(str(content.get("file_name")), info.context or {})}
        return content

    def scale(self, size: Size) -> float:
        """How much the picture that was drawn on is larger than a frame of `size` (H, W).

        Raises:
            ValueError: it is no enlarged frame.
        """
        if self.width is None or self.height is None:
            return 1.0
        height, width = size
        across, down = self.width / width, self.height / height
        if abs(across - down) > 0.01 * down:
            raise ValueError(
                f"it is {self.width:g} x {self.height:g} pixels, but frames of {self.recording} "
                f"are {width} x {height}; draw on frames, as fmbench data frames writes them"
            )
        return across


class CocoCategory(Content, extra="ignore"):
    """A class of boxes."""

    id: int | str
    name: Text


class CocoBox(Content, extra="ignore"):
    """One box."""

    image_id: int | str
    bbox: Sides = Field(description="[x, y, width, height]")
    category_id: int | str | None = None
    track_id: int | str | None = Field(
        None,
        validation_alias=AliasChoices("track_id", AliasPath("attributes", "track_id")),
        description=TRACK,
    )

    @model_validator(mode="before")
    @classmethod
    def _around_polygons(cls, content: Any) -> Any:
        if isinstance(content, Mapping) and not content.get("bbox"):
            polygons = content.get("segmentation")
            if isinstance(polygons, list) and polygons and all(map(_is_polygon, polygons)):
                x = [each for polygon in polygons for each in polygon[::2]]
                y = [each for polygon in polygons for each in polygon[1::2]]
                box = [min(x), min(y), max(x) - min(x), max(y) - min(y)]
                return {**content, "bbox": box}
        return content


def _place(file: str, known: Mapping[str, Size]) -> dict[str, Any]:
    """Recording and frame that a file name tells; empty if none."""
    name = file.replace("\\", "/")
    folder, named = FILE.fullmatch(name), NAMED.fullmatch(name)
    if named and not (folder and folder["recording"] in known):
        bare = UPLOADED.sub("", named["recording"], count=1)
        for recording in (named["recording"], bare):
            if recording in known:
                return {"recording": recording, "frame": int(named["frame"])}
    return {**folder.groupdict(), "frame": int(folder["frame"])} if folder else {}


def _is_polygon(points: Any) -> bool:
    return (
        isinstance(points, list)
        and len(points) >= 6
        and len(points) % 2 == 0
        and all(isinstance(each, int | float) for each in points)
    )


def read_coco(
    path: Path, sizes: Mapping[str, Size], several_classes: bool = False
) -> dict[str, list[dict[str, Any]]]:
    """Recording to events, each {onset, apex, offset, boxes}, unchecked beyond what makes a track.

    Args:
        path: the file.
        sizes: (H, W) of the frames of each recording, by name: boxes are returned in its pixels.
        several_classes: whether events have a key `class`, the name of their category, and boxes of
            different categories are different events.

    Raises:
        ValueError: no JSON, no COCO, an annotation without image or box, a picture that is no
            enlarged frame, or a track with two boxes on one frame.
    """
    content = validated(CocoFile, read_json(path), str(path))
    images: dict[int | str, CocoImage] = {}
    for number, entry in enumerate(content.images, 1):
        image = validated(CocoImage, entry, f"{path}: image {number}", context=sizes)
        images[image.id] = image
    names = dict[int | str, str]()
    if several_classes:
        for number, entry in enumerate(content.categories or (), 1):
            category = validated(CocoCategory, entry, f"{path}: category {number}")
            names[category.id] = category.name
    tracks: dict[tuple[str, Any, str | None], dict[int, Box]] = {}
    for number, entry in enumerate(content.annotations, 1):
        where = f"{path}: annotation {number}"
        one = validated(CocoBox, entry, where)
        if one.image_id not in images:
            raise ValueError(f"{where}: no image of 'images' has the id {one.image_id!r:.200}")
        image = images[one.image_id]
        kind = names.get(one.category_id) if one.category_id is not None else None
        if several_classes and kind is None:
            raise ValueError(
                f"{where}: no category of 'categories' has its category_id,"
                f" {one.category_id!r:.200}; the category's name is the class of the event"
            )
        boxes = tracks.setdefault((image.recording, one.track_id, kind), {})
        if image.frame in boxes:
            track = "boxes without" if one.track_id is None else f"track {one.track_id!r}"
            raise ValueError(
                f"{where}: {track} of {image.recording} has two boxes at frame {image.frame}; "
                "give each event a track of its own"
            )
        try:
            boxes[image.frame] = _in_frame(one.bbox, image, sizes.get(image.recording))
        except ValueError as error:
            raise ValueError(f"{path}: the image {image.id!r:.200}: {error}") from None
    events: dict[str, list[dict[str, Any]]] = {}
    for (recording, track, kind), boxes in tracks.items():
        shown = sorted(each.frame for each in images.values() if each.recording == recording)
        for of_event in [boxes] if track is not None else _consecutive(boxes, shown):
            frames = sorted(of_event)
            marks = {"onset": frames[0], "apex": max(frames, key=lambda at: _area(of_event[at]))}
            event = {**marks, "offset": frames[-1], "boxes": of_event}
            if kind is not None:
                event["class"] = kind
            events.setdefault(recording, []).append(event)
    if not events:
        raise ValueError(f"{path} holds no annotation")
    return events


def _in_frame(bbox: Sides, image: CocoImage, size: Size | None) -> Box:
    """The box in pixels of the frame. One that leaves the picture by less than a pixel of it, which
    is rounding, is cut there."""
    x, y, width, height = bbox
    if size is None:  # an unknown recording is refused later
        return [y, x, y + height, x + width]
    scale = image.scale(size)
    box = []
    for at, side in zip((y, x, y + height, x + width), (*size, *size), strict=True):
        inside = min(max(at / scale, 0.0), float(side))
        box.append(inside if scale > 1 and abs(at / scale - inside) * scale < 1 else at / scale)
    return box


def _consecutive(boxes: Mapping[int, Box], shown: list[int]) -> list[dict[int, Box]]:
    """Boxes of consecutive frames among those shown; one that is shown without a box ends them."""
    found: list[dict[int, Box]] = []
    before = False
    for frame in shown:
        if frame in boxes:
            if not before:
                found.append({})
            found[-1][frame] = boxes[frame]
        before = frame in boxes
    return found


def _area(box: Box) -> float:
    top, left, bottom, right = box
    return (bottom - top) * (right - left)

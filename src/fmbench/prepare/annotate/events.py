"""What a person has drawn: events with their key frames and boxes, read and checked.

A `.json` file is read as COCO (`coco.py`), any other as YAML:

    recordings:
      NAME:
        - onset: 1200
          apex: 1300
          offset: 1500
          class: crack          # where root.yaml names more than two classes
          boxes:
            1200: [30, 22, 34, 25]
            1300: [26, 18, 38, 29]
            1500: [28, 20, 35, 26]

Frames are positions in the recording, from 0. A box is [top, left, bottom, right] in pixels of the
recording's frame; bottom and right are where it ends, so that [0, 0, 64, 64] is a whole frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, model_validator

from fmbench.data.recording import Recording
from fmbench.errors import nearest
from fmbench.files.validated import Content, Text, known, validated
from fmbench.files.yaml_json import read_yaml
from fmbench.format.names import as_known
from fmbench.prepare.annotate.coco import Sides, read_coco

MARKS = ("onset", "apex", "offset")


@dataclass(frozen=True)
class Event:
    """One anomaly.

    Attributes:
        onset, apex, offset: its first, most pronounced and last frame.
        keyframes: (K,) int64, sorted; the first is the onset, the last the offset.
        boxes: (K, 4) float64, [top, left, bottom, right) in pixels.
        kind: index of its class, from 1.
    """

    onset: int
    apex: int
    offset: int
    keyframes: NDArray[np.int64]
    boxes: NDArray[np.float64]
    kind: int = 1


def _within_recording(frame: int, info: ValidationInfo[Recording]) -> int:
    """The recording is the context."""
    assert info.context is not None
    last = info.context.num_frames - 1
    if not 0 <= frame <= last:
        raise ValueError(f"frame {frame} is outside the recording, which has frames 0 to {last}")
    return frame


def _within_frame(box: Sides, info: ValidationInfo[Recording]) -> Sides:
    """The recording is the context."""
    assert info.context is not None
    top, left, bottom, right = box
    written = f"[{', '.join(f'{side:g}' for side in box)}]"
    if top >= bottom or left >= right:
        raise ValueError(
            f"the box is empty: {written}; bottom and right must exceed top and left "
            "([top, left, bottom, right])"
        )
    height, width = info.context.size
    if min(top, left) < 0 or bottom > height or right > width:
        raise ValueError(
            f"the box leaves the frame: {written}; the frame is {height} pixels high and "
            f"{width} wide, cut the box there"
        )
    return box


def _kind(name: str | None, info: ValidationInfo[Recording]) -> str | None:
    """A class but normal; only of two classes, it may be left out. The recording is the context."""
    assert info.context is not None
    abnormal = info.context.classes[1:]
    if name is None and len(abnormal) == 1:
        return name
    if name is None:
        raise ValueError(f"the event has no class; it must be one of {', '.join(abnormal)}")
    known(name, abnormal, "there is no abnormal class ")
    return name


Frame = Annotated[int, AfterValidator(_within_recording)]


class Entry(Content):
    """An event as a file describes it."""

    onset: Frame
    apex: Frame
    offset: Frame
    boxes: dict[Frame, Annotated[Sides, AfterValidator(_within_frame)]] = Field(
        description="key frames to four numbers each, as in {1200: [top, left, bottom, right]}"
    )
    kind: Annotated[Text | None, AfterValidator(_kind)] = Field(
        None, alias="class", validate_default=True
    )

    @model_validator(mode="after")
    def _is_an_event(self) -> Self:
        onset, apex, offset = self.onset, self.apex, self.offset
        if not onset <= apex <= offset:
            raise ValueError(
                f"onset {onset}, apex {apex}, offset {offset} are out of order; expected "
                "onset <= apex <= offset"
            )
        for frame in self.boxes:
            if not onset <= frame <= offset:
                raise ValueError(
                    f"the box at frame {frame} lies outside the event, which lasts from {onset} to "
                    f"{offset}; move onset or offset, or drop the box"
                )
        for mark, frame in (("onset", onset), ("offset", offset)):
            if frame not in self.boxes:
                raise ValueError(
                    f"there is no box at its {mark}, frame {frame}; boxes are propagated between "
                    "key frames, never beyond them"
                )
        return self

    def event(self, classes: Sequence[str]) -> Event:
        """The event, its key frames in order; `classes` are the recording's."""
        frames = sorted(self.boxes)
        boxes = np.array([self.boxes[frame] for frame in frames], np.float64)
        kind = 1 if self.kind is None else classes.index(self.kind)
        return Event(self.onset, self.apex, self.offset, np.array(frames, np.int64), boxes, kind)


class EventFile(Content):
    """An event file."""

    recordings: dict[Annotated[str, BeforeValidator(str)], list[Any]] = Field(
        min_length=1,
        description="the name of each recording to a list of events, each with onset, apex, offset,"
        " boxes",
    )


def read_events(path: Path, recordings: Sequence[Recording]) -> dict[str, list[Event]]:
    """The events of each recording that the file names.

    Args:
        path: YAML as above, or COCO-style JSON.
        recordings: those that there are; frames and boxes must lie in them.

    Raises:
        ValueError: the file is missing, unreadable, or says something that cannot be; names file,
            recording and event.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file; --events takes YAML, or COCO-style JSON")
    if path.suffix == ".json":
        several = len(recordings[0].classes) > 2
        content = read_coco(path, {each.name: each.size for each in recordings}, several)
    else:
        content = validated(EventFile, read_yaml(path, _Loader), str(path)).recordings
    named = {recording.name: recording for recording in recordings}
    found = {}
    for given, events in content.items():
        name = as_known(given, named)
        if name not in named:
            raise ValueError(
                f"{path}: no recording is called {name!r}{nearest(name, named)}\n"
                f"Recordings: {', '.join(named)}"
            )
        found[name] = [
            validated(Entry, entry, f"{path}: {name}, event {number}", context=named[name]).event(
                named[name].classes
            )
            for number, entry in enumerate(events, 1)
        ]
    return found


class _Loader(yaml.SafeLoader):
    """Plain values only; a key that stands twice is refused, for YAML would drop the first."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        content = super().construct_mapping(node, deep)
        if len(content) < len(node.value):
            keys = [self.construct_object(key) for key, _ in node.value]
            twice = next(k for k, (key, _) in enumerate(node.value) if keys[k] in keys[:k])
            raise yaml.constructor.ConstructorError(
                problem=f"{keys[twice]!r} stands here a second time",
                problem_mark=node.value[twice][0].start_mark,
            )
        return content

"""What a person has drawn: events with their key frames and boxes, read and checked.

A `.json` file is read as COCO (`coco.py`), any other as YAML:

    recordings:
      NAME:
        - onset: 1200
          apex: 1300
          offset: 1500
          boxes:
            1200: [30, 22, 34, 25]
            1300: [26, 18, 38, 29]
            1500: [28, 20, 35, 26]

Frames are positions in the recording, from 0. A box is [top, left, bottom, right] in pixels of the
recording's frame; bottom and right are where it ends, so that [0, 0, 64, 64] is a whole frame.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from fmbench.data.recording import Recording
from fmbench.errors import nearest
from fmbench.files.yaml_json import read_yaml
from fmbench.prepare.annotate.coco import LARGE, read_coco

MARKS = ("onset", "apex", "offset")
KEYS = (*MARKS, "boxes")


@dataclass(frozen=True)
class Event:
    """One anomaly.

    Attributes:
        onset, apex, offset: its first, most pronounced and last frame.
        keyframes: (K,) int64, sorted; the first is the onset, the last the offset.
        boxes: (K, 4) float64, [top, left, bottom, right) in pixels.
    """

    onset: int
    apex: int
    offset: int
    keyframes: NDArray[np.int64]
    boxes: NDArray[np.float64]


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
        content: Mapping[str, Sequence[Any]] = read_coco(path)
    else:
        content = _recordings(path, read_yaml(path, _Loader))
    known = {recording.name: recording for recording in recordings}
    found = {}
    for key, events in content.items():
        name = str(key)
        if name not in known:
            raise ValueError(
                f"{path}: no recording is called {name!r}{nearest(name, known)}\n"
                f"Recordings: {', '.join(known)}"
            )
        found[name] = [
            _event(f"{path}: {name}, event {number}", entry, known[name])
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


def _recordings(path: Path, content: Any) -> Mapping[str, Sequence[Any]]:
    if not isinstance(content, Mapping) or "recordings" not in content:
        raise ValueError(f"{path}: expected a mapping with the key 'recordings'")
    _refuse_unknown(str(path), content, ("recordings",))
    recordings = content["recordings"]
    if not isinstance(recordings, Mapping) or not recordings:
        raise ValueError(f"{path}: 'recordings' must map the name of each recording to its events")
    for name, events in recordings.items():
        if not isinstance(events, list):
            raise ValueError(
                f"{path}: {name} must hold a list of events, each with {', '.join(KEYS)}"
            )
    return recordings


def _refuse_unknown(where: str, entry: Mapping[Any, Any], known: Iterable[str]) -> None:
    known = list(known)
    for key in entry:
        if key not in known:
            raise ValueError(
                f"{where}: unknown key {key!r}{nearest(str(key), known)}\nKeys: {', '.join(known)}"
            )


def _event(where: str, entry: Any, recording: Recording) -> Event:
    if not isinstance(entry, Mapping):
        raise ValueError(f"{where} is {entry!r}; it must be a mapping of {', '.join(KEYS)}")
    _refuse_unknown(where, entry, KEYS)
    for key in KEYS:
        if key not in entry:
            raise ValueError(f"{where} has no {key!r}; an event has {', '.join(KEYS)}")
    onset, apex, offset = (_frame(f"{where}, {mark}", entry[mark], recording) for mark in MARKS)
    if not onset <= apex <= offset:
        raise ValueError(
            f"{where}: onset {onset}, apex {apex}, offset {offset} are out of order; expected "
            "onset <= apex <= offset"
        )
    if not isinstance(entry["boxes"], Mapping):
        raise ValueError(
            f"{where}: 'boxes' must map key frames to boxes, as in "
            "{1200: [top, left, bottom, right]}"
        )
    boxes = {}
    for frame, box in entry["boxes"].items():
        at = f"{where}, box at frame {frame}"
        _frame(at, frame, recording)
        if not onset <= frame <= offset:
            raise ValueError(
                f"{at} lies outside the event, which lasts from {onset} to {offset}; move onset or "
                "offset, or drop the box"
            )
        boxes[frame] = _box(at, box, recording.size)
    for mark, frame in (("onset", onset), ("offset", offset)):
        if frame not in boxes:
            raise ValueError(
                f"{where} has no box at its {mark}, frame {frame}; boxes are propagated between "
                "key frames, never beyond them"
            )
    keyframes = sorted(boxes)
    return Event(
        onset,
        apex,
        offset,
        np.array(keyframes, np.int64),
        np.array([boxes[frame] for frame in keyframes], np.float64),
    )


def _frame(where: str, value: Any, recording: Recording) -> int:
    if type(value) is not int:
        raise ValueError(
            f"{where}: {value!r} is no frame; frames are whole numbers, positions in the recording"
        )
    if not 0 <= value < recording.num_frames:
        raise ValueError(
            f"{where}: frame {value} is outside the recording, which has frames 0 to "
            f"{recording.num_frames - 1}"
        )
    return value


def _box(where: str, box: Any, size: tuple[int, int]) -> list[float]:
    if (
        not isinstance(box, Sequence)
        or len(box) != 4
        or not all(type(side) in (int, float) and abs(side) < LARGE for side in box)
    ):
        raise ValueError(f"{where} is {box!r}; expected four numbers [top, left, bottom, right]")
    top, left, bottom, right = (float(side) for side in box)
    if top >= bottom or left >= right:
        raise ValueError(
            f"{where} is empty: {list(box)}; bottom and right must exceed top and left "
            "([top, left, bottom, right])"
        )
    height, width = size
    if min(top, left) < 0 or bottom > height or right > width:
        raise ValueError(
            f"{where} leaves the frame: {list(box)}; the frame is {height} pixels high and "
            f"{width} wide, cut the box there"
        )
    return [top, left, bottom, right]

"""`train.json`, `val.json`, `test.json`: which frames of each recording belong to a split.

Layout: official-format 4.4, `{"<name>.mat": [frame, ...]}`; frames are positions from 0.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmbench.errors import nearest
from fmbench.files.atomic import write_text
from fmbench.files.yaml_json import read_json
from fmbench.format.mat import stem
from fmbench.format.names import as_known

SPLITS = ("train", "val", "test")


def list_file(part: Path, split: str) -> Path:
    return part / f"{split}.json"


def read_list(path: Path, lengths: Mapping[str, int]) -> dict[str, NDArray[np.int64]]:
    """(n,) sorted frames by recording name; empty where there is no such file.

    Args:
        path: the list.
        lengths: frames of each recording, by name.

    Raises:
        ValueError: no JSON object of lists, or an unknown recording or frame.
    """
    if not path.is_file():
        return {}
    lists = read_json(path)
    if not isinstance(lists, dict):
        raise ValueError(f"{path}: expected one object, file name to list of frame positions")
    found = {}
    for key, value in lists.items():
        name = as_known(stem(key), lengths)
        if name not in lengths:
            raise ValueError(f"{path}: no recording is called {key!r}{nearest(name, lengths)}")
        frames = frame_list(path, key, value)
        if frames.size and (frames[0] < 0 or frames[-1] >= lengths[name]):
            wrong = frames[0] if frames[0] < 0 else frames[-1]
            raise ValueError(f"{path}: frame {wrong} of {key!r}; it has {lengths[name]} frames")
        found[name] = frames
    return found


def frame_list(path: Path, key: str, value: Any) -> NDArray[np.int64]:
    """The frame positions under one key, sorted, each once.

    Raises:
        ValueError: anything but a list of whole numbers.
    """
    if not isinstance(value, list) or not all(type(f) is int and abs(f) < 2**31 for f in value):
        raise ValueError(f"{path}: {key!r} must be a list of whole numbers (frame positions)")
    return np.unique(np.asarray(value, dtype=np.int64))


def write_list(path: Path, frames: Mapping[str, NDArray[np.int64]]) -> None:
    """Write (n,) frames by recording name."""
    write_text(path, json.dumps({f"{name}.mat": each.tolist() for name, each in frames.items()}))

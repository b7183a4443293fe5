"""Every fault of a root, with file and row: what `fmbench data check` prints.

Reads what the loaders read, but goes on after a fault. Memory stays bounded: masks and compressed
frames pass through in blocks.
"""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from fmbench.data.recording import SingleFileRecording
from fmbench.data.root import Part, is_rendered, part_folder
from fmbench.data.windows import Ints, WindowSpec
from fmbench.errors import nearest
from fmbench.files.yaml_json import read_json
from fmbench.format.columns import currents_file, timestamps_file
from fmbench.format.lists import SPLITS, frame_list, list_file
from fmbench.format.mat import mat_files, stem, video_file
from fmbench.prepare.faults import (
    Fault,
    attempt,
    check_currents,
    check_mat,
    check_meeting,
    check_timestamps,
)
from fmbench.types import CURRENT_RATE


def check_root(root: str | Path, spec: WindowSpec | None = None) -> list[Fault]:
    """All faults of all parts of `root`; an empty list if there is none.

    Args:
        root: folder with pixel-level/ or class-level/, or one of these.
        spec: the window whose reach from one split into another is checked.

    Raises:
        ValueError: no such folder.
    """
    root = Path(root)
    parts = get_args(Part)
    inside = [root / part for part in parts if (root / part).is_dir()]
    whole = root.name if root.name in parts else "pixel-level"
    found: list[Fault] = []
    for folder in inside or [part_folder(root, whole)]:
        _check_part(folder, spec or WindowSpec(), found)
    for path in {root / "manifest.json", *(folder / "manifest.json" for folder in inside)}:
        if path.is_file():
            attempt(path, found, read_json, path)
    return found


def _check_part(folder: Path, spec: WindowSpec, found: list[Fault]) -> None:
    if (folder / "videos").is_dir():
        lengths = _check_videos(folder, found)
    elif attempt(folder.parent / "manifest.json", found, is_rendered, folder):
        lengths = _check_lazy(folder, found)
    else:
        _check_single_files(folder, found)
        return
    if not lengths:
        found.append(Fault(str(folder), None, "holds no recordings; expected videos/*.mat"))
        return
    seconds: dict[str, Ints] = {}
    phases: dict[str, int] = {}
    for name, frames in lengths.items():
        times, currents = timestamps_file(folder, name), currents_file(folder, name)
        stamped = check_timestamps(times, frames, found)
        known = check_currents(currents, phases, found)
        if stamped is not None and known is not None:
            check_meeting(times, stamped, known, found)
        if stamped is not None and (stamped >= 0).all():
            seconds[name] = stamped
    if len(set(phases.values())) > 1:
        found.append(Fault(str(folder / "currents"), None, f"phases differ by file: {phases}"))
    if folder.name != "unlabelled":
        _check_lists(folder, lengths, seconds, spec, found)


def _check_videos(folder: Path, found: list[Fault]) -> dict[str, int | None]:
    """Number of frames of each recording, None where the file cannot be read."""
    lengths: dict[str, int | None] = {}
    for path in mat_files(folder / "videos"):
        if stem(path.name) in lengths:
            found.append(Fault(str(path), None, f"a second recording called {stem(path.name)!r}"))
        lengths[stem(path.name)] = attempt(path, found, check_mat, path, found)
    for kind in ("timestamps", "currents"):
        for path in sorted((folder / kind).glob("*.csv")):
            if stem(path.name) not in lengths:
                missing = video_file(folder, stem(path.name))
                found.append(
                    Fault(str(missing), None, f"is missing, but there is {kind}/{path.name}")
                )
    return lengths


def _check_lazy(folder: Path, found: list[Fault]) -> dict[str, int | None]:
    from fmbench.simulator import open_lazy

    lengths: dict[str, int | None] = {}
    for path in sorted((folder / "timestamps").glob("*.csv")):
        recording = attempt(path, found, open_lazy, folder, stem(path.name))
        lengths[stem(path.name)] = recording.num_frames if recording else None
    return lengths


def _check_single_files(folder: Path, found: list[Fault]) -> None:
    paths = mat_files(folder)
    if not paths:
        found.append(Fault(str(folder), None, "holds no recordings; expected videos/*.mat"))
    for path in paths:
        if attempt(path, found, check_mat, path, found) is not None:
            recording = SingleFileRecording(path, folder)
            attempt(path, found, getattr, recording, "currents")
            attempt(path, found, getattr, recording, "split")


def _check_lists(
    folder: Path,
    lengths: dict[str, int | None],
    seconds: dict[str, Ints],
    spec: WindowSpec,
    found: list[Fault],
) -> None:
    lists: dict[str, dict[str, Ints]] = {}
    for split in SPLITS:
        path = list_file(folder, split)
        if path.is_file():
            content = attempt(path, found, read_json, path)
            lists[split] = _check_list(path, content, lengths, found)
        elif split != "val":
            found.append(Fault(str(path), None, "is missing"))
    for name in lengths:
        if lists and not any(len(each.get(name, ())) for each in lists.values()):
            found.append(Fault(str(folder), None, f"{name} is in no list", warning=True))
    for first, second in combinations(lists, 2):
        for name in sorted(lists[first].keys() & lists[second].keys()):
            _check_overlap(folder, name, (first, second), lists, seconds.get(name), spec, found)


def _check_list(
    path: Path, content: Any, lengths: dict[str, int | None], found: list[Fault]
) -> dict[str, Ints]:
    if not isinstance(content, dict):
        if content is not None:
            found.append(Fault(str(path), None, "expected one object, file name to frame list"))
        return {}
    lists = {}
    for key, value in content.items():
        name = stem(key)
        frames = attempt(path, found, frame_list, path, key, value)
        if name not in lengths:
            message = f"no recording is called {key!r}{nearest(name, lengths)}"
            found.append(Fault(str(path), None, message))
            continue
        if frames is None:
            continue
        if len(frames) < len(value):
            message = f"{len(value) - len(frames)} frames of {key!r} are listed twice"
            found.append(Fault(str(path), None, message))
        length = lengths[name]
        if length is not None:
            outside = frames[(frames < 0) | (frames >= length)]
            if outside.size:
                message = f"{key!r} has {length} frames ({outside.size} listed are outside)"
                found.append(Fault(str(path), int(outside[0]), message))
            frames = frames[(frames >= 0) & (frames < length)]
        lists[name] = frames
    return lists


def _check_overlap(
    folder: Path,
    name: str,
    pair: tuple[str, str],
    lists: dict[str, dict[str, Ints]],
    seconds: Ints | None,
    spec: WindowSpec,
    found: list[Fault],
) -> None:
    """Frames in two lists; windows of one list that hold frames or seconds of the other."""
    frames = [lists[split][name] for split in pair]
    both = np.intersect1d(frames[0], frames[1])
    if both.size:
        message = f"{both.size} frames of {name} are in {pair[0]} as well"
        found.append(Fault(str(list_file(folder, pair[1])), int(both[0]), message))
        return
    for (split, mine), (other, theirs) in (
        ((pair[0], frames[0]), (pair[1], frames[1])),
        ((pair[1], frames[1]), (pair[0], frames[0])),
    ):
        reach = _reaching(mine, theirs, seconds, spec)
        if reach.size:
            message = (
                f"{reach.size} {split} windows of {name} reach back into {other} frames or "
                f"seconds; a gap of {spec.seconds:g} s between the lists would prevent it"
            )
            path = str(list_file(folder, split))
            found.append(Fault(path, int(reach[0]), message, warning=True))


def _reaching(mine: Ints, theirs: Ints, seconds: Ints | None, spec: WindowSpec) -> Ints:
    """Frames of `mine` whose clip or current window holds a frame or a second of `theirs`."""
    clip = (spec.frames - 1) * spec.stride
    reaching = _distance(mine, theirs) <= clip
    if seconds is not None and (np.diff(seconds) >= 0).all():
        current = spec.current_samples / CURRENT_RATE
        reaching |= _distance(seconds[mine], seconds[theirs]) < current
    return mine[reaching]


def _distance(mine: Ints, theirs: Ints) -> NDArray[np.float64]:
    """From each of `mine` back to the last of `theirs` before it (both sorted)."""
    place = np.searchsorted(theirs, mine, side="right") - 1
    if not len(theirs):
        return np.full(len(mine), np.inf)
    return np.where(place >= 0, (mine - theirs[place]).astype(np.float64), np.inf)

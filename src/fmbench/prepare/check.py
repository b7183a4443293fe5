"""Every fault of a data set, with file and row: what `fmbench data check` prints.

Reads what the loaders read, but continues after a fault. Memory stays bounded: masks and compressed
frames are read in blocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from itertools import combinations, permutations
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from fmbench.data.recording import SingleFileRecording
from fmbench.data.root import Part, is_rendered, part_folder, recordings_of
from fmbench.data.windows import Ints, WindowSpec
from fmbench.errors import nearest
from fmbench.files.yaml_json import read_json
from fmbench.format.columns import currents_file, timestamps_file
from fmbench.format.lists import SPLITS, frame_list, list_file
from fmbench.format.mat import mat_files, stem, video_file
from fmbench.format.names import as_known
from fmbench.format.plant import plant_file, read_plant
from fmbench.format.video import video_files
from fmbench.prepare.check_sensors import check_sensors
from fmbench.prepare.faults import (
    Fault,
    Kind,
    attempt,
    check_currents,
    check_mat,
    check_meeting,
    check_timestamps,
    check_video,
)
from fmbench.types import Plant


def check_root(root: str | Path, spec: WindowSpec | None = None) -> list[Fault]:
    """All faults of all parts of `root`; an empty list if there is none.

    Args:
        root: folder with pixel-level/, class-level/ or unlabelled/, or one of these.
        spec: the window whose reach from one split into another is checked, at the rates of the
            data set.

    Raises:
        ValueError: no such folder.
    """
    root = Path(root)
    found: list[Fault] = []
    folders = part_folders(root)
    for folder in folders:
        plant = attempt(Kind.PLANT, plant_file(folder) or folder, found, read_plant, folder)
        if plant is not None:  # else nothing of this part can be read
            _check_part(folder, replace(spec or WindowSpec(), plant=plant), found)
    for path in {folder / "manifest.json" for folder in (root, *folders)}:
        if path.is_file():
            attempt(Kind.MANIFEST, path, found, read_json, path)
    return list(dict.fromkeys(found))  # parts share one root.yaml


def part_folders(root: Path) -> list[Path]:
    """The parts in `root`, or `root` if it is itself one.

    Raises:
        ValueError: no such folder.
    """
    parts = get_args(Part)
    inside = [root / part for part in parts if (root / part).is_dir()]
    return inside or [part_folder(root, root.name if root.name in parts else "pixel-level")]


def _check_part(folder: Path, spec: WindowSpec, found: list[Fault]) -> None:
    if (folder / "videos").is_dir():
        lengths = _check_videos(folder, spec.plant, found)
    elif attempt(Kind.MANIFEST, folder.parent / "manifest.json", found, is_rendered, folder):
        lengths = _check_lazy(folder, found)
    elif paths := mat_files(folder):
        for path in paths:
            _check_single_file(path, found)
        check_sensors(folder, None, spec, found)
        return
    else:
        lengths = {}
    _check_sizes(folder, spec.plant, found)
    if not lengths:
        found.append(Kind.NO_RECORDINGS.at(folder, "holds no recordings; expected videos/*.mat"))
        return
    seconds: dict[str, Ints] = {}
    phases: dict[str, int] = {}
    for name, frames in lengths.items():
        times, currents = timestamps_file(folder, name), currents_file(folder, name)
        stamped = check_timestamps(times, frames, found, spec.plant)
        known = check_currents(currents, phases, found, spec.plant)
        if stamped is not None and known is not None:
            check_meeting(times, stamped, known, found, spec.plant)
        if stamped is not None and (stamped >= 0).all():
            seconds[name] = stamped
    if len(set(phases.values())) > 1:
        found.append(Kind.PHASES.at(folder / "currents", f"phases differ by file: {phases}"))
    lists = {}
    if folder.name != "unlabelled":
        lists = _check_lists(folder, lengths, seconds, spec, found)
    check_sensors(folder, lists, spec, found)


def _check_videos(folder: Path, plant: Plant, found: list[Fault]) -> dict[str, int | None]:
    """Number of frames of each recording, None where the file cannot be read."""
    lengths: dict[str, int | None] = {}
    count = len(plant.classes)
    for path in [*mat_files(folder / "videos"), *video_files(folder / "videos")]:
        name = stem(path.name)
        if name in lengths:
            found.append(Kind.SAME_NAME.at(path, f"a second recording called {name!r}"))
        if path.suffix == ".mat":
            lengths[name] = attempt(Kind.DAMAGED, path, found, check_mat, path, found, count)
        else:
            lengths[name] = attempt(Kind.DAMAGED, path, found, check_video, path, folder, found)
    for kind in ("timestamps", "currents"):
        for path in sorted((folder / kind).glob("*.csv")):
            if stem(path.name) not in lengths:
                missing = video_file(folder, stem(path.name))
                message = f"is missing, but there is {kind}/{path.name}"
                found.append(Kind.MISSING_FILE.at(missing, message))
    return lengths


def _check_sizes(folder: Path, plant: Plant, found: list[Fault]) -> None:
    """Recordings whose frames have another size than root.yaml says."""
    wanted = plant.frame_size
    if wanted is None:
        return
    for _, opened in recordings_of(folder):
        with suppress(ValueError, OSError):  # a file that cannot be read is a fault already
            recording = opened()
            if recording.size != wanted:
                (tall, wide), (height, width) = recording.size, wanted
                message = f"frames of {tall} x {wide}; {plant_file(folder)} says {height} x {width}"
                found.append(Kind.FRAME_SIZE.at(recording.source, message))


def _check_lazy(folder: Path, found: list[Fault]) -> dict[str, int | None]:
    from fmbench.simulator import open_lazy

    lengths: dict[str, int | None] = {}
    for path in sorted((folder / "timestamps").glob("*.csv")):
        recording = attempt(Kind.SIMULATED, path, found, open_lazy, folder, stem(path.name))
        lengths[stem(path.name)] = recording.num_frames if recording else None
    return lengths


def _check_single_file(path: Path, found: list[Fault]) -> None:
    if attempt(Kind.DAMAGED, path, found, check_mat, path, found) is not None:
        recording = SingleFileRecording(path, path.parent)
        attempt(Kind.SINGLE_FILE_CURRENT, path, found, getattr, recording, "currents")
        attempt(Kind.SINGLE_FILE_SPLIT, path, found, getattr, recording, "split")


def _check_lists(
    folder: Path,
    lengths: Mapping[str, int | None],
    seconds: Mapping[str, Ints],
    spec: WindowSpec,
    found: list[Fault],
) -> dict[str, dict[str, Ints]]:
    """Returns split to recording name to listed frames."""
    lists: dict[str, dict[str, Ints]] = {}
    for split in SPLITS:
        path = list_file(folder, split)
        if path.is_file():
            lists[split] = checked_list(path, lengths, found)
        elif split != "val":
            found.append(Kind.MISSING_LIST.at(path, "is missing"))
    for name in lengths:
        if lists and not any(len(each.get(name, ())) for each in lists.values()):
            found.append(Kind.IN_NO_LIST.at(folder, f"{name} is in no list"))
    for first, second in combinations(lists, 2):
        for name in sorted(lists[first].keys() & lists[second].keys()):
            pair = {split: lists[split][name] for split in (first, second)}
            _check_overlap(folder, name, pair, seconds.get(name), spec, found)
    return lists


def checked_list(
    path: Path, lengths: Mapping[str, int | None], found: list[Fault]
) -> dict[str, Ints]:
    """Recording name to (n,) sorted frames of a split; wrong entries are left out.

    Args:
        path: train.json, val.json or test.json.
        lengths: number of frames of each recording, None if unknown.
        found: faults are added to it.
    """
    content = attempt(Kind.LIST_FORMAT, path, found, read_json, path)
    if not isinstance(content, dict):
        if content is not None:
            message = "expected one object, file name to frame list"
            found.append(Kind.LIST_FORMAT.at(path, message))
        return {}
    lists = {}
    for key, value in content.items():
        name = as_known(stem(key), lengths)
        frames = attempt(Kind.LIST_FORMAT, path, found, frame_list, path, key, value)
        if name not in lengths:
            message = f"no recording is called {key!r}{nearest(name, lengths)}"
            found.append(Kind.UNKNOWN_RECORDING.at(path, message))
            continue
        if frames is None:
            continue
        if len(frames) < len(value):
            message = f"{len(value) - len(frames)} frames of {key!r} are listed twice"
            found.append(Kind.LISTED_TWICE.at(path, message))
        length = lengths[name]
        if length is not None:
            outside = frames[(frames < 0) | (frames >= length)]
            if outside.size:
                message = f"{key!r} has {length} frames ({outside.size} listed are outside)"
                found.append(Kind.OUTSIDE.at(path, message, outside[0]))
            frames = frames[(frames >= 0) & (frames < length)]
        lists[name] = frames
    return lists


def _check_overlap(
    folder: Path,
    name: str,
    lists: Mapping[str, Ints],
    seconds: Ints | None,
    spec: WindowSpec,
    found: list[Fault],
) -> None:
    """Frames in two lists; windows of one list that hold frames or seconds of the other."""
    first, second = lists
    both = np.intersect1d(lists[first], lists[second])
    if both.size:
        message = f"{both.size} frames of {name} are in {first} as well"
        found.append(Kind.IN_TWO_LISTS.at(list_file(folder, second), message, both[0]))
        return
    for split, other in permutations(lists):
        reach = _reaching(lists[split], lists[other], seconds, spec)
        if reach.size:
            message = (
                f"{reach.size} {split} windows of {name} reach back into {other} frames or "
                f"seconds; a gap of {spec.seconds:g} s between the lists would prevent it"
            )
            found.append(Kind.REACHES_BACK.at(list_file(folder, split), message, reach[0]))


def _reaching(mine: Ints, theirs: Ints, seconds: Ints | None, spec: WindowSpec) -> Ints:
    """Frames of `mine` whose clip or current window holds a frame or a second of `theirs`."""
    reaching = distance_back(mine, theirs) <= (spec.frames - 1) * spec.stride
    if seconds is not None and (np.diff(seconds) >= 0).all():
        current = spec.current_samples / spec.plant.current_rate
        reaching |= distance_back(seconds[mine], seconds[theirs]) < current
    return mine[reaching]


def distance_back(mine: Ints, theirs: Ints, clock: Ints | None = None) -> NDArray[np.float64]:
    """(n,) from each of `mine` back to the last of `theirs` that is not after it (both sorted).

    Args:
        mine: (n,) positions.
        theirs: (m,) positions.
        clock: (N,) second of each position; without it, the distance is counted in positions.

    Returns:
        infinite where none of `theirs` is before.
    """
    if not len(theirs):
        return np.full(len(mine), np.inf)
    place = np.searchsorted(theirs, mine, side="right") - 1
    last = theirs[place]
    distance = mine - last if clock is None else clock[mine] - clock[last]
    return np.where(place >= 0, distance.astype(np.float64), np.inf)

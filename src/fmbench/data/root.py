"""A folder of recordings and its split lists.

Layouts: official-format section 4, the older single-file one of 4.1, and simulated folders whose
frames are rendered on demand.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from fmbench.data.recording import MatRecording, Recording, SingleFileRecording
from fmbench.data.video_recording import VideoRecording
from fmbench.errors import nearest
from fmbench.files.yaml_json import read_json
from fmbench.format.columns import currents_file, timestamps_file
from fmbench.format.lists import SPLITS, list_file, read_list
from fmbench.format.mat import mat_files, stem
from fmbench.format.names import as_known, same_name
from fmbench.format.plant import read_plant
from fmbench.format.video import video_files
from fmbench.types import BENCHMARK, Plant

Part = Literal["pixel-level", "class-level", "unlabelled"]


@dataclass(frozen=True)
class Root:
    """Recordings sorted by name, and which frames belong to which split.

    Attributes:
        folder: the part's folder, `<root>/pixel-level` or the like.
        part: its kind.
        recordings: sorted by name.
        splits: for train, test and, where the root has one, val: recording name to (n,) sorted
            frame positions. A recording may be in some splits only.
        manifest: what the simulator wrote about itself; empty for real recordings.
        plant: rates, channels and classes of the data set.
    """

    folder: Path
    part: Part
    recordings: tuple[Recording, ...]
    splits: Mapping[str, Mapping[str, NDArray[np.int64]]]
    manifest: Mapping[str, Any]
    plant: Plant = BENCHMARK

    @property
    def synthetic(self) -> bool:
        return bool(self.manifest.get("synthetic")) or any(r.synthetic for r in self.recordings)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over names, sizes of files and frames, lists, CSV files, manifest and plant.

        The package versions in the manifest do not count; a root.yaml counts by what it says.
        """
        digest = hashlib.sha256(self.part.encode())
        for recording in self.recordings:
            size = recording.source.stat().st_size if recording.source.is_file() else 0
            facts = (recording.name, recording.num_frames, *recording.size, size)
            digest.update(repr(facts).encode())
            for file in (timestamps_file, currents_file):
                path = file(self.folder, recording.name)
                digest.update(path.read_bytes() if path.is_file() else b"")
        for split, lists in sorted(self.splits.items()):
            for name, frames in sorted(lists.items()):
                digest.update(f"{split}/{name}".encode() + frames.tobytes())
        facts_of_set = {key: value for key, value in self.manifest.items() if key != "versions"}
        digest.update(json.dumps(facts_of_set, sort_keys=True).encode())
        if self.plant != BENCHMARK:
            digest.update(repr(self.plant).encode())
        return digest.hexdigest()


def open_root(root: str | Path, part: str = "pixel-level") -> Root:
    """Open `root`, which holds `pixel-level/` (or another part) or is itself such a folder.

    Raises:
        ValueError: no such folder or part, no recordings in it, or a file that cannot be used.
    """
    folder = part_folder(root, part)
    recordings: Sequence[Recording] = [opened() for _, opened in recordings_of(folder)]
    if not recordings:
        raise ValueError(
            f"{folder} holds no recordings; expected videos/*.mat (or .mkv, .mp4), or run "
            "`fmbench data simulate --out DIR` to make a simulated set"
        )
    _check_names(folder, [recording.name for recording in recordings])
    if isinstance(recordings[0], SingleFileRecording):
        splits = _splits_of_single_files(recordings)
    else:
        lengths = {recording.name: recording.num_frames for recording in recordings}
        lists = {split: read_list(list_file(folder, split), lengths) for split in SPLITS}
        splits = {split: each for split, each in lists.items() if each}
    kind: Part = part  # type: ignore[assignment]  # part_folder has checked it
    manifest, plant = read_manifest(folder), read_plant(folder)
    return Root(folder, kind, tuple(recordings), splits, manifest, plant)


def recordings_of(folder: Path) -> Iterator[tuple[str, Callable[[], Recording]]]:
    """Name of each recording of a part, by name, and what opens it."""
    if (videos := folder / "videos").is_dir():
        yield from sorted(
            [(stem(path.name), partial(MatRecording, path, folder)) for path in mat_files(videos)]
            + [
                (stem(path.name), partial(VideoRecording, path, folder))
                for path in video_files(videos)
            ],
            key=lambda each: each[0],
        )
    elif is_rendered(folder):
        from fmbench.simulator import open_lazy

        for name in sorted(stem(path.name) for path in (folder / "timestamps").glob("*.csv")):
            yield name, partial(open_lazy, folder, name)
    else:
        for path in mat_files(folder):
            yield stem(path.name), partial(SingleFileRecording, path, folder)


def part_with(root: str | Path, name: str, first: str) -> str:
    """The part of `root` that has a recording; `first` where `root` is itself a part.

    Args:
        root: a data set's folder.
        name: the recording.
        first: the part to search first.

    Raises:
        ValueError: no part has it.
    """
    parts: list[str] = list(dict.fromkeys([first, *get_args(Part)]))
    names = {
        part: [each for each, _ in recordings_of(Path(root) / part)]
        for part in parts
        if (Path(root) / part).is_dir()
    }
    if not names:
        return first
    for part, known in names.items():
        if as_known(name, known) in known:
            return part
    every = [each for known in names.values() for each in known]
    listed = "; ".join(f"{part}: {_shortened(known)}" for part, known in names.items())
    raise ValueError(
        f"no recording is called {name!r}{nearest(name, every)}\n{root} has {listed or 'none'}"
    )


def _shortened(names: Sequence[str], most: int = 6) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return (", ".join(names[:most]) or "no recording") + more


def part_folder(root: str | Path, part: str = "pixel-level") -> Path:
    """The folder of a part below `root`, or `root` where it is that folder.

    Raises:
        ValueError: an unknown part, or no such folder.
    """
    known = get_args(Part)
    if part not in known:
        raise ValueError(
            f"no part is called {part!r}{nearest(part, known)}. Allowed: {', '.join(known)}"
        )
    root = Path(root)
    if not root.is_dir():
        raise ValueError(
            f"no such folder: {root}. Give the benchmark's folder, or run "
            "`fmbench data simulate --out DIR` to make a simulated set"
        )
    if (root / part).is_dir():
        return root / part
    others = [name for name in known if (root / name).is_dir()]
    if others or (root.name in known and root.name != part):
        raise ValueError(f"{root} has no part {part}; it has {', '.join(others) or root.name}")
    return root


def read_manifest(folder: Path) -> dict[str, Any]:
    """`manifest.json` of a simulated set, beside the part or in it; empty where there is none."""
    for path in (folder.parent / "manifest.json", folder / "manifest.json"):
        if path.is_file():
            manifest = read_json(path)
            if not isinstance(manifest, dict):
                raise ValueError(f"{path}: expected one object")
            return manifest
    return {}


def is_rendered(folder: Path) -> bool:
    """Whether a part's frames are rendered on demand."""
    if not (folder / "timestamps").is_dir():
        return False
    from fmbench.simulator import is_lazy

    return bool(is_lazy(folder))


def _check_names(folder: Path, names: Sequence[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if same_name(name) in seen:
            raise ValueError(f"{folder}: two recordings are called {name!r}")
        seen.add(same_name(name))


def _splits_of_single_files(
    recordings: Sequence[Recording],
) -> dict[str, dict[str, NDArray[np.int64]]]:
    single = [recording for recording in recordings if isinstance(recording, SingleFileRecording)]
    return {
        split: {r.name: np.flatnonzero(r.split == code) for r in single}
        for code, split in ((0, "train"), (1, "test"))
    }

"""Simulated data sets in the benchmark's format, complete or absent."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmbench.errors import nearest
from fmbench.files.staging import staged
from fmbench.format import columns, lists, mat
from fmbench.simulator import partition
from fmbench.simulator.camera import Camera
from fmbench.simulator.lazy import MANIFEST, simulate_entry
from fmbench.simulator.process import Run, simulate
from fmbench.simulator.settings import SIM_VERSION, SimConfig, Stream
from fmbench.simulator.sidecar import SIDECAR, write_sidecar

Progress = Callable[[int, int, str], None]
_BLOCK = 1000  # frames rendered and written at a time
SEARCHED = 3600  # s of footage, at least, that are searched for a balanced stretch
FIRST_NUMBER = {"train": 0, "val": 100_000, "test": 200_000}  # of a part's recordings: disjoint
CLASS_LEVEL_NUMBER = 1_000_000
BALANCE = "the stretch nearest to 0.519 abnormal within 3 times the length, at least an hour"
NOTE = (
    "Synthetic data. They say whether the code learns and how methods behave under controlled "
    "disturbances; they are not results on the fused magnesium benchmark."
)


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A data set by name.

    Attributes:
        train, val, test: recordings of each part where whole recordings are held out.
        seconds: length of the recordings, repeated as needed.
        frames: exact number of frames in each; None draws it.
        split: the default rule.
        balanced: cut each recording where the abnormal share is nearest to Table I's.
        every: list every n-th frame; neighbours are near duplicates.
        lazy_only: too large for frame files.
    """

    train: int
    test: int
    val: int = 0
    seconds: tuple[int, ...]
    frames: tuple[int | None, ...] = (None,)
    split: str = "by_recording"
    balanced: bool = True
    every: int = 1
    lazy_only: bool = False


PRESETS: dict[str, Preset] = {
    "tiny": Preset(train=1, test=1, seconds=(300,)),
    "small": Preset(train=4, val=1, test=1, seconds=(600,)),
    "paper": Preset(
        train=2,
        test=1,
        seconds=(1298, 3598, 5993),
        frames=(31_826, 89_937, 148_158),
        split="official",
    ),
    "wide": Preset(
        train=240, val=40, test=120, seconds=(900,), balanced=False, every=5, lazy_only=True
    ),
}


def write_dataset(
    root: Path,
    *,
    preset: str = "small",
    seed: int = 0,
    version: int = SIM_VERSION,
    split: str | None = None,
    lazy: bool = False,
    class_level: bool = False,
    progress: Progress | None = None,
    overrides: Mapping[str, object] | None = None,
) -> None:
    """Simulate a data set into the new folder `root`, in the benchmark's format.

    Args:
        root: a folder that does not exist yet, or is empty.
        preset: tiny, small, paper or wide.
        seed: of every random stream.
        version: of the simulator: 1 for the random streams and knobs of simulator version 1.
        split: official, strict or by_recording; None takes the preset's.
        lazy: write no frame files; frames are rendered when they are read. `wide` is always lazy.
        class_level: also write class-level/: as many further recordings, labels without masks.
        progress: called with frames done, frames in all, and the recording's name.
        overrides: dotted knobs, for instance `{"process.beta": 0}`.

    Raises:
        ValueError: an unknown preset, version, split or knob, recordings too short for the split,
            or a root that is not empty.
    """
    if preset not in PRESETS:
        raise ValueError(
            f"no preset is called {preset!r}{nearest(preset, PRESETS)}. Known: {', '.join(PRESETS)}"
        )
    plan = PRESETS[preset]
    lazy = lazy or plan.lazy_only
    if lazy and class_level:
        raise ValueError("a lazy data set has no class-level part; write it with lazy off")
    rule = split or plan.split
    partition.check_rule(rule)
    config = SimConfig.of_version(version, seed).with_overrides(overrides or {})
    with staged(Path(root)) as folder:
        entries = {"pixel-level": _entries(config, plan, rule, 0)}
        if class_level:
            entries["class-level"] = _entries(config, plan, rule, CLASS_LEVEL_NUMBER)
        total = sum(e["frames"] for part in entries.values() for e in part.values())
        done = 0
        for part, recordings in entries.items():
            listed: dict[str, partition.Ranges] = {}
            for place, (name, entry) in enumerate(recordings.items()):

                def advance(frames: int, name: str = name, before: int = done) -> None:
                    if progress:
                        progress(before + frames, total, name)

                run = simulate_entry(config, entry)
                _write_recording(folder, part, name, run, lazy, not plan.lazy_only, advance)
                done += entry["frames"]
                advance(entry["frames"])
                for kind, frames in _ranges(run, entry, rule, place).items():
                    listed.setdefault(kind, {})[name] = frames[:: plan.every]
            for kind, ranges in listed.items():
                lists.write_list(lists.list_file(folder / part, kind), ranges)
        manifest = {
            "synthetic": True,
            "note": NOTE,
            "sim_version": version,
            "seed": seed,
            "preset": preset,
            "split": rule,
            "balance": BALANCE if plan.balanced else "natural",
            "listed_every": plan.every,
            "lazy": lazy,
            "image_size": [64, 64],
            "versions": {"numpy": np.__version__, "fmbench": metadata.version("fmformer-bench")},
            "config": config.to_dict(),
            "plan": asdict(plan),
            "recordings": entries,
            "files": _checksums(folder),
        }
        (folder / MANIFEST).write_text(json.dumps(manifest, indent=1))


def _entries(config: SimConfig, plan: Preset, rule: str, first: int) -> dict[str, dict[str, Any]]:
    """What determines each recording, by name."""
    places = [
        (part, FIRST_NUMBER[part] + i)
        for part, count in (("train", plan.train), ("val", plan.val), ("test", plan.test))
        for i in range(count)
    ]
    found = {}
    for place, (part, number) in enumerate(places):
        seconds = plan.seconds[place % len(plan.seconds)]
        exactly = plan.frames[place % len(plan.frames)]
        recording = first + number
        if plan.balanced:
            block = {
                "official": partition.OFFICIAL[place % len(partition.OFFICIAL)],
                "strict": partition.STRICT[-1],
                "by_recording": 0.0,
            }[rule]
            footage = simulate(config, recording, max(3 * seconds, SEARCHED))
            start = partition.balanced_start(footage, seconds, block)
        else:  # well after the first event, at no fixed time from it
            start = int(config.stream(recording, Stream.START).integers(300, 900))
        run = simulate(config, recording, seconds, start=start, frames=exactly)
        found[_name(run)] = {
            "recording": recording,
            "part": part if rule == "by_recording" else "all",
            "seconds": seconds,
            "start": start,
            "exactly": exactly,
            "frames": len(run),
        }
    return found


def _name(run: Run) -> str:
    """Like the release's `SaveToAvi-4-19-21_40_52-6002`: month, day, time, a number."""
    date, time = str(run.seconds[0]).split("T")
    _, month, day = date.split("-")
    return f"SIM-{int(month)}-{int(day)}-{time.replace(':', '_')}-{6000 + run.recording}"


def _ranges(run: Run, entry: Mapping[str, Any], rule: str, place: int) -> partition.Ranges:
    if rule == "official":
        return partition.official_ranges(run, place)
    if rule == "strict":
        return partition.strict_ranges(run)
    return {entry["part"]: np.arange(len(run))}


def _write_recording(
    folder: Path,
    part: str,
    name: str,
    run: Run,
    lazy: bool,
    sidecar: bool,
    advance: Callable[[int], None],
) -> None:
    seconds = run.seconds.astype(np.int64)
    samples = run.currents.reshape(len(seconds), -1, 3)
    columns.write_currents(columns.currents_file(folder / part, name), seconds, samples)
    times = columns.timestamps_file(folder / part, name)
    columns.write_timestamps(times, seconds[run.frame_seconds])
    if not lazy:
        path, camera = mat.video_file(folder / part, name), Camera(run)
        labels: mat.Labels = "masks" if part == "pixel-level" else "classes"
        blocks = _blocks(camera, labels == "masks", advance)
        mat.write_mat(path, len(camera), camera.size, blocks, labels=labels, synthetic=True)
    if sidecar:
        write_sidecar(folder / SIDECAR, name, Camera(run))


def _blocks(
    camera: Camera, dense: bool, advance: Callable[[int], None]
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.bool_]]]:
    """Frames (n, 3, H, W), and their masks (n, H, W) or classes (n,)."""
    for at in range(0, len(camera), _BLOCK):
        index = np.arange(at, min(at + _BLOCK, len(camera)))
        yield camera.frames(index), camera.masks(index) if dense else camera.labels(index)
        advance(int(index[-1]) + 1)


def _checksums(folder: Path) -> dict[str, str]:
    found = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256")
        found[str(path.relative_to(folder))] = digest.hexdigest()
    return found

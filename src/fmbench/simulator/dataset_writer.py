"""Simulated data sets in the benchmark's own files, complete or not there at all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from fmbench.errors import nearest
from fmbench.files.staging import staged
from fmbench.simulator import partition
from fmbench.simulator.lazy import MANIFEST, simulate_entry
from fmbench.simulator.process import Run, simulate
from fmbench.simulator.render import Camera
from fmbench.simulator.settings import SIM_VERSION, SimConfig, Stream
from fmbench.simulator.sidecar import SIDECAR, write_sidecar

Progress = Callable[[int, int, str], None]
BLOCK = 1000  # frames rendered and written at a time
SEARCHED = 3600  # s of footage, at least, in which a balanced stretch is looked for
FIRST_NUMBER = {"train": 0, "val": 100_000, "test": 200_000}  # of a recording: never shared
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
        frames: exactly so many frames in each; None: as it falls.
        split: the default rule.
        balanced: cut each recording where the abnormal share is nearest to Table I's.
        every: list every so many frames; neighbours are near duplicates.
        lazy_only: too large for files.
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
        train=240, val=40, test=40, seconds=(900,), balanced=False, every=5, lazy_only=True
    ),
}


def write_dataset(
    root: Path,
    *,
    preset: str = "small",
    seed: int = 0,
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
        split: official, strict or by_recording; None: the preset's own.
        lazy: no frame files; frames are rendered when they are read. `wide` is always so.
        class_level: also write class-level/: as many further recordings, labels without masks.
        progress: called with frames done, frames in all, and what is being made.
        overrides: dotted knobs, for instance `{"process.beta": 0}`.

    Raises:
        ValueError: an unknown preset, split or knob, recordings too short for the split, or a root
            that already holds something.
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
    partition.check(rule)
    config = SimConfig(seed=seed).with_overrides(overrides or {})
    with staged(Path(root)) as folder:
        entries = {"pixel-level": _entries(config, plan, rule, 0)}
        if class_level:
            entries["class-level"] = _entries(config, plan, rule, CLASS_LEVEL_NUMBER)
        total = sum(e["frames"] for part in entries.values() for e in part.values())
        done = 0
        for part, recordings in entries.items():
            lists: dict[str, dict[str, list[int]]] = {}
            for place, (name, entry) in enumerate(recordings.items()):

                def advance(frames: int, name: str = name, before: int = done) -> None:
                    if progress:
                        progress(before + frames, total, name)

                run = simulate_entry(config, entry)
                _write_recording(folder, part, name, run, lazy, not plan.lazy_only, advance)
                done += entry["frames"]
                advance(entry["frames"])
                for kind, frames in _ranges(run, entry, rule, place).items():
                    listed = frames[:: plan.every].tolist()
                    lists.setdefault(kind, {})[f"{name}.mat"] = listed
            for kind, listed in lists.items():
                (folder / part / f"{kind}.json").write_text(json.dumps(listed))
        manifest = {
            "synthetic": True,
            "note": NOTE,
            "sim_version": SIM_VERSION,
            "seed": seed,
            "preset": preset,
            "split": rule,
            "balance": BALANCE if plan.balanced else "natural",
            "listed_every": plan.every,
            "lazy": lazy,
            "image_size": [64, 64],
            "versions": {"numpy": np.__version__, "fmbench": version("fmformer-bench")},
            "config": config.to_dict(),
            "plan": asdict(plan),
            "recordings": entries,
            "files": _checksums(folder),
        }
        (folder / MANIFEST).write_text(json.dumps(manifest, indent=1))


def _entries(config: SimConfig, plan: Preset, rule: str, first: int) -> dict[str, dict[str, Any]]:
    """What each recording is made from, by name."""
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
        else:  # well after the first event, and at no fixed time from it
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
    date, clock = str(run.seconds[0]).split("T")
    _, month, day = date.split("-")
    return f"SIM-{int(month)}-{int(day)}-{clock.replace(':', '_')}-{6000 + run.recording}"


def _ranges(run: Run, entry: Mapping[str, Any], rule: str, place: int) -> partition.Ranges:
    if rule == "official":
        return partition.official(run, place)
    if rule == "strict":
        return partition.strict(run)
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
    clock = [str(second).replace("T", " ") for second in run.seconds]
    rows = [f"{second},%.6g,%.6g,%.6g\n" * 2 for second in clock]
    _text(
        folder / part / "currents" / f"{name}.csv",
        "time,A,B,C\n" + "".join(rows) % tuple(run.currents.ravel().tolist()),
    )
    stamps = (f"{s}\n" * n for s, n in zip(clock, run.frame_counts.tolist(), strict=True))
    _text(folder / part / "timestamps" / f"{name}.csv", "time\n" + "".join(stamps))
    if not lazy:
        path = folder / part / "videos" / f"{name}.mat"
        path.parent.mkdir(exist_ok=True)
        _write_mat(path, Camera(run), part == "pixel-level", advance)
    if sidecar:
        write_sidecar(folder / SIDECAR, name, Camera(run))


def _write_mat(path: Path, camera: Camera, dense: bool, advance: Callable[[int], None]) -> None:
    """`data` (T, 3, W, H) and `label` (T, W, H), or (T, 1, 1) where only the class is kept.

    Frames are stored plainly, in order; chunks of the label have one fixed shape, so that no layout
    depends on the label.
    """
    count, (height, width) = len(camera), camera.size
    shape = (width, height) if dense else (1, 1)
    with h5py.File(path, "w") as file:
        file.attrs["synthetic"] = 1
        data = file.create_dataset("data", (count, 3, width, height), np.uint8)
        label = file.create_dataset(
            "label",
            (count, *shape),
            np.uint8,
            chunks=(min(25, count), *shape),
            compression="gzip",
            compression_opts=1,
        )
        for at in range(0, count, BLOCK):
            index = np.arange(at, min(at + BLOCK, count))
            data[at : at + BLOCK] = camera.frames(index).swapaxes(2, 3)
            if dense:
                label[at : at + BLOCK] = camera.masks(index).swapaxes(1, 2)
            else:
                label[at : at + BLOCK] = camera.labels(index)[:, None, None]
            advance(int(index[-1]) + 1)


def _text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _checksums(folder: Path) -> dict[str, str]:
    found = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256")
        found[str(path.relative_to(folder))] = digest.hexdigest()
    return found

"""`fmbench data simulate`, `data check`, `data stats`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from fmbench.config.hints import Folder
from fmbench.files.yaml_json import from_yaml
from fmbench.format.video import Codec
from fmbench.progress import progress_bar
from fmbench.simulator import SIM_VERSION, write_dataset

DEFAULT_ROOT = Path("data/sim")


def simulate(
    *,
    preset: str = "small",
    seed: int = 0,
    version: int = SIM_VERSION,
    out: Folder = DEFAULT_ROOT,
    split: str | None = None,
    lazy: bool = False,
    set: Annotated[Sequence[str], "NAME=VALUE"] = (),
) -> int:
    """Write a simulated data set in the benchmark's format.

    Args:
        version: of the simulator; 1 makes the data of earlier releases.
        out: the folder to make.
        set: change the simulator, e.g. process.beta=0; may be repeated.
    """
    overrides = dict(_assignment(text) for text in set)
    write(
        out,
        preset=preset,
        seed=seed,
        version=version,
        split=split,
        lazy=lazy,
        overrides=overrides,
    )
    print(f"{out}: synthetic (simulator v{version}), preset {preset}, seed {seed}")
    return 0


def check(root: Path) -> int:
    """List every fault of a data set, with file and row.

    The exit status is 1 if one of them is more than a warning.
    """
    from fmbench.prepare.check import check_root

    faults = check_root(root)
    for fault in faults:
        print(fault)
    warnings = sum(fault.warning for fault in faults)
    wrong = len(faults) - warnings
    print(f"{root}: {wrong or 'no'} fault{'s' * (wrong != 1)}, {warnings or 'no'} warnings")
    return int(wrong > 0)


def pack(root: Path, *, out: Folder, codec: Codec = "ffv1") -> int:
    """Copy a data set with a compressed video in place of each recording's raw frames.

    Everything reads such a set like any other. Frames that are read back are compared.

    Args:
        root: the data set's folder.
        out: the folder to make.
        codec: ffv1 without loss, in .mkv; h264 with some loss, in .mp4.
    """
    from fmbench.prepare.check import part_folders
    from fmbench.prepare.pack import pack

    with progress_bar("packing") as show:
        packed = pack(root, part_folders(root), out, codec, progress=show)
    print(
        f"{out}: {packed.recordings} recordings, {packed.frames} frames; videos"
        f" {packed.videos / 1e6:.1f} MB, {100 * packed.videos / packed.raw:.1f} % of"
        f" {packed.raw / 1e6:.1f} MB of raw frames; masks {packed.masks / 1e6:.1f} MB; "
        + (f"error {packed.error:.2f} grey levels (RMS)" if packed.error else "without loss")
    )
    return 0


def stats(root: Path) -> int:
    """Print the paper's Table I for a data set, then its splits and recordings.

    Args:
        root: the data set's folder.
    """
    from fmbench.data import FurnaceData
    from fmbench.data.root import Part
    from fmbench.prepare.frames_by_class import table_of_recordings, table_of_splits, table_one

    parts: tuple[Part, ...] = ("pixel-level", "class-level")
    for part in parts:
        if (root / part).is_dir() or root.name == part:
            print(FurnaceData(root=root, part=part).description)
    for table in (table_one, table_of_splits, table_of_recordings):
        print(f"\n{table(root).to_string(index=table is table_one)}")
    return 0


def ensure(root: Path, *, own_root: bool) -> None:
    """Make the default simulated set if `root` does not exist and the user did not name it.

    Raises:
        ValueError: the user named a folder that does not exist.
    """
    if root.is_dir():
        return
    if own_root:
        raise ValueError(f"--data.root {root}: no such folder")
    from fmbench.training.console import say

    say(f"no data yet: making the default simulated set (wide, lazy, seed 0) in {root}")
    try:
        write(root, preset="wide", seed=0, lazy=True)
    except ValueError:
        if not root.is_dir():  # else another command made it in the meantime
            raise


def ensure_given(data: Mapping[str, Any]) -> Path:
    """`ensure` the root that the given `--data.*` options name, or the default one; returns it."""
    root = Path(data.get("root", DEFAULT_ROOT))
    ensure(root, own_root="root" in data)
    return root


def write(root: Path, **settings: Any) -> None:
    """`write_dataset` with a progress bar on a terminal and plain lines elsewhere."""
    with progress_bar("simulating") as show:
        write_dataset(root, progress=show, **settings)


def _assignment(text: str) -> tuple[str, Any]:
    """Split `process.beta=0` into a name and a value."""
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"--set {text}: write NAME=VALUE, such as process.beta=0")
    return name, from_yaml(value, f"--set {name}")

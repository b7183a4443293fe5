"""`fmbench data simulate`, `data check`, `data stats`, `data select`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fmbench.cli.bar import progress
from fmbench.config.parser import Parser
from fmbench.errors import nearest
from fmbench.files.yaml_json import from_yaml
from fmbench.simulator import PRESETS, write_dataset

DEFAULT_ROOT = "data/sim"


def simulate(argv: list[str]) -> int:
    """Write a simulated data set in the benchmark's format."""
    parser = Parser("data simulate", "Write a simulated data set in the benchmark's format.")
    parser.option("preset", str, "small", f"how much: {', '.join(PRESETS)}")
    parser.option("seed", int, 0, "of every draw")
    parser.option("out", str, DEFAULT_ROOT, "the folder to make", metavar="DIR")
    parser.option("split", str | None, None, "how test is parted off (default: by preset)")
    parser.flag("lazy", "write no frames: draw them when they are read")
    parser.repeated("set", "change the simulator, e.g. process.beta=0", metavar="NAME=VALUE")
    values, _ = parser.values(argv)
    preset = values["preset"]
    if preset not in PRESETS:
        known = ", ".join(PRESETS)
        raise ValueError(f"--preset is {preset!r}{nearest(preset, PRESETS)}\nPresets: {known}")
    root = Path(values["out"])
    write(
        root,
        preset=preset,
        seed=values["seed"],
        split=values["split"],
        lazy=values["lazy"],
        overrides=dict(_assignment(text) for text in values["set"] or []),
    )
    print(f"{root}: synthetic, preset {preset}, seed {values['seed']}")
    return 0


def check(argv: list[str]) -> int:
    """Every fault of a data set, with file and row; the status is 1 if there is one that is more
    than a warning."""
    root = _root("data check", "Every fault of a data set, with file and row.", argv)
    from fmbench.prepare.check import check_root

    faults = check_root(root)
    for fault in faults:
        print(fault)
    warnings = sum(fault.warning for fault in faults)
    wrong = len(faults) - warnings
    print(f"{root}: {wrong or 'no'} fault{'s' * (wrong != 1)}, {warnings or 'no'} warnings")
    return int(wrong > 0)


def stats(argv: list[str]) -> int:
    """The paper's Table I for a data set, then its splits and recordings."""
    root = _root("data stats", "The paper's Table I for a data set.", argv)
    from fmbench.data import FurnaceData
    from fmbench.data.root import Part
    from fmbench.prepare import counts

    parts: tuple[Part, ...] = ("pixel-level", "class-level")
    for part in parts:
        if (root / part).is_dir() or root.name == part:
            print(FurnaceData(root=root, part=part).description)
    for table in (counts.table_one, counts.table_of_splits, counts.table_of_recordings):
        print(f"\n{table(root).to_string(index=table is counts.table_one)}")
    return 0


def ensure(root: Path, *, own_root: bool) -> None:
    """A data root: the default simulated set is made where there is none and none was named.

    Raises:
        ValueError: the user named a folder that is not there.
    """
    if root.is_dir():
        return
    if own_root:
        raise ValueError(f"--data.root {root}: no such folder")
    from fmbench.training.console import say

    say(f"no data yet: making the default simulated set (wide, lazy, seed 0) in {root}")
    write(root, preset="wide", seed=0, lazy=True)


def write(root: Path, **settings: Any) -> None:
    """`write_dataset` with a progress bar on a terminal and plain lines elsewhere."""
    with progress("simulating") as show:
        write_dataset(root, progress=show, **settings)


def _assignment(text: str) -> tuple[str, Any]:
    """`process.beta=0` as a name and a value."""
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"--set {text}: write NAME=VALUE, such as process.beta=0")
    return name, from_yaml(value, f"--set {name}")


def select(argv: list[str]) -> int:
    """Write the lists of train, val and test frames of every labelled part."""
    from fmbench.data.windows import WindowSpec
    from fmbench.prepare.counts import labelled, table_of_splits, table_one
    from fmbench.prepare.select import SHARES, By, write_lists
    from fmbench.prepare.select import select as chosen

    parser = Parser(
        "data select",
        "Which frames train, validate and test: contiguous blocks with guards between, about one"
        " normal frame for each abnormal one. Writes train.json, val.json and test.json.",
        "ROOT ",
    )
    parser.add_argument("root", help="the data set's folder")
    option = parser.option
    option("by", By | None, None, "time: blocks of each recording; recording: whole ones")
    option("shares", str, ",".join(map(str, SHARES)), "of train, val and test")
    option("guard_seconds", float | None, None, "between blocks (default: the longest window)")
    option("ratio", float, 1.0, "normal frames for each abnormal one; 0 keeps all")
    option("seed", int, 0, "of the order in which recordings and events are drawn")
    option("replace", bool, False, "write over lists that are there", action="store_true")
    values, _ = parser.values(argv)
    root = Path(values["root"])
    if not root.is_dir():
        raise ValueError(f"{root}: no such folder")
    window = WindowSpec().seconds
    guard = window if values["guard_seconds"] is None else values["guard_seconds"]
    if guard < window:
        print(f"note: {guard:g} s of guard are less than a window of {window:g} s; windows overlap")
    if values["ratio"] < 0:
        raise ValueError(f"--ratio is {values['ratio']:g}; it must be at least 0")
    try:
        shares = [float(share) for share in values["shares"].split(",")]
    except ValueError:
        raise ValueError(f"--shares is {values['shares']!r}; write 0.7,0.15,0.15") from None
    for part in labelled(root):
        found = chosen(
            part,
            by=values["by"],
            shares=shares,
            guard_seconds=guard,
            ratio=values["ratio"] or None,
            seed=values["seed"],
        )
        for path in write_lists(part.folder, found, replace=values["replace"]):
            print(path)
        if found.dropped:
            print(f"{part.part}: {found.dropped} events left out whole, to come to the ratio")
        if found.longest_normal is not None:
            print(f"{part.part}: normal stretches of at most {found.longest_normal} frames")
    for table in (table_one, table_of_splits):
        print(f"\n{table(root).to_string(index=table is table_one)}")
    return 0


def _root(command: str, description: str, argv: list[str]) -> Path:
    """The one argument of a command that reads a data set."""
    parser = Parser(command, description, "ROOT ")
    parser.add_argument("root", help="the data set's folder")
    root = Path(parser.values(argv)[0]["root"])
    if not root.is_dir():
        raise ValueError(f"{root}: no such folder")
    return root

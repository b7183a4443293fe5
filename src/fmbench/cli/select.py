"""`fmbench data select`."""

from __future__ import annotations

from pathlib import Path

from fmbench.data.windows import WindowSpec
from fmbench.prepare.frames_by_class import labelled, table_of_splits, table_one
from fmbench.prepare.select import SHARES, By, write_lists
from fmbench.prepare.select import select as select_frames


def select(
    root: Path,
    *,
    by: By | None = None,
    shares: str = ",".join(map(str, SHARES)),
    guard_seconds: float | None = None,
    ratio: float = 1.0,
    seed: int = 0,
    replace: bool = False,
) -> int:
    """Choose the frames that train, validate and test.

    Contiguous blocks with guards between them, about one normal frame for each abnormal one, and no
    event cut. Writes train.json, val.json and test.json of every labelled part.

    Args:
        root: the data set's folder.
        by: time: blocks of each recording; recording: whole ones (default: by their number).
        guard_seconds: seconds between blocks (default: the longest window).
        ratio: normal frames for each abnormal one; 0 keeps all.
        replace: overwrite existing lists.
    """
    if ratio < 0:
        raise ValueError(f"--ratio is {ratio:g}; it must be at least 0")
    try:
        parts = [float(share) for share in shares.split(",")]
    except ValueError:
        raise ValueError(f"--shares is {shares!r}; write 0.7,0.15,0.15") from None
    for part in labelled(root):
        window = WindowSpec(plant=part.plant).seconds
        guard = window if guard_seconds is None else guard_seconds
        if guard < window:
            note = f"{guard:g} s of guard are less than a window of {window:g} s"
            print(f"note: {note}; windows overlap")
        found = select_frames(
            part,
            by=by,
            shares=parts,
            guard_seconds=guard,
            ratio=ratio or None,
            seed=seed,
        )
        for path in write_lists(part.folder, found, replace=replace):
            print(path)
        if found.dropped:
            print(f"{part.part}: {found.dropped} events left out whole, to reach the ratio")
        if found.longest_normal is not None:
            seconds = found.longest_normal / part.plant.frame_rate
            print(f"{part.part}: normal stretches of at most {seconds:.0f} s")
        for note in found.notes:
            print(f"note: {part.part}: {note}")
    for table in (table_one, table_of_splits):
        print(f"\n{table(root).to_string(index=table is table_one)}")
    return 0

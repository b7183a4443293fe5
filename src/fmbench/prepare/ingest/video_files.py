"""The video files that `--video` names, their order, and the date and time in their names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from glob import glob
from pathlib import Path

_DATED = re.compile(
    r"(?<!\d)(20\d\d)[-_.]?(\d\d)[-_.]?(\d\d)[-_.T ]*(\d\d)[-_.:h]?(\d\d)[-_.:m]?(\d\d)(?!\d)"
)


def find_videos(given: Sequence[str | Path]) -> list[Path]:
    """Files in the order in which they continue each other.

    Files of a folder or pattern are ordered by the date and time in their names if all have one,
    else by name, 2 before 10; files named one by one keep their order.

    Args:
        given: files, folders and patterns such as `cam/*.ts`.

    Raises:
        ValueError: there is no such file, a folder or pattern without any, or a file twice.
    """
    found: list[Path] = []
    for each in given:
        path = Path(each)
        if path.is_dir():
            inside = [file for file in path.iterdir() if not file.name.startswith(".")]
            found += in_order([file for file in inside if file.is_file()])
            if not found:
                raise ValueError(f"{path} holds no file")
        elif path.exists() or not re.search(r"[*?[]", str(each)):
            found.append(path)
        else:
            matching = [Path(file) for file in glob(str(each), recursive=True)]  # noqa: PTH207 -- absolute too
            if not matching:
                raise ValueError(f"{each}: no file has such a name")
            found += in_order([file for file in matching if file.is_file()])
    for path in found:
        if not path.is_file():
            raise ValueError(f"{path}: no such file")
    places = [path.resolve() for path in found]
    for k, path in enumerate(found):
        if places[k] in places[:k]:
            raise ValueError(f"{path} is given twice")
    return found


def in_order(files: Sequence[Path]) -> list[Path]:
    """By the date and time in all names, else by name with numbers as numbers."""
    dates = [dated(file) for file in files]
    if all(date is not None for date in dates) and len(set(dates)) == len(files):
        return sorted(files, key=lambda file: dated(file) or 0.0)
    return sorted(files, key=_natural)


def dated(path: Path) -> float | None:
    """Seconds since 1970 of the one date and time in a file's name, to the second; None if there is
    none, or several. `cam1_20300501_060000.mp4`, `2030-05-01 06-00-00.ts` and the like."""
    found = _DATED.findall(path.stem)
    if len(found) != 1:
        return None
    try:
        when = datetime.strptime("".join(found[0]), "%Y%m%d%H%M%S")
        return when.replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None


def _natural(path: Path) -> list[tuple[int, int, str]]:
    parts = re.split(r"(\d+)", path.name.casefold())
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]

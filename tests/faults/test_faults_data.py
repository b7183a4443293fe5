"""`fmbench data check` finds every kind of damage, and nothing in clean data sets."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from fmbench.data.windows import WindowSpec
from fmbench.prepare.check import check_root
from fmbench.simulator import write_dataset
from recordings import write_mat, write_root

SIZE = (16, 24)
SHORT = WindowSpec(frames=2, stride=1, current_samples=2)
PART, NAME = "pixel-level", "furnace-0"


def video(root: Path) -> Path:
    return root / PART / "videos" / f"{NAME}.mat"


def content(root: Path) -> tuple[np.ndarray, np.ndarray]:
    with h5py.File(video(root), "r") as file:
        return file["data"][()].swapaxes(2, 3), file["label"][()].swapaxes(1, 2)


def lines(root: Path, kind: str, change: Callable[[list[str]], object]) -> None:
    path = root / PART / kind / f"{NAME}.csv"
    rows = path.read_text().splitlines()
    change(rows)
    path.write_text("\n".join(rows) + "\n")


def swap(rows: list[str]) -> None:
    rows[10], rows[100] = rows[100], rows[10]


def lose_phase(rows: list[str]) -> None:
    rows[:] = [row.rpartition(",")[0] for row in rows]


def lose_cell(rows: list[str]) -> None:
    rows[7] = rows[7].rpartition(",")[0] + ",nan"


def truncate(root: Path) -> None:
    path = video(root)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip_a_bit_of_the_picture(root: Path) -> None:
    frames, masks = content(root)
    write_mat(video(root), frames, masks, chunked=True)
    with h5py.File(video(root), "r") as file:
        place = file["data"].id.get_chunk_info(0)
    damaged = bytearray(video(root).read_bytes())
    damaged[place.byte_offset + place.size // 2] ^= 4
    video(root).write_bytes(damaged)


def swap_axes(root: Path) -> None:
    frames, masks = content(root)
    with h5py.File(video(root), "w") as file:
        file["data"] = frames.transpose(0, 2, 3, 1)
        file["label"] = masks


def turn_masks(root: Path) -> None:
    frames, masks = content(root)
    write_mat(video(root), frames, masks.swapaxes(1, 2))


def lose_masks(root: Path) -> None:
    frames, masks = content(root)
    write_mat(video(root), frames, masks[:-3])


def odd_masks(root: Path) -> None:
    frames, masks = content(root)
    masks[40, 3, 3] = 255
    write_mat(video(root), frames, masks)


def nan_pixels(root: Path) -> None:
    frames, masks = content(root)
    frames = frames.astype(np.float32)
    frames[17, 1, 2, 3] = np.nan
    write_mat(video(root), frames, masks)


def overlap(root: Path) -> None:
    lists = [json.loads((root / PART / f"{split}.json").read_text()) for split in ("train", "test")]
    key = f"{NAME}.mat"
    lists[0][key] += lists[1][key][:3]
    (root / PART / "train.json").write_text(json.dumps(lists[0]))


DAMAGES: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "truncated video": (truncate, "videos", "is truncated"),
    "a flipped bit in compressed video": (flip_a_bit_of_the_picture, "videos", "damaged here"),
    "swapped axes": (swap_axes, "videos", "expected [T, 3, W, H]"),
    "masks turned against their frames": (turn_masks, "videos", "it must be"),
    "fewer masks than frames": (lose_masks, "videos", "labels"),
    "mask values": (odd_masks, "videos", "other than 0 and 1"),
    "NaN in the picture": (nan_pixels, "videos", "outside 0-255"),
    "fewer times than frames": (
        lambda r: lines(r, "timestamps", list.pop),
        "timestamps",
        "rows for",
    ),
    "times out of order": (lambda r: lines(r, "timestamps", swap), "timestamps", "out of order"),
    "an odd number of rows": (lambda r: lines(r, "currents", list.pop), "currents", "odd number"),
    "NaN in a current": (lambda r: lines(r, "currents", lose_cell), "currents", "no finite number"),
    "a gap in the current": (
        lambda r: lines(r, "currents", lambda rows: [rows.pop(11) for _ in range(2)]),
        "currents",
        "missing after",
    ),
    "a repeated second": (
        lambda r: lines(r, "currents", lambda rows: rows.extend(rows[3:5])),
        "currents",
        "is repeated",
    ),
    "seconds of current reversed": (
        lambda r: lines(r, "currents", lambda rows: rows.append(rows.pop(1))),
        "currents",
        "is repeated",
    ),
    "a lost phase": (lambda r: lines(r, "currents", lose_phase), "currents", "phases differ"),
    "frames in two splits": (overlap, "test.json", "are in train as well"),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_damage_is_found_with_its_file(
    tmp_path: Path, fault: Callable[..., Any], kind: str
) -> None:
    row = fault(
        f"damaged data, {len(DAMAGES)} kinds",
        promise="`fmbench data check` finds each and names its file",
    )
    write_root(tmp_path, size=SIZE, seconds=30)
    damage, where, said = DAMAGES[kind]
    damage(tmp_path)
    found = [each for each in check_root(tmp_path, SHORT) if not each.warning]
    row.trial(
        any(where in each.file and said in each.message for each in found), f"{kind}: {found}"
    )


@pytest.mark.parametrize("options", [{}, {"chunked": True}, {"part": "class-level"}])
def test_clean_recordings_raise_no_alarm(
    tmp_path: Path, fault: Callable[..., Any], options: dict[str, Any]
) -> None:
    row = fault("clean data sets", promise="`fmbench data check` finds nothing")
    write_root(tmp_path, size=SIZE, seconds=30, **options)
    found = check_root(tmp_path, SHORT)
    row.trial(not found, f"{found}")


def test_simulated_sets_raise_no_alarm(tmp_path: Path, fault: Callable[..., Any]) -> None:
    row = fault("clean data sets", promise="`fmbench data check` finds nothing")
    write_dataset(tmp_path / "root", preset="tiny")
    found = [each for each in check_root(tmp_path / "root", SHORT) if not each.warning]
    row.trial(not found, f"{found}")


@pytest.mark.parametrize("chunked", [False, True])
def test_a_flipped_bit_anywhere_is_answered(
    tmp_path: Path,
    fault: Callable[..., Any],
    trials: Callable[[int, int], int],
    chunked: bool,
) -> None:
    """Flips in uncompressed frames are undetectable: the format has no checksum."""
    row = fault(
        "flipped bit anywhere in a .mat file",
        promise="a result, never a traceback; flips in compressed frames are found",
    )
    write_root(tmp_path, recordings=1, seconds=12, size=(8, 8), chunked=chunked)
    whole = video(tmp_path).read_bytes()
    inside: set[int] = set()
    if chunked:
        with h5py.File(video(tmp_path), "r") as file:
            for k in range(file["data"].id.get_num_chunks()):
                place = file["data"].id.get_chunk_info(k)
                inside |= {*range(place.byte_offset + 2, place.byte_offset + place.size)}
    draw = random.Random(0)
    for k in range(trials(60, 1000)):
        damaged = bytearray(whole)
        at = draw.randrange(len(whole) if k % 2 else 4096)  # half of them in the file's structure
        damaged[at] ^= 1 << draw.randrange(8)
        video(tmp_path).write_bytes(damaged)
        try:
            found = [each for each in check_root(tmp_path, SHORT) if not each.warning]
            row.trial(bool(found) or at not in inside, f"byte {at}: nothing found")
        except Exception as error:
            row.trial(False, f"byte {at}: {error!r}")

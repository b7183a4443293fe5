"""The furnace's rectangle in the picture, fixed or moving by key frames."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from fmbench.files.yaml_json import read_yaml
from fmbench.prepare.ingest.video import RawVideo

_LARGE = 256
"""Least pixels of a side for the last of several averages; rounding between them is then
negligible."""
Box = tuple[float, float, float, float]
SHEET, TILE, GRID = (3, 4), 640, 10
"""Rows and columns of a contact sheet, width of a picture in pixels, most lines of the grid."""
STEPS = (10, 20, 50, 100, 200, 500)
"""Pixels between two lines."""


@dataclass(frozen=True)
class Region:
    """x, y, width, height in pixels at key frames; linear between them, constant outside."""

    at: Mapping[int, Box]

    def box(self, frame: int) -> tuple[int, int, int, int]:
        """x, y, width, height of one frame, in whole pixels."""
        frames = sorted(self.at)
        columns = np.array([self.at[each] for each in frames], np.float64).T
        x, y, width, height = (round(float(np.interp(frame, frames, side))) for side in columns)
        return x, y, width, height

    def cut(
        self, picture: NDArray[np.uint8], frame: int, size: tuple[int, int]
    ) -> NDArray[np.uint8]:
        """(H, W, 3) -> the region by area averaging, (size, 3)."""
        x, y, width, height = self.box(frame)
        part: NDArray[Any] = picture[y : y + height, x : x + width]
        # OpenCV halves ten times as fast as it averages over other areas. It rounds halves up,
        # which adds an eighth of a level to the mean of four.
        excess = 0.0
        while width % 2 == height % 2 == 0 and min(width, height) >= 2 * _LARGE:
            width, height, excess = width // 2, height // 2, excess + 0.125
            part = cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA)
        if excess:
            part = part.astype(np.float32)
        # INTER_AREA averages where it shrinks; where it would enlarge, it interpolates.
        small = cv2.resize(part, (size[1], size[0]), interpolation=cv2.INTER_AREA)
        return np.rint(small - excess).astype(np.uint8) if excess else np.asarray(small, np.uint8)


class Pictures(Protocol):
    """What has pictures of one size."""

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)"""


def read_region(text: str, video: Pictures) -> Region:
    """From `x,y,w,h`, or from a YAML file of `frame: [x, y, w, h]`.

    Raises:
        ValueError: neither, or a rectangle that is empty or not inside the picture.
    """
    path = Path(text)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise ValueError(f"--roi {text}: no such file")
        content = read_yaml(path)
        if not isinstance(content, Mapping) or not content:
            raise ValueError(f"{path} holds {content!r}; expected `frame: [x, y, w, h]` lines")
        given = dict(content)
    else:
        given = {0: text.split(",")}
    found: dict[int, Box] = {}
    for frame, value in given.items():
        where = f"{path}: frame {frame}" if len(given) > 1 or path.suffix else "--roi"
        try:
            x, y, width, height = (float(side) for side in value)
            number = int(frame)
        except (TypeError, ValueError):
            raise ValueError(f"{where} is {value!r}; expected x,y,w,h in pixels") from None
        tall, wide = video.size
        if min(x, y) < 0 or min(width, height) < 1 or x + width > wide or y + height > tall:
            raise ValueError(
                f"{where}: x {x:g}, y {y:g}, {width:g} wide, {height:g} high is not inside the"
                f" picture, which is {wide} wide and {tall} high"
            )
        found[number] = (x, y, width, height)
    return Region(found)


def write_contact_sheet(video: RawVideo, path: Path) -> Path:
    """Write pictures spread over the video with a grid in its pixels, to choose a region from.

    A frame that cannot be decoded is dark.
    """
    rows, columns = SHEET
    known = np.flatnonzero(video.decodes)
    chosen = known[np.linspace(0, len(known) - 1, rows * columns).astype(int)].tolist()
    pictures = dict(zip(unique := sorted(set(chosen)), video.pictures(unique), strict=True))
    tall, wide = video.size
    scale = TILE / wide
    step = next(each for each in STEPS if wide <= GRID * each or each == STEPS[-1])
    tiles = []
    for index in chosen:
        small = (TILE, round(tall * scale))
        picture = pictures[index]
        if picture is None:
            picture = np.zeros((tall, wide, 3), np.uint8)
        tile = cv2.resize(picture, small, interpolation=cv2.INTER_AREA)
        for x in range(step, wide, step):
            _line(tile, (round(x * scale), 0), (round(x * scale), tile.shape[0]))
            _write(tile, str(x), (round(x * scale) + 2, 11))
        for y in range(step, tall, step):
            _line(tile, (0, round(y * scale)), (TILE, round(y * scale)))
            _write(tile, str(y), (2, round(y * scale) - 3))
        _write(tile, f"frame {index}, {video.shown[index]:.1f} s", (6, tile.shape[0] - 8), 0.5)
        tiles.append(tile)
    sheet = np.vstack([np.hstack(tiles[r * columns : (r + 1) * columns]) for r in range(rows)])
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), sheet[:, :, ::-1]):
        raise ValueError(f"{path}: OpenCV cannot write that; give it a name ending in .png or .jpg")
    return path


def _line(tile: NDArray[Any], start: tuple[int, int], end: tuple[int, int]) -> None:
    over = tile.copy()
    cv2.line(over, start, end, (255, 255, 255), 1)
    cv2.addWeighted(over, 0.35, tile, 0.65, 0, tile)


def _write(tile: NDArray[Any], text: str, at: tuple[int, int], size: float = 0.36) -> None:
    for colour, stroke in ((0, 3), (255, 1)):
        cv2.putText(
            tile, text, at, cv2.FONT_HERSHEY_SIMPLEX, size, (colour,) * 3, stroke, cv2.LINE_AA
        )

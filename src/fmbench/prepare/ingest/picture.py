"""A decoded frame as a player shows it: turned, with square pixels, in RGB."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import av
import cv2
import numpy as np
from av.sidedata.sidedata import Type
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter
from numpy.typing import NDArray

HD = (1280, 576)
"""From this width, or above this height, players take BT.709 where no colour matrix is stated;
FFmpeg and OpenCV take BT.601 for any size."""
_UNSTATED, _PQ, _HLG = 2, 16, 18
_ACCURATE = Interpolation.BILINEAR | Interpolation.FULL_CHR_H_INT | Interpolation.ACCURATE_RND


@dataclass(frozen=True)
class Look:
    """How to show the frames of a file.

    Attributes:
        coded: (H, W) of the decoded frames.
        square: (H, W) of the same with square pixels, before it is turned.
        flips: whether rows and columns are exchanged, then columns and rows reversed.
        size: (H, W) of the picture as shown.
        remarks: what was done that a viewer of the raw frames would not expect.
    """

    coded: tuple[int, int]
    square: tuple[int, int]
    flips: tuple[bool, bool, bool]
    remarks: tuple[str, ...]
    _converter: VideoReformatter = field(default_factory=VideoReformatter, repr=False)

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the picture as shown."""
        return self.square[::-1] if self.flips[0] else self.square

    def rgb(self, frame: av.VideoFrame) -> NDArray[np.uint8]:
        """(H, W, 3)."""
        tall, wide = self.square
        deep = any(component.bits > 8 for component in frame.format.components)
        shown: NDArray[Any] = self._converter.reformat(
            frame,
            width=wide,
            height=tall,
            format="rgb24",
            dst_color_range=ColorRange.JPEG,
            interpolation=_ACCURATE if deep else Interpolation.BILINEAR,
        ).to_ndarray()
        exchanged, columns, rows = self.flips
        if exchanged:
            shown = cv2.transpose(shown)
        if columns or rows:
            shown = cv2.flip(shown, -1 if columns and rows else 1 if columns else 0)
        return np.asarray(shown, np.uint8)


def look_of(frame: av.VideoFrame, aspect: Fraction | None) -> Look:
    """From the first frame of a file and the aspect ratio of its pixels (width by height)."""
    coded = square = (frame.height, frame.width)
    remarks = []
    if aspect and aspect > 0 and aspect != 1:
        if aspect > 1:  # players enlarge one side, and shrink none
            square = (coded[0], round(coded[1] * aspect))
        else:
            square = (round(coded[0] / aspect), coded[1])
    if square != coded and aspect:
        remarks.append(
            f"pixels of {aspect.numerator}:{aspect.denominator}: the picture of {coded[1]} x"
            f" {coded[0]} is shown, and cut, as {square[1]} x {square[0]}"
        )
    flips, said = _flips(frame)
    if said:
        tall, wide = square[::-1] if flips[0] else square
        remarks.append(f"{said}; --roi refers to the picture as shown, {wide} x {tall}")
    if frame.interlaced_frame:
        remarks.append("interlaced: the two fields of a frame are not separated")
    grey = frame.format.is_rgb or len(frame.format.components) == 1
    if frame.colorspace == _UNSTATED and not grey and (coded[1] >= HD[0] or coded[0] > HD[1]):
        remarks.append(
            "the file does not state its colour matrix: BT.601 is taken, as FFmpeg and OpenCV do;"
            " players take BT.709 for this size, so colours may differ by some levels"
        )
    if frame.color_trc in (_PQ, _HLG):
        remarks.append("HDR (PQ or HLG): brightness is not converted to that of other videos")
    return Look(coded, square, flips, tuple(remarks))


def _flips(frame: av.VideoFrame) -> tuple[tuple[bool, bool, bool], str]:
    """Exchange of rows and columns, reversed columns, reversed rows; and a sentence."""
    data = frame.side_data.get(Type.DISPLAYMATRIX)  # type: ignore[call-overload]
    if data is None:
        return (False, False, False), ""
    # A point (x, y) is shown at (a x + c y, b x + d y); y points down.
    a, b, _, c, d = np.frombuffer(bytes(data), np.int32)[:5] / 65536
    exchanged = abs(a) + abs(d) < abs(b) + abs(c)
    x, y = (c, b) if exchanged else (a, d)
    rest = (a, d) if exchanged else (b, c)
    if max(map(abs, rest)) > 0.02 * max(abs(x), abs(y)):
        angle = np.degrees(np.arctan2(b, a))
        return (
            False,
            False,
            False,
        ), f"a turn by {angle:.0f} degrees in the file is ignored"
    flips = (bool(exchanged), bool(x < 0), bool(y < 0))
    said: dict[Any, str] = {
        (False, False, False): "",
        (False, True, True): "turned by 180 degrees",
        (True, True, False): "turned by 90 degrees clockwise",
        (True, False, True): "turned by 90 degrees counterclockwise",
    }
    text = said.get(flips, "mirrored")
    return flips, f"{text}, as the file asks for" if text else ""

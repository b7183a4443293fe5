"""Work on a video, done again where decoding shows that other frames decode than was known."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from fmbench.prepare.ingest.clip import Changed
from fmbench.prepare.ingest.video import RawVideo

T = TypeVar("T")
TRIES = 4
"""Passes over a video. The second knows what the first has found."""


def settled(video: RawVideo, work: Callable[[], T]) -> T:
    """The result of `work`, which reads `video`.

    Raises:
        ValueError: other frames can be decoded each time.
    """
    for _ in range(TRIES):
        try:
            return work()
        except Changed:
            continue
    raise ValueError(f"{video.label}: other frames can be decoded each time; the file is damaged")

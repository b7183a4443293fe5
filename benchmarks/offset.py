"""How well `fmbench data ingest --offset auto` finds an offset, by hours of footage.

    python benchmarks/offset.py --into benchmarks/offset.md

On the simulated set `wide` (written if missing): the cameras' clocks are 7.5 s off, recordings of
15 minutes are grouped by hours. "Mismatched" are videos with the currents of other recordings: the
estimate for unrelated signals.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from fmbench.cli.data import ensure
from fmbench.data import open_root
from fmbench.data.recording import Recording
from fmbench.prepare.ingest.align import (
    SURE,
    Described,
    describe_currents,
    describe_frame,
    describe_video,
    estimate,
)
from fmbench.tabular import markdown
from fmbench.types import FRAME_RATE

RECORDINGS, WRONG, NEAR = 120, 7.5, 2.0
HOURS = (1, 3, 10)


def described(recording: Recording) -> tuple[Described, Described]:
    """The series to align: two frames a second, and the currents."""
    seconds = recording.seconds
    within = np.arange(len(seconds)) - np.searchsorted(seconds, seconds)
    times = seconds + within / FRAME_RATE
    index = np.searchsorted(times, np.arange(times[0], times[-1], 0.5)).clip(max=len(times) - 1)
    frames = np.empty((len(index), 3, *recording.size), np.uint8)
    recording.read_frames(index, frames)
    video = describe_video(
        times[index].astype(np.float64), (describe_frame(f.transpose(1, 2, 0)) for f in frames)
    )
    currents = recording.currents
    count = len(currents.seconds) // 2
    values = currents.values[: 2 * count].reshape(count, 2, -1).astype(np.float64)
    return video, describe_currents(currents.seconds[: 2 * count : 2], values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=Path("data/sim"))
    parser.add_argument("--into", type=Path)
    given = parser.parse_args()
    ensure(given.root, own_root=False)
    recordings = open_root(given.root).recordings[-RECORDINGS:]
    pairs = []
    for k, recording in enumerate(recordings):
        video, currents = described(recording)
        # All on one clock, so that a mismatched pair has a common time; then the error.
        video = video._replace(start=WRONG)
        pairs.append((video, currents._replace(start=0.0)))
        if k % 20 == 19:
            print(f"{k + 1} of {len(recordings)} recordings", flush=True)
    rows = [
        [
            "hours", f"within {NEAR:g} s", "error, median s", f"sure ({SURE:g})",
            "right of the sure", "confidence, median", "highest confidence, mismatched",
        ]
    ]  # fmt: skip
    for hours in HOURS:
        groups = [range(k, k + 4 * hours) for k in range(0, len(pairs) - 4 * hours + 1, 4 * hours)]
        right = [estimate([pairs[k] for k in group]) for group in groups]
        other = [
            estimate([(pairs[k][0], pairs[(k + step) % len(pairs)][1]) for k in group])
            for step in (1, 7, 13)
            for group in groups
        ]
        errors = np.array([abs(each.seconds + WRONG) for each in right])
        sure = np.array([each.sure for each in right])
        rows.append(
            [
                str(hours),
                f"{np.sum(errors <= NEAR)} of {len(right)}",
                f"{np.median(errors):.2f}",
                f"{sure.sum()} of {len(right)}",
                f"{np.sum(errors[sure] <= NEAR)} of {sure.sum()}",
                f"{np.median([each.confidence for each in right]):.1f}",
                f"{max(each.confidence for each in other):.1f} (of {len(other)})",
            ]
        )
    text = "\n".join(
        [
            "# Offsets between a camera's and a PLC's clock, estimated",
            "",
            f"`python benchmarks/offset.py`: {len(pairs)} simulated recordings of 15 minutes; the"
            f" clocks are {WRONG:g} s apart, up to 60 s are searched. Simulated recordings: a real"
            " furnace may show more, or less, in both signals at once.",
            "",
            markdown(rows),
            "",
        ]
    )
    print(text)
    if given.into:
        given.into.write_text(text)


if __name__ == "__main__":
    main()

"""How often `fmbench.health` finds a failure where there is none, and where there is one.

    python benchmarks/health.py --into benchmarks/health.md

On recordings of the simulated preset `wide` (900 s each), of seeds that no limit was set on. Takes
two minutes on a core.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fmbench.format.columns import stretches
from fmbench.health import (
    BLACK,
    CAMERA_SECONDS,
    FLAT,
    LOST_SECONDS,
    NO_CURRENT,
    SAME,
    SATURATED,
    SATURATED_SECONDS,
    STUCK,
    Failed,
    failed_currents,
    failed_frames,
    look,
)
from fmbench.simulator import Camera, SimConfig, simulate
from fmbench.tabular import markdown

RECORDINGS, SEED, SECONDS, LONG = 40, 100, 900, 40
Samples = NDArray[np.float64]


def planted(kind: Failed, samples: Samples, frames: NDArray[np.uint8], at: int) -> bool:
    """Let a sensor fail from second `at` for LONG seconds; whether a phase or the camera fails."""
    phase, rows, place = at % 3, slice(2 * at, 2 * (at + LONG)), slice(at, at + LONG)
    rng = np.random.default_rng(at)
    match kind:
        case Failed.STUCK:
            samples[rows, phase] = samples[2 * at, phase]
        case Failed.LOST:
            samples[rows, phase] = rng.uniform(0, 100, 2 * LONG)
        case Failed.OFF:
            samples[rows] = rng.uniform(0, 100, (2 * LONG, 3))
        case Failed.COPIES:
            samples[rows, phase] = samples[rows, phase - 1]
        case Failed.NOT_FINITE:
            samples[rows, phase] = np.nan
        case Failed.OUT_OF_RANGE:
            samples[rows, phase] = 65_535
        case Failed.UNIT:
            samples /= 1000
        case Failed.BLACK:
            frames[place] = rng.integers(0, 8, frames[place].shape)
        case Failed.UNIFORM:
            frames[place] = rng.integers(20, 230)
        case Failed.CAPPED:
            frames[place] = rng.normal(30, 4, frames[place].shape)
        case Failed.SATURATED:
            frames[place] = 255
        case Failed.FROZEN:
            frames[place] = frames[at]
    return kind in tuple(Failed)[:7]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--into", type=Path)
    given = parser.parse_args()
    rows, hits = [], Counter[Failed]()
    for version in (1, 2):
        false, least, longest = 0, [], []
        for recording in range(RECORDINGS):
            run = simulate(SimConfig.of_version(version, SEED), recording, SECONDS)
            frames = Camera(run).frames(np.arange(0, len(run), 25))
            looks = look(frames)
            false += len(failed_currents(run.currents, 2)) + len(failed_frames(looks))
            least.append((least_range(run.currents, 30), looks.level.min(), looks.change[1:].min()))
            marks = (looks.structure < FLAT, looks.bright >= SATURATED)
            low = [lasts(phase < NO_CURRENT) / 2 for phase in run.currents.T]
            longest.append((max(low), *map(lasts, marks)))
            at = int(np.random.default_rng(recording).integers(10, len(frames) - LONG - 10))
            for kind in Failed:
                samples, shown = run.currents.copy(), frames.copy()
                phase = planted(kind, samples, shown, at)
                found = failed_currents(samples, 2) if phase else failed_frames(look(shown))
                hits[kind] += [each.kind for each in found] == [kind]
        ranges, levels, changes = np.min(least, axis=0)
        lost, flat, bright = np.max(longest, axis=0)
        hours = f"{RECORDINGS * SECONDS / 3600:.0f} h"
        row = [str(version), hours, str(false), f"{ranges:.0%}", f"{lost:g} s", f"{levels:.0f}"]
        rows.append([*row, f"{flat:g} s", f"{bright:g} s", f"{changes:.1f}"])
    header = ["version", "footage", "findings", "least range of a phase in 15 s"]
    header += [f"longest below {NO_CURRENT:g} A", "darkest frame", "longest without structure"]
    header += ["longest saturated", "least change in a second"]
    limits = ["found from", "", "", f"{STUCK:.1%}", f"{LOST_SECONDS:g} s", f"{BLACK:g}"]
    limits += [f"{CAMERA_SECONDS:g} s", f"{SATURATED_SECONDS:g} s", f"{SAME}"]
    trials = 2 * RECORDINGS
    counts = [[kind.value, f"{hits[kind]} of {trials}"] for kind in Failed]
    text = "\n".join(
        [
            "# Failed sensors, found where there are none and where there are",
            "",
            f"`python benchmarks/health.py`: {RECORDINGS} recordings of each version of the "
            "simulator, preset wide, 15 minutes each, of a seed that no limit was set on. "
            "**Simulated recordings: a real furnace, and real sensors, may show more.** Frames and "
            "changes in grey levels.",
            "",
            markdown([header, *rows, limits]),
            "",
            f"A failure of {LONG} s, planted at a random time in each of the {trials} recordings "
            "(a unit: in all of it), is found as what it is, and nothing else is:",
            "",
            markdown([["failure", "found"], *counts]),
            "",
        ]
    )
    print(text)
    if given.into:
        given.into.write_text(text)


def lasts(marked: NDArray[np.bool_]) -> int:
    """Length of the longest run."""
    return max((stop - start for start, stop in stretches(marked)), default=0)


def least_range(samples: Samples, size: int) -> float:
    """Least range of a phase within `size` samples, as a share of its highest value there."""
    windows = np.lib.stride_tricks.sliding_window_view(samples, size, axis=0)
    return float((np.ptp(windows, axis=-1) / windows.max(axis=-1)).min())


if __name__ == "__main__":
    main()

"""How well `fmbench data annotate` refines boxes, on simulated recordings whose masks are known.

    python benchmarks/annotate.py --into benchmarks/annotate.md

The boxes are the simulator's own key frames, tight around each event's region (4 to 8 s apart);
every 10th frame in an event is measured. RADIUS and SIGMA were chosen on the recordings of the
first table; the second table has other recordings.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fmbench.prepare.annotate import RADIUS, SIGMA, Agreement, Event
from fmbench.prepare.annotate.masks import lasts, masks_of
from fmbench.simulator.camera import Camera
from fmbench.simulator.process import simulate
from fmbench.simulator.settings import SimConfig
from fmbench.simulator.sidecar import key_frames
from fmbench.tabular import markdown

EVERY, START, SECONDS = 10, 900, 600
CHOSEN_ON = (3001, 3002, 3003, 3004)
HELD_OUT = range(41, 51)
RADII, SIGMAS = (0.2, 0.3, 0.4, 0.5, 0.6), (3.0, 5.0, 8.0, 12.0)


def events_of(camera: Camera) -> list[Event]:
    """The events as `data annotate` reads them from an annotator's file."""
    return [
        Event(
            event["onset"],
            event["apex"],
            event["offset"],
            np.array(list(event["boxes"]), np.int64),
            np.array(list(event["boxes"].values()), np.float64),
        )
        for event in key_frames(camera)
        if {event["onset"], event["offset"]} <= set(event["boxes"])
    ]


def frames_of(seed: int) -> Iterator[tuple[np.ndarray, np.ndarray, list[Event], np.ndarray]]:
    """Blocks of the frames in events: numbers, pictures, all events, true masks."""
    camera = Camera(simulate(SimConfig(seed=seed), 0, SECONDS, start=START))
    events = events_of(camera)
    frames = np.arange(0, len(camera), EVERY)
    inside = np.any([lasts(event, frames) for event in events], axis=0)
    for block in np.array_split(frames[inside], max(1, int(inside.sum()) // 200)):
        yield block, camera.frames(block), events, camera.masks(block) > 0


def measured(seed: int, radius: float, sigma: float) -> tuple[Agreement, Agreement, int, int]:
    """Agreement of boxes and of refined masks; number of frames with better and worse masks."""
    coarse, refined, better, worse = Agreement(), Agreement(), 0, 0
    for numbers, pictures, events, truth in frames_of(seed):
        found = masks_of(numbers, pictures, events, radius=radius, sigma=sigma)
        boxes, masks = (each > 0 for each in found)
        coarse.add(boxes, truth)
        refined.add(masks, truth)
        for box, mask, true in zip(boxes, masks, truth, strict=True):
            gain = iou(mask, true) - iou(box, true)
            better, worse = better + (gain > 0), worse + (gain < 0)
    return coarse, refined, better, worse


def iou(mask: np.ndarray, truth: np.ndarray) -> float:
    union = (mask | truth).sum()
    return float((mask & truth).sum() / union) if union else 1.0


def written(agreement: Agreement) -> str:
    return f"{agreement.pooled:.3f} ({agreement.mean:.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--into", type=Path)
    into = parser.parse_args().into
    grid = [["", *(f"{sigma:g}" for sigma in SIGMAS)]]
    for radius in RADII:
        cells = []
        for sigma in SIGMAS:
            total = Agreement()
            for seed in CHOSEN_ON:
                total += measured(seed, radius, sigma)[1]
            cells.append(written(total))
        print(radius, *cells, flush=True)
        grid.append([str(radius), *cells])
    sums = [Agreement(), Agreement()]
    rows = [["seed", "frames", "boxes", "refined masks"]]
    count = better = worse = 0
    for seed in HELD_OUT:
        coarse, refined, up, down = measured(seed, RADIUS, SIGMA)
        sums = [sums[0] + coarse, sums[1] + refined]
        count, better, worse = count + coarse.frames, better + up, worse + down
        rows.append([str(seed), f"{coarse.frames:,}", written(coarse), written(refined)])
    rows.append(["all", f"{count:,}", *map(written, sums)])
    text = "\n".join(
        [
            "# From boxes to masks",
            "",
            f"`python benchmarks/annotate.py`: simulated recordings of {SECONDS} s, every"
            f" {EVERY}th frame in an event; IoU of abnormal pixels, pooled (mean of frames)."
            " Simulated: how good masks of a real furnace are is not known.",
            "",
            f"Radius (rows) and sigma (columns), seeds {CHOSEN_ON[0]} to {CHOSEN_ON[-1]}; the"
            f" defaults are {RADIUS:g} and {SIGMA:g}:",
            "",
            markdown(grid),
            "",
            "With the defaults, on other recordings:",
            "",
            markdown(rows),
            "",
            f"Refined masks are better than boxes in {better / count:.0%} of frames, worse in"
            f" {worse / count:.0%}.",
            "",
        ]
    )
    print(text)
    if into:
        into.write_text(text)


if __name__ == "__main__":
    main()

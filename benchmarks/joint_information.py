"""What the currents tell beside the picture in the simulator: the ceiling of cross-modal methods.

    python benchmarks/joint_information.py --into benchmarks/joint_information.md

Reference probes only, no method of the tables, on the calibration seeds. *Current*: boosted trees
on means, deviations and changes over 10, 30, 60 and 120 s. *Visual observer A*: the simulator's
`visibility` plus noise, and the disturbances it sees. *Observer B*: a small CNN on 3 frames over
1.5 s, trained on further recordings of the same seeds. *Joint*: the observer and the current
probe's log-odds. Every probe is tested on recordings on which it was not trained; intervals are
95 %, by a jackknife over recordings.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fmbench.files.yaml_json import from_yaml
from fmbench.simulator import Camera, SimConfig, simulate
from fmbench.simulator.information import (
    HIDDEN,
    Information,
    Observed,
    current_log_odds,
    instants,
    measure,
    observe,
    visibility_observer,
)
from fmbench.simulator.settings import SIM_VERSION, Stream
from fmbench.tabular import SIMULATED, markdown

SECONDS, EVERY = 900, 6
OFFSETS = (-37, -19, 0)  # frames of a clip of the CNN
CLIPS, EPOCHS, BATCH = 90, 6, 64  # clips of a recording; of its training
CNN = "B, CNN on 3 frames"


def cameras(config: SimConfig, numbers: range) -> Iterator[Camera]:
    """Recordings as in the preset `wide`."""
    for number in numbers:
        start = int(config.stream(number, Stream.START).integers(300, 900))
        yield Camera(simulate(config, number, SECONDS, start=start))


def clips(camera: Camera, index: np.ndarray) -> np.ndarray:
    """(n, 3 len(OFFSETS), 64, 64) grey levels."""
    frames = camera.frames((index[:, None] + np.array(OFFSETS)).ravel())
    return frames.reshape(len(index), -1, *camera.size)


class SmallCNN(nn.Module):
    """Log-odds of abnormal from a clip: four convolutions, then means and maxima of their maps."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3 * len(OFFSETS), 16, 32, 64, 96)
        layers: list[nn.Module] = []
        for k, (before, after) in enumerate(pairwise(widths)):
            stride = 2 if k in (1, 2) else 1  # the smallest spots are a pixel or two wide
            layers += [nn.Conv2d(before, after, 3, stride, 1), nn.BatchNorm2d(after), nn.ReLU()]
        self.maps = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(2 * widths[-1], 1))

    def forward(self, clip: Tensor) -> Tensor:
        maps = self.maps(clip.float() / 64 - 1.5)
        return self.head(torch.cat([maps.mean((2, 3)), maps.amax((2, 3))], 1))[:, 0]


def trained(configs: list[SimConfig], numbers: range) -> SmallCNN:
    """The CNN, trained on `CLIPS` random clips of every recording."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    found, labels = [], []
    for config in configs:
        for camera in cameras(config, numbers):
            index = np.sort(rng.choice(instants(camera.run, 1)[1], CLIPS, replace=False))
            found.append(clips(camera, index))
            labels.append(camera.labels(index))
    x = torch.from_numpy(np.concatenate(found))
    y = torch.from_numpy(np.concatenate(labels)).float()
    x = x.contiguous(memory_format=torch.channels_last)
    model = SmallCNN().to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05)
    steps = EPOCHS * (len(x) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=steps)
    for epoch in range(EPOCHS):
        losses = []
        for rows in torch.randperm(len(x))[: len(x) // BATCH * BATCH].split(BATCH):
            clip = x[rows]
            mirrored = torch.rand(len(rows)) < 0.5
            clip[mirrored] = clip[mirrored].flip(-1)
            loss = F.binary_cross_entropy_with_logits(model(clip), y[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            losses.append(loss.item())
        say(f"CNN on {len(x):,} clips: epoch {epoch + 1} of {EPOCHS}, loss {np.mean(losses):.3f}")
    return model.eval()


@torch.no_grad()
def looks(model: SmallCNN, camera: Camera, frames: np.ndarray) -> np.ndarray:
    """(n, 1) log-odds of the CNN."""
    parts = np.array_split(frames, max(1, len(frames) // 64))
    found = [model(torch.from_numpy(clips(camera, part))) for part in parts]
    return torch.cat(found)[:, None].double().numpy()


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {text}", flush=True)


def written(found: dict[str, Information], seen: list[Observed], about: list[str]) -> str:
    label = np.concatenate([each.label for each in seen])
    shown = np.concatenate([each.visibility for each in seen])
    first = next(iter(found.values()))
    rows = [["observer", "visual", "joint", "gain", "gain, current shifted by half a recording"]]
    kinds = [["instants", "share", *(f"gain, {name}" for name in found)]]
    for name, each in found.items():
        cells = (each.visual, each.joint, each.gain, each.shifted_gain)
        rows.append([name, *map(str, cells)])
    for kind, (share, _) in first.gains.items():
        cells = [str(each.gains[kind][1]) for each in found.values()]
        kinds.append([kind.replace("_", " "), f"{share:.3f}", *cells])
    return "\n".join(
        [
            "# What the currents tell beside the picture",
            "",
            *about,
            f" {SIMULATED}",
            "",
            f"{first.recordings} recordings, {first.instants:,} instants, {label.mean():.3f} of"
            f" them abnormal, {(shown[label] < HIDDEN).mean():.3f} of those with visibility under"
            f" {HIDDEN} levels."
            f" Current alone: {first.current}.",
            "",
            markdown(rows),
            "",
            markdown(kinds),
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(10_060, 10_065)))
    parser.add_argument("--recordings", type=int, default=60, help="tested, of every seed")
    parser.add_argument("--noise", type=float, nargs="+", default=[2.0], help="grey levels, of A")
    parser.add_argument(
        "--cnn", type=int, default=48, help="recordings of every seed to train it; 0: no CNN"
    )
    parser.add_argument("--version", type=int, default=SIM_VERSION, help="of the simulator")
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE", help="a knob")
    parser.add_argument("--into", type=Path, help="Markdown; the same name with .json beside it")
    given = parser.parse_args()
    knobs: dict[str, Any] = {}
    for text in given.set:
        name, _, value = text.partition("=")
        knobs[name] = from_yaml(value, f"--set {name}")
    configs = [SimConfig.of_version(given.version, s).with_overrides(knobs) for s in given.seeds]
    tested = range(given.recordings)
    model = None
    if given.cnn:
        model = trained(configs, range(given.recordings, given.recordings + given.cnn))
    seen: list[Observed] = []
    looked: list[np.ndarray] = []
    for config in configs:
        for camera in cameras(config, tested):
            seen.append(observe(camera, EVERY))
            if model is not None:
                looked.append(looks(model, camera, seen[-1].frames))
        say(f"seed {config.seed}: {given.recordings} recordings")
    currents = current_log_odds(seen)
    found = {}
    for noise in given.noise:
        name = f"A, visibility with {noise:g} levels of noise"
        found[name] = measure(seen, visibility_observer(seen, noise), currents)
        say(f"{name}: gain {found[name].gain}")
    if model is not None:
        found[CNN] = measure(seen, looked, currents)
    words = " ".join(["python benchmarks/joint_information.py", *_arguments(parser, given)])
    about = [
        f"`{words}`: simulator version {given.version}, seeds {', '.join(map(str, given.seeds))}."
        " Accuracy with its 95 % interval by recordings.",
    ]
    text = written(found, seen, about)
    print(text)
    if given.into:
        given.into.write_text(text)
        values = {name: each.to_dict() for name, each in found.items()}
        facts = {"version": given.version, "seeds": given.seeds, "knobs": configs[0].knobs()}
        given.into.with_suffix(".json").write_text(
            json.dumps({**facts, "observers": values}, indent=1)
        )


def _arguments(parser: argparse.ArgumentParser, given: argparse.Namespace) -> list[str]:
    """The options that differ from their defaults."""
    found = []
    for name, value in vars(given).items():
        if value != parser.get_default(name) and name != "into":
            found += [f"--{name}", *map(str, value if isinstance(value, list) else [value])]
    return found


if __name__ == "__main__":
    main()

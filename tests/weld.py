"""Raw files of another process: a weld seam, 10 frames a second, 5 channels at 20 Hz.

It has three classes. The arc burns on a pool of molten metal that wobbles; a flaw changes the arc,
and the picture as far as it can be seen. Nothing here is shared with the furnace's simulator.

- porosity: gas flow falls; the arc sputters, which throws sparks and makes the voltage jump.
- burn-through: heat builds up where the torch slows down; the pool grows, and the current rises as
  the arc shortens.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
import pandas as pd
from numpy.typing import NDArray

FRAME_RATE, SAMPLE_RATE = 10, 20
SIZE = (200, 280)
"""Height and width of the video; the recordings have half of it."""
CLASSES = ("normal", "porosity", "burn-through")
ROOT_YAML = """\
frame_rate: 10
current_rate: 20
channels:
  - {name: voltage, unit: V}
  - {name: current, unit: A}
  - {name: wire feed, unit: m/min}
  - {name: travel speed, unit: mm/s}
  - {name: gas flow, unit: l/min}
classes: [normal, porosity, burn-through]
frame_size: [100, 140]
"""
CHANNELS = "voltage,current,wire feed,travel speed,gas flow"

Array = NDArray[np.float64]


class Seam(NamedTuple):
    """One seam: its states and signals at the log's rate."""

    state: NDArray[np.int64]
    """(n,) index of the class."""
    signals: Array
    """(n, 5) in the order of CHANNELS."""
    sparks: Array
    """(n,) sputtering, about 0 to 1."""
    pool: Array
    """(n,) radius of the pool relative to the usual one."""


def slow(rng: np.random.Generator, count: int, samples: float) -> Array:
    """(n,) noise of unit variance that forgets itself within so many samples."""
    keep = np.exp(-1 / samples)
    value, noise = 0.0, rng.standard_normal(count) * np.sqrt(1 - keep**2)
    out = np.empty(count)
    for k in range(count):
        out[k] = value = keep * value + noise[k]
    return out


def weld(seed: int, seconds: int, rate: int = SAMPLE_RATE) -> Seam:
    """A seam with a flaw every 15 s or so, each kind in turn; `rate` samples a second."""
    rng = np.random.default_rng(seed)
    count = seconds * rate
    gas, speed = np.zeros(count), np.zeros(count)
    at, kind = rng.uniform(5, 9), int(rng.integers(2))
    while (stop := at + rng.uniform(3, 5)) < seconds - 2:
        inside = slice(int(at * rate), int(stop * rate))
        (gas if kind == 0 else speed)[inside] = 1
        at, kind = stop + rng.uniform(7, 12), 1 - kind
    state = np.where(gas > 0, 1, np.where(speed > 0, 2, 0))
    soft = np.ones(rate // 2) / (rate // 2)
    gas, heat = (np.convolve(each, soft)[:count] for each in (gas, speed))  # after half a second
    sparks = np.clip(gas * rng.exponential(1, count) + 0.04 * rng.exponential(1, count), 0, 2)
    pool = 1 + 0.45 * heat + 0.05 * slow(rng, count, 2 * rate)
    signals = np.stack(
        [
            23 + 0.4 * rng.standard_normal(count) + 2.5 * sparks * rng.choice([-1, 1], count),
            210 + 6 * slow(rng, count, rate) + 22 * heat,
            8 + 0.1 * slow(rng, count, 5 * rate),
            6 + 0.05 * slow(rng, count, 5 * rate) - 2.4 * heat,
            15 + 0.3 * slow(rng, count, 3 * rate) - 7 * gas,
        ],
        axis=1,
    )
    return Seam(state, signals, sparks, pool)


def frame(
    seam: Seam, sample: int, rng: np.random.Generator, size: tuple[int, int] = SIZE
) -> NDArray[np.uint8]:
    """(H, W, 3): the plate, the seam behind the torch, the pool, the arc, sparks."""
    height, width = size
    y, x = np.mgrid[:height, :width].astype(np.float64)
    across, along = (y - height / 2) / 30, (x - width / 2) / 30
    radius = seam.pool[sample]
    picture = np.empty((height, width, 3))
    picture[:] = 60 + 10 * np.sin(x / 7 + sample * 0.4)[..., None]
    picture += np.where((np.abs(across) < 0.6) & (along > 0), 25, 0)[..., None]
    pool = np.exp(-np.clip(across**2 + (along / 1.4) ** 2 - radius**2, 0, None) * 6)
    arc = np.exp(-(across**2 + along**2) * 5)
    picture += pool[..., None] * [130, 70, 20] + arc[..., None] * [120, 140, 180]
    for _ in range(rng.poisson(8 * seam.sparks[sample])):
        top, left = rng.integers(0, height - 4), rng.integers(0, width - 4)
        picture[top : top + 4, left : left + 4] += 150
    picture += 6 * rng.standard_normal((height, width, 1))
    return np.clip(picture, 0, 255).astype(np.uint8)


def write_raw(
    folder: Path,
    name: str,
    *,
    seed: int,
    seconds: int = 60,
    rate: int = SAMPLE_RATE,
    size: tuple[int, int] = SIZE,
) -> Seam:
    """Write NAME.mp4 and NAME.csv, a log of `rate` rows a second with a column `state`; both begin
    at 06:00:00."""
    seam = weld(seed, seconds, rate)
    rng = np.random.default_rng([seed, 1])
    with av.open(str(folder / f"{name}.mp4"), "w") as container:
        stream: Any = container.add_stream("libx264", rate=FRAME_RATE, options={"crf": "20"})
        stream.height, stream.width = size
        stream.pix_fmt = "yuv420p"
        for k in range(seconds * FRAME_RATE):
            picture = frame(seam, k * rate // FRAME_RATE, rng, size)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    table = pd.DataFrame(seam.signals.round(3), columns=CHANNELS.split(","))
    table.columns = [
        f"{each} [{unit}]"
        for each, unit in zip(table.columns, ("V", "A", "m/min", "mm/s", "l/min"), strict=True)
    ]
    times = pd.Timestamp("2030-05-01 06:00:00") + pd.to_timedelta(
        np.arange(len(table)) / rate, unit="s"
    )
    table.insert(0, "time", times.strftime("%Y-%m-%d %H:%M:%S.%f").str[:-3])
    table["state"] = np.array(CLASSES)[seam.state]
    table.to_csv(folder / f"{name}.csv", index=False)
    return seam

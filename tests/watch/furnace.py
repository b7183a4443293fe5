"""A furnace for the tests of watch: raw files, small trained detectors, and what a watch said."""

from __future__ import annotations

import json
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from fmbench.config.schema import Config
from fmbench.training.run import fit
from test_cli import Outcome
from test_ingest import plc, stamp

SIZE, ROI = (32, 32), "16,8,64,80"
TALL, WIDE = 96, 128


def trained(root: Path, modality: str, run: Path, **more: Any) -> Path:
    """A checkpoint of causal windows: 4 frames at stride 5, 12 samples."""
    data = {"root": str(root), "frames": 4, "stride": 5, "current_samples": 12, "batch_size": 8}
    data |= {"epoch_windows": 16, "val_windows": 16, "guard_seconds": 2, "val_fraction": 0.2}
    asked = Config(
        modality=modality,
        net={"dim": 12, "depth": 1},
        data=data | {"causal": True} | more,
        trainer={"max_epochs": 1, "accelerator": "cpu"},
    )
    return fit(asked, run=run)


def picture(k: int, rng: np.random.Generator) -> np.ndarray:
    """Noise over a spot that grows, (96, 128, 3)."""
    found = rng.integers(40, 90, (TALL, WIDE, 3)).astype(np.uint8)
    cv2.circle(found, (50, 50), 5 + k // 10 % 30, (250, 120, 20), -1)
    return found


def write_video(
    path: Path, count: int, rate: float = 25, *, missing: range = range(0), dark: range = range(0)
) -> None:
    """H.264; frames `missing` are left out, those in `dark` are black."""
    rng = np.random.default_rng(3)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=Fraction(rate), options={"qp": "4", "g": "25"})
        stream.width, stream.height, stream.pix_fmt = WIDE, TALL, "yuv420p"
        for k in range(count):
            shown = picture(k, rng)
            if k in missing:
                continue
            frame = av.VideoFrame.from_ndarray(shown * (k not in dark), format="rgb24")
            frame.pts, frame.time_base = k, 1 / Fraction(rate)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())


def amperes(seconds: float, rate: float, seed: int = 4) -> np.ndarray:
    """(R, 3) around 9 kA."""
    return np.random.default_rng(seed).normal(9000, 300, (round(seconds * rate), 3))


def write_log(folder: Path, values: np.ndarray, rate: float, begin: float = -2) -> Path:
    """Rows at a rate, from `begin` seconds after the video's start on."""
    rows = [
        f"{stamp(begin + k / rate)},{a:.1f},{b:.1f},{c:.1f}" for k, (a, b, c) in enumerate(values)
    ]
    return plc(folder, rows)


@dataclass
class Said:
    """What a watch wrote to standard output."""

    decisions: list[dict[str, Any]]

    @classmethod
    def of(cls, out: str) -> Said:
        return cls([json.loads(line) for line in out.splitlines()])

    @property
    def scores(self) -> dict[int, float]:
        return {each["frame"]: each["score"] for each in self.decisions if not each["reason"]}

    def reasons(self) -> list[str]:
        return [each["reason"] for each in self.decisions]


def wrong(outcome: Outcome, *parts: str) -> None:
    """Status 2, no decision, and a last line with `parts`."""
    assert outcome.status == 2, outcome.err
    assert not outcome.out
    assert "Traceback" not in outcome.err
    last = outcome.err.splitlines()[-1]
    assert last.startswith("fmbench: error: "), outcome.err
    assert all(part in last for part in parts), last

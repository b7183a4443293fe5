"""Whether a rule that was chosen for a budget keeps it (`make alarms-72h`).

Simulates recordings of an hour with their disturbances and few events, chooses an alarm rule for a
checkpoint on one half (val), and measures it on the other half (test), at one decision a second.
Frames are rendered on demand. Writes benchmarks/alarms.md and its pictures.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from fmbench.alarms.budget import parse_budget
from fmbench.alarms.run import choose_alarms
from fmbench.files.atomic import write_text
from fmbench.simulator import write_dataset
from fmbench.simulator.dataset_writer import PRESETS, Preset

HERE = Path(__file__).parent
PAUSE = [1800.0, 7200.0]
"""Seconds from one event to the next, uniform."""


def simulate_hours(root: Path, hours: int, seed: int) -> None:
    """Write `hours` recordings of an hour, one half of them in val, the other in test."""
    PRESETS["hours"] = Preset(
        train=0, val=hours // 2, test=hours - hours // 2, seconds=(3600,), balanced=False,
        every=25, lazy_only=True,
    )  # fmt: skip
    write_dataset(root, preset="hours", seed=seed, overrides={"process.gap": PAUSE})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True, help="of fmbench fit")
    parser.add_argument("--hours", type=int, default=72)
    parser.add_argument("--budget", default="1/day")
    parser.add_argument("--seed", type=int, default=1000)
    parser.add_argument("--root", type=Path, help="keep the simulated recordings here")
    parser.add_argument("--out", type=Path, help="keep all files here")
    given = parser.parse_args()
    budget = parse_budget(given.budget)
    with TemporaryDirectory(prefix="alarms-") as scratch:
        root = given.root or Path(scratch) / "hours"
        out = given.out or Path(scratch) / "alarms"
        if not (root / "manifest.json").is_file():
            simulate_hours(root, given.hours, given.seed)
        started = time.monotonic()
        choose_alarms(
            given.checkpoint, out, budget=budget, data={"root": root, "part": "pixel-level"}
        )
        minutes = (time.monotonic() - started) / 60
        text = (out / "alarms.md").read_text(encoding="utf-8")
        text = text.replace("](", "](alarms-").replace("# Alarm rule", "# Alarms at scale: rule", 1)
        text += (
            f"\n`python benchmarks/alarms.py --hours {given.hours} --budget {budget.text}`: events"
            f" {PAUSE[0] / 60:g} to {PAUSE[1] / 60:g} minutes apart; {minutes:.0f} minutes to"
            " score, choose and measure on this machine.\n"
        )
        write_text(HERE / "alarms.md", text)
        for name in ("timeline.png", "delays.png", "tradeoff.png", "reliability.png"):
            (HERE / f"alarms-{name}").write_bytes((out / name).read_bytes())


if __name__ == "__main__":
    main()

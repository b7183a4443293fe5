"""`root.yaml`: the rates, channels, classes and frame size of a data set.

It lies in the data set's folder, beside `pixel-level/` and the other parts, or in such a part. A
data set without this file has the benchmark's rates and classes. Every key may be left out:

    frame_rate: 10              # frames a second
    current_rate: 20            # samples a second; 0.2: one every 5 s
    channels:                   # of the currents, in the order of their columns
      - {name: force, unit: kN}
      - {name: speed, unit: m/s}
    classes: [normal, crack, burn-through]
    frame_size: [100, 140]      # height, width in pixels
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fmbench.types import BENCHMARK, Plant

PLANT_FILE = "root.yaml"


def plant_content(plant: Plant) -> dict[str, Any]:
    """What a `root.yaml` of `plant` holds, as plain values."""
    content: dict[str, Any] = {
        "frame_rate": plant.frame_rate,
        "current_rate": plant.current_rate,
        "classes": list(plant.classes),
    }
    if plant.channels:
        content["channels"] = [each._asdict() for each in plant.channels]
    if plant.frame_size:
        content["frame_size"] = list(plant.frame_size)
    return content


def plant_file(folder: Path) -> Path | None:
    """The `root.yaml` of a data set or part; None if there is none.

    Args:
        folder: the data set's folder, or one of its parts.
    """
    for path in (folder / PLANT_FILE, folder.parent / PLANT_FILE):
        if path.is_file():
            return path
    return None


def read_plant(folder: str | Path) -> Plant:
    """Read the `root.yaml` of a data set or part; the benchmark's values if there is none.

    Args:
        folder: the data set's folder, or one of its parts.

    Raises:
        ValueError: the file is no YAML, has an unknown key or a value that is not allowed.
    """
    path = plant_file(Path(folder))
    if path is None:
        return BENCHMARK
    from fmbench.format.root_yaml import parse  # a machine that only trains may lack pydantic

    return parse(path)

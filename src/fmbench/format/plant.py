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
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from fmbench.files.validated import Content, Text, validated
from fmbench.files.yaml_json import read_yaml
from fmbench.types import BENCHMARK, Channel, Plant

PLANT_FILE = "root.yaml"


class _Channel(Content):
    name: Annotated[Text, Field(min_length=1)]
    unit: Text = "A"


def _number(value: object) -> object:
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


_Rate = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]
_Size = Annotated[int, Field(ge=1)]


class _File(Content):
    frame_rate: _Rate = BENCHMARK.frame_rate
    current_rate: _Rate = float(BENCHMARK.current_rate)
    channels: Annotated[tuple[_Channel, ...], Field(strict=False, min_length=1)] | None = None
    classes: Annotated[tuple[Text, ...], Field(strict=False)] = BENCHMARK.classes
    frame_size: Annotated[tuple[_Size, _Size], Field(strict=False)] | None = None


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
    content = validated(_File, read_yaml(path) or {}, str(path))
    try:
        return Plant(
            frame_rate=content.frame_rate,
            current_rate=content.current_rate,
            channels=tuple(Channel(each.name, each.unit) for each in content.channels or ()),
            classes=content.classes,
            frame_size=content.frame_size,
        )
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None

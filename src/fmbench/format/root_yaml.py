"""The content of a `root.yaml`, checked key by key; `plant.py` describes it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field

from fmbench.files.validated import Content, Text, validated
from fmbench.files.yaml_json import read_yaml
from fmbench.types import BENCHMARK, Channel, Plant


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


def parse(path: Path) -> Plant:
    """Read a `root.yaml`.

    Raises:
        ValueError: it is no YAML, has an unknown key or a value that is not allowed.
    """
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

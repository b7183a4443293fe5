"""The file of learning rates that `fmbench tune` chose, beside the results of a profile."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field

from fmbench.files.atomic import write_text
from fmbench.files.validated import Content, Text, validated
from fmbench.files.yaml_json import read_yaml
from fmbench.tables.experiment import Row

RATES = "rates.yaml"
HEAD = (
    "# `fmbench tune` chose these learning rates on validation recordings, each from the same short"
    " trainings.\n"
)
Positive = Annotated[float, Field(gt=0)]


class TunedRow(Content):
    """The learning rate of a model and modality.

    Attributes:
        lr: the rate with the best validation metric; of equal ones the profile's.
        tried: validation metric by rate.
    """

    lr: Positive
    tried: Mapping[float, float]


class Rates(Content):
    """A file RATES: what was tried, on which data, and the chosen rates.

    Attributes:
        profile: that the trainings shorten.
        data: description of the recordings.
        windows: training windows of each training.
        select: the validation metric.
        rows: by `model modality`.
    """

    profile: Text
    data: Text
    windows: Annotated[int, Field(ge=1)]
    select: Text
    rows: Mapping[Text, TunedRow]


def read_rates(folder: Path) -> Rates | None:
    """The rates beside the results in a folder; None if there are none.

    Raises:
        ValueError: the file is damaged.
    """
    path = folder / RATES
    return validated(Rates, read_yaml(path), str(path)) if path.is_file() else None


def tuned(rates: Rates | None, row: Row) -> dict[str, Any]:
    """The setting of a row's learning rate; empty if it was not tuned."""
    found = rates.rows.get(name_of(row)) if rates else None
    return {"optim": {"lr": found.lr}} if found else {}


def write_rates(rates: Rates, folder: Path) -> None:
    """Write the file RATES into a folder, atomically."""
    write_text(folder / RATES, HEAD + yaml.safe_dump(rates.model_dump(), sort_keys=False))


def name_of(row: Row) -> str:
    """The key of a row: its model and modality."""
    return f"{row.model} {row.modality}"

"""The defaults that the key of a result leaves out, so that a new option changes no key.

`defaults.json` holds every default as it was when its option was added. Changing a default in a
signature changes keys, and old results keep theirs: in this file, no value ever changes.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, cast

from fmbench.config.schema import AUTO, NOT_PART_OF_A_TRAINING, Config, as_plain
from fmbench.data import FurnaceData
from fmbench.files.yaml_json import read_json
from fmbench.objective import Loss, Optim
from fmbench.registry import find_model

FILE = Path(__file__).with_name("defaults.json")
ALWAYS = ("model", "modality", "seed")
"""Options that are part of every key."""


def differing(config: Config) -> dict[str, Any]:
    """The options of a training by dotted name that differ from the defaults of `defaults.json`.

    For an option that this file lacks, the default is the signature's. The trainer's options are
    all those that were given, but the precision AUTO. NOT_PART_OF_A_TRAINING is left out.
    """
    usual = signature_defaults(config.model, config.modality) | frozen(config.model)
    usual |= {"trainer.precision": AUTO}
    return {
        name: value
        for name, value in options(config.to_plain()).items()
        if name in ALWAYS
        or (name not in NOT_PART_OF_A_TRAINING and (name not in usual or value != usual[name]))
    }


def contradictions(was: Mapping[str, Any], config: Config) -> list[str]:
    """The options that a stored training and today's both have, with other values, one line each.

    Between trainings of equal keys: options of a plug-in's model whose defaults have changed.

    Args:
        was: `Config.to_plain` of the stored training.
        config: today's training.
    """
    before, now = options(was), options(config.to_plain())
    return [
        f"{name} is {now[name]!r}, was {before[name]!r}"
        for name in sorted(before.keys() & now.keys())
        if before[name] != now[name] and name not in NOT_PART_OF_A_TRAINING
    ]


def options(config: Mapping[str, Any]) -> dict[str, Any]:
    """Every option of a `Config.to_plain` by dotted name; `net.tube` rather than `net`."""
    found: dict[str, Any] = {}
    for name, value in config.items():
        inner = isinstance(value, Mapping)
        found |= {f"{name}.{key}": each for key, each in value.items()} if inner else {name: value}
    return found


@cache
def frozen(model: str) -> dict[str, Any]:
    """The defaults of `defaults.json` by dotted name; under `net`, those of `model`."""
    content = read_json(FILE)
    return options(content | {"net": content["net"].get(model, {})})


def signature_defaults(model: str, modality: str) -> dict[str, Any]:
    """Every option's default in today's signatures by dotted name, as plain values."""
    sources: dict[str, Callable[..., Any]] = {
        "": Config,
        "net": cast(Callable[..., Any], find_model(model, modality)),
        "data": FurnaceData,
        "optim": Optim,
        "loss": Loss,
    }
    skipped = {*ALWAYS, "net", "data", "optim", "loss", "trainer", "data.modality", "data.seed"}
    found = {
        f"{group}.{name}" if group else name: as_plain(parameter.default)
        for group, source in sources.items()
        for name, parameter in inspect.signature(source).parameters.items()
        if parameter.default is not inspect.Parameter.empty
    }
    return {name: value for name, value in found.items() if name not in skipped}

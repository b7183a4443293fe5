"""The resolved configuration of a training: every value that a YAML file or a flag can set."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import yaml

from fmbench.config.dotted import flat

NOT_PART_OF_A_TRAINING = (
    "logger",
    "compile",
    "data.root",
    "data.num_workers",
    "data.resident",
    "optim.fused",
    "net.checkpoint",
)
"""Options that do not change what is trained: location and loading of the data, logging, speed."""

AUTO = "auto"
"""The `trainer.precision` that leaves the choice to the device of the training. It is no
part of a training: another device may go on in another precision."""

UNTIL_WHEN = re.compile(
    r"trainer\.(max_epochs|max_steps|max_time|accelerator|devices|num_nodes|strategy)"
)
"""Hardware and end of a training: a resumed run may change these, and NOT_PART_OF_A_TRAINING."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """The resolved configuration of a training.

    Attributes:
        model: registered name.
        modality: current, visual or cross.
        dense: whether to predict masks (default: if model and data both have masks).
        seed: seed of weights, data order and augmentation.
        select: validation metric that picks the best checkpoint.
        logger: csv (needs nothing), or wandb as well (works offline with WANDB_MODE=offline).
        compile: mode of torch.compile for the model: default, reduce-overhead (CUDA graphs) or
            max-autotune; null: no compiling. Pays if training takes longer than compiling.
        net: options of the model.
        data: options of `FurnaceData`.
        optim: options of `Optim`.
        loss: options of `Loss`.
        trainer: options of Lightning's Trainer.
    """

    model: str = "fmformer"
    modality: str = "cross"
    dense: bool | None = None
    seed: int = 0
    select: str = "val/f1"
    logger: Literal["csv", "wandb"] = "csv"
    compile: Literal["default", "reduce-overhead", "max-autotune"] | None = None
    net: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    optim: Mapping[str, Any] = field(default_factory=dict)
    loss: Mapping[str, Any] = field(default_factory=dict)
    trainer: Mapping[str, Any] = field(default_factory=dict)

    def to_yaml(self) -> str:
        """YAML that `fit --config` resolves to the same Config; empty groups are left out."""
        values = {name: value for name, value in self.to_plain().items() if value != {}}
        return yaml.safe_dump(values, sort_keys=False)

    def to_plain(self) -> dict[str, Any]:
        """Every value as a type of YAML and JSON, groups as nested mappings."""
        plain: dict[str, Any] = as_plain(asdict(self))
        return plain


def changes(was: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """The options by which `now` differs from `was` in what is trained, one line each.

    Args:
        was: `Config.to_plain` of the training that is resumed.
        now: `Config.to_plain` of the training that resumes it.
    """
    before, after = flat(was), flat(now)
    return [
        f"{name} is {after.get(name)!r}, was {before.get(name)!r}"
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
        and name not in NOT_PART_OF_A_TRAINING
        and not UNTIL_WHEN.fullmatch(name)
        and not (name == "trainer.precision" and AUTO in (before.get(name), after.get(name)))
    ]


def as_plain(value: Any) -> Any:
    """`value` in the types of YAML and JSON."""
    if isinstance(value, Mapping):
        return {str(key): as_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_plain(item) for item in value]
    return value if isinstance(value, bool | int | float | str | None) else str(value)

"""A training, resolved: every value that a YAML file or a flag can set."""

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
    "optim.fused",
    "net.checkpoint",
)
"""Options that make no other training: where the data lies, who loads it, where the log goes, how
fast it is computed."""

UNTIL_WHEN = re.compile(
    r"trainer\.(max_epochs|max_steps|max_time|accelerator|devices|num_nodes|strategy)"
)
"""On what a training runs, and until when: it may go on with others of these, and of
NOT_PART_OF_A_TRAINING."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """A training, resolved.

    Attributes:
        model: registered name.
        modality: current, visual or cross.
        dense: whether a mask is asked for; where not said, if model and data both have masks.
        seed: of weights, data order and augmentation.
        select: validation metric that picks the best checkpoint.
        logger: csv (needs nothing), or wandb as well (works offline with WANDB_MODE=offline).
        compile: mode of torch.compile for the model, or none: default, reduce-overhead (CUDA
            graphs) or max-autotune. Pays where one training takes longer than the compiling.
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
        """A file that `fit --config` resolves to the same Config; empty groups are left out."""
        values = {name: value for name, value in self.to_plain().items() if value != {}}
        return yaml.safe_dump(values, sort_keys=False)

    def to_plain(self) -> dict[str, Any]:
        """Every value as YAML and JSON know it, groups as nested mappings."""
        plain: dict[str, Any] = _plain(asdict(self))
        return plain


def changes(was: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """The options that make `now` another training than `was`, one line each.

    Args:
        was: `Config.to_plain` of a training that was begun.
        now: that of the one that resumes it.
    """
    before, after = flat(was), flat(now)
    return [
        f"{name} is {after.get(name)!r}, was {before.get(name)!r}"
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
        and name not in NOT_PART_OF_A_TRAINING
        and not UNTIL_WHEN.fullmatch(name)
    ]


def _plain(value: Any) -> Any:
    """Only what YAML and JSON know."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if isinstance(value, bool | int | float | str | None) else str(value)

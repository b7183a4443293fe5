"""alarms.yaml: an alarm rule with the checkpoint that it was chosen for, and what supports it."""

from __future__ import annotations

from dataclasses import asdict, fields
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field, PlainSerializer
from torch import Tensor

from fmbench.alarms.rule import AlarmRule
from fmbench.files.atomic import write_text
from fmbench.files.checksum import sha256
from fmbench.files.validated import Content, known, validated
from fmbench.files.yaml_json import read_yaml

ALARMS_FILE = "alarms.yaml"
HEAD = "# Written by `fmbench alarms`. A rule belongs to one checkpoint; choose anew for another.\n"


def _rule(content: Any) -> AlarmRule:
    if isinstance(content, AlarmRule):
        return content
    names = [field.name for field in fields(AlarmRule)]
    if not isinstance(content, dict):
        raise ValueError(f"{content!r:.200} is no mapping; its keys are {', '.join(names)}")
    # YAML 1.1 reads the words on and off as true and false, where they are not quoted.
    spoken = {True: "on", False: "off"}
    content = {spoken.get(k, k) if isinstance(k, bool) else k: v for k, v in content.items()}
    for name, value in content.items():
        known(name, names, "there is no key ")
        whole = name in ("needed", "of")
        if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
            raise ValueError(f"{name} is {value!r}; it must be a {'whole ' * whole}number")
    if missing := [name for name in names if name not in content]:
        raise ValueError(f"{missing[0]} is missing")
    return AlarmRule(**content)


class Alarms(Content):
    """The content of alarms.yaml.

    Attributes:
        version: of the file's layout.
        rule: applied to the probability of `calibrated`.
        temperature: the logits are divided by it; chosen on validation recordings.
        checkpoint_sha256: of the checkpoint's bytes.
        budget: false alarms allowed in a time, for instance 1/day.
        budget_met: whether the rule meets it on the validation recordings.
        normal_hours: of normal operation in the validation recordings.
        false_alarms: of the rule in these hours.
        supports_at_best: false alarms a day that so many hours can support: the 95 % bound of the
            rate if none occurred, 3 divided by the days.
        data: the data set in one line.
        data_fingerprint: SHA-256 of the data set.
        simulated: whether a simulator made the recordings.
    """

    version: Literal[1] = 1
    rule: Annotated[AlarmRule, BeforeValidator(_rule), PlainSerializer(asdict)] = Field(
        description="on, off, needed, of, hold_off, smoothing, every"
    )
    temperature: float = Field(gt=0, allow_inf_nan=False)
    checkpoint_sha256: str = Field(pattern="^[0-9a-f]{64}$")
    budget: str
    budget_met: bool
    normal_hours: float = Field(ge=0)
    false_alarms: int = Field(ge=0)
    supports_at_best: float = Field(ge=0)
    data: str
    data_fingerprint: str
    simulated: bool


def write_alarms(path: Path, alarms: Alarms) -> None:
    """Write alarms.yaml, completely or not at all.

    Raises:
        OSError: it cannot be written.
    """
    write_text(path, HEAD + yaml.safe_dump(alarms.model_dump(), sort_keys=False, width=100))


def read_alarms(path: Path, checkpoint: Path) -> Alarms:
    """Read the alarm rule of a checkpoint.

    Raises:
        ValueError: no such file, another content, or the file of another checkpoint.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file; `fmbench alarms` writes it")
    alarms = validated(Alarms, read_yaml(path), str(path))
    if (own := sha256(checkpoint)) != alarms.checkpoint_sha256:
        raise ValueError(
            f"{path} belongs to another checkpoint: its SHA-256 is {alarms.checkpoint_sha256[:16]}…"
            f", that of {checkpoint} is {own[:16]}…; run `fmbench alarms` for this one"
        )
    return alarms


def calibrated(logits: Tensor, temperature: float) -> NDArray[np.float64]:
    """(n, K) logits to the (n,) probability in [0, 1] that a window is not normal (class 0).

    Args:
        logits: of the checkpoint.
        temperature: above 0; 1 leaves the probability as the checkpoint gives it.
    """
    scaled = logits.to(torch.float64) / temperature
    return np.asarray(scaled.softmax(1)[:, 1:].sum(1).clamp(max=1).cpu().numpy())

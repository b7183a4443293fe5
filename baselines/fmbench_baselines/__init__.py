"""The methods that FmFormer was compared with: one paper, one file, listed here by hand."""

from __future__ import annotations

from torch import nn

from fmbench_baselines.bilm import BiLM
from fmbench_baselines.informer import Informer

MODELS: dict[str, type[nn.Module]] = {
    "bilm": BiLM,
    "informer": Informer,
}

"""The paper's own model, as printed and as released."""

from __future__ import annotations

from torch import nn

from fmbench.models.fmformer import FmFormer
from fmbench.models.official import OfficialFmFormer

MODELS: dict[str, type[nn.Module]] = {
    "fmformer": FmFormer,
    "fmformer-official": OfficialFmFormer,
}

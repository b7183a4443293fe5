"""The methods that FmFormer was compared with: one paper, one file, listed here by hand."""

from __future__ import annotations

from torch import nn

from fmbench_baselines.capture import Capture
from fmbench_baselines.clipbert import ClipBERT
from fmbench_baselines.informer import Informer
from fmbench_baselines.unicoder_vl import UnicoderVL

MODELS: dict[str, type[nn.Module]] = {
    "capture": Capture,
    "clipbert": ClipBERT,
    "informer": Informer,
    "unicoder_vl": UnicoderVL,
}

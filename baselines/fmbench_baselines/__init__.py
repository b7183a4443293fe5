"""The methods that FmFormer was compared with: one paper, one file, listed here by hand."""

from __future__ import annotations

from torch import nn

from fmbench_baselines.dcnn_svm import DcnnSvm
from fmbench_baselines.informer import Informer
from fmbench_baselines.ssfggan import Ssfggan

MODELS: dict[str, type[nn.Module]] = {
    "dcnn_svm": DcnnSvm,
    "informer": Informer,
    "ssfggan": Ssfggan,
}

"""The methods that FmFormer was compared with: one paper, one file, listed here by hand."""

from __future__ import annotations

from torch import nn

from fmbench_baselines.expert_system import ExpertSystem
from fmbench_baselines.flashformer import Flashformer
from fmbench_baselines.flowformer import Flowformer
from fmbench_baselines.informer import Informer
from fmbench_baselines.itransformer import ITransformer

MODELS: dict[str, type[nn.Module]] = {
    "expert_system": ExpertSystem,
    "flashformer": Flashformer,
    "flowformer": Flowformer,
    "informer": Informer,
    "itransformer": ITransformer,
}

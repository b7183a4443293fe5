"""The methods that FmFormer was compared with: one paper, one file, listed here by hand."""

from __future__ import annotations

from torch import nn

from fmbench_baselines.bilm import BiLM
from fmbench_baselines.capture import Capture
from fmbench_baselines.clipbert import ClipBERT
from fmbench_baselines.crnn3d import ConvLstmNet
from fmbench_baselines.dcnn_svm import DcnnSvm
from fmbench_baselines.expert_system import ExpertSystem
from fmbench_baselines.flashformer import Flashformer
from fmbench_baselines.flowformer import Flowformer
from fmbench_baselines.informer import Informer
from fmbench_baselines.itransformer import ITransformer
from fmbench_baselines.ssfggan import Ssfggan
from fmbench_baselines.tubevit import TubeVit
from fmbench_baselines.unicoder_vl import UnicoderVL
from fmbench_baselines.vit import Vit
from fmbench_baselines.vivit import Vivit

MODELS: dict[str, type[nn.Module]] = {
    "3dcrnn": ConvLstmNet,
    "bilm": BiLM,
    "capture": Capture,
    "clipbert": ClipBERT,
    "dcnn_svm": DcnnSvm,
    "expert_system": ExpertSystem,
    "flashformer": Flashformer,
    "flowformer": Flowformer,
    "informer": Informer,
    "itransformer": ITransformer,
    "ssfggan": Ssfggan,
    "tubevit": TubeVit,
    "unicoder_vl": UnicoderVL,
    "vit": Vit,
    "vivit": Vivit,
}

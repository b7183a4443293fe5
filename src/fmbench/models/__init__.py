"""The paper's own model, as printed and as released, and reference detectors."""

from __future__ import annotations

from torch import nn

from fmbench.models.fmformer import FmFormer
from fmbench.models.official import OfficialFmFormer
from fmbench.models.references import AlwaysAbnormal, BrightestRed, RandomScore, RmsCurrent
from fmbench.models.simple import BoostedCurrent, SmallCnn

MODELS: dict[str, type[nn.Module]] = {
    "always_abnormal": AlwaysAbnormal,
    "boosted_current": BoostedCurrent,
    "brightest_red": BrightestRed,
    "fmformer": FmFormer,
    "fmformer-official": OfficialFmFormer,
    "random_score": RandomScore,
    "rms_current": RmsCurrent,
    "small_cnn": SmallCnn,
}

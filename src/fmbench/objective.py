"""The joint loss, the optimizer and its schedule."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from torch import Tensor
from torch.nn import functional as F

from fmbench.types import Batch, Prediction


@dataclass(frozen=True, kw_only=True)
class Optim:
    """The optimizer and its schedule; the defaults are Sec. IV-C's.

    Attributes:
        name: adamw, or muon for the linear layers of blocks, beside AdamW for all other parameters
            (PyTorch 2.9 or later). Both take the same rate, schedule and weight decay.
        lr: highest learning rate.
        weight_decay: decoupled (not stated in the paper; PyTorch's default).
        schedule: "step" (times `gamma` after epoch `milestone`), "cosine" (to 0 at the end of
            training) or "constant".
        milestone: epoch after which the rate drops.
        gamma: factor by which it drops.
        warmup_steps: optimizer steps over which the rate first rises from 0.
        fused: one kernel for all parameters of AdamW; faster, rounds differently.
    """

    name: Literal["adamw", "muon"] = "adamw"
    lr: float = 5e-4
    weight_decay: float = 0.01
    schedule: Literal["step", "cosine", "constant"] = "step"
    milestone: int = 20
    gamma: float = 0.1
    warmup_steps: int = 0
    fused: bool = False

    def factor(self, step: int, *, total: int, epoch: int) -> float:
        """Factor of the learning rate, in [0, 1].

        Args:
            step: optimizer step, from 0.
            total: optimizer steps of the training.
            epoch: of the step, from 0.
        """
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        if self.schedule == "step":
            return self.gamma if epoch >= self.milestone else 1.0
        if self.schedule == "cosine":
            done = (step - self.warmup_steps) / max(1, total - self.warmup_steps)
            return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
        return 1.0


@dataclass(frozen=True, kw_only=True)
class Loss:
    """pixel_weight · L_pix + alpha · L_cls (Sec. IV-B), both cross-entropies.

    Attributes:
        alpha: weight of the classification loss (the paper's α, of which it states no value).
        pixel_weight: weight of the per-pixel loss.
        positive_weight: weight of abnormal pixels within the per-pixel loss.
    """

    alpha: float = 1.0
    pixel_weight: float = 1.0
    positive_weight: float = 1.0

    def terms(self, prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
        """Weighted losses by name, each a scalar; the training minimises their sum.

        Returns:
            "class"; "pixel" if there are mask logits and masks (the class-level part has none); and
            the model's own `prediction.aux`.
        """
        terms = {"class": self.alpha * F.cross_entropy(prediction.logits, batch.label)}
        if prediction.mask_logits is not None and batch.mask is not None:
            weight = prediction.mask_logits.new_ones(prediction.mask_logits.shape[1])
            weight[1:] = self.positive_weight
            pixels = F.cross_entropy(
                prediction.mask_logits, batch.mask.long(), weight, reduction="none"
            )
            terms["pixel"] = self.pixel_weight * pixels.mean()  # over B·H·W
        return terms | dict(prediction.aux)

"""What any method must beat: detectors that learn nothing, or one threshold.

They are no baselines of the paper. A table that shows them says how much of a rate is the share of
abnormal windows, chance, or one number a frame or a current window has anyway.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fmbench.nn import current_reader, video_of
from fmbench.stages import Solve, Stage
from fmbench.types import Batch, Modality, Prediction, Problem

BINS = 128
"""Of a histogram of redness, which lies in [-255, 255]."""


def separating(score: Tensor, label: Tensor) -> tuple[float, float]:
    """The threshold and the sign by which most windows are told right: abnormal where
    sign · (score - threshold) > 0; (N,) float and (N,) of 0 and 1.
    """
    score, order = score.double().sort()
    abnormal = label[order].double()
    # after k of the sorted windows: those below are called normal, those above abnormal, or reverse
    right = (
        F.pad((1 - abnormal).cumsum(0), (1, 0)) + abnormal.sum() - F.pad(abnormal.cumsum(0), (1, 0))
    )
    between = F.pad(score.diff() > 0, (1, 1), value=True)  # equal scores fall on one side
    upward = torch.where(between, right, -1.0)
    downward = torch.where(between, len(score) - right, -1.0)
    sign, right = (1.0, upward) if upward.max() >= downward.max() else (-1.0, downward)
    k = int(right.argmax())
    edges = torch.cat([score[:1] - 1, (score[1:] + score[:-1]) / 2, score[-1:] + 1])
    return float(edges[k]), sign


def unlearnt() -> list[Stage]:
    """The stages of a model that has nothing to learn: it keeps nothing of the training windows."""
    return [Solve(name="nothing", gather=lambda batch: {}, solve=lambda kept: None)]


class AlwaysAbnormal(nn.Module):
    """Calls every window abnormal: its accuracy is the share of abnormal windows."""

    modalities = frozenset(Modality)
    dense: frozenset[Modality] = frozenset()

    def __init__(self, problem: Problem) -> None:
        super().__init__()
        self.num_classes = problem.num_classes

    def stages(self) -> Sequence[Stage]:
        """Nothing to learn."""
        return unlearnt()

    def forward(self, batch: Batch) -> Prediction:
        """(B, K) logits, the same for all."""
        logits = batch.label.new_zeros((len(batch.label), self.num_classes), dtype=torch.float32)
        logits[:, 1] = 1
        return Prediction(logits, None)


class RandomScore(nn.Module):
    """A probability that follows from the window's bytes and from nothing in them."""

    modalities = frozenset(Modality)
    dense: frozenset[Modality] = frozenset()

    def __init__(self, problem: Problem) -> None:
        super().__init__()
        self.num_classes = problem.num_classes

    def stages(self) -> Sequence[Stage]:
        """Nothing to learn."""
        return unlearnt()

    def forward(self, batch: Batch) -> Prediction:
        """(B, K) logits whose probability of class 1 is uniform in (0, 1)."""
        inputs = [x for x in (batch.video, batch.current) if x is not None]
        total = torch.stack([x.double().flatten(1).sum(1) for x in inputs]).sum(0)
        chance = (torch.sin(total) * 43758.5453).frac().abs().clamp(1e-6, 1 - 1e-6)
        logits = total.new_zeros((len(total), self.num_classes), dtype=torch.float32)
        logits[:, 1] = chance.logit().float()
        return Prediction(logits, None)


class BrightestRed(nn.Module):
    """Abnormal where the reddest spot of the newest frame is redder than a threshold.

    Redness is R - (G + B)/2, averaged over 2x2 pixels. The threshold is the one that tells most
    training windows right; that of the mask, pixel by pixel, has the highest mIoU on them.

    Args:
        problem: what is fed and asked; any size.
    """

    modalities = frozenset({Modality.VISUAL})
    dense = frozenset({Modality.VISUAL})

    threshold: Tensor
    sign: Tensor
    pixel_threshold: Tensor

    def __init__(self, problem: Problem) -> None:
        super().__init__()
        self.dense_asked = problem.dense
        self.register_buffer("threshold", torch.tensor(0.0))
        self.register_buffer("sign", torch.tensor(1.0))
        self.register_buffer("pixel_threshold", torch.tensor(0.0))

    def stages(self) -> Sequence[Stage]:
        """Two thresholds, from the training windows."""
        return [Solve(name="thresholds", gather=self.gather, solve=self.solve)]

    def redness(self, batch: Batch) -> Tensor:
        """(B, H, W) of the newest frame, in grey levels."""
        frame = video_of(batch)[:, :, -1].float()
        return frame[:, 0] - frame[:, 1:].mean(1)

    def reddest(self, redness: Tensor) -> Tensor:
        """(B, H, W) -> (B,)."""
        return F.avg_pool2d(redness.unsqueeze(1), 2).flatten(1).max(1).values

    def gather(self, batch: Batch) -> Mapping[str, Tensor]:
        """The reddest spot, and how red normal and abnormal pixels are."""
        redness = self.redness(batch)
        kept = {"score": self.reddest(redness), "label": batch.label}
        if self.dense_asked and batch.mask is not None:
            bins = ((redness + 255) / 510 * BINS).long().clamp(
                0, BINS - 1
            ) + BINS * batch.mask.long()
            counts = [row.bincount(minlength=2 * BINS) for row in bins.flatten(1)]
            kept["pixels"] = torch.stack(counts)
        return kept

    def solve(self, kept: Mapping[str, Tensor]) -> None:
        """Both thresholds."""
        threshold, sign = separating(kept["score"], kept["label"])
        self.threshold.fill_(threshold)
        self.sign.fill_(sign)
        if "pixels" in kept:
            normal, abnormal = kept["pixels"].sum(0).double().view(2, BINS)
            tp = abnormal.flip(0).cumsum(0).flip(0)  # called abnormal from this bin on
            fp = normal.flip(0).cumsum(0).flip(0)
            fn, tn = abnormal.sum() - tp, normal.sum() - fp
            iou = tp / (tp + fp + fn).clamp(min=1) + tn / (tn + fp + fn).clamp(min=1)
            self.pixel_threshold.fill_(510 / BINS * int(iou.argmax()) - 255)

    def forward(self, batch: Batch) -> Prediction:
        """Log-odds grow with redness."""
        redness = self.redness(batch)
        excess = self.sign * (self.reddest(redness) - self.threshold)
        logits = torch.stack([torch.zeros_like(excess), excess], 1)
        mask = None
        if self.dense_asked:
            above = redness - self.pixel_threshold
            mask = torch.stack([torch.zeros_like(above), above], 1)
        return Prediction(logits, mask)


class RmsCurrent(nn.Module):
    """Abnormal where the current's root mean square, over phases and window, is beyond a threshold:
    above or below, whichever tells more training windows right.

    Args:
        problem: what is fed and asked; any length.
    """

    modalities = frozenset({Modality.CURRENT})
    dense: frozenset[Modality] = frozenset()

    threshold: Tensor
    sign: Tensor

    def __init__(self, problem: Problem) -> None:
        super().__init__()
        self.read = current_reader(problem, "rms_current", any_from=1)
        self.register_buffer("threshold", torch.tensor(0.0))
        self.register_buffer("sign", torch.tensor(1.0))

    def stages(self) -> Sequence[Stage]:
        """A threshold, from the training windows."""
        return [Solve(name="threshold", gather=self.gather, solve=self.solve)]

    def rms(self, batch: Batch) -> Tensor:
        """(B,) amperes."""
        return self.read(batch).double().square().mean((1, 2)).sqrt().float()

    def gather(self, batch: Batch) -> Mapping[str, Tensor]:
        """The root mean square."""
        return {"score": self.rms(batch), "label": batch.label}

    def solve(self, kept: Mapping[str, Tensor]) -> None:
        """The threshold and its side."""
        threshold, sign = separating(kept["score"], kept["label"])
        self.threshold.fill_(threshold)
        self.sign.fill_(sign)

    def forward(self, batch: Batch) -> Prediction:
        """Log-odds of 1 for every hundred amperes beyond the threshold."""
        excess = self.sign * (self.rms(batch) - self.threshold) / 100
        return Prediction(torch.stack([torch.zeros_like(excess), excess], 1), None)

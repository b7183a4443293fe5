"""Reference detectors that any method must beat: they learn nothing, or one threshold.

They are not baselines of the paper. In a table they show how much of a rate results from the share
of abnormal windows, from chance, or from one number per frame or window of current.
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
"""Bins of a histogram of redness, which lies in [-255, 255]."""
UNLIKELY = -30.0
"""Logit of a class that is not predicted."""


def separating(score: Tensor, label: Tensor) -> tuple[float, float]:
    """Threshold and sign of the highest accuracy for (N,) float and (N,) labels 0 or 1: abnormal
    where sign · (score - threshold) > 0.
    """
    score, order = score.double().sort()
    abnormal = label[order].double()
    # a threshold after k sorted windows: windows below are normal, above abnormal, or the reverse
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
    """The stages of a model that learns nothing: it gathers nothing from the training windows."""
    return [Solve(name="nothing", gather=lambda batch: {}, solve=lambda kept: None)]


def only_two(problem: Problem, name: str) -> None:
    """Raises: ValueError: the problem has more than two classes."""
    if problem.num_classes != 2:
        raise ValueError(
            f"{name} tells abnormal from normal only; the data have {problem.num_classes} classes"
        )


class AlwaysAbnormal(nn.Module):
    """Predict class 1 for every window: with two classes, the accuracy is the share of abnormal
    windows."""

    modalities = frozenset(Modality)
    dense: frozenset[Modality] = frozenset()

    def __init__(self, problem: Problem) -> None:
        super().__init__()
        self.num_classes = problem.num_classes

    def stages(self) -> Sequence[Stage]:
        """Nothing to learn."""
        return unlearnt()

    def forward(self, batch: Batch) -> Prediction:
        """(B, K) logits, the same for all windows."""
        logits = batch.label.new_zeros((len(batch.label), self.num_classes), dtype=torch.float32)
        logits[:, 1] = 1
        return Prediction(logits, None)


class RandomScore(nn.Module):
    """Predict a pseudo-random probability, a hash of the window's values."""

    modalities = frozenset(Modality)
    dense: frozenset[Modality] = frozenset()

    def __init__(self, problem: Problem) -> None:
        super().__init__()
        self.num_classes = problem.num_classes

    def stages(self) -> Sequence[Stage]:
        """Nothing to learn."""
        return unlearnt()

    def forward(self, batch: Batch) -> Prediction:
        """(B, K) logits: the probability that a window is abnormal is uniform in (0, 1), and is
        that of one abnormal class, of which each is as likely."""
        inputs = [x for x in (batch.video, batch.current) if x is not None]
        total = torch.stack([x.double().flatten(1).sum(1) for x in inputs]).sum(0)
        chance = (torch.sin(total) * 43758.5453).frac().abs().clamp(1e-6, 1 - 1e-6)
        logits = total.new_full((len(total), self.num_classes), UNLIKELY, dtype=torch.float32)
        logits[:, 0] = 0
        kind = 1 + ((1000 * chance).frac() * (self.num_classes - 1)).long()
        logits.scatter_(1, kind[:, None], chance.logit().float()[:, None])
        return Prediction(logits, None)


class BrightestRed(nn.Module):
    """Predict abnormal where the reddest spot of the last frame is redder than a threshold.

    Redness is R - (G + B)/2, averaged over 2x2 pixels. The threshold maximises accuracy on the
    training windows; the mask's threshold, per pixel, maximises their mIoU.

    Args:
        problem: inputs and outputs; frames of any size.
    """

    modalities = frozenset({Modality.VISUAL})
    dense = frozenset({Modality.VISUAL})

    threshold: Tensor
    sign: Tensor
    pixel_threshold: Tensor

    def __init__(self, problem: Problem) -> None:
        super().__init__()
        only_two(problem, "brightest_red")
        self.dense_output = problem.dense
        self.register_buffer("threshold", torch.tensor(0.0))
        self.register_buffer("sign", torch.tensor(1.0))
        self.register_buffer("pixel_threshold", torch.tensor(0.0))

    def stages(self) -> Sequence[Stage]:
        """Find both thresholds from the training windows."""
        return [Solve(name="thresholds", gather=self.gather, solve=self.solve)]

    def redness(self, batch: Batch) -> Tensor:
        """Redness of the last frame in grey levels, (B, H, W)."""
        frame = video_of(batch)[:, :, -1].float()
        return frame[:, 0] - frame[:, 1:].mean(1)

    def reddest(self, redness: Tensor) -> Tensor:
        """Maximum of the 2x2 means: (B, H, W) -> (B,)."""
        return F.avg_pool2d(redness.unsqueeze(1), 2).flatten(1).max(1).values

    def gather(self, batch: Batch) -> Mapping[str, Tensor]:
        """The reddest spot, and histograms of the redness of normal and abnormal pixels."""
        redness = self.redness(batch)
        kept = {"score": self.reddest(redness), "label": batch.label}
        if self.dense_output and batch.mask is not None:
            bins = ((redness + 255) / 510 * BINS).long().clamp(
                0, BINS - 1
            ) + BINS * batch.mask.long()
            counts = [row.bincount(minlength=2 * BINS) for row in bins.flatten(1)]
            kept["pixels"] = torch.stack(counts)
        return kept

    def solve(self, kept: Mapping[str, Tensor]) -> None:
        """Set both thresholds."""
        threshold, sign = separating(kept["score"], kept["label"])
        self.threshold.fill_(threshold)
        self.sign.fill_(sign)
        if "pixels" in kept:
            normal, abnormal = kept["pixels"].sum(0).double().view(2, BINS)
            tp = (
                abnormal.flip(0).cumsum(0).flip(0)
            )  # pixels from this bin on are predicted abnormal
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
        if self.dense_output:
            above = redness - self.pixel_threshold
            mask = torch.stack([torch.zeros_like(above), above], 1)
        return Prediction(logits, mask)


class RmsCurrent(nn.Module):
    """Predict abnormal by a threshold on the current's root mean square over phases and window.

    Abnormal is above or below the threshold, whichever is more accurate on the training windows.

    Args:
        problem: inputs and outputs; windows of any length.
    """

    modalities = frozenset({Modality.CURRENT})
    dense: frozenset[Modality] = frozenset()

    threshold: Tensor
    sign: Tensor

    def __init__(self, problem: Problem) -> None:
        super().__init__()
        only_two(problem, "rms_current")
        self.read = current_reader(problem, "rms_current", any_from=1)
        self.register_buffer("threshold", torch.tensor(0.0))
        self.register_buffer("sign", torch.tensor(1.0))

    def stages(self) -> Sequence[Stage]:
        """Find the threshold from the training windows."""
        return [Solve(name="threshold", gather=self.gather, solve=self.solve)]

    def rms(self, batch: Batch) -> Tensor:
        """Root mean square in amperes, (B,)."""
        return self.read(batch).double().square().mean((1, 2)).sqrt().float()

    def gather(self, batch: Batch) -> Mapping[str, Tensor]:
        """Root mean square and label of a batch."""
        return {"score": self.rms(batch), "label": batch.label}

    def solve(self, kept: Mapping[str, Tensor]) -> None:
        """Set the threshold and its sign."""
        threshold, sign = separating(kept["score"], kept["label"])
        self.threshold.fill_(threshold)
        self.sign.fill_(sign)

    def forward(self, batch: Batch) -> Prediction:
        """Log-odds of 1 per hundred amperes above the threshold, times the sign."""
        excess = self.sign * (self.rms(batch) - self.threshold) / 100
        return Prediction(torch.stack([torch.zeros_like(excess), excess], 1), None)

"""Losses, schedules and the LightningModule."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch.nn import functional as F

from fmbench.models import FmFormer
from fmbench.objective import Loss, Optim
from fmbench.training.lit import Detector
from fmbench.types import Batch, Modality, Prediction, Problem


def sample(dense: bool = True) -> tuple[Prediction, Batch]:
    draw = torch.Generator().manual_seed(1)
    logits = torch.randn(4, 2, generator=draw)
    masks = (torch.rand(4, 8, 8, generator=draw) < 0.1).to(torch.uint8)
    pixels = torch.randn(4, 2, 8, 8, generator=draw) if dense else None
    return Prediction(logits, pixels), Batch(None, None, masks.flatten(1).amax(1).long(), masks)


def test_joint_loss_is_pixel_plus_alpha_class_cross_entropy() -> None:
    prediction, batch = sample()
    terms = Loss(alpha=0.3).terms(prediction, batch)
    assert batch.mask is not None
    assert prediction.mask_logits is not None
    one_hot = F.one_hot(batch.mask.long(), 2).permute(0, 3, 1, 2)
    pixel = -(prediction.mask_logits.log_softmax(1) * one_hot).sum(1).mean()
    cls = -prediction.logits.log_softmax(1)[torch.arange(4), batch.label].mean()
    torch.testing.assert_close(terms["pixel"], pixel)
    torch.testing.assert_close(terms["class"], 0.3 * cls)


def test_weights_scale_the_pixel_loss_and_its_abnormal_class() -> None:
    prediction, batch = sample()
    assert batch.mask is not None
    assert prediction.mask_logits is not None
    loss = F.cross_entropy(prediction.mask_logits, batch.mask.long(), reduction="none")
    expected = 10 * (loss * torch.where(batch.mask == 1, 5.0, 1.0)).mean()
    terms = Loss(pixel_weight=10, positive_weight=5).terms(prediction, batch)
    torch.testing.assert_close(terms["pixel"], expected)


@pytest.mark.parametrize("lacking", ["mask_logits", "mask"])
def test_without_masks_only_the_class_loss_trains(lacking: str) -> None:
    prediction, batch = sample()
    if lacking == "mask":
        batch = batch._replace(mask=None)
    else:
        prediction = prediction._replace(mask_logits=None)
    assert list(Loss().terms(prediction, batch)) == ["class"]


def test_further_losses_of_a_model_are_added_without_a_weight() -> None:
    prediction, batch = sample(dense=False)
    terms = Loss(alpha=2).terms(prediction._replace(aux={"contrast": torch.tensor(0.7)}), batch)
    assert terms["contrast"].item() == pytest.approx(0.7)


def test_section_4c_rate_drops_to_a_tenth_after_epoch_20() -> None:
    optim = Optim()
    factors = [optim.factor(epoch * 100, total=3000, epoch=epoch) for epoch in range(30)]
    assert factors == [1.0] * 20 + [0.1] * 10


def test_warm_up_rises_linearly_then_cosine_falls_to_zero() -> None:
    optim = Optim(schedule="cosine", warmup_steps=10)
    factors = [optim.factor(step, total=110, epoch=0) for step in range(111)]
    assert factors[:10] == pytest.approx([(k + 1) / 10 for k in range(10)])
    assert factors[60] == pytest.approx(0.5 * (1 + math.cos(math.pi / 2)))
    assert factors[110] == pytest.approx(0, abs=1e-12)
    assert all(a >= b for a, b in pairwise(factors[10:]))


def test_constant_schedule_stays() -> None:
    assert Optim(schedule="constant").factor(500, total=100, epoch=40) == 1.0


def test_the_stamp_goes_into_every_checkpoint() -> None:
    problem = Problem(modality=Modality.CURRENT, current_samples=8)
    model = FmFormer(problem, dim=12, depth=1)
    detector = Detector(model, problem=problem, stamp={"model": "fmformer"})
    checkpoint: dict[str, dict[str, object]] = {}
    detector.on_save_checkpoint(checkpoint)
    assert 0 < checkpoint["fmbench"].pop("seconds") <= detector.seconds
    assert checkpoint["fmbench"] == {"model": "fmformer"}


def test_a_detectors_forward_is_its_models() -> None:
    problem = Problem(modality=Modality.CURRENT, current_samples=8)
    model = FmFormer(problem, dim=12, depth=1)
    batch = Batch(None, torch.randn(2, 8, 3), torch.zeros(2, dtype=torch.long))
    detector = Detector(model, problem=problem)
    torch.testing.assert_close(detector(batch).logits, model(batch).logits)

"""Detectors that learn nothing, or one threshold: what they say; no threshold is better."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest

from fmbench import create_model
from fmbench.metrics import Counts, abnormal_probability, miou
from fmbench.models.references import BINS, separating
from fmbench.types import Batch, Problem


def problem(modality: str, **size: object) -> Problem:
    return Problem(modality=modality, frames=2, image_size=(16, 16), current_samples=8, **size)  # type: ignore[arg-type]


def batch(count: int, seed: int = 0) -> Batch:
    draw = torch.Generator().manual_seed(seed)
    video = torch.randint(0, 256, (count, 3, 2, 16, 16), dtype=torch.uint8, generator=draw)
    current = 9000 + 500 * torch.randn(count, 8, 3, generator=draw)
    label = torch.randint(0, 2, (count,), generator=draw)
    mask = torch.zeros(count, 16, 16, dtype=torch.uint8)
    mask[label == 1, 4:9, 6:12] = 1
    return Batch(video, current, label, mask)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 1)), min_size=1, max_size=30))
def test_no_threshold_on_either_side_tells_more_windows_right(rows: list[tuple[int, int]]) -> None:
    score, label = (torch.tensor(column) for column in zip(*rows, strict=True))
    threshold, sign = separating(score.float(), label)
    found = int(((sign * (score - threshold) > 0) == (label == 1)).sum())
    best = max(
        int(((side * (score - edge) > 0) == (label == 1)).sum())
        for edge in np.arange(-0.5, 10)
        for side in (1, -1)
    )
    assert found == best


def test_always_abnormal_calls_everything_abnormal() -> None:
    model = create_model("always_abnormal", problem("cross"))
    assert model(batch(5)).logits.argmax(1).tolist() == [1] * 5


@pytest.mark.parametrize("modality", ["current", "visual", "cross"])
def test_a_random_score_is_uniform_independent_of_the_label_and_always_the_same(
    modality: str,
) -> None:
    model = create_model("random_score", problem(modality))
    data = batch(2000)
    score = abnormal_probability(model(data).logits)
    assert torch.equal(score, abnormal_probability(model(data).logits))
    assert kstest(score.double().numpy(), "uniform").pvalue > 0.01
    assert abs(np.corrcoef(score.numpy(), data.label.numpy())[0, 1]) < 0.08


@pytest.mark.parametrize("side", [1, -1])
def test_rms_current_finds_the_side_on_which_abnormal_currents_lie(side: int) -> None:
    model = create_model("rms_current", problem("current"))
    data = batch(40)
    shifted = data.current + side * 3000 * data.label[:, None, None]
    data = data._replace(current=shifted, video=None)
    (stage,) = model.stages()
    stage.solve(stage.gather(data))
    assert model(data).logits.argmax(1).equal(data.label)
    rms = shifted.double().square().mean((1, 2)).sqrt()
    torch.testing.assert_close(stage.gather(data)["score"].double(), rms)


def test_the_reddest_spot_of_the_newest_frame_decides() -> None:
    model = create_model("brightest_red", problem("visual", dense=True))
    data = batch(40)
    video = torch.full_like(data.video, 90)
    video[:, 0, -1] += 120 * data.mask
    video[:, 0, 0] = 255  # an older frame, which is not looked at
    data = data._replace(video=video, current=None)
    (stage,) = model.stages()
    stage.solve(stage.gather(data))
    answer = model(data)
    assert answer.logits.argmax(1).equal(data.label)
    assert answer.mask_logits.argmax(1).equal(data.mask.long())


def test_no_pixel_threshold_has_a_higher_miou() -> None:
    model = create_model("brightest_red", problem("visual", dense=True))
    data = batch(40)
    video = data.video.clone()
    video[:, 0, -1] = (video[:, 0, -1].int() // 2 + 90 * data.mask.int()).byte()
    data = data._replace(video=video, current=None)
    (stage,) = model.stages()
    stage.solve(stage.gather(data))
    redness, truth = model.redness(data), data.mask > 0

    def at(threshold: float) -> float:
        called = redness >= threshold
        cells = (~truth & ~called, ~truth & called, truth & ~called, truth & called)
        return miou(Counts(*(float(cell.sum()) for cell in cells)))

    edges = [510 / BINS * k - 255 for k in range(BINS)]
    assert at(float(model.pixel_threshold)) == pytest.approx(max(map(at, edges)))

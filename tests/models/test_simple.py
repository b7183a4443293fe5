"""Strong simple detectors: the stored trees are scikit-learn's; the CNN reads all its frames."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.ensemble import GradientBoostingClassifier

from fmbench import create_model
from fmbench.models.simple import BoostedCurrent
from fmbench.types import Batch, Problem


def windows(count: int, samples: int, seed: int = 0) -> Batch:
    """The current fluctuates more in the last 20 samples of an abnormal window."""
    draw = torch.Generator().manual_seed(seed)
    label = torch.arange(count) % 2
    current = 9000 + 300 * torch.randn(count, samples, 3, generator=draw)
    noise = 500 * torch.randn(count, 20, 3, generator=draw)
    current[:, -20:] += label[:, None, None] * noise
    return Batch(None, current, label, None)


def boosted(samples: int, **options: object) -> BoostedCurrent:
    problem = Problem(modality="current", current_samples=samples)  # type: ignore[arg-type]
    model = create_model("boosted_current", problem, **options)
    assert isinstance(model, BoostedCurrent)
    model.standardize.set_statistics(torch.full((3,), 9000.0), torch.full((3,), 400.0))
    return model


@pytest.mark.parametrize("samples", [24, 60, 240])
def test_the_stored_trees_decide_as_scikit_learns(samples: int) -> None:
    model = boosted(samples, trees=20, depth=3)
    data = windows(300, samples)
    (stage,) = model.stages()
    kept = stage.gather(data)
    stage.solve(kept)
    theirs = GradientBoostingClassifier(
        n_estimators=20, max_depth=3, learning_rate=0.05, subsample=0.5, max_features=0.3,
        random_state=0,
    ).fit(kept["features"].numpy(), kept["label"].numpy())  # fmt: skip
    fresh = windows(200, samples, seed=1)
    logits = model(fresh).logits
    expected = theirs.decision_function(model.features(fresh).numpy())
    np.testing.assert_allclose((logits[:, 1] - logits[:, 0]).numpy(), expected, atol=1e-5)
    assert (logits.argmax(1) == fresh.label).float().mean() > 0.9


def test_horizons_beyond_the_window_are_left_out() -> None:
    assert boosted(24).lengths == [20, None]
    assert boosted(60).lengths == [20, None]
    assert boosted(240).lengths == [20, 60, 120, None]
    assert boosted(240).features(windows(2, 240)).shape == (2, 4 * 28)


@pytest.mark.parametrize(
    ("rate", "samples", "lengths"),
    [(50, 3000, [500, 1500, None]), (0.2, 20, [2, 6, 12, None]), (0.1, 20, [3, 6, 12, None])],
)
def test_horizons_are_seconds_at_any_rate(
    rate: float, samples: int, lengths: list[int | None]
) -> None:
    problem = Problem(modality="current", current_samples=samples, current_rate=rate)  # type: ignore[arg-type]
    assert BoostedCurrent(problem).lengths == lengths


def test_a_checkpoint_holds_the_trees() -> None:
    model = boosted(24, trees=5)
    (stage,) = model.stages()
    stage.solve(stage.gather(windows(60, 24)))
    again = boosted(24, trees=5)
    again.load_state_dict(model.state_dict())
    data = windows(30, 24, seed=2)
    assert torch.equal(again(data).logits, model(data).logits)


def test_what_boosting_refuses() -> None:
    model = boosted(24, trees=5)
    with pytest.raises(ValueError, match="no trees yet"):
        model(windows(2, 24))
    data = windows(20, 24)
    (stage,) = model.stages()
    kept = stage.gather(data._replace(label=torch.zeros(20, dtype=torch.long)))
    with pytest.raises(ValueError, match="windows of both classes"):
        stage.solve(kept)
    for options in ({"trees": 0}, {"share": 0.0}, {"rate": 0.0}):
        with pytest.raises(ValueError, match="trees and depth must be at least 1"):
            boosted(24, **options)


@pytest.mark.parametrize("changed", [0, 1, 2, 3, 4])
def test_the_cnn_reads_the_first_middle_and_last_frame(changed: int) -> None:
    problem = Problem(modality="visual", frames=5, image_size=(16, 16))  # type: ignore[arg-type]
    model = create_model("small_cnn", problem).eval()
    draw = torch.Generator().manual_seed(0)
    video = torch.randint(0, 256, (2, 3, 5, 16, 16), dtype=torch.uint8, generator=draw)
    other = video.clone()
    other[:, :, changed] = 255 - other[:, :, changed]
    label = torch.zeros(2, dtype=torch.long)
    before, after = (model(Batch(each, None, label, None)).logits for each in (video, other))
    assert torch.equal(before, after) == (changed in (1, 3))


def test_the_cnn_refuses_a_shorter_clip_and_small_frames() -> None:
    problem = Problem(modality="visual", frames=3, image_size=(16, 16))  # type: ignore[arg-type]
    model = create_model("small_cnn", problem)
    video = torch.zeros(2, 3, 2, 16, 16, dtype=torch.uint8)
    with pytest.raises(ValueError, match="small_cnn needs 3"):
        model(Batch(video, None, torch.zeros(2, dtype=torch.long), None))
    tiny = Problem(modality="visual", frames=3, image_size=(4, 16))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least 8x8"):
        create_model("small_cnn", tiny)

"""Features of the current against numpy's and scipy's own words for them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import signal

from fmbench.nn import current_features, num_current_features
from fmbench.nn.current_features import PER_PHASE


def by_phase(current: torch.Tensor) -> dict[str, np.ndarray]:
    """Feature name -> (B, C)."""
    values = current_features(current).numpy()[:, :-1]
    parts = values.reshape(len(values), len(PER_PHASE), -1)
    return {name: parts[:, at] for at, name in enumerate(PER_PHASE)}


def windows(samples: int, channels: int = 3) -> torch.Tensor:
    draw = torch.Generator().manual_seed(0)
    return torch.randn(4, samples, channels, generator=draw).cumsum(1) * 0.3 + 1


@pytest.mark.parametrize("samples", [2, 3, 24, 31, 60, 240])
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_each_feature_is_what_it_is_called(samples: int, channels: int) -> None:
    current = windows(samples, channels)
    x = current.double().numpy()
    step = np.abs(np.diff(x, axis=1))

    frequency, power = signal.periodogram(x, detrend="constant", scaling="spectrum", axis=1)
    expected = {
        "mean": x.mean(1),
        "std": x.std(1),
        "min": x.min(1),
        "max": x.max(1),
        "mean_step": step.mean(1),
        "max_step": step.max(1),
        "last": x[:, -1],
        "low": power[:, frequency < 0.125].sum(1),
        "high": power[:, frequency >= 0.125].sum(1),
    }
    found = by_phase(current)
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, atol=1e-5, rtol=1e-4, err_msg=name)
    np.testing.assert_allclose(found["low"] + found["high"], found["std"] ** 2, atol=1e-5)
    imbalance = x.mean(1).max(1) - x.mean(1).min(1)
    np.testing.assert_allclose(current_features(current)[:, -1], imbalance, atol=1e-5)


def test_three_phases_give_28_features_and_the_level_is_among_them() -> None:
    assert num_current_features(3) == 28
    current = windows(60)
    features = current_features(current)
    assert features.shape == (4, 28)
    assert not torch.allclose(current_features(2 * current), features, atol=0.1)


def test_slow_and_fast_swings_are_told_apart() -> None:
    time = torch.arange(240)
    slow = torch.sin(2 * torch.pi * time / 60).reshape(1, 240, 1)
    fast = torch.sin(2 * torch.pi * time / 4).reshape(1, 240, 1)
    for wave, name, other in ((slow, "low", "high"), (fast, "high", "low")):
        assert by_phase(wave)[name] == pytest.approx(0.5, abs=1e-5)
        assert by_phase(wave)[other] == pytest.approx(0, abs=1e-5)


def test_a_flat_window_has_finite_features_and_gradients() -> None:
    current = torch.full((2, 60, 3), 1.5, requires_grad=True)
    features = current_features(current)
    features.sum().backward()
    assert current.grad is not None
    assert features.isfinite().all()
    assert current.grad.isfinite().all()


def test_a_single_sample_is_refused() -> None:
    with pytest.raises(ValueError, match="1 samples of current; features need at least 2"):
        current_features(torch.zeros(2, 1, 3))

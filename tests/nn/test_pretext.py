"""Gaps, exchanges, and the losses that they give, against loops."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from fmbench.nn.pretext import FAR_SECONDS, PretextHeads, Task, apart, draw_task, mean_where
from fmbench.types import Batch


def windows(recording: list[int], second: list[int]) -> Batch:
    return Batch(
        None,
        None,
        torch.zeros(len(second)),
        recording=torch.tensor(recording),
        second=torch.tensor(second) + 1_600_000_000,
    )


def streams(size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Patches, and samples that say whose they are."""
    samples = torch.arange(size).float().reshape(-1, 1, 1).expand(-1, 40, 3)
    return torch.randn(size, 2, 4, 4, 48), samples


def test_an_exchanged_current_is_of_another_recording_or_at_least_300_seconds_away() -> None:
    recording, second = [0, 0, 0, 0, 1, 1, 1, 2], [0, 299, 300, 1000, 100, 399, 401, 0]
    batch = windows(recording, second)
    patches, samples = streams(8)
    torch.manual_seed(0)
    seen = set()
    for _ in range(200):
        task = draw_task(batch, patches, samples)
        for row, owner in enumerate(task.samples[:, 0, 0].int().tolist()):
            assert bool(task.matched[row]) == (owner == row)
            if owner != row:
                far = abs(second[row] - second[owner]) >= FAR_SECONDS
                assert recording[row] != recording[owner] or far
                seen.add((row, owner))
        assert (~task.matched).sum() == 4  # half of them
        assert torch.equal(task.patches, patches)
    allowed = {
        (i, j)
        for i in range(8)
        for j in range(8)
        if recording[i] != recording[j] or abs(second[i] - second[j]) >= 300
    }
    assert seen == allowed
    assert (0, 2) in allowed
    assert (0, 1) not in allowed


def test_windows_without_a_far_one_keep_their_own_current() -> None:
    patches, samples = streams(6)
    task = draw_task(windows([0] * 6, list(range(0, 300, 50))), patches, samples)
    assert task.matched.all()
    assert torch.equal(task.samples, samples)
    assert draw_task(windows([0], [0]), patches[:1], samples[:1]).matched.all()


def test_about_fifteen_in_a_hundred_are_hidden_and_a_place_at_all_times() -> None:
    torch.manual_seed(0)
    patches, samples = streams(200)
    task = draw_task(windows([0] * 200, [0] * 200), patches, samples)
    assert 0.12 < task.hidden_samples.float().mean() < 0.18
    assert 0.12 < task.hidden_patches.float().mean() < 0.18
    assert torch.equal(task.hidden_patches[:, 0], task.hidden_patches[:, 1])
    assert not torch.equal(task.hidden_patches[0], task.hidden_patches[1])


def test_times_are_needed() -> None:
    batch = windows([0, 0], [0, 1])
    assert apart(batch, 1).tolist() == [[False, True], [True, False]]
    for lacking in ("recording", "second"):
        with pytest.raises(ValueError, match=r"does not say from which recording and second"):
            apart(batch._replace(**{lacking: None}), 1)


def test_losses_are_of_what_was_hidden_in_windows_that_match() -> None:
    torch.manual_seed(0)
    patches, samples = torch.randn(4, 2, 3, 3, 48), torch.randn(4, 20, 2)
    matched = torch.tensor([True, False, True, False])
    gaps = torch.rand(4, 2, 3, 3) < 0.4, torch.rand(4, 20) < 0.4
    task = Task(patches, samples, matched, *gaps)
    heads = PretextHeads(8, channels=2, first_dim=5)
    first, regions, series = torch.randn(4, 5), torch.randn(4, 18, 8), torch.randn(4, 20, 8)
    losses = heads.losses(task, first, regions, series)

    of_samples, of_patches = [], []
    for row in (0, 2):
        for i in range(20):
            if gaps[1][row, i]:
                told = heads.to_sample(series[row, i])
                of_samples.append(F.mse_loss(told, samples[row, i]))
        for i, place in enumerate((t, y, x) for t in range(2) for y in range(3) for x in range(3)):
            if gaps[0][(row, *place)]:
                colour = patches[(row, *place)].reshape(16, 3).mean(0)  # pixels, channels fastest
                of_patches.append(F.mse_loss(heads.to_colour(regions[row, i]), colour))
    torch.testing.assert_close(losses["masked_current"], torch.stack(of_samples).mean())
    torch.testing.assert_close(losses["masked_patch"], torch.stack(of_patches).mean())
    torch.testing.assert_close(
        losses["matching"], F.cross_entropy(heads.to_match(first), torch.tensor([1, 0, 1, 0]))
    )


def test_nothing_hidden_is_no_loss() -> None:
    assert mean_where(torch.ones(2, 5, 3), torch.zeros(2, 5, dtype=torch.bool)) == 0

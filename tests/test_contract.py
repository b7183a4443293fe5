"""What every registered model promises, for every modality that it reads."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fmbench import create_model, list_models
from fmbench.lit import Loss
from fmbench.nn import Standardize
from fmbench.registry import find_model
from fmbench.types import Batch, Modality, Problem

ROWS = [(name, str(modality)) for modality in Modality for name in list_models(modality)]
SMALL = {"fmformer": {"dim": 24, "depth": 2}, "fmformer-official": {"dim": 24, "depth": 2}}
"""Sizes at which a model's tests run; its own defaults where it is not named."""

every_row = pytest.mark.parametrize(("name", "modality"), ROWS)


def build(name: str, modality: str) -> tuple[nn.Module, Problem]:
    kind = Modality(modality)
    problem = Problem(
        modality=kind,
        dense=kind in find_model(name, kind).dense,
        frames=4,
        image_size=(32, 32),
        current_samples=24,
    )
    torch.manual_seed(0)
    return create_model(name, problem, **SMALL.get(name, {})), problem


def batch_for(problem: Problem, size: int, seed: int = 1) -> Batch:
    draw = torch.Generator().manual_seed(seed)
    label = torch.arange(size) % 2
    mask = torch.zeros(size, *problem.image_size, dtype=torch.uint8)
    mask[label == 1, 5:12, 8:17] = 1
    video = torch.randint(
        60, 120, (size, 3, problem.frames, *problem.image_size), dtype=torch.uint8, generator=draw
    )
    video[:, 0] += 100 * mask[:, None]
    current = 9000 + 500 * torch.randn(
        size, problem.current_samples, problem.current_channels, generator=draw
    )
    current[label == 1, -8:, 0] += 4000
    reads = problem.modality
    return Batch(
        video if reads.has_video else None,
        current if reads.has_current else None,
        label,
        mask if reads.has_video else None,
    )


@every_row
@pytest.mark.parametrize("size", [1, 3])
def test_shapes_and_types(name: str, modality: str, size: int) -> None:
    model, problem = build(name, modality)
    prediction = model.eval()(batch_for(problem, size))
    assert prediction.logits.shape == (size, 2)
    assert prediction.logits.dtype == torch.float32
    if problem.dense:
        assert prediction.mask_logits.shape == (size, 2, *problem.image_size)
    else:
        assert prediction.mask_logits is None
    assert all(loss.ndim == 0 for loss in prediction.aux.values())


@every_row
def test_every_parameter_gets_a_gradient(name: str, modality: str) -> None:
    model, problem = build(name, modality)
    batch = batch_for(problem, 4)
    torch.stack(list(Loss().terms(model(batch), batch).values())).sum().backward()
    without = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not without, f"no gradient for {without}"


@every_row
def test_a_row_does_not_depend_on_its_neighbours(name: str, modality: str) -> None:
    model, problem = build(name, modality)
    model.eval()
    batch = batch_for(problem, 3)
    together = model(batch)
    alone = model(Batch(*(None if x is None else x[1:2] for x in batch)))
    torch.testing.assert_close(together.logits[1:2], alone.logits, atol=1e-5, rtol=1e-4)
    if problem.dense:
        torch.testing.assert_close(
            together.mask_logits[1:2], alone.mask_logits, atol=1e-4, rtol=1e-4
        )


@every_row
def test_both_inputs_and_the_label_instant_are_seen(name: str, modality: str) -> None:
    model, problem = build(name, modality)
    model.eval()
    batch = batch_for(problem, 1)
    before = model(batch).logits
    if batch.video is not None:
        video = batch.video.clone()
        video[:, :, -1] = 255 - video[:, :, -1]
        assert not torch.equal(model(batch._replace(video=video)).logits, before)
    if batch.current is not None:
        current = batch.current.clone()
        current[:, -1, 0] += 500
        assert not torch.equal(model(batch._replace(current=current)).logits, before)


@pytest.mark.parametrize(("name", "modality"), [row for row in ROWS if row[1] != "current"])
def test_integer_and_float_frames_are_the_same_input(name: str, modality: str) -> None:
    model, problem = build(name, modality)
    batch = batch_for(problem, 1)
    assert batch.video is not None
    model.eval()
    as_float = batch._replace(video=batch.video.float())
    torch.testing.assert_close(model(batch).logits, model(as_float).logits)


@every_row
def test_saved_and_loaded_weights_give_the_same_logits(name: str, modality: str) -> None:
    model, problem = build(name, modality)
    other, _ = build(name, modality)
    for parameter in other.parameters():
        nn.init.normal_(parameter, std=0.1)
    batch = batch_for(problem, 2)
    other.load_state_dict(model.state_dict())
    assert torch.equal(model.eval()(batch).logits, other.eval()(batch).logits)


@every_row
def test_sixteen_windows_are_learnt_by_heart(name: str, modality: str) -> None:
    model, problem = build(name, modality)
    batch = batch_for(problem, 16)
    for module in model.modules():
        if isinstance(module, Standardize) and module.source == "current":
            assert batch.current is not None
            module.set_statistics(batch.current.mean((0, 1)), batch.current.std((0, 1)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for _ in range(300):
        optimizer.zero_grad()
        torch.stack(list(Loss().terms(model(batch), batch).values())).sum().backward()
        optimizer.step()
        if (model(batch).logits.argmax(1) == batch.label).all():
            return
    pytest.fail(f"{name} on {modality}: {(model(batch).logits.argmax(1) == batch.label).sum()}/16")

"""The contract of every registered model, for every modality that it reads."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from fmbench import create_model, list_models
from fmbench.nn import Standardize
from fmbench.objective import Loss
from fmbench.registry import find_model
from fmbench.stages import Learn, Solve, learnt_in, stages_of
from fmbench.training.lit import parameter_groups
from fmbench.types import Batch, Modality, Problem

ROWS = [(name, str(modality)) for modality in Modality for name in list_models(modality)]
LEARNERS = [row for row in ROWS if row[0] not in ("always_abnormal", "random_score")]
SMALL = {
    "3dcrnn": {"widths": (8, 16, 24)},
    "bilm": {"dim": 24, "depth": 2, "heads": 3, "levels": 16, "vision_dim": 24, "vision_depth": 2},
    "capture": {"dim": 24, "self_depth": 1, "cross_depth": 1, "co_depth": 1},
    "clipbert": {"dim": 24, "depth": 1},
    "dcnn_svm": {"held_out": 0.5, "width": 8},  # both classes among so few windows
    "fmformer": {"dim": 24, "depth": 2},
    "fmformer-official": {"dim": 24, "depth": 2},
    "ssfggan": {"labelled_fraction": 0.5, "width": 16},
    "tubevit": {"dim": 24, "depth": 2},
    "unicoder_vl": {"dim": 24, "depth": 2},
    "vit": {"dim": 24, "depth": 2},
    "vivit": {"dim": 24, "depth": 2},
}
"""Options with which a model is tested; a model not listed here has its defaults."""

every_learner = pytest.mark.parametrize(("name", "modality"), LEARNERS)
every_row = pytest.mark.parametrize(("name", "modality"), ROWS)


TWO_CLASSES = {
    ("boosted_current", "current"),
    ("brightest_red", "visual"),
    ("dcnn_svm", "cross"),
    ("expert_system", "current"),
    ("fmformer-official", "cross"),
    ("fmformer-official", "visual"),
    ("rms_current", "current"),
}
"""Models that tell abnormal from normal only, the official ones where they predict a mask."""


def problem_of(name: str, modality: str, num_classes: int = 2) -> Problem:
    kind = Modality(modality)
    return Problem(
        modality=kind,
        num_classes=num_classes,
        dense=kind in find_model(name, kind).dense,
        frames=4,
        image_size=(32, 32),
        current_samples=24,
    )


def build(name: str, modality: str) -> tuple[nn.Module, Problem]:
    problem = problem_of(name, modality)
    torch.manual_seed(0)
    return create_model(name, problem, **SMALL.get(name, {})), problem


def batch_for(problem: Problem, size: int, seed: int = 1) -> Batch:
    draw = torch.Generator().manual_seed(seed)
    label = torch.arange(size) % problem.num_classes
    mask = torch.zeros(size, *problem.image_size, dtype=torch.uint8)
    for kind in range(1, problem.num_classes):
        mask[label == kind, 5:12, 8:17] = kind
    video = torch.randint(
        60, 120, (size, 3, problem.frames, *problem.image_size), dtype=torch.uint8, generator=draw
    )
    video[:, 0] += 100 * mask[:, None].clamp(max=1)
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
        torch.arange(size) // 4,
        1_600_000_000 + 900 * torch.arange(size),
    )


def prepared(name: str, modality: str, batch: Batch) -> tuple[nn.Module, Problem]:
    """A model with the statistics of `batch`, trained for two steps in every stage.

    Without it, methods with a `Solve` stage or with pretrained, frozen parameters predict nothing.
    """
    model, problem = build(name, modality)
    train_on(model, batch, steps=2)
    return model, problem


def train_on(model: nn.Module, batch: Batch, steps: int, until: Callable[[], bool] = bool) -> None:
    """Train all stages on one batch for `steps` each; the last one only until `until()` is true."""
    for module in model.modules():
        if isinstance(module, Standardize):
            x = batch.current if module.source == "current" else batch.video
            assert x is not None
            over = (0, 1) if module.source == "current" else (0, 2, 3, 4)
            module.set_statistics(x.float().mean(over), x.float().std(over))
    stages = stages_of(model)
    for stage in stages:
        if isinstance(stage, Solve):
            model.eval()
            with torch.no_grad():
                stage.solve(stage.gather(batch))
            continue
        model.train()
        learnt = learnt_in(stage)
        for parameter in model.parameters():
            parameter.requires_grad_(parameter in learnt)
        optimizers = [torch.optim.AdamW(parameter_groups(turn, 2e-3)) for turn in stage.turns]
        for _ in range(steps):
            for turn, optimizer in zip(stage.turns, optimizers, strict=True):
                terms = turn.losses(batch) if turn.losses else Loss().terms(model(batch), batch)
                optimizer.zero_grad()
                torch.stack(list(terms.values())).sum().backward()
                optimizer.step()
            if stage is stages[-1] and until():
                break


@every_row
@pytest.mark.parametrize("size", [1, 3])
def test_shapes_and_types(name: str, modality: str, size: int) -> None:
    model, problem = prepared(name, modality, batch_for(problem_of(name, modality), 8))
    prediction = model.eval()(batch_for(problem, size))
    assert prediction.logits.shape == (size, 2)
    assert prediction.logits.dtype == torch.float32
    if problem.dense:
        assert prediction.mask_logits.shape == (size, 2, *problem.image_size)
    else:
        assert prediction.mask_logits is None
    assert all(loss.ndim == 0 for loss in prediction.aux.values())


@every_row
def test_every_parameter_gets_a_gradient_in_some_stage(name: str, modality: str) -> None:
    model, problem = build(name, modality)
    batch = batch_for(problem, 8)
    fixed = {n for n, p in model.named_parameters() if not p.requires_grad}
    reached: set[nn.Parameter] = set()
    for stage in stages_of(model):
        if isinstance(stage, Solve):
            continue
        model.train()
        for parameter in model.parameters():
            parameter.requires_grad_(parameter in learnt_in(stage))
        for turn in stage.turns:
            model.zero_grad()
            terms = turn.losses(batch) if turn.losses else Loss().terms(model(batch), batch)
            torch.stack(list(terms.values())).sum().backward()
            reached |= {p for p in model.parameters() if p.grad is not None}
    without = [n for n, p in model.named_parameters() if n not in fixed and p not in reached]
    assert not without, f"no gradient for {without}"


@every_row
def test_a_row_does_not_depend_on_its_neighbours(name: str, modality: str) -> None:
    batch = batch_for(problem_of(name, modality), 8)
    model, problem = prepared(name, modality, batch)
    model.eval()
    together = model(batch)
    alone = model(Batch(*(None if x is None else x[1:2] for x in batch)))
    torch.testing.assert_close(together.logits[1:2], alone.logits, atol=1e-5, rtol=1e-4)
    if problem.dense:
        torch.testing.assert_close(
            together.mask_logits[1:2], alone.mask_logits, atol=1e-4, rtol=1e-4
        )


@every_learner
def test_both_inputs_and_the_label_instant_are_seen(name: str, modality: str) -> None:
    model, problem = prepared(name, modality, batch_for(problem_of(name, modality), 8))
    model.eval()
    crisp = name == "expert_system"  # at least one of eight windows depends on its last sample
    batch = batch_for(problem, 8 if crisp else 1)
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
    batch = batch_for(problem_of(name, modality), 8)
    model, _ = prepared(name, modality, batch)
    assert batch.video is not None
    model.eval()
    as_float = batch._replace(video=batch.video.float())
    torch.testing.assert_close(model(batch).logits, model(as_float).logits)


@every_row
def test_saved_and_loaded_weights_give_the_same_logits(name: str, modality: str) -> None:
    batch = batch_for(problem_of(name, modality), 8)
    model, _ = prepared(name, modality, batch)
    other, _ = build(name, modality)
    for parameter in other.parameters():
        nn.init.normal_(parameter, std=0.1)
    other.load_state_dict(model.state_dict())
    assert torch.equal(model.eval()(batch).logits, other.eval()(batch).logits)


@every_learner
def test_sixteen_windows_are_memorised(name: str, modality: str) -> None:
    model, problem = build(name, modality)
    batch = batch_for(problem, 16)

    def right() -> int:
        """Correct decisions in eval mode, with the running statistics of batch normalisation."""
        learning = model.training
        model.eval()
        with torch.no_grad():
            answers = model(batch).logits.argmax(1)
        model.train(learning)
        return int((answers == batch.label).sum())

    last_learns = isinstance(stages_of(model)[-1], Learn)
    train_on(model, batch, 300, (lambda: right() == 16) if last_learns else bool)
    assert right() == 16, f"{name} on {modality}: {right()} of 16"


@every_row
def test_three_classes_are_predicted_or_refused(name: str, modality: str) -> None:
    problem = problem_of(name, modality, num_classes=3)
    options = SMALL.get(name, {})
    if (name, modality) in TWO_CLASSES:
        with pytest.raises(ValueError, match=r"^[^\n]*\bclasses\b[^\n]*$") as error:
            create_model(name, problem, **options)
        assert name in str(error.value)
        return
    torch.manual_seed(0)
    model, batch = create_model(name, problem, **options), batch_for(problem, 12)
    train_on(model, batch, steps=1)
    prediction = model.eval()(batch)
    assert prediction.logits.shape == (12, 3)
    assert prediction.logits.isfinite().all()
    if problem.dense:
        assert prediction.mask_logits.shape == (12, 3, *problem.image_size)

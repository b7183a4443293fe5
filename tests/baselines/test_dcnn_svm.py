"""DCNN-SVM against scikit-learn, and against what would not be a late fusion by an honest SVM."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.svm import SVC
from torch import Tensor

from fmbench.nn import Standardize
from fmbench.stages import Learn, Solve, learnt_in
from fmbench.training import checkpoint
from fmbench.types import Batch, Modality, Problem
from fmbench_baselines.dcnn_svm import DcnnSvm, evenly, fit_svm, folds

SMALL = {"frames": 2, "image_size": (16, 16), "current_samples": 20}


def problem(**changes: Any) -> Problem:
    return Problem(modality=Modality.CROSS, **changes)


def windows(size: int, seed: int = 0, **sizes: Any) -> Batch:
    """Noise, one window a minute; only the current tells the label."""
    asked = problem(**SMALL | sizes)
    draw = torch.Generator().manual_seed(seed)
    label = torch.randint(2, (size,), generator=draw)
    shape = (size, 3, asked.frames, *asked.image_size)
    video = torch.randint(256, shape, dtype=torch.uint8, generator=draw)
    current = torch.randn(size, asked.current_samples, asked.current_channels, generator=draw)
    current = 9000 + 500 * current + 600 * label[:, None, None]
    return Batch(video, current, label, None, torch.zeros_like(label), 60 * torch.arange(size))


def build(**net: Any) -> DcnnSvm:
    torch.manual_seed(0)
    model = DcnnSvm(problem(**SMALL), **net)
    model.standardize_current.set_statistics(torch.full((3,), 9300.0), torch.full((3,), 580.0))
    model.standardize_video.set_statistics(torch.full((3,), 127.0), torch.full((3,), 74.0))
    return model


def opinions(size: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores of two branches that are often, but not always, right; labels and blocks."""
    draw = np.random.default_rng(seed)
    label = draw.integers(2, size=size)
    odds = 1.5 * (2 * label - 1)[:, None] * (1, 0.7) + draw.normal(size=(size, 2)) * 1.5
    abnormal = 1 / (1 + np.exp(-odds))
    scores = np.stack([1 - abnormal, abnormal], 2).reshape(size, 4)
    return scores.astype(np.float32), label, np.arange(size) // 10


def solved(size: int = 300, **net: Any) -> tuple[DcnnSvm, np.ndarray, np.ndarray, np.ndarray]:
    model = build(**net).eval()
    scores, label, block = opinions(size)
    kept = {"scores": scores, "label": label, "block": block}
    model.solve({name: torch.as_tensor(value) for name, value in kept.items()})
    return model, scores, label, block


def standardised(scores: np.ndarray, fitted_on: np.ndarray) -> np.ndarray:
    scale = fitted_on.astype(float)
    return (scores - scale.mean(0)) / scale.std(0)


@pytest.mark.parametrize("cost", [0.1, 1, 10])
def test_the_decision_in_torch_is_that_of_scikit_learn(cost: float) -> None:
    model, scores, label, _ = solved(costs=[cost])
    reference = SVC(C=cost, gamma="scale", class_weight="balanced")
    reference.fit(standardised(scores, scores), label)
    new, _, _ = opinions(200, seed=1)
    expected = reference.decision_function(standardised(new, scores))
    found = model.decision(torch.from_numpy(new))
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=1e-5)
    assert int(model.support) == len(reference.support_)


def test_the_softmax_of_the_logits_is_platts_calibrated_probability() -> None:
    model, scores, label, block = solved()
    fitted = fit_svm(scores.astype(float), label, block, model.costs)
    new, _, _ = opinions(50, seed=1)
    model.scores = lambda batch: torch.from_numpy(new)  # type: ignore[method-assign]
    found = model(windows(50)).logits
    expected = fitted.calibrated.predict_proba(fitted.scaler.transform(new))
    np.testing.assert_allclose(found.softmax(1), expected, atol=1e-5)
    torch.testing.assert_close(found.sum(1), torch.zeros(50))
    assert fitted.platt[0] < 0  # more decision, more abnormal


def test_both_classes_have_support_vectors_and_each_is_four_scores() -> None:
    model, scores, _, _ = solved()
    count = int(model.support)
    assert 0 < count < len(scores)
    assert (model.dual[:count] > 0).any()
    assert (model.dual[:count] < 0).any()
    assert not model.dual[count:].any()
    kept = model.vectors[:count] * model.score_std + model.score_mean
    assert kept.shape == (count, 4)
    assert kept.min() > -1e-5
    assert kept.max() < 1 + 1e-5
    for pair in (kept[:, :2], kept[:, 2:]):
        torch.testing.assert_close(pair.sum(1), torch.ones(count))


def test_windows_that_are_no_support_vectors_can_be_left_out() -> None:
    model, scores, label, _ = solved(costs=[1])
    x = standardised(scores, scores)
    share = len(label) / (2 * np.bincount(label))  # "balanced", of all windows
    options = {"gamma": float(model.gamma), "class_weight": dict(enumerate(share))}
    support = SVC(C=1, **options).fit(x, label).support_
    assert len(support) < len(x)
    fewer = SVC(C=1, **options).fit(x[support], label[support])
    found = model.decision(torch.from_numpy(scores))
    np.testing.assert_allclose(found, fewer.decision_function(x), atol=2e-3)  # SVC's own tolerance


def test_where_the_image_is_undecided_the_current_decides() -> None:
    model, _, _, _ = solved()
    calm, alarmed = torch.tensor([[0.5, 0.5, 0.95, 0.05], [0.5, 0.5, 0.05, 0.95]])
    assert model.decision(calm[None]) < 0 < model.decision(alarmed[None])


def test_an_svm_told_of_windows_that_the_image_branch_knows_by_heart_would_ignore_the_current() -> (
    None
):
    batch = windows(160)
    model = build(held_out=0.5, block_seconds=120)
    (groups,) = (turn.parameters for turn in model.stages()[0].turns)  # type: ignore[union-attr]
    optimizer = torch.optim.AdamW(groups[0]["params"], lr=3e-3)  # type: ignore[index, call-overload]
    for _ in range(60):
        optimizer.zero_grad()
        torch.stack(list(model.branch_losses(batch).values())).sum().backward()
        optimizer.step()
    model.eval()
    parts = model.blocks.split(batch)
    with torch.no_grad():
        scores = model.scores(batch)
        right = (scores[:, :2].argmax(1) == batch.label).float()
        assert right[parts.rest].mean() > 0.95  # noise, known by heart
        assert right[parts.chosen].mean() < 0.75
        model.solve(model.held_out_scores(batch))
        fresh = windows(200, seed=1)
        honest = model(fresh).logits.argmax(1)
        rows = parts.rest
        model.solve(
            {"scores": scores[rows], "label": batch.label[rows], "block": parts.block[rows]}
        )
        trapped = model(fresh).logits.argmax(1)
    assert (honest == fresh.label).float().mean() > 0.9
    assert (trapped == fresh.label).float().mean() < (honest == fresh.label).float().mean() - 0.1


def test_branches_learn_nothing_of_held_out_windows_and_the_svm_gathers_no_others() -> None:
    batch = windows(64)
    net = {"held_out": 0.5, "block_seconds": 120}
    parts = build(**net).blocks.split(batch)
    assert parts.chosen.any()
    assert parts.rest.any()
    states = []
    for spoilt in (False, True):
        model = build(**net)
        seen = batch
        if spoilt:
            assert batch.video is not None
            assert batch.current is not None
            hidden = ~parts.rest
            seen = batch._replace(
                video=torch.where(hidden[:, None, None, None, None], 0, batch.video),
                current=torch.where(hidden[:, None, None], 0, batch.current),
                label=torch.where(hidden, 1 - batch.label, batch.label),
            )
        losses = model.branch_losses(seen)
        torch.stack(list(losses.values())).sum().backward()
        gradients = {name: p.grad for name, p in model.named_parameters()}
        states.append({**losses, **model.state_dict(), **gradients})  # batch statistics as well
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])  # type: ignore[arg-type]

    model = build(**net).eval()
    kept = model.held_out_scores(batch)
    assert torch.equal(kept["scores"], model.scores(batch)[parts.chosen])
    assert torch.equal(kept["label"], batch.label[parts.chosen])


def test_unlabelled_windows_are_left_out_of_both_stages() -> None:
    model = build(held_out=0.5, block_seconds=120)
    batch = windows(64)
    unlabelled = batch._replace(label=torch.full_like(batch.label, -1))
    assert all(loss == 0 for loss in model.branch_losses(unlabelled).values())
    assert not len(model.eval().held_out_scores(unlabelled)["label"])


def test_a_batch_of_held_out_windows_alone_moves_nothing() -> None:
    model = build(held_out=0.5, block_seconds=120)
    batch = windows(64)
    rows = model.blocks.split(batch).chosen
    losses = model.branch_losses(Batch(*(None if x is None else x[rows] for x in batch)))
    torch.stack(list(losses.values())).sum().backward()
    assert all(p.grad is not None and not p.grad.any() for p in model.parameters())


def test_each_branch_learns_from_its_own_loss_alone() -> None:
    for name, other in (("image", "current"), ("current", "image")):
        model = build()
        model.branch_losses(windows(64))[name].backward()
        moved = {n.split(".")[0] for n, p in model.named_parameters() if p.grad is not None}
        assert moved == {name}, other
        assert all(p.grad is None or p.grad.any() for p in model.parameters())


def test_the_stages_are_the_branches_then_the_svm_and_only_then_it_predicts() -> None:
    model = build()
    branches, svm = model.stages()
    assert isinstance(branches, Learn)
    assert isinstance(svm, Solve)
    assert learnt_in(branches) == set(model.parameters())
    with pytest.raises(ValueError, match="dcnn_svm has no support vectors yet: its second stage"):
        model.eval()(windows(2))


def test_only_the_last_frame_and_the_window_of_current_have_influence() -> None:
    model, _, _, _ = solved()
    batch = windows(4)
    before = model(batch).logits
    assert batch.video is not None
    assert batch.current is not None
    earlier, last = batch.video.clone(), batch.video.clone()
    earlier[:, :, :-1] = 255 - earlier[:, :, :-1]
    last[:, :, -1] = 255 - last[:, :, -1]
    assert torch.equal(model(batch._replace(video=earlier)).logits, before)
    assert not torch.equal(model(batch._replace(video=last)).logits, before)
    first = batch.current.clone()
    first[:, 0] += 5000
    assert not torch.equal(model(batch._replace(current=first)).logits, before)


def test_the_image_branch_is_a_cnn_of_four_halvings_and_all_has_505700_parameters() -> None:
    model = DcnnSvm(problem())
    shapes: list[tuple[int, ...]] = []
    for module in model.image:
        if isinstance(module, torch.nn.MaxPool2d):
            module.register_forward_hook(lambda _, __, out: shapes.append(tuple(out.shape[1:])))
    model.image(torch.zeros(2, 3, 64, 64))
    assert shapes == [(32, 32, 32), (64, 16, 16), (128, 8, 8), (128, 4, 4)]
    assert model.current[0].in_features == 28
    assert sum(p.numel() for p in model.current.parameters()) == 29 * 64 + 65 * 2
    assert sum(p.numel() for p in model.parameters()) == 505_700


def test_a_checkpoint_has_one_size_whatever_the_number_of_support_vectors() -> None:
    few, many = solved(60)[0], solved(500)[0]
    assert int(few.support) < int(many.support)
    checkpoint.load_weights(few, many.state_dict(), Path("many.ckpt"))
    batch = windows(5)
    assert torch.equal(few(batch).logits, many(batch).logits)


def test_a_second_solution_leaves_nothing_of_the_first() -> None:
    model, _, _, _ = solved(500)
    once = solved(60)[0]
    scores, label, block = (torch.as_tensor(each) for each in opinions(60))
    model.solve({"scores": scores, "label": label, "block": block})
    assert all(torch.equal(a, b) for a, b in zip(model.buffers(), once.buffers(), strict=True))


def test_the_svm_sees_at_most_so_many_windows_of_every_class_and_block_their_share() -> None:
    label = np.repeat([0, 1], [900, 100])
    block = np.tile(np.arange(10), 100)
    rows = evenly(label, block, 200)
    assert len(np.unique(rows)) == 200
    assert np.bincount(label[rows]) == pytest.approx([180, 20], abs=1)
    assert np.bincount(block[rows]) == pytest.approx([20] * 10, abs=2)
    assert sorted(evenly(label, block, 5000)) == list(range(1000))
    assert int(solved(400, svm_windows=40)[0].support) <= 40


def test_folds_hold_whole_blocks() -> None:
    _, label, block = opinions(300)
    splits = folds(label, block)
    assert len(splits) == 5
    assert sorted(np.concatenate([test for _, test in splits])) == list(range(300))
    for train, test in splits:
        assert not set(block[train]) & set(block[test])


@pytest.mark.parametrize(
    ("label", "block"),
    [([], []), ([0, 0, 0, 0], [1, 2, 3, 4]), ([0, 1, 0, 1], [1, 1, 1, 1]), ([0, 0, 1], [1, 2, 3])],
)
def test_too_few_held_out_windows_are_refused(label: list[int], block: list[int]) -> None:
    with pytest.raises(ValueError, match="held-out windows of both classes in two blocks or more"):
        folds(np.array(label, dtype=np.int64), np.array(block, dtype=np.int64))


def test_a_gradient_reaches_both_inputs() -> None:
    model, _, _, _ = solved()
    batch = windows(3)
    assert batch.video is not None
    assert batch.current is not None
    inputs: list[Tensor] = [
        batch.video.float().requires_grad_(),
        batch.current.clone().requires_grad_(),
    ]
    logits = model(batch._replace(video=inputs[0], current=inputs[1])).logits
    for gradient in torch.autograd.grad(logits[:, 1].sum(), inputs):
        assert gradient.flatten(1).any(1).all()


def test_statistics_are_asked_for_by_both_inputs() -> None:
    sources = {m.source for m in build().modules() if isinstance(m, Standardize)}
    assert sources == {"video", "current"}


@pytest.mark.parametrize(
    ("sizes", "net", "message"),
    [
        ({"num_classes": 3}, {}, "dcnn_svm tells two classes apart, not 3"),
        ({"image_size": (64, 12)}, {}, "64x12 pixels are too small .* at least 16x16"),
        ({"current_samples": 1}, {}, "at least 2 samples of current"),
        ({}, {"width": 0}, "width is 0; it must be at least 1"),
        ({}, {"costs": []}, "give one or more, above 0"),
        ({}, {"svm_windows": 1}, "svm_windows is 1; it must be at least 4"),
        ({}, {"held_out": 0}, "a share of 0 of the blocks"),
        ({}, {"block_seconds": 100}, "blocks of 100 s are too short for windows .* 120 s"),
    ],
)
def test_impossible_options_are_refused(
    sizes: dict[str, Any], net: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        DcnnSvm(problem(**sizes), **net)


def test_a_batch_that_does_not_fit_is_refused() -> None:
    model, _, _, _ = solved()
    batch = windows(2)
    with pytest.raises(ValueError, match="reads video, and the batch has none"):
        model(batch._replace(video=None))
    with pytest.raises(ValueError, match="images of 32x32; this model was built for 16x16"):
        model(windows(2, image_size=(32, 32)))
    with pytest.raises(ValueError, match="2 channels of current; this dcnn_svm reads 3"):
        model(windows(2, current_channels=2))
    with pytest.raises(ValueError, match="by recording and second, and the batch lacks them"):
        model.branch_losses(batch._replace(second=None))

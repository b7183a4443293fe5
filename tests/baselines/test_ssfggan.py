"""SSFGGAN: its losses against their formulas, and what would not be a semi-supervised GAN."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fmbench.config.schema import Config
from fmbench.stages import Learn, learnt_in
from fmbench.training.lit import parameter_groups
from fmbench.training.run import fit
from fmbench.types import Batch, Modality, Problem
from fmbench_baselines.ssfggan import Ssfggan, fake_loss, mean_of, real_loss
from recordings import write_root

SMALL = {"frames": 2, "image_size": (16, 32), "current_samples": 20}


def problem(**changes: Any) -> Problem:
    return Problem(modality=Modality.CROSS, **changes)


def windows(size: int, **sizes: Any) -> Batch:
    """A window every five minutes: with a share of one half, two labelled, two not, and so on."""
    asked = problem(**SMALL | sizes)
    draw = torch.Generator().manual_seed(1)
    shape = (size, 3, asked.frames, *asked.image_size)
    video = torch.randint(256, shape, dtype=torch.uint8, generator=draw)
    current = torch.randn(size, asked.current_samples, asked.current_channels, generator=draw)
    label = torch.arange(size) % asked.num_classes
    seconds = 300 * torch.arange(size)
    return Batch(video, 9000 + 500 * current, label, None, torch.zeros_like(label), seconds)


def build(sizes: Mapping[str, Any] = SMALL, **net: Any) -> Ssfggan:
    torch.manual_seed(0)
    model = Ssfggan(problem(**sizes), **{"labelled_fraction": 0.5, "width": 4} | net)
    model.standardize_current.set_statistics(torch.full((3,), 9e3), torch.full((3,), 500.0))
    model.standardize_video.set_statistics(torch.full((3,), 127.0), torch.full((3,), 74.0))
    return model


def all_losses(model: Ssfggan, batch: Batch) -> dict[str, Tensor]:
    torch.manual_seed(0)
    return model.discriminator_losses(batch) | model.generator_losses(batch)


def test_log_d_and_log_one_minus_d_are_the_formulas_and_stay_finite() -> None:
    logits = torch.randn(50, 3, dtype=torch.float64)
    total = logits.exp().sum(1)
    real = total / (total + 1)
    torch.testing.assert_close(real_loss(logits), -real.log(), atol=1e-6, rtol=0)
    torch.testing.assert_close(fake_loss(logits), -(1 - real).log(), atol=1e-6, rtol=0)
    lse = logits.logsumexp(1)  # the published form
    torch.testing.assert_close(real_loss(logits), F.softplus(lse) - lse, atol=1e-6, rtol=0)

    extreme = torch.tensor([[100.0, 100.0], [-100.0, -100.0], [100.0, -100.0]], requires_grad=True)
    for loss in (real_loss(extreme), fake_loss(extreme)):
        (gradient,) = torch.autograd.grad(loss.sum(), extreme)
        assert loss.isfinite().all()
        assert gradient.isfinite().all()
    assert fake_loss(extreme)[0].item() == pytest.approx(100.6931, abs=1e-4)  # 100 + ln 2


def test_a_constant_added_to_all_logits_is_seen_by_the_real_or_fake_losses_alone() -> None:
    model, batch = build(), windows(8)
    before = all_losses(model, batch)
    with torch.no_grad():
        model.discriminator.classify.bias += 3
    after = all_losses(model, batch)
    torch.testing.assert_close(after["supervised"], before["supervised"])
    torch.testing.assert_close(after["fake_class"], before["fake_class"])
    assert after["unlabelled"] < before["unlabelled"] - 0.05
    assert after["fake"] > before["fake"] + 1


def test_labels_of_unlabelled_windows_are_never_looked_at() -> None:
    model, batch = build(), windows(16)
    labelled = model.labelled(batch)
    assert labelled.tolist() == [True, True, False, False] * 4
    expected = all_losses(model, batch)
    for other in (1 - batch.label, torch.full_like(batch.label, -1), batch.label + 99):
        changed = batch._replace(label=torch.where(labelled, batch.label, other))
        found = all_losses(model, changed)
        assert all(torch.equal(found[name], expected[name]) for name in expected)
    turned = batch._replace(label=torch.where(labelled, 1 - batch.label, batch.label))
    assert all_losses(model, turned)["supervised"] != expected["supervised"]


def test_a_window_without_a_label_is_unlabelled_wherever_it_lies() -> None:
    model, batch = build(), windows(8)
    unknown = batch._replace(label=batch.label.index_fill(0, torch.tensor([0, 4]), -1))
    assert model.labelled(unknown).tolist() == [False, True, False, False] * 2
    rows = torch.tensor([1, 5])
    losses = all_losses(model, unknown)
    expected = F.cross_entropy(model(batch).logits[rows], batch.label[rows])
    torch.testing.assert_close(losses["supervised"], expected)
    others = torch.tensor([0, 2, 3, 4, 6, 7])
    torch.testing.assert_close(losses["unlabelled"], real_loss(model(batch).logits[others]).mean())


def test_where_all_is_labelled_and_nothing_is_invented_it_is_the_cross_entropy() -> None:
    batch = windows(8)
    batch = batch._replace(second=torch.zeros_like(batch.label))  # one labelled block
    model = build(class_weight=0, fine_weight=0)
    assert model.labelled(batch).all()
    losses = all_losses(model, batch)
    assert losses["unlabelled"] == losses["fake_class"] == losses["fine"] == 0
    assert losses["matching"] == 0
    weights = list(model.discriminator.parameters())
    found = torch.autograd.grad(losses["supervised"] + losses["unlabelled"], weights)
    loss = F.cross_entropy(model(batch).logits, batch.label)
    torch.testing.assert_close(losses["supervised"], loss)
    for one, other in zip(found, torch.autograd.grad(loss, weights), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("moving", [0, 1])
def test_a_step_of_one_network_leaves_the_other_as_it_is(moving: int) -> None:
    model, batch = build(), windows(8)
    (stage,) = model.stages()
    assert isinstance(stage, Learn)
    turn = stage.turns[moving]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.AdamW(parameter_groups(turn, 1e-2))
    assert turn.losses is not None
    torch.stack(list(turn.losses(batch).values())).sum().backward()
    optimizer.step()
    moved = {name for name, value in model.state_dict().items() if not value.equal(before[name])}
    own = (("discriminator.",), ("generator.", "recover."))[moving]
    parameters = {name for name, _ in model.named_parameters() if name.startswith(own)}
    assert moved == parameters  # each of them, and no buffer


def test_both_networks_step_as_adam_does_in_the_paper_at_the_papers_rate() -> None:
    model = build()
    (stage,) = model.stages()
    assert isinstance(stage, Learn)
    assert learnt_in(stage) == set(model.parameters())
    for turn in stage.turns:
        (group,) = parameter_groups(turn, 5e-4)
        assert group["lr"] == pytest.approx(2e-4)
        assert group["betas"] == (0.5, 0.999)
        assert group["weight_decay"] == 0


def test_a_gradient_reaches_cnn_and_mlp_and_both_halves_of_the_generator() -> None:
    model, batch = build(), windows(8)
    for name, loss in all_losses(model, batch).items():
        model.zero_grad()
        loss.backward(retain_graph=True)
        judge, maker = model.discriminator, model.generator
        parts = {"cnn": judge.image, "mlp": judge.current}
        if name in model.generator_losses(batch):
            parts = {"frame": maker.frame, "features": maker.features}
        for part, module in parts.items():
            for parameter in module.parameters():
                assert parameter.grad is not None, (name, part)
            assert all(p.grad.abs().max() > 0 for p in module[:1].parameters()), (name, part)  # type: ignore[index, union-attr]


def test_the_generator_makes_a_frame_and_features_of_a_current_for_the_class_asked() -> None:
    model = build()
    seen: list[Tensor] = []
    model.generator.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    made: list[tuple[Tensor, Tensor]] = []
    model.generator.register_forward_hook(lambda _, __, out: made.append(out))
    pair, mode = model.invent(64)
    assert pair.frame.shape == (64, 3, 16, 32)
    assert pair.features.shape == (64, 28)
    assert 0 <= made[0][0].min() < made[0][0].max() <= 255
    torch.testing.assert_close(pair.frame, (made[0][0] - 127) / 74)
    noise, classes, modes = seen[0].split([64, 2, 8], dim=1)
    assert noise.std() == pytest.approx(1, abs=0.1)
    assert torch.equal(modes.argmax(1), mode)
    assert torch.equal(classes.argmax(1), mode // 4)
    assert set(mode.tolist()) == set(range(8))
    assert (classes.sum(1) == 1).all()
    assert (modes.sum(1) == 1).all()


def test_feature_matching_is_the_distance_of_mean_features_of_unlabelled_and_fake() -> None:
    model, batch = build(), windows(8)
    torch.manual_seed(5)
    loss = model.generator_losses(batch)["matching"]
    torch.manual_seed(5)
    fake, _ = model.invent(8)
    real = model.discriminator(model.real(batch))[~model.labelled(batch)]
    expected = (real.mean(0) - model.discriminator(fake).mean(0)).square().mean()
    torch.testing.assert_close(loss, expected)


def test_a_mean_over_no_rows_is_zero() -> None:
    values = torch.randn(4, 3)
    rows = torch.tensor([True, False, True, False])
    torch.testing.assert_close(mean_of(values, rows), values[[0, 2]].mean(0))
    torch.testing.assert_close(mean_of(values[:, 0], rows), values[[0, 2], 0].mean())
    assert not mean_of(values, torch.zeros(4, dtype=torch.bool)).any()


def test_the_discriminator_has_weight_norm_and_no_batch_norm() -> None:
    model = build()
    kinds = [type(module) for module in model.discriminator.modules()]
    assert nn.BatchNorm2d not in kinds
    layers = [*model.discriminator.image, *model.discriminator.current]
    for layer in layers:
        if hasattr(layer, "weight"):
            assert hasattr(layer, "parametrizations")
    assert sum(hasattr(layer, "parametrizations") for layer in layers) == 7


def test_default_sizes_are_2779522_parameters_to_judge_and_1027775_to_invent() -> None:
    model = Ssfggan(problem())
    counts = [
        sum(p.numel() for p in part.parameters())
        for part in (model.discriminator, model.generator, model.recover)
    ]
    assert counts == [2_779_522, 1_027_775, 3_080]
    shapes: list[tuple[int, ...]] = []
    for module in model.discriminator.image:
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda _, __, out: shapes.append(tuple(out.shape[1:])))
    batch = windows(2, frames=10, image_size=(64, 64), current_samples=240)
    assert model.discriminator(model.real(batch)).shape == (2, 384)
    assert shapes == [(64, 32, 32), (128, 16, 16), (256, 8, 8), (256, 4, 4)]


def test_a_prediction_reads_the_last_frame_and_the_current_but_no_label_and_no_chance() -> None:
    model, batch = build().eval(), windows(4)
    state = torch.get_rng_state()
    before = model(batch).logits
    assert torch.equal(torch.get_rng_state(), state)
    assert batch.video is not None
    assert batch.current is not None
    earlier, last, current = batch.video.clone(), batch.video.clone(), batch.current.clone()
    earlier[:, :, 0] = 255 - earlier[:, :, 0]
    last[:, :, -1] = 255 - last[:, :, -1]
    current[:, -1] += 500
    unknown = batch._replace(label=torch.full((4,), -1), recording=None, second=None)
    assert torch.equal(model(batch._replace(video=earlier)).logits, before)
    assert torch.equal(model(unknown).logits, before)
    for changed in (batch._replace(video=last), batch._replace(current=current)):
        assert (model(changed).logits != before).any(1).all()


def test_a_training_logs_all_six_losses_and_none_is_zero(tmp_path: Path) -> None:
    write_root(tmp_path / "root", recordings=2, seconds=60, size=(16, 16))
    config = Config(
        model="ssfggan",
        net={"width": 4, "labelled_fraction": 0.5, "block_seconds": 10},
        data={
            "root": str(tmp_path / "root"),
            "frames": 2,
            "current_samples": 12,
            "batch_size": 16,
            "epoch_windows": 64,
            "guard_seconds": 5,
            "val_fraction": 0.2,
        },
        trainer={"max_epochs": 2, "accelerator": "cpu"},
    )
    fit(config, run=tmp_path / "run")
    (log,) = (tmp_path / "run").rglob("metrics.csv")
    table = pd.read_csv(log)
    names = ["supervised", "unlabelled", "fake", "matching", "fake_class", "fine"]
    for name in names:
        values = table[f"train/{name}_loss"].dropna()
        assert len(values) == 2
        assert (values > 0).all()


@pytest.mark.parametrize("classes", [2, 3])
def test_other_sizes_train_and_predict(classes: int) -> None:
    sizes = {"num_classes": classes, "frames": 1, "image_size": (48, 16), "current_channels": 1}
    model = Ssfggan(problem(**sizes), width=2, noise=3, fine_codes=2, labelled_fraction=0.3)
    batch = windows(6, **SMALL | sizes)
    assert all(loss.isfinite() for loss in all_losses(model, batch).values())
    assert model(windows(1, **SMALL | sizes)).logits.shape == (1, classes)


@pytest.mark.parametrize(
    ("sizes", "net", "message"),
    [
        ({"image_size": (64, 40)}, {}, "multiples of 16, not 64x40"),
        ({"current_samples": 1}, {}, "at least 2 samples of current"),
        ({}, {"labelled_fraction": 1.0}, "a share of 1.0 of the blocks"),
        ({}, {"labelled_fraction": 0.0}, "a share of 0.0 of the blocks"),
        ({}, {"fine_codes": 1}, "fine_codes is 1; one mode in a class needs no code"),
        ({}, {"width": 1}, "width is 1; it must be at least 2"),
        ({}, {"noise": 0}, "noise is 0; it must be at least 1"),
    ],
)
def test_impossible_options_are_refused(
    sizes: dict[str, Any], net: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Ssfggan(problem(**sizes), **net)


def test_a_batch_that_does_not_fit_is_refused() -> None:
    model, batch = build(), windows(2)
    with pytest.raises(ValueError, match="ssfggan reads current, and the batch has none"):
        model(batch._replace(current=None))
    with pytest.raises(ValueError, match="images of 32x32; this model was built for 16x32"):
        model(windows(2, image_size=(32, 32)))
    with pytest.raises(ValueError, match="2 channels of current; this ssfggan reads 3"):
        model(windows(2, current_channels=2))
    with pytest.raises(ValueError, match="by recording and second, and the batch lacks them"):
        model.discriminator_losses(batch._replace(recording=None))

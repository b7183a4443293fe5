"""Unicoder-VL: that it is one stream, that its boxes count, and its pretext stage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import fmbench
from fmbench.config.schema import Config
from fmbench.nn.bert import BertStack
from fmbench.nn.pretext import draw_task
from fmbench.objective import Loss
from fmbench.stages import Learn, learnt_in
from fmbench.training.lit import Detector
from fmbench.training.run import fit
from fmbench.types import Batch, Modality, Problem
from fmbench_baselines.unicoder_vl import UnicoderVL
from recordings import write_root

TINY: dict[str, Any] = {"dim": 24, "depth": 2}


def problem(**changes: Any) -> Problem:
    sizes = {"frames": 4, "image_size": (32, 32), "current_samples": 24, "dense": True}
    return Problem(modality=Modality.CROSS, **(sizes | changes))


def build(seed: int = 0, **net: Any) -> UnicoderVL:
    torch.manual_seed(seed)
    return UnicoderVL(problem(), **(TINY | net))


def batch(size: int = 2, frames: int = 4, side: int = 32, samples: int = 24) -> Batch:
    draw = torch.Generator().manual_seed(1)
    video = torch.randint(0, 256, (size, 3, frames, side, side), dtype=torch.uint8, generator=draw)
    current = torch.randn(size, samples, 3, generator=draw)
    label = torch.arange(size) % 2
    mask = torch.zeros(size, side, side, dtype=torch.uint8)
    hours = 1_600_000_000 + 3600 * torch.arange(size)
    return Batch(video, current, label, mask, torch.zeros(size, dtype=torch.int64), hours)


def layers_inputs(model: UnicoderVL, given: Batch) -> list[Tensor]:
    """What each layer of the encoder reads."""
    seen: list[Tensor] = []
    hooks = [
        layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        for layer in model.encoder.encoder.layer
    ]
    model(given)
    for hook in hooks:
        hook.remove()
    return seen


def test_at_the_papers_sizes_one_stack_of_12_layers_reads_881_tokens() -> None:
    model = UnicoderVL(Problem(modality=Modality.CROSS, dense=True)).eval()
    assert sum(isinstance(module, BertStack) for module in model.modules()) == 1
    assert model.regions.grid == (10, 8, 8)
    with torch.no_grad():
        seen = layers_inputs(model, batch(1, 10, 64, 240))
    assert [tuple(tokens.shape) for tokens in seen] == [(1, 881, 96)] * 12
    encoder = sum(p.numel() for p in model.encoder.parameters())
    assert encoder == 12 * (12 * 96**2 + 13 * 96)
    assert sum(p.numel() for p in model.parameters()) == 1_772_900


def test_in_the_first_layer_a_patch_attends_to_samples_and_a_sample_to_patches() -> None:
    model = build().eval()
    tokens = layers_inputs(model, batch())[0]
    attention = model.encoder.encoder.layer[0].attention.self
    query, key = (
        part(tokens).unflatten(-1, (3, 8)).transpose(1, 2)
        for part in (attention.query, attention.key)
    )
    weights = (query @ key.transpose(-1, -2) / 8**0.5).softmax(-1)
    assert (weights[:, :, 25:, 1:25] > 0).all()
    assert (weights[:, :, 1:25, 25:] > 0).all()
    # and the layer's output takes them up: the gradient of a patch's token by a sample's
    layer = model.encoder.encoder.layer[0]
    given = tokens.detach().requires_grad_()
    layer(given)[0, 30].square().sum().backward()
    assert given.grad is not None
    assert (given.grad[0, 1:25].abs().sum(-1) > 0).all()


def test_patches_see_the_current_through_attention_alone() -> None:
    model = build().eval()
    one = batch()
    other = one._replace(current=one.current + 1)  # type: ignore[operator]

    def patch_tokens(given: Batch, mask: Tensor | None) -> Tensor:
        patches, samples = model.inputs(given)
        tokens = torch.cat([model.series(samples), model.regions(patches)], dim=1)
        return model.encoder(tokens, mask)[:, 25:]

    side = torch.arange(25 + 64) < 25
    apart = side.unsqueeze(0) == side.unsqueeze(1)  # (N, N): each sees its own modality
    assert torch.equal(patch_tokens(one, apart), patch_tokens(other, apart))
    assert not torch.allclose(patch_tokens(one, None), patch_tokens(other, None))


def exchanged(given: Batch) -> Batch:
    """Two patches of the last frame change places."""
    assert given.video is not None
    video = given.video.clone()
    video[:, :, -1, 0:8, 0:8], video[:, :, -1, 16:24, 8:16] = (
        given.video[:, :, -1, 16:24, 8:16],
        given.video[:, :, -1, 0:8, 0:8],
    )
    return given._replace(video=video)


def test_where_a_patch_is_is_told_by_its_box_alone() -> None:
    model = build().double().eval()
    moved = model(exchanged(batch())).logits - model(batch()).logits
    assert (moved.abs() > 1e-6).all()
    torch.nn.init.zeros_(model.regions.locate.weight)
    torch.testing.assert_close(model(batch()).logits, model(exchanged(batch())).logits)


def test_when_a_patch_is_is_told_by_its_frame_alone() -> None:
    model = build().double().eval()
    backwards = batch()._replace(video=batch().video.flip(2))  # type: ignore[union-attr]
    moved = model(backwards).logits - model(batch()).logits
    assert (moved.abs() > 1e-7).all()
    torch.nn.init.zeros_(model.regions.time)
    torch.testing.assert_close(model(batch()).logits, model(backwards).logits)


def test_samples_and_patches_have_segments_and_positions_are_added_once() -> None:
    model = build().eval()
    patches, samples = model.inputs(batch())
    expected = torch.cat([model.series(samples), model.regions(patches)], dim=1)
    torch.testing.assert_close(layers_inputs(model, batch())[0], expected)
    assert not torch.equal(model.series.segment, model.regions.segment)


def test_the_mask_is_drawn_from_the_patches_of_all_frames() -> None:
    model = build().eval()
    assert model.dense_head is not None
    seen: list[Tensor] = []
    model.dense_head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model(batch())
    patches, samples = model.inputs(batch())
    first, _, regions = model.encode(model.series(samples), model.regions(patches))
    assert first.shape == (2, 24)
    assert seen[0].shape == (2, 4, 4, 4, 24)
    torch.testing.assert_close(seen[0].flatten(1, 3), regions)


def test_both_modalities_are_read_for_class_and_mask() -> None:
    model = build()
    given = batch()
    video = given.video.float().requires_grad_()  # type: ignore[union-attr]
    current = given.current.requires_grad_()  # type: ignore[union-attr]
    for output in model(given._replace(video=video, current=current))[:2]:
        for gradient in torch.autograd.grad(
            output.square().sum(), (video, current), retain_graph=True
        ):
            assert gradient.abs().sum() > 0


def test_a_trained_model_reads_other_sizes() -> None:
    model = build().eval()
    prediction = model(batch(1, 6, 40, 31))
    assert prediction.mask_logits is not None
    assert prediction.mask_logits.shape == (1, 2, 40, 40)


def test_without_pretext_it_is_one_supervised_pass() -> None:
    model = build()
    (stage,) = model.stages()
    assert isinstance(stage, Learn)
    assert learnt_in(stage) == set(model.parameters())


def test_the_pretext_stage_teaches_all_but_the_heads_and_they_learn_afterwards() -> None:
    model = build(pretext=0.5)
    pretext, supervised = model.stages()
    assert (pretext.share, supervised.share) == (0.5, 1)  # type: ignore[union-attr]
    told = {n for n, p in model.named_parameters() if p in learnt_in(pretext)}
    taught = {n for n, p in model.named_parameters() if p in learnt_in(supervised)}
    parts = {name.split(".")[0] for name in told}
    assert parts == {"series", "regions", "encoder", "pretext_heads"}
    assert {name.split(".")[0] for name in taught - told} == {"class_head", "dense_head"}

    losses = model.pretext_losses(batch(8))
    assert losses.keys() == {"masked_current", "masked_patch", "matching"}
    torch.stack(list(losses.values())).sum().backward()
    assert all(p.grad is not None for n, p in model.named_parameters() if n in told)


def test_what_is_hidden_is_told_from_the_rest() -> None:
    model = build().eval()
    patches, samples = (x.detach().requires_grad_() for x in model.inputs(batch()))
    torch.manual_seed(0)
    task = draw_task(batch(), patches, samples)
    series, regions = model.series(samples, task.hidden_samples), task.hidden_patches
    encoded = model.encode(series, model.regions(patches, regions))
    torch.cat([x.flatten() for x in encoded]).square().sum().backward()
    for given, hidden in ((samples, task.hidden_samples), (patches, task.hidden_patches)):
        assert given.grad is not None
        assert hidden.any()
        assert torch.equal(given.grad.abs().sum(-1) > 0, ~hidden)


def test_a_batch_without_times_is_refused_by_the_pretext_stage_only() -> None:
    model = build(pretext=1)
    given = batch()._replace(second=None)
    with pytest.raises(ValueError, match="does not say from which recording and second"):
        model.pretext_losses(given)
    assert torch.isfinite(Loss().terms(model(given), given)["class"])


def test_a_run_goes_through_both_stages(tmp_path: Path) -> None:
    root = tmp_path / "recordings"
    write_root(root, recordings=2, seconds=60, size=(32, 32))
    config = Config(
        model="unicoder_vl",
        modality="cross",
        net=TINY | {"pretext": 1},
        data={
            "root": str(root),
            "frames": 2,
            "current_samples": 12,
            "batch_size": 8,
            "epoch_windows": 16,
            "val_windows": 8,
            "guard_seconds": 5,
            "val_fraction": 0.2,
        },
        trainer={"max_epochs": 2, "accelerator": "cpu"},
    )
    best = fit(config, run=tmp_path / "run")
    assert (tmp_path / "run" / "stages" / "pretext" / "last.ckpt").is_file()
    assert isinstance(fmbench.load(best), Detector)


def test_every_stage_learns_at_a_fifth_of_the_runs_rate() -> None:
    problem = Problem(modality=Modality.CROSS, frames=2, image_size=(16, 16), current_samples=4)
    detector = Detector(UnicoderVL(problem, dim=24, depth=1, pretext=1), problem=problem)
    for stage in detector.stages:
        detector.enter(stage)
        assert [group["lr"] for group in detector.groups[0]] == [pytest.approx(1e-4)]


@pytest.mark.parametrize(
    ("net", "message"),
    [
        ({"heads": 5}, "dim 24 is not a multiple of heads 5"),
        ({"pretext": -1}, "pretext is -1; it must be at least 0"),
        ({"lr_scale": 0}, "lr_scale is 0; it must be above 0"),
        ({"tube": (3, 8, 8)}, "4 frames are not a multiple of the patch's 3"),
        ({"tube": (1, 8, 4)}, "a mask needs a square patch, not 8x4"),
    ],
)
def test_impossible_sizes_are_refused(net: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(**net)

"""CAPTURE: its order of layers, co-attention and contrast against loops and torch's attention."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fmbench.stages import Learn, learnt_in
from fmbench.types import Batch, Modality, Problem
from fmbench_baselines.capture import Capture, CrossLayer, contrastive_loss, similarities

TINY: dict[str, Any] = {"dim": 24, "self_depth": 1, "cross_depth": 1, "co_depth": 1}


def build(**net: Any) -> Capture:
    torch.manual_seed(0)
    sizes = {"frames": 4, "image_size": (32, 32), "current_samples": 24, "dense": True}
    return Capture(Problem(modality=Modality.CROSS, **sizes), **(TINY | net))  # type: ignore[arg-type]


def batch(size: int = 3, frames: int = 4, side: int = 32, samples: int = 24) -> Batch:
    draw = torch.Generator().manual_seed(1)
    video = torch.randint(0, 256, (size, 3, frames, side, side), dtype=torch.uint8, generator=draw)
    current = torch.randn(size, samples, 3, generator=draw)
    hours = 1_600_000_000 + 3600 * torch.arange(size)
    return Batch(video, current, torch.arange(size) % 2, None, 0 * hours, hours)


def contrast_by_loop(a: Tensor, b: Tensor, near: Tensor, temperature: float) -> float:
    """Each feature's pair among all others, but for near windows', one at a time."""
    size = len(a)
    features = [x / x.norm() for x in [*a, *b]]
    losses = []
    for i in range(2 * size):
        pair = (i + size) % (2 * size)
        scores = {
            j: float(features[i] @ features[j]) / temperature
            for j in range(2 * size)
            if j != i and (j == pair or not near[i % size, j % size])
        }
        losses.append(math.log(sum(math.exp(s) for s in scores.values())) - scores[pair])
    return sum(losses) / len(losses)


@pytest.mark.parametrize("size", [1, 2, 7])
def test_contrast_is_that_of_a_loop(size: int) -> None:
    draw = torch.Generator().manual_seed(size)
    a, b = torch.randn(2, size, 5, generator=draw, dtype=torch.float64)
    second = torch.randint(0, 300, (size,), generator=draw)
    near = (second.unsqueeze(1) - second).abs() < 120
    loss = contrastive_loss(similarities(a, b, 0.07), near)
    assert float(loss) == pytest.approx(contrast_by_loop(a, b, near, 0.07), abs=1e-9)


def test_contrast_of_aligned_orthogonal_features_has_its_closed_form() -> None:
    features = 3 * torch.eye(6, dtype=torch.float64)
    near = torch.eye(6, dtype=torch.bool)
    loss = contrastive_loss(similarities(features, features, 0.07), near)
    assert float(loss) == pytest.approx(math.log(1 + (12 - 2) * math.exp(-1 / 0.07)), rel=1e-9)


def test_near_windows_are_no_negatives_in_either_stream_and_get_no_gradient() -> None:
    near = torch.eye(4, dtype=torch.bool)
    near[0, 2] = near[2, 0] = True
    similarity = torch.randn(8, 8, requires_grad=True)
    contrastive_loss(similarity, near).backward()
    assert similarity.grad is not None
    none = similarity.grad == 0
    expected = torch.eye(8, dtype=torch.bool)
    for i in (0, 4):
        for j in (2, 6):
            expected[i, j] = expected[j, i] = True
    assert torch.equal(none, expected)


def test_windows_of_one_recording_within_120_seconds_are_near() -> None:
    model = build()
    seen: list[Tensor] = []
    contrast_of = model.contrast_of

    def watched(current: Tensor, video: Tensor, near: Tensor) -> Tensor:
        seen.append(near)
        return contrast_of(current, video, near)

    model.contrast_of = watched  # type: ignore[method-assign]
    times = {"recording": torch.tensor([0, 0, 0, 1]), "second": torch.tensor([0, 119, 239, 0])}
    model(batch(4)._replace(**times))
    expected = torch.eye(4, dtype=torch.bool)
    expected[0, 1] = expected[1, 0] = True
    assert torch.equal(seen[0], expected)


def test_the_contrast_is_a_loss_of_training_alone_and_weighs_lambda() -> None:
    model, doubled = build(dropout=0.0), build(dropout=0.0, contrast=0.2)
    aux = model(batch()).aux
    assert aux.keys() == {"contrast"}
    torch.testing.assert_close(doubled(batch()).aux["contrast"], 2 * aux["contrast"])
    untimed = batch()._replace(recording=None, second=None)
    with pytest.raises(ValueError, match="does not say from which recording and second"):
        model(untimed)
    assert not model.eval()(untimed).aux


def test_the_contrast_reads_the_streams_before_they_meet() -> None:
    model = build(dropout=0.0)
    model(batch()).aux["contrast"].backward()
    reached = {n.split(".")[0] for n, p in model.named_parameters() if p.grad is not None}
    parts = {"series", "regions", "self_current", "self_video", "pool_current", "pool_video"}
    assert reached == parts


def test_layers_come_self_then_cross_then_co_and_are_not_interleaved() -> None:
    model = build(self_depth=2, cross_depth=3, co_depth=2).eval()
    order: list[str] = []
    stacks = {
        "self_current": model.self_current.encoder.layer,
        "self_video": model.self_video.encoder.layer,
        "cross": model.cross,
        "co": model.co.layers.encoder.layer,
    }
    for name, layers in stacks.items():
        for layer in layers:
            layer.register_forward_hook(lambda *_, name=name: order.append(name))
    model(batch())
    assert order == ["self_current"] * 2 + ["self_video"] * 2 + ["cross"] * 3 + ["co"] * 2


def test_the_video_stream_does_not_see_the_current_before_the_cross_layers() -> None:
    model = build().eval()
    patches, samples = model.inputs(batch())
    samples = samples.requires_grad_()
    current, video = model.alone(model.series(samples), model.regions(patches))
    assert (
        torch.autograd.grad(video.square().sum(), samples, allow_unused=True, retain_graph=True)[0]
        is None
    )
    _, crossed = model.cross[0](current, video)
    (gradient,) = torch.autograd.grad(crossed.square().sum(), samples)
    assert (gradient.abs().sum(-1) > 0).all()


def torchs_co_attention(half: Any, tokens: Tensor, other: Tensor, source: Any) -> Tensor:
    """One direction by nn.MultiheadAttention: `half` asks, `source` has the keys and values."""
    dim = tokens.shape[-1]
    attention = nn.MultiheadAttention(dim, half.heads, batch_first=True).to(tokens)
    weight, bias = half.to_qkv.weight.data.clone(), half.to_qkv.bias.data.clone()
    weight[dim:], bias[dim:] = source.to_qkv.weight.data[dim:], source.to_qkv.bias.data[dim:]
    attention.in_proj_weight.data, attention.in_proj_bias.data = weight, bias
    attention.out_proj.load_state_dict(half.to_out.state_dict())
    after = half.norm_attention(tokens + attention(tokens, other, other)[0])
    first, second = half.mlp[0], half.mlp[2]
    out: Tensor = half.norm_mlp(after + second(F.gelu(first(after))))
    return out


def test_a_cross_layer_is_torchs_attention_both_ways_from_the_streams_as_they_were() -> None:
    layer = CrossLayer(24, 3, 4, 0.1).double().eval()
    current, video = torch.randn(2, 7, 24).double(), torch.randn(2, 5, 24).double()
    after_current, after_video = layer(current, video)
    torch.testing.assert_close(
        after_current, torchs_co_attention(layer.current, current, video, layer.video)
    )
    torch.testing.assert_close(
        after_video, torchs_co_attention(layer.video, video, current, layer.current)
    )
    for name, weight in layer.current.named_parameters():
        other = layer.video.get_parameter(name)
        assert other is not weight
        if weight.ndim == 2:
            assert not torch.equal(weight, other)


def test_with_one_key_co_attention_gives_that_keys_value() -> None:
    layer = CrossLayer(24, 3, 4, 0.0)
    one = torch.randn(1, 1, 24)
    half = layer.current
    query = half.qkv(torch.randn(1, 6, 24))[0]
    _, key, value = layer.video.qkv(one)
    seen: list[Tensor] = []
    half.to_out.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    half(torch.randn(1, 6, 24), query, key, value)
    expected = F.linear(one, layer.video.to_qkv.weight[48:], layer.video.to_qkv.bias[48:])
    torch.testing.assert_close(seen[0], expected.expand(1, 6, 24))


def test_the_co_transformer_reads_both_streams_with_positions_of_its_own() -> None:
    model = build().eval()
    current, video = torch.randn(2, 25, 24), torch.randn(2, 33, 24)
    seen: list[Tensor] = []
    model.co.layers.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    out_current, out_video = model.co(current, video, (2, 4, 4))
    places = model.co.positions_current.table, model.co.positions_video.table
    expected = torch.cat([current + places[0], video + places[1]], dim=1)
    torch.testing.assert_close(seen[0], model.co.norm(expected))
    torch.testing.assert_close(torch.cat([out_current, out_video], dim=1), model.co.layers(seen[0]))
    assert torch.equal(out_video, model.co(current, video, (2, 4, 4))[1])
    assert not torch.allclose(out_video, model.co(current + 1, video, (2, 4, 4))[1])


def test_at_the_papers_sizes_562_tokens_meet_in_the_co_transformer() -> None:
    model = Capture(Problem(modality=Modality.CROSS, dense=True)).eval()
    assert model.regions.grid == (5, 8, 8)
    seen: list[tuple[int, ...]] = []
    model.co.layers.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape))
    with torch.no_grad():
        model(batch(1, 10, 64, 240))
    assert seen == [(1, 562, 96)]
    assert len(model.self_current.encoder.layer) == len(model.self_video.encoder.layer) == 4
    assert (len(model.cross), len(model.co.layers.encoder.layer)) == (4, 4)
    assert sum(p.numel() for p in model.parameters()) == 2_739_908


def test_every_parameter_learns() -> None:
    model = build()
    prediction = model(batch())
    loss = F.cross_entropy(prediction.logits, batch().label) + prediction.aux["contrast"]
    assert prediction.mask_logits is not None
    (loss + prediction.mask_logits.square().mean()).backward()
    still = {n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    assert not still


def test_a_trained_model_reads_other_sizes() -> None:
    prediction = build().eval()(batch(1, 6, 40, 31))
    assert prediction.mask_logits is not None
    assert prediction.mask_logits.shape == (1, 2, 40, 40)


def test_without_pretext_it_is_one_supervised_pass() -> None:
    model = build()
    (stage,) = model.stages()
    assert isinstance(stage, Learn)
    assert learnt_in(stage) == set(model.parameters())
    (group,) = stage.turns[0].parameters
    assert group["lr_scale"] == 0.2  # type: ignore[index]


def test_the_pretext_stage_teaches_all_but_the_heads_and_contrasts_only_true_pairs() -> None:
    model = build(pretext=2.0, dropout=0.0)
    pretext, supervised = model.stages()
    assert isinstance(pretext, Learn)
    assert (pretext.share, supervised.share) == (2.0, 1)  # type: ignore[union-attr]
    names = {p: n.split(".")[0] for n, p in model.named_parameters()}
    told, taught = ({names[p] for p in learnt_in(stage)} for stage in (pretext, supervised))
    assert told ^ taught == {"class_head", "dense_head", "pretext_heads"}
    assert "pretext_heads" in told

    sizes: list[int] = []
    model.pool_video.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    losses = model.pretext_losses(batch(8))
    assert losses.keys() == {"masked_current", "masked_patch", "matching", "contrast"}
    assert sizes == [4]  # the other half has another's current
    torch.stack(list(losses.values())).sum().backward()
    assert {names[p] for p in model.parameters() if p.grad is not None} == told
    assert all(p.grad is not None for p in learnt_in(pretext))


@pytest.mark.parametrize(
    ("net", "message"),
    [
        ({"heads": 5}, "dim 24 is not a multiple of heads 5"),
        ({"cross_depth": 0}, "cross_depth is 0; it must be at least 1"),
        ({"contrast": 0}, "contrast is 0; it must be above 0"),
        ({"lr_scale": 0}, "lr_scale is 0; it must be above 0"),
        ({"near_seconds": -1}, "near_seconds is -1; it must be at least 0"),
        ({"tube": (3, 8, 8)}, "4 frames are not a multiple of the patch's 3"),
    ],
)
def test_impossible_sizes_are_refused(net: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(**net)

"""ViT against timm's, against a convolution, and against what it must not see."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from fmbench.objective import Loss
from fmbench.types import Batch, Modality, Problem
from fmbench_baselines.vit import Vit


def problem(**changes: Any) -> Problem:
    return Problem(modality=Modality.VISUAL, **{"dense": True, **changes})


def batch(size: int, frames: int = 10, height: int = 64, width: int = 64) -> Batch:
    draw = torch.Generator().manual_seed(1)
    video = torch.randint(
        0, 256, (size, 3, frames, height, width), dtype=torch.uint8, generator=draw
    )
    mask = (video[:, 0, -1] > 128).long()
    return Batch(video, None, torch.arange(size) % 2, mask)


def test_default_has_1805348_parameters_and_641_tokens() -> None:
    model = Vit(problem()).eval()
    assert sum(p.numel() for p in model.parameters()) == 1_805_348
    seen: list[tuple[int, ...]] = []
    model.encoder.blocks.register_forward_pre_hook(lambda _, x: seen.append(tuple(x[0].shape)))
    prediction = model(batch(2))
    assert seen == [(2, 641, 96)]
    assert prediction.logits.shape == (2, 2)
    assert prediction.mask_logits.shape == (2, 2, 64, 64)


def test_eq1_embedding_is_a_convolution_of_stride_8_and_a_product_with_unfolded_patches() -> None:
    model = Vit(problem()).double()
    video = batch(2).video
    assert video is not None
    mean, std = torch.tensor([90.0, 100, 110]), torch.tensor([40.0, 50, 60])
    model.standardize.set_statistics(mean, std)
    tokens = model.tokens(video)
    assert tokens.shape == (2, 10, 8, 8, 96)
    x = (video.double() - mean.view(3, 1, 1, 1)) / std.view(3, 1, 1, 1)
    weight = model.embed.weight.reshape(96, 8, 8, 3).movedim(-1, 1)  # (D, C, h, w)
    for frame in (0, 4, 9):
        as_image = F.conv2d(x[:, :, frame], weight, model.embed.bias, stride=8)
        torch.testing.assert_close(tokens[:, frame], as_image.movedim(1, -1))
        columns = F.unfold(x[:, :, frame], 8, stride=8)  # (B, C·h·w, 64)
        products = columns.transpose(1, 2) @ weight.flatten(1).T + model.embed.bias
        torch.testing.assert_close(tokens[:, frame].flatten(1, 2), products)


def test_on_one_image_both_heads_read_the_normalised_tokens_of_timm() -> None:
    ours = Vit(problem(frames=1), depth=3).double().eval()
    nn.init.normal_(ours.encoder.norm.weight)
    nn.init.normal_(ours.encoder.norm.bias)
    theirs = VisionTransformer(
        img_size=64, patch_size=8, embed_dim=96, depth=3, num_heads=3, qkv_bias=False,
        norm_layer=nn.LayerNorm, num_classes=0,
    ).double()  # fmt: skip
    state = {
        "patch_embed.proj.weight": ours.embed.weight.reshape(96, 8, 8, 3).movedim(-1, 1),
        "patch_embed.proj.bias": ours.embed.bias,
        "cls_token": ours.encoder.cls,
        "pos_embed": ours.encoder.positions.table,
        "norm.weight": ours.encoder.norm.weight,
        "norm.bias": ours.encoder.norm.bias,
    }
    names = {
        "norm1": "attention.norm",
        "attn.qkv": "attention.to_qkv",
        "attn.proj": "attention.to_out",
        "norm2": "mlp.0",
        "mlp.fc1": "mlp.1",
        "mlp.fc2": "mlp.4",
    }
    blocks = ours.encoder.blocks.state_dict()
    for block in range(3):
        for their, our in names.items():
            for kind in {"weight", "bias"} if their != "attn.qkv" else {"weight"}:
                state[f"blocks.{block}.{their}.{kind}"] = blocks[f"{block}.{our}.{kind}"]
    theirs.load_state_dict(state)
    video = batch(2, frames=1).video
    assert video is not None
    embedded = ours.tokens(video).flatten(1, 3)
    cls, patches = ours.encoder(embedded, (1, 8, 8))
    expected = theirs.forward_features(video[:, :, 0].double() / 255)
    torch.testing.assert_close(torch.cat([cls[:, None], patches], dim=1), expected)
    prediction = ours(batch(2, frames=1))
    first, second = (layer for layer in ours.head if isinstance(layer, nn.Linear))
    hidden = F.gelu(expected[:, 0] @ first.weight.T + first.bias)  # not normalised again
    torch.testing.assert_close(prediction.logits, hidden @ second.weight.T + second.bias)
    assert ours.dense_head is not None
    mask_logits = ours.dense_head(expected[:, 1:].reshape(2, 1, 8, 8, 96))
    torch.testing.assert_close(prediction.mask_logits, mask_logits)


def test_a_painted_patch_changes_its_own_token_alone() -> None:
    model = Vit(problem()).eval()
    video = batch(1).video
    assert video is not None
    before = model.tokens(video)
    for frame, row, column in ((0, 0, 0), (3, 5, 2), (9, 7, 7)):
        painted = video.clone()
        painted[:, :, frame, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8] ^= 255
        changed = (model.tokens(painted) != before).any(-1)[0]
        assert changed.nonzero().tolist() == [[frame, row, column]]


def test_the_mask_is_drawn_where_the_patch_is() -> None:
    """Attention off, the head's own reach is 5 pixels beyond a patch: 1 + 1/2 + 1/4 patches."""
    model = Vit(problem(), depth=1).eval()
    for module in model.encoder.blocks.modules():
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    plain = batch(1)
    assert plain.video is not None
    painted = plain.video.clone()
    painted[:, :, 6, 16:24, 40:48] ^= 255
    difference = (model(plain).mask_logits - model(plain._replace(video=painted)).mask_logits).abs()
    at = difference[0].amax(0).nonzero()
    assert at[:, 0].min() in range(8, 17)
    assert at[:, 0].max() in range(23, 32)
    assert at[:, 1].min() in range(32, 41)
    assert at[:, 1].max() in range(47, 56)


def test_without_positions_the_class_does_not_depend_on_the_order_of_patches() -> None:
    torch.manual_seed(0)
    model = Vit(problem(), depth=2).double().eval()
    tokens = torch.randn(2, 640, 96, dtype=torch.float64)
    order = torch.randperm(640)

    def classes(x: Tensor) -> Tensor:
        out: Tensor = model.encoder(x, (10, 8, 8))[0]
        return out

    assert not torch.allclose(classes(tokens), classes(tokens[:, order]))
    nn.init.zeros_(model.encoder.positions.table)
    torch.testing.assert_close(classes(tokens), classes(tokens[:, order]))


def test_frames_of_a_clip_attend_to_each_other_and_with_frames_last_only_the_last_is_read() -> None:
    plain = batch(1)
    assert plain.video is not None
    video = plain.video.float().requires_grad_()
    for frames, seen in (("all", 10), ("last", 1)):
        model = Vit(problem(), depth=1, frames=frames)  # type: ignore[arg-type]
        prediction = model(plain._replace(video=video))
        outputs = prediction.logits.sum() + prediction.mask_logits.square().sum()
        (gradient,) = torch.autograd.grad(outputs, video)
        reached = gradient.abs().amax((0, 1, 3, 4)) > 0
        assert reached.tolist() == [False] * (10 - seen) + [True] * seen


def test_with_frames_last_there_are_65_tokens_and_a_mask() -> None:
    model = Vit(problem(), depth=1, frames="last").eval()
    assert model.encoder.positions.table.shape == (1, 65, 96)
    assert model(batch(2)).mask_logits.shape == (2, 2, 64, 64)


def test_every_parameter_learns() -> None:
    model = Vit(problem(frames=2, image_size=(32, 32)), depth=2)
    rows = batch(4, 2, 32, 32)
    torch.stack(list(Loss().terms(model(rows), rows).values())).sum().backward()
    still = {n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    assert still == set()  # convolution biases before batch norm get rounding errors


@pytest.mark.parametrize(("frames", "height", "width", "patch"), [(1, 8, 8, 8), (3, 32, 48, 16)])
def test_other_problems_work_in_training_and_evaluation(
    frames: int, height: int, width: int, patch: int
) -> None:
    sizes = problem(frames=frames, image_size=(height, width), num_classes=5)
    model = Vit(sizes, dim=20, heads=1, depth=1, patch=patch)
    for mode in (True, False):
        prediction = model.train(mode)(batch(1, frames, height, width))
        assert prediction.logits.shape == (1, 5)
        assert prediction.mask_logits.shape == (1, 5, height, width)


def test_a_trained_model_reads_other_lengths_and_sizes() -> None:
    model = Vit(problem(), depth=1).eval()
    assert model(batch(1, 4, 32, 96)).mask_logits.shape == (1, 2, 32, 96)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="height, 60, is not a multiple of the patch's 8"):
        Vit(problem(image_size=(60, 64)))
    with pytest.raises(ValueError, match="'first'; allowed are"):
        Vit(problem(), frames="first")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="depth is 0"):
        Vit(problem(), depth=0)
    model = Vit(problem(), depth=1)
    with pytest.raises(ValueError, match="width, 60, is not a multiple of the patch's 8"):
        model(batch(1, 10, 64, 60))
    with pytest.raises(ValueError, match="the batch has none"):
        model(Batch(None, torch.zeros(1, 240, 3), torch.zeros(1, dtype=torch.int64)))

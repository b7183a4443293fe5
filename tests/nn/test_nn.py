"""Shared parts against independent references: torch's own modules, timm's, and plain loops."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from timm.models.vision_transformer import Block as TimmBlock
from torch import nn

from fmbench.nn import (
    Attention,
    Block,
    DenseHead,
    Encoder,
    Positions,
    Standardize,
    attend,
    cross_update,
    dense_head,
    tube_grid,
    tube_patches,
    video_of,
)
from fmbench.nn.positions import resize_grid
from fmbench.types import Batch, Modality, Problem


def test_eq4_attention_is_softmax_of_scaled_products() -> None:
    query, key, value = torch.randn(3, 2, 3, 7, 8, dtype=torch.float64)
    weights = (query @ key.transpose(-1, -2) / 8**0.5).softmax(-1)
    expected = (weights @ value).transpose(1, 2).reshape(2, 7, 24)
    torch.testing.assert_close(attend(query, key, value), expected)


def test_eqs3_to_5_agree_with_torch_multihead_attention() -> None:
    ours = Attention(96, 3).double()
    theirs = nn.MultiheadAttention(96, 3, batch_first=True).double()
    theirs.in_proj_weight.data.copy_(ours.to_qkv.weight.data)
    theirs.in_proj_bias.data.zero_()
    theirs.out_proj.load_state_dict(ours.to_out.state_dict())
    tokens = torch.randn(2, 11, 96, dtype=torch.float64)
    normed = ours.norm(tokens)
    torch.testing.assert_close(ours(tokens), theirs(normed, normed, normed)[0])


def test_eq6_block_agrees_with_timm_and_has_its_111552_parameters() -> None:
    ours = Block(96, 3).double()
    theirs = TimmBlock(96, 3, 4.0, qkv_bias=False, norm_layer=nn.LayerNorm).double()
    names = {
        "norm1": "attention.norm",
        "attn.qkv": "attention.to_qkv",
        "attn.proj": "attention.to_out",
        "norm2": "mlp.0",
        "mlp.fc1": "mlp.1",
        "mlp.fc2": "mlp.4",
    }
    state = ours.state_dict()
    theirs.load_state_dict(
        {
            f"{name}.{kind}": state[f"{source}.{kind}"]
            for name, source in names.items()
            for kind in ("weight", "bias")
            if f"{source}.{kind}" in state
        }
    )
    tokens = torch.randn(2, 11, 96, dtype=torch.float64)
    torch.testing.assert_close(ours(tokens), theirs(tokens))
    assert sum(p.numel() for p in ours.parameters()) == 111_552


def test_eq7_queries_stay_and_keys_and_values_cross() -> None:
    first, second = Block(24, 3).double(), Block(24, 3).double()
    a, b = torch.randn(2, 5, 24).double(), torch.randn(2, 9, 24).double()
    new_a, new_b = cross_update(first, second, a, b)

    def by_hand(own: Block, other: Block, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        rows = torch.empty_like(x)
        q_w, _, _ = own.attention.to_qkv.weight.chunk(3)
        _, k_w, v_w = other.attention.to_qkv.weight.chunk(3)
        x_norm, y_norm = own.attention.norm(x), other.attention.norm(y)
        for head in range(3):
            part = slice(8 * head, 8 * head + 8)
            scores = (x_norm @ q_w[part].T) @ (y_norm @ k_w[part].T).transpose(1, 2) / 8**0.5
            rows[..., part] = scores.softmax(-1) @ (y_norm @ v_w[part].T)
        z = own.attention.to_out(rows) + x
        return own.mlp(z) + z  # type: ignore[no-any-return]

    torch.testing.assert_close(new_a, by_hand(first, second, a, b))
    torch.testing.assert_close(new_b, by_hand(second, first, b, a))


def test_dropout_acts_in_training_only() -> None:
    block = Block(24, 3, dropout=0.5)
    tokens = torch.randn(2, 5, 24)
    assert not torch.equal(block(tokens), block(tokens))
    block.eval()
    assert torch.equal(block(tokens), block(tokens))


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(ValueError, match="dim 96 is not a multiple of heads 5"):
        Attention(96, 5)


@pytest.mark.parametrize("dilation", [1, 2])
def test_patches_hold_the_pixels_that_section_3a_names(dilation: int) -> None:
    video = torch.arange(2 * 3 * 4 * 32 * 48).reshape(2, 3, 4, 32, 48)
    patches = tube_patches(video, (2, 8, 8), dilation)
    grid = tube_grid(4, (32, 48), (2, 8, 8), dilation)
    assert tuple(patches.shape) == (2, *grid, 384)
    for t, y, x in [(0, 0, 0), (1, grid[1] - 1, grid[2] - 1), (1, 0, grid[2] - 1)]:
        expected = [
            video[1, c, 2 * t + k, dilation * (8 * y + i), dilation * (8 * x + j)]
            for i in range(8)
            for j in range(8)
            for k in range(2)
            for c in range(3)
        ]
        assert patches[1, t, y, x].tolist() == [int(v) for v in expected]


def test_grids_of_the_paper_are_8x8_and_dilated_4x4() -> None:
    assert tube_grid(10, (64, 64), (2, 8, 8)) == (5, 8, 8)
    assert tube_grid(10, (64, 64), (2, 8, 8), 2) == (5, 4, 4)


@pytest.mark.parametrize(
    ("frames", "size", "message"),
    [
        (5, (64, 64), "5 frames are not a multiple of the patch's 2; use 4 or 6 frames"),
        (4, (60, 64), "height, 60, is not a multiple of the patch's 8"),
        (4, (64, 65), "width, 65, is not a multiple of the patch's 8"),
    ],
)
def test_sizes_that_do_not_divide_are_named(
    frames: int, size: tuple[int, int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        tube_grid(frames, size, (2, 8, 8))


def test_positions_of_the_trained_size_are_the_table_itself() -> None:
    positions = Positions([(5, 4, 4), (5, 8, 8)], 16)
    assert positions([(5, 4, 4), (5, 8, 8)]) is positions.table


def test_longer_current_keeps_class_first_and_last_row() -> None:
    positions = Positions([(240,)], 16)
    longer = positions([(440,)])
    assert longer.shape == (1, 441, 16)
    for new, old in ((0, 0), (1, 1), (-1, -1)):
        torch.testing.assert_close(longer[0, new], positions.table[0, old])


@pytest.mark.parametrize("steps", [1, 3, 10])
def test_other_frame_counts_keep_the_last_step_of_every_grid(steps: int) -> None:
    positions = Positions([(5, 4, 4), (5, 8, 8)], 16)
    table = positions([(steps, 4, 4), (steps, 8, 8)])[0]
    torch.testing.assert_close(
        table[1 + 16 * (steps - 1) : 1 + 16 * steps], positions.table[0, 65:81]
    )
    torch.testing.assert_close(table[-64:], positions.table[0, -64:])


def test_interpolation_is_linear_between_rows() -> None:
    ramp = torch.arange(5.0).reshape(1, 1, 5)
    torch.testing.assert_close(resize_grid(ramp, (9,))[0, 0], torch.linspace(0, 4, 9))


def test_standard_scores_have_zero_mean_and_unit_deviation() -> None:
    current = 9000 + 500 * torch.randn(4, 240, 3)
    scale = Standardize.current()
    assert torch.equal(scale(current), current)
    scale.set_statistics(current.mean((0, 1)), current.std((0, 1)))
    scored = scale(current)
    torch.testing.assert_close(scored.mean((0, 1)), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(scored.std((0, 1)), torch.ones(3), atol=1e-4, rtol=0)


def test_grey_levels_are_divided_by_255_until_measured() -> None:
    video = torch.randint(0, 256, (2, 3, 2, 8, 8), dtype=torch.uint8)
    torch.testing.assert_close(Standardize.video()(video), video.float() / 255)


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        (torch.zeros(2), torch.ones(2), r"statistics for 2 channels of current; .* built for 3"),
        (torch.zeros(3), torch.tensor([1.0, 0, 1]), "a channel of current is constant"),
    ],
)
def test_statistics_that_cannot_be_are_refused(
    mean: torch.Tensor, std: torch.Tensor, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Standardize.current().set_statistics(mean, std)


def test_eqs9_to_11_dense_head_has_the_papers_497154_parameters_and_full_size() -> None:
    head = DenseHead(96, steps=5, patch=(8, 8), dilated=True)
    assert sum(p.numel() for p in head.parameters()) == 497_154
    mask = head(torch.randn(1, 5, 8, 8, 96), torch.randn(1, 5, 4, 4, 96))
    assert mask.shape == (1, 2, 64, 64)


def test_eq10_dilated_map_is_upsampled_and_added() -> None:
    head = DenseHead(16, steps=2, patch=(8, 8), dilated=True).eval()
    fine, coarse = torch.randn(2, 2, 4, 4, 16), torch.randn(2, 2, 2, 2, 16)
    as_image = fine.permute(0, 1, 4, 2, 3).reshape(2, 32, 4, 4)
    as_coarse = coarse.permute(0, 1, 4, 2, 3).reshape(2, 32, 2, 2)
    both = head.merge(as_image) + head.upsample_dilated(head.merge_dilated(as_coarse))
    torch.testing.assert_close(head(fine, coarse), head.classify(head.upsample(both)))


@pytest.mark.parametrize(("patch", "message"), [((8, 4), "square patch"), ((6, 6), "2, 4, 8")])
def test_patches_that_no_mask_can_be_grown_from_are_refused(
    patch: tuple[int, int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        DenseHead(16, steps=1, patch=patch)


@pytest.mark.parametrize("dilated", [False, True])
def test_a_model_has_a_dense_head_only_where_the_problem_asks_for_a_mask(dilated: bool) -> None:
    sizes: dict[str, Any] = {"steps": 2, "patch": (4, 4), "dilated": dilated}
    visual = Problem(modality=Modality.VISUAL, num_classes=3)
    assert dense_head(visual, 16, **sizes) is None
    torch.manual_seed(0)
    head = dense_head(replace(visual, dense=True), 16, **sizes)
    torch.manual_seed(0)
    expected = DenseHead(16, num_classes=3, **sizes)
    assert head is not None
    assert str(head) == str(expected)
    state = head.state_dict()
    assert all(torch.equal(state[name], value) for name, value in expected.state_dict().items())


def test_the_encoder_is_a_class_token_positions_blocks_and_a_layer_norm() -> None:
    encoder = Encoder((2, 3), 24, depth=2, heads=3).double()
    nn.init.normal_(encoder.norm.weight)
    nn.init.normal_(encoder.norm.bias)
    tokens = torch.randn(4, 6, 24, dtype=torch.float64)
    x = torch.cat([encoder.cls.expand(4, -1, -1), tokens], dim=1) + encoder.positions([(2, 3)])
    for block in encoder.blocks:
        x = block(x)
    x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()
    x = x * encoder.norm.weight + encoder.norm.bias
    cls, rest = encoder(tokens, (2, 3))
    torch.testing.assert_close(cls, x[:, 0])
    torch.testing.assert_close(rest, x[:, 1:])
    assert encoder(torch.randn(1, 20, 24).double(), (4, 5))[1].shape == (1, 20, 24)


def test_positions_without_a_class_token_are_the_grid_alone() -> None:
    bare, led = Positions([(2, 4)], 6, class_token=False), Positions([(2, 4)], 6)
    led.table.data[:, 1:] = bare.table.data
    for grid in ((2, 4), (3, 7)):
        assert torch.equal(bare([grid]), led([grid])[:, 1:])


def test_video_of_another_size_than_the_models_is_refused() -> None:
    label = torch.zeros(2, dtype=torch.int64)
    batch = Batch(torch.zeros(2, 3, 4, 16, 24), None, label)
    assert video_of(batch) is batch.video
    assert video_of(batch, frames=4, image_size=(16, 24)) is batch.video
    with pytest.raises(ValueError, match="4 frames; this model was built for 10"):
        video_of(batch, frames=10)
    with pytest.raises(ValueError, match="images of 16x24; this model was built for 24x16"):
        video_of(batch, image_size=(24, 16))
    with pytest.raises(ValueError, match="reads video, and the batch has none"):
        video_of(Batch(None, torch.zeros(2, 240, 3), label))


@pytest.mark.parametrize("rows", [1, 3])
def test_the_first_rows_are_those_of_the_whole(rows: int) -> None:
    torch.manual_seed(0)
    first, second = Block(24, 3).double(), Block(24, 3).double()
    a, b = torch.randn(2, 7, 24).double(), torch.randn(2, 5, 24).double()
    torch.testing.assert_close(first(a, rows), first(a)[:, :rows])
    whole = cross_update(first, second, a, b)
    part = cross_update(first, second, a, b, (None, rows))
    torch.testing.assert_close(part[0], whole[0])
    torch.testing.assert_close(part[1], whole[1][:, :rows])
    learnt = [*first.parameters(), *second.parameters()]
    expected = torch.autograd.grad((whole[0].sum() + whole[1][:, :rows].sum()).sin(), learnt)
    found = torch.autograd.grad((part[0].sum() + part[1].sum()).sin(), learnt)
    torch.testing.assert_close(found, expected)

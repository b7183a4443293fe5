"""TubeViT: which tubes there are, what they see, where they stand, and what they add up to."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fmbench.objective import Loss
from fmbench.types import Batch, Modality, Problem
from fmbench_baselines.tubevit import (
    TubeEmbedding,
    Tubes,
    TubeVit,
    centre_sinusoids,
    first_tiling,
    tubes_for,
)

PUBLISHED = [  # for 32 frames of 224×224
    Tubes((8, 8, 8), (16, 32, 32), (0, 0, 0)),
    Tubes((16, 4, 4), (6, 32, 32), (4, 8, 8)),
    Tubes((4, 12, 12), (16, 32, 32), (0, 16, 16)),
    Tubes((1, 16, 16), (32, 16, 16), (0, 0, 0)),
]


def problem(**changes: Any) -> Problem:
    return Problem(modality=Modality.VISUAL, **changes)


def batch(size: int, frames: int = 10, height: int = 64, width: int = 64) -> Batch:
    draw = torch.Generator().manual_seed(1)
    video = torch.randint(
        0, 256, (size, 3, frames, height, width), dtype=torch.uint8, generator=draw
    )
    mask = (video[:, 0, -1] > 128).long()
    return Batch(video, None, torch.arange(size) % 2, mask)


def frames_seen(tubes: Tubes, frames: int) -> list[list[int]]:
    """Of every tube in time: its frames."""
    count = tubes.grid((frames, 64, 64))[0]
    starts = [tubes.offset[0] + tubes.stride[0] * step for step in range(count)]
    return [list(range(start, start + tubes.kernel[0])) for start in starts]


def test_tubes_for_ten_frames_of_64x64() -> None:
    assert tubes_for(10) == [
        ((8, 8, 8), (8, 16, 16), (2, 0, 0)),
        ((10, 4, 4), (10, 16, 16), (0, 4, 4)),
        ((4, 12, 12), (3, 16, 16), (0, 4, 4)),
        ((1, 8, 8), (9, 8, 8), (0, 0, 0)),
    ]
    grids = [tubes.grid((10, 64, 64)) for tubes in tubes_for(10)]
    assert grids == [(1, 4, 4), (1, 4, 4), (3, 4, 4), (2, 8, 8)]
    assert [math.prod(grid) for grid in grids] == [16, 16, 48, 128]
    assert frames_seen(tubes_for(10)[0], 10) == [list(range(2, 10))]
    assert frames_seen(tubes_for(10)[3], 10) == [[0], [9]]


def test_published_tubes_give_539_tokens_of_32_frames_of_224x224() -> None:
    grids = [tubes.grid((32, 224, 224)) for tubes in PUBLISHED]
    assert [math.prod(grid) for grid in grids] == [98, 147, 98, 196]
    model = TubeVit(problem(frames=32, image_size=(224, 224)), tubes=PUBLISHED, depth=1)
    assert model.positions.shape == (540, 96)


@pytest.mark.parametrize("frames", [*range(1, 11), 16, 32, 50])
def test_at_any_length_all_tubes_lie_in_the_clip_and_end_with_the_last_frame(frames: int) -> None:
    for tubes, steps in zip(tubes_for(frames), (1, 1, 3, 2), strict=True):
        seen = frames_seen(tubes, frames)
        assert len(seen) == min(steps, frames - tubes.kernel[0] + 1)
        assert seen[-1][-1] == frames - 1
        assert seen[0][0] >= 0
        gaps = steps - 1 if len(seen) > 1 else 1  # no room for one frame more between them
        assert seen[0][0] < gaps or steps == 1
    model = TubeVit(problem(frames=frames, image_size=(32, 32)), depth=1, dim=24).eval()
    before = batch(1, frames, 32, 32)
    assert before.video is not None
    video = before.video.clone()
    video[:, :, -1] ^= 255
    after = before._replace(video=video)
    assert (model(before).logits - model(after).logits).abs().max() > 1e-6


def test_each_tube_is_a_window_times_a_kernel() -> None:
    torch.manual_seed(0)
    embed = TubeEmbedding(tubes_for(10), 24, interpolated=False).double()
    nn.init.normal_(embed.biases)
    video = torch.randn(2, 3, 10, 64, 64, dtype=torch.float64)
    tokens = embed(video)
    assert tokens.shape == (2, 208, 24)
    at = 0
    for number, tubes in enumerate(tubes_for(10)):
        (t, h, w), stride, offset = tubes
        for index in torch.cartesian_prod(*map(torch.arange, tubes.grid((10, 64, 64)))).tolist():
            f, y, x = (o + s * i for o, s, i in zip(offset, stride, index, strict=True))
            window = video[:, :, f : f + t, y : y + h, x : x + w].flatten(1)
            expected = window @ embed.kernels[number].flatten(1).T + embed.biases[number]
            torch.testing.assert_close(tokens[:, at], expected)
            at += 1
    assert at == 208


def test_positions_are_those_of_the_tubes_true_centres_and_do_not_learn() -> None:
    model = TubeVit(problem())
    positions = model.positions
    assert positions.shape == (209, 96)
    assert not positions.requires_grad
    assert "positions" not in dict(model.named_parameters())
    assert not positions[0].any()  # the class token stands nowhere
    by_hand = {  # row of the token: centre in frames, rows, columns
        1: (2 + 4, 4, 4),
        1 + 16 + 6: (5, 4 + 16 + 2, 4 + 32 + 2),
        1 + 32 + 16 + 4 * 3 + 1: (3 + 2, 4 + 48 + 6, 4 + 16 + 6),
        1 + 80 + 64 + 8 * 2 + 5: (9, 16 + 4, 40 + 4),
    }
    for row, centre in by_hand.items():
        code = [
            wave(place / 10_000 ** (k / 16))
            for place in centre
            for wave in (math.sin, math.cos)
            for k in range(16)
        ]
        torch.testing.assert_close(positions[row], torch.tensor(code), atol=1e-5, rtol=0)


def test_tubes_of_equal_centre_have_equal_codes_whatever_their_shape() -> None:
    extent = (10, 64, 64)
    small = Tubes((2, 4, 4), (4, 16, 16), (4, 4, 4))
    large = Tubes((10, 8, 8), (10, 16, 16), (0, 2, 2))
    codes = [centre_sinusoids(tubes.centres(extent), 24) for tubes in (small, large)]
    assert torch.equal(codes[0][:16], codes[1])  # 4 + 1 = 0 + 5, 4 + 2 = 2 + 4
    assert len(torch.unique(codes[0], dim=0)) == len(codes[0])


def test_one_interpolated_kernel_is_itself_for_its_own_shape_and_resized_for_the_others() -> None:
    embed = TubeEmbedding(tubes_for(10), 24, interpolated=True)
    (base,) = embed.kernels
    assert base.shape == (24, 3, 8, 8, 8)
    assert torch.equal(embed.kernel(0), base)
    for number, tubes in enumerate(tubes_for(10)):
        assert embed.kernel(number).shape == (24, 3, *tubes.kernel)
    halved = embed.kernel(1)[:, :, :, 1, 2]  # 4 of 8 rows and columns: means of pairs
    pairs = base[:, :, :, 2:4, 4:6].mean((3, 4))
    along = F.interpolate(pairs, 10, mode="linear")
    torch.testing.assert_close(halved, along)
    single = embed.kernel(3)  # one frame of 8: between the two in the middle
    torch.testing.assert_close(single[:, :, 0], base[:, :, 3:5].mean(2))
    model = TubeVit(problem(dense=True), depth=1, interpolated=True).eval()
    assert model(batch(2)).mask_logits.shape == (2, 2, 64, 64)


@pytest.mark.parametrize(
    ("dense", "count"),
    # The mask's head: 2 steps of 96 merged to 96, three levels, one class map.
    [(False, 1_726_658), (True, 1_726_658 + 2 * 96 * 96 + 96 + 284_610)],
)
def test_parameters_of_the_default(dense: bool, count: int) -> None:
    model = TubeVit(problem(dense=dense))
    assert sum(p.numel() for p in model.parameters()) == count


def test_kernels_and_class_token_begin_small() -> None:
    """Truncated normal of 0.02, not of 1: tokens of standard scores begin below their positions."""
    model = TubeVit(problem(), depth=1)
    for kernel in model.embed.kernels:
        assert float(kernel.detach().std()) == pytest.approx(0.02, rel=0.05)
    tokens = model.embed(torch.randn(2, 3, 10, 64, 64))
    assert tokens.std() < model.positions[1:].std()


def test_class_token_and_attention_pooling_read_the_normalised_tokens() -> None:
    seen: list[Tensor] = []
    for pool in ("cls", "attention"):
        model = TubeVit(problem(dense=True), depth=1, pool=pool).eval()  # type: ignore[arg-type]
        nn.init.normal_(model.norm.weight)
        nn.init.normal_(model.norm.bias)
        model.blocks.register_forward_hook(lambda _, __, out: seen.append(out))
        logits, mask_logits, _ = model(batch(2))
        tokens = seen.pop()
        assert tokens.shape == (2, 209, 96)
        spread = tokens.var(-1, correction=0, keepdim=True)
        tokens = (tokens - tokens.mean(-1, keepdim=True)) / (spread + 1e-5).sqrt()
        tokens = tokens * model.norm.weight + model.norm.bias  # before pooling
        pooled = tokens[:, 0]
        if model.weigh is not None:
            scores = (tokens @ model.weigh.weight[0]).exp()
            pooled = (scores[..., None] * tokens).sum(1) / scores.sum(1, keepdim=True)
        first, second = (layer for layer in model.head if isinstance(layer, nn.Linear))
        hidden = F.gelu(pooled @ first.weight.T + first.bias)  # not normalised again
        torch.testing.assert_close(logits, hidden @ second.weight.T + second.bias)
        assert model.dense_head is not None
        expected = model.dense_head(tokens[:, -128:].reshape(2, 2, 8, 8, 96))  # of the 1×8×8 tubes
        torch.testing.assert_close(mask_logits, expected)


def test_a_mask_is_drawn_from_the_tubes_that_tile_the_image_in_their_places() -> None:
    model = TubeVit(problem(dense=True), depth=1).eval()
    assert model.tiling == 3
    places = torch.cat(
        [torch.zeros(1, 3), *(tubes.centres((10, 64, 64)) for tubes in model.embed.kinds)]
    )
    tiles = model.tiles(places.expand(1, -1, -1))
    assert tiles.shape == (1, 2, 8, 8, 3)
    for step, row, column in ((0, 0, 0), (1, 3, 5), (1, 7, 7)):
        centre = [9 * step, 8 * row + 4, 8 * column + 4]
        assert tiles[0, step, row, column].tolist() == centre


def test_which_tubes_tile_an_image() -> None:
    extent = (10, 64, 48)
    refused = [
        Tubes((1, 8, 8), (1, 16, 16), (0, 0, 0)),  # gaps
        Tubes((1, 8, 8), (1, 8, 8), (0, 0, 8)),  # a margin
        Tubes((1, 32, 32), (1, 32, 32), (0, 0, 0)),  # 48 columns
        Tubes((1, 8, 16), (1, 8, 16), (0, 0, 0)),  # not square
    ]
    assert first_tiling([*refused, Tubes((4, 16, 16), (6, 16, 16), (0, 0, 0))], extent) == 4
    with pytest.raises(ValueError, match="none do so over 64x48"):
        first_tiling(refused, extent)


def test_tubes_may_come_as_lists_as_from_a_file() -> None:
    lists: Any = [[[10, 16, 16], [1, 16, 16], [0, 0, 0]], [[1, 8, 8], [9, 32, 32], [0, 0, 0]]]
    model = TubeVit(problem(dense=True), tubes=lists, depth=1).eval()
    assert model.positions.shape == (1 + 16 + 8, 96)
    assert model(batch(1)).mask_logits.shape == (1, 2, 64, 64)


@pytest.mark.parametrize("net", [{}, {"interpolated": True}, {"pool": "attention"}])
def test_every_parameter_learns(net: dict[str, Any]) -> None:
    model = TubeVit(problem(dense=True, frames=4, image_size=(32, 32)), depth=2, **net)
    rows = batch(4, 4, 32, 32)
    torch.stack(list(Loss().terms(model(rows), rows).values())).sum().backward()
    still = {n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    assert still == set()


@pytest.mark.parametrize(("frames", "height", "width"), [(1, 16, 16), (7, 32, 40), (12, 96, 64)])
def test_other_problems_work_in_training_and_evaluation(
    frames: int, height: int, width: int
) -> None:
    sizes = problem(dense=True, frames=frames, image_size=(height, width), num_classes=5)
    model = TubeVit(sizes, dim=24, depth=1)
    for mode in (True, False):
        prediction = model.train(mode)(batch(1, frames, height, width))
        assert prediction.logits.shape == (1, 5)
        assert prediction.mask_logits.shape == (1, 5, height, width)


def test_a_class_alone_needs_no_tiles() -> None:
    model = TubeVit(problem(image_size=(50, 61)), dim=24, depth=1).eval()
    assert model(batch(1, 10, 50, 61)).logits.shape == (1, 2)
    with pytest.raises(ValueError, match="none do so over 50x61"):
        TubeVit(problem(image_size=(50, 61), dense=True))


@pytest.mark.parametrize(
    ("net", "message"),
    [
        ({"dim": 64, "heads": 2}, "dim is 64; it must be a multiple of 6"),
        ({"heads": 5}, "dim 96 is not a multiple of heads 5"),
        ({"depth": 0}, "depth is 0"),
        ({"pool": "mean"}, "'mean'; allowed are"),
        ({"tubes": [((8, 8, 8), (8, 16, 16), (0, 0, 0))]}, "no tube sees the last frame"),
        ({"tubes": []}, "no tube sees the last frame"),
        ({"tubes": [((12, 8, 8), (8, 16, 16), (0, 0, 0))]}, "do not fit in 10 frames of 64x64"),
        ({"tubes": [((10, 8, 8), (0, 8, 8), (0, 0, 0))]}, "kernel and stride are at least 1"),
        (
            {"tubes": [((10, 8, 8), (1, 8, 8), (0, 0, 0))], "interpolated": True},
            "no effect on tubes of a single shape",
        ),
    ],
)
def test_what_cannot_be_is_refused(net: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TubeVit(problem(), **net)


def test_a_batch_of_another_size_is_refused() -> None:
    model = TubeVit(problem(), depth=1)
    with pytest.raises(ValueError, match="9 frames; this model was built for 10"):
        model(batch(1, 9))
    with pytest.raises(ValueError, match="images of 32x64; this model was built for 64x64"):
        model(batch(1, 10, 32, 64))
    with pytest.raises(ValueError, match="the batch has none"):
        model(Batch(None, torch.zeros(1, 240, 3), torch.zeros(1, dtype=torch.int64)))

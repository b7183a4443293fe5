"""The BERT encoder against torch's own, and what becomes of current and patches before it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import BertModel

from fmbench.nn import bert
from fmbench.nn.attention import Way, attention_by
from fmbench.nn.bert import BertStack, RegionEmbedding, SeriesEmbedding, both, boxes
from fmbench.types import Batch, Modality, Problem


def problem(**changes: Any) -> Problem:
    return Problem(modality=Modality.CROSS, **changes)


def torchs_encoder(ours: BertStack, dim: int, heads: int) -> nn.TransformerEncoder:
    """torch's post-norm encoder with the weights of ours."""
    layers = ours.encoder.layer
    layer = nn.TransformerEncoderLayer(
        dim, heads, 4 * dim, 0.0, "gelu", layer_norm_eps=1e-12, batch_first=True
    )
    theirs = nn.TransformerEncoder(layer, len(layers), enable_nested_tensor=False)
    for own, their in zip(layers, theirs.layers, strict=True):
        attention, state = own.attention, {}
        projections = [attention.self.query, attention.self.key, attention.self.value]
        modules = {
            "self_attn.out_proj": attention.output.dense,
            "norm1": attention.output.LayerNorm,
            "linear1": own.intermediate.dense,
            "linear2": own.output.dense,
            "norm2": own.output.LayerNorm,
        }
        for kind in ("weight", "bias"):
            state[f"self_attn.in_proj_{kind}"] = torch.cat([getattr(p, kind) for p in projections])
            state |= {f"{name}.{kind}": getattr(module, kind) for name, module in modules.items()}
        their.load_state_dict(state)
    return theirs.double()


def test_the_encoder_is_torchs_post_norm_encoder() -> None:
    ours = BertStack(24, 3, 3, dropout=0.0)
    for parameter in ours.parameters():
        nn.init.normal_(parameter, std=0.3)  # biases too
    theirs = torchs_encoder(ours, 24, 3)
    tokens = torch.randn(2, 17, 24, dtype=torch.float64)
    torch.testing.assert_close(ours.double()(tokens), theirs(tokens))


def test_the_encoder_has_no_positions_of_its_own_and_no_limit_of_512_tokens() -> None:
    stack = BertStack(24, 2, 3).eval()
    tokens = torch.randn(1, 881, 24)
    order = torch.randperm(881)
    torch.testing.assert_close(stack(tokens[:, order]), stack(tokens)[:, order])
    assert sum(p.numel() for p in BertStack(96, 1, 3).parameters()) == 12 * 96**2 + 13 * 96


@pytest.mark.parametrize("dim", [24, 96, 768])
def test_weights_begin_with_berts_gain_at_any_width(dim: int) -> None:
    torch.manual_seed(0)
    layer = BertStack(dim, 1, 3).encoder.layer[0]
    expected = 0.02 * (768 / dim) ** 0.5
    assert float(layer.output.dense.weight.detach().std()) == pytest.approx(expected, rel=0.05)
    assert not layer.output.dense.bias.any()


def test_dropout_acts_in_training_alone() -> None:
    stack = BertStack(24, 2, 3, dropout=0.5)
    tokens = torch.randn(1, 9, 24)
    assert not torch.equal(stack(tokens), stack(tokens))
    stack.eval()
    assert torch.equal(stack(tokens), stack(tokens))


@pytest.mark.parametrize("way", ["explicit", "sdpa"])
@pytest.mark.parametrize("masked", [False, True])
def test_the_encoder_is_transformers_own_with_eager_attention(way: Way, masked: bool) -> None:
    torch.manual_seed(0)
    ours = BertStack(24, 2, 3).eval()
    for parameter in ours.parameters():
        nn.init.normal_(parameter, std=0.3)
    config = copy.deepcopy(ours.encoder.config)
    config._attn_implementation = "eager"
    theirs = BertModel(config, add_pooling_layer=False).encoder.eval()
    theirs.load_state_dict(ours.encoder.state_dict())
    tokens, mask, added = torch.randn(2, 17, 24), None, None
    if masked:
        mask = torch.rand(2, 1, 17, 17) > 0.5
        mask[..., 0] = True
        added = torch.zeros(mask.shape).masked_fill(~mask, -torch.inf)
    with attention_by(way):
        out = ours(tokens, mask)
    expected = theirs(tokens, attention_mask=added).last_hidden_state
    torch.testing.assert_close(out, expected, atol=1e-6, rtol=1e-6)


def test_attention_is_the_one_that_all_models_share(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[tuple[int, ...], float]] = []
    shared = bert.softmax_attention

    def counted(query: Tensor, key: Tensor, value: Tensor, mask: Any, dropout: float) -> Tensor:
        calls.append((tuple(query.shape), dropout))
        return shared(query, key, value, mask, dropout)

    monkeypatch.setattr(bert, "softmax_attention", counted)
    stack = BertStack(24, 2, 3, dropout=0.25)
    stack(torch.randn(1, 9, 24))
    stack.eval()(torch.randn(1, 9, 24))
    assert calls == [((1, 3, 9, 8), 0.25)] * 2 + [((1, 3, 9, 8), 0.0)] * 2


def test_the_box_of_a_patch_is_its_corners_and_its_area_over_the_image() -> None:
    table = boxes(8, 8)
    for row, column in ((0, 0), (2, 5), (7, 7)):
        corners = [8 * column, 8 * row, 8 * column + 8, 8 * row + 8]
        expected = torch.tensor([*(corner / 64 for corner in corners), 64 / 64**2])
        torch.testing.assert_close(table[row, column], expected)
    assert boxes(2, 4)[1, 3].tolist() == [0.75, 0.5, 1, 1, 0.125]  # x before y


def test_a_region_is_the_norm_of_patch_box_time_and_segment() -> None:
    embedding = RegionEmbedding(
        problem(frames=4, image_size=(16, 24)), 12, (2, 8, 8), 0.1, mean_region=True
    ).eval()
    video = torch.randint(0, 256, (2, 3, 4, 16, 24), dtype=torch.uint8)
    patches = embedding.patches(video)
    assert patches.shape == (2, 2, 2, 3, 384)
    tokens = embedding(patches)
    assert tokens.shape == (2, 1 + 2 * 2 * 3, 12)
    t, y, x = 1, 0, 2
    pixels = video[1, :, 2:4, 0:8, 16:24].permute(2, 3, 1, 0).flatten() / 255
    torch.testing.assert_close(patches[1, t, y, x], pixels)
    expected = embedding.project(pixels) + embedding.locate(boxes(2, 3)[y, x])
    expected = embedding.norm(expected + embedding.time[0, :, t] + embedding.segment[0, 0])
    torch.testing.assert_close(tokens[1, 1 + (t * 2 + y) * 3 + x], expected)
    whole = patches.flatten(1, 3).mean(1)  # of the whole clip, with the whole image as its box
    first = embedding.project(whole) + embedding.locate(torch.tensor([0.0, 0, 1, 1, 1]))
    torch.testing.assert_close(tokens[:, 0], embedding.norm(first + embedding.segment[0, 0]))


def test_a_sample_is_the_norm_of_its_phases_position_and_segment() -> None:
    embedding = SeriesEmbedding(problem(current_samples=20), 12, 0.1).eval()
    samples = torch.randn(2, 20, 3)
    table = embedding.positions.table
    tokens = embedding(samples)
    words = torch.cat([embedding.cls.expand(2, -1, -1), embedding.project(samples)], dim=1)
    torch.testing.assert_close(tokens, embedding.norm(words + table + embedding.segment))


def test_what_is_hidden_has_no_effect_and_keeps_its_place() -> None:
    series = SeriesEmbedding(problem(current_samples=20), 12, 0.0)
    samples, gap = torch.randn(1, 20, 3), torch.zeros(1, 20, dtype=torch.bool)
    gap[0, 7] = gap[0, 9] = True
    changed = samples.clone()
    changed[0, 7] += 5
    torch.testing.assert_close(series(samples, gap), series(changed, gap))
    assert not torch.allclose(series(samples, gap)[0, 8], series(samples, gap)[0, 10])
    assert torch.equal(series(samples, ~gap)[0, [8, 10]], series(samples)[0, [8, 10]])

    regions = RegionEmbedding(
        problem(frames=2, image_size=(16, 16)), 12, (1, 8, 8), 0.0, mean_region=False
    )
    patches, gap = torch.randn(1, 2, 2, 2, 192), torch.zeros(1, 2, 2, 2, dtype=torch.bool)
    gap[0, 1, 0, 1] = True
    changed = patches.clone()
    changed[0, 1, 0, 1] += 5
    torch.testing.assert_close(regions(patches, gap), regions(changed, gap))
    assert not torch.allclose(regions(patches), regions(changed))


def test_embeddings_read_other_sizes_than_they_were_built_for() -> None:
    regions = RegionEmbedding(problem(), 12, (2, 8, 8), 0.1, mean_region=True).eval()
    assert regions(regions.patches(torch.zeros(1, 3, 4, 32, 40))).shape == (1, 1 + 2 * 4 * 5, 12)
    assert SeriesEmbedding(problem(), 12, 0.1)(torch.zeros(1, 33, 3)).shape == (1, 34, 12)
    with pytest.raises(ValueError, match="3 frames are not a multiple of the patch's 2"):
        regions.patches(torch.zeros(1, 3, 3, 32, 32))


@pytest.mark.parametrize(
    ("sizes", "message"),
    [((24, 0, 3), "depth is 0"), ((25, 2, 3), "dim 25 is not a multiple of heads 3")],
)
def test_impossible_stacks_are_refused(sizes: tuple[int, int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BertStack(*sizes)


@pytest.mark.parametrize("lacking", ["video", "current"])
def test_a_batch_that_lacks_a_modality_is_refused(lacking: str) -> None:
    batch = Batch(torch.zeros(1, 3, 2, 8, 8), torch.zeros(1, 4, 3), torch.zeros(1))
    with pytest.raises(ValueError, match=f"the batch has no {lacking}"):
        both(batch._replace(**{lacking: None}))

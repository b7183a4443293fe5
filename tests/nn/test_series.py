"""What the Transformers over a series share, against torch's own modules and plain loops."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fmbench.nn import (
    MultiHead,
    PostNormLayer,
    conv_embedding,
    current_reader,
    given_current,
    post_norm_encoder,
    series_head,
    sinusoids,
)
from fmbench.types import Batch, Modality, Problem


def batch(samples: int, channels: int = 3) -> Batch:
    return Batch(None, torch.randn(2, samples, channels), torch.zeros(2, dtype=torch.int64))


def test_multi_head_with_the_default_rule_is_torchs_multi_head_attention() -> None:
    ours = MultiHead(96, 3).double()
    theirs = nn.MultiheadAttention(96, 3, batch_first=True).double()
    theirs.in_proj_weight.data.copy_(ours.to_qkv.weight.data)
    theirs.in_proj_bias.data.copy_(ours.to_qkv.bias.data)
    theirs.out_proj.load_state_dict(ours.to_out.state_dict())
    tokens = torch.randn(2, 11, 96, dtype=torch.float64)
    torch.testing.assert_close(ours(tokens), theirs(tokens, tokens, tokens)[0])


def test_multi_head_hands_each_head_its_own_part_of_the_width() -> None:
    seen: list[tuple[int, ...]] = []

    def values_of_the_second_head(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        seen.extend(tuple(x.shape) for x in (query, key, value))
        kept = torch.zeros_like(value)
        kept[:, 1] = value[:, 1]
        return kept

    module = MultiHead(12, 3, values_of_the_second_head)
    tokens = torch.randn(2, 5, 12)
    values = tokens @ module.to_qkv.weight[24:].T + module.to_qkv.bias[24:]
    expected = values[..., 4:8] @ module.to_out.weight[:, 4:8].T + module.to_out.bias
    torch.testing.assert_close(module(tokens), expected)
    assert seen == [(2, 3, 5, 4)] * 3


def test_the_encoder_layer_is_post_norm_like_torchs_own() -> None:
    ours = PostNormLayer(MultiHead(96, 3), 96, 4, 0.0).double()
    theirs = nn.TransformerEncoderLayer(
        96, 3, 384, dropout=0.0, activation="gelu", batch_first=True, norm_first=False
    ).double()
    names = {
        "self_attn.in_proj_": "attention.to_qkv.",
        "self_attn.out_proj.": "attention.to_out.",
        "linear1.": "mlp.0.",
        "linear2.": "mlp.3.",
        "norm1.": "norm_attention.",
        "norm2.": "norm_mlp.",
    }
    state = ours.state_dict()
    theirs.load_state_dict(
        {
            their + kind: state[our + kind]
            for their, our in names.items()
            for kind in ("weight", "bias")
        }
    )
    tokens = torch.randn(2, 17, 96, dtype=torch.float64)
    torch.testing.assert_close(ours(tokens), theirs(tokens))


def test_the_encoder_is_layers_of_their_own_weights_and_a_last_norm() -> None:
    encoder = post_norm_encoder(24, 3, 2, mlp_ratio=2, dropout=0.0)
    tokens = torch.randn(2, 7, 24)
    expected = tokens
    for layer in list(encoder)[:3]:
        expected = layer(expected)
    torch.testing.assert_close(encoder(tokens), F.layer_norm(expected, (24,)))
    per_layer = (3 * 24 + 24) * 24 + 4 * 24 + 2 * 48 * 24 + 48 + 24 + 4 * 24
    assert sum(p.numel() for p in encoder.parameters()) == 3 * per_layer + 2 * 24
    with pytest.raises(ValueError, match="depth is 0; it must be at least 1"):
        post_norm_encoder(24, 0, 2, mlp_ratio=2, dropout=0.0)
    with pytest.raises(ValueError, match="dim 24 is not a multiple of heads 5"):
        post_norm_encoder(24, 1, 5, mlp_ratio=2, dropout=0.0)


def test_the_embedding_is_a_convolution_over_a_sample_and_its_neighbours() -> None:
    embed = conv_embedding(3, 8, "circular")
    [weight] = embed.parameters()
    current = torch.randn(2, 9, 3)
    around = [current.roll(shift, 1) for shift in (1, 0, -1)]  # before, here, after
    expected = torch.stack([part @ weight[:, :, k].T for k, part in enumerate(around)]).sum(0)
    torch.testing.assert_close(embed(current), expected)


def test_circular_padding_shows_the_last_sample_to_the_first_and_replicate_does_not() -> None:
    current = torch.randn(1, 9, 3)
    changed = current.clone()
    changed[:, -1] += 1
    for padding, seen in (("circular", True), ("replicate", False)):
        embed = conv_embedding(3, 8, padding)  # type: ignore[arg-type]
        before, after = embed(current), embed(changed)
        assert torch.equal(before[:, 0], after[:, 0]) is not seen
        assert torch.equal(before[:, 1:-2], after[:, 1:-2])
        assert not torch.equal(before[:, -2:], after[:, -2:])


@pytest.mark.parametrize("dim", [7, 96])
def test_positions_are_sines_and_cosines_of_geometric_wavelengths(dim: int) -> None:
    for at, column in ((0, 0), (3, 1), (11, 4), (239, dim - 1)):
        wave = math.cos if column % 2 else math.sin
        expected = wave(at / 10000 ** ((column - column % 2) / dim))
        assert float(sinusoids(240, dim)[at, column]) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("mean_pool", [False, True])
def test_the_head_is_gelu_then_one_linear_map_of_all_tokens_or_of_their_mean(
    mean_pool: bool,
) -> None:
    head = series_head(5, 8, 2, mean_pool=mean_pool, dropout=0.5).eval()
    linear = head[-1]
    assert isinstance(linear, nn.Linear)
    tokens = torch.randn(3, 5, 8)
    active = F.gelu(tokens)
    pooled = active.mean(1) if mean_pool else active.reshape(3, 40)
    torch.testing.assert_close(head(tokens), pooled @ linear.weight.T + linear.bias)
    if mean_pool:
        assert head(torch.randn(3, 9, 8)).shape == (3, 2)


@pytest.mark.parametrize(
    ("fed", "any_from", "message"),
    [
        (Batch(None, None, torch.zeros(2)), None, "toy reads current, and the batch has none"),
        (batch(24, channels=2), None, "2 channels of current; this toy reads 3"),
        (batch(23), None, "23 samples of current; this toy reads 24. Build it for that length"),
        (batch(4), 5, "4 samples of current; this toy needs at least 5"),
    ],
)
def test_a_current_that_the_model_was_not_built_for_is_refused(
    fed: Batch, any_from: int | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        given_current(fed, model="toy", channels=3, samples=24, any_from=any_from)
    problem = Problem(modality=Modality.CURRENT, current_samples=24)
    with pytest.raises(ValueError, match=message):
        current_reader(problem, "toy", any_from=any_from)(fed)


@pytest.mark.parametrize(("samples", "any_from"), [(24, None), (24, 5), (5, 5), (99, 5)])
def test_a_current_that_the_model_was_built_for_is_handed_over_as_it_is(
    samples: int, any_from: int | None
) -> None:
    fed = batch(samples)
    built: dict[str, Any] = {"model": "toy", "channels": 3, "samples": 24, "any_from": any_from}
    assert given_current(fed, **built) is fed.current


def test_sinusoids_are_made_on_the_device_that_needs_them() -> None:
    """No copy from the CPU: a CUDA graph refuses one."""
    made = sinusoids(240, 96, device=torch.device("meta"))
    assert (made.device.type, made.shape) == ("meta", (240, 96))

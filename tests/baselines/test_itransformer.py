"""iTransformer: phases are tokens, so their order matters to the head alone."""

from __future__ import annotations

import pytest
import torch
from einops import rearrange
from torch import Tensor, nn

from current_windows import batch, problem
from fmbench.types import Batch
from fmbench_baselines.itransformer import ITransformer

ORDERS = [[0, 2, 1], [1, 2, 0], [2, 1, 0]]


def encoded(model: ITransformer, fed: Batch) -> Tensor:
    """What the encoder hands to the head: (B, C, D)."""
    seen: list[Tensor] = []
    hook = model.head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model(fed)
    hook.remove()
    return seen[0]


def turned(fed: Batch, order: list[int]) -> Batch:
    assert fed.current is not None
    return fed._replace(current=fed.current[:, :, order])


def test_a_token_is_one_linear_map_of_a_phases_whole_series() -> None:
    model = ITransformer(problem()).eval()
    current = batch(2).current
    assert current is not None
    linear = model.embed[1]
    assert isinstance(linear, nn.Linear)
    tokens = model.embed(current)
    assert tokens.shape == (2, 3, 96)
    for phase in range(3):
        expected = current[:, :, phase] @ linear.weight.T + linear.bias
        torch.testing.assert_close(tokens[:, phase], expected)


def test_nothing_is_added_to_the_tokens() -> None:
    model = ITransformer(problem()).eval()
    seen: list[Tensor] = []
    model.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model(batch(2))
    assert torch.equal(seen[0], model.embed(batch(2).current))


def test_attention_is_torchs_between_the_phases() -> None:
    model = ITransformer(problem()).double().eval()
    tokens: list[Tensor] = []
    attention = model.encoder[0].attention
    attention.register_forward_hook(lambda _, inputs, out: tokens.extend((inputs[0], out)))
    model(batch(2)._replace(current=batch(2).current.double()))  # type: ignore[union-attr]
    theirs = nn.MultiheadAttention(96, 3, batch_first=True).double()
    theirs.in_proj_weight.data.copy_(attention.to_qkv.weight.data)
    theirs.in_proj_bias.data.copy_(attention.to_qkv.bias.data)
    theirs.out_proj.load_state_dict(attention.to_out.state_dict())
    expected, weights = theirs(tokens[0], tokens[0], tokens[0], average_attn_weights=False)
    torch.testing.assert_close(tokens[1], expected)
    assert weights.shape == (2, 3, 3, 3)  # B, heads, phases, phases


@pytest.mark.parametrize("order", ORDERS)
def test_the_encoder_is_equivariant_to_the_order_of_the_phases(order: list[int]) -> None:
    model = ITransformer(problem()).eval()
    expected = encoded(model, batch(4))[:, order]
    torch.testing.assert_close(
        encoded(model, turned(batch(4), order)), expected, atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize("order", ORDERS)
def test_with_mean_pool_the_order_of_the_phases_does_not_matter(order: list[int]) -> None:
    model = ITransformer(problem(), mean_pool=True).eval()
    expected = model(batch(4)).logits
    torch.testing.assert_close(model(turned(batch(4), order)).logits, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("order", ORDERS)
def test_the_flat_head_tells_phases_apart_unless_its_columns_are_turned_alike(
    order: list[int],
) -> None:
    torch.manual_seed(0)
    model = ITransformer(problem()).eval()
    expected, fed = model(batch(4)).logits, turned(batch(4), order)
    assert not torch.allclose(model(fed).logits, expected, atol=1e-2)
    head = model.head[-1]
    assert isinstance(head, nn.Linear)
    blocks = rearrange(head.weight.data, "k (c d) -> k c d", c=3)
    head.weight.data = rearrange(blocks[:, order], "k c d -> k (c d)")
    torch.testing.assert_close(model(fed).logits, expected, atol=1e-5, rtol=0)


def test_the_order_of_the_samples_matters_unless_the_embeddings_columns_are_turned_alike() -> None:
    torch.manual_seed(0)
    model = ITransformer(problem(), mean_pool=True).eval()
    order = torch.randperm(240)
    expected, current = model(batch(4)).logits, batch(4).current
    assert current is not None
    fed = batch(4)._replace(current=current[:, order])
    assert not torch.allclose(model(fed).logits, expected, atol=1e-2)
    linear = model.embed[1]
    assert isinstance(linear, nn.Linear)
    linear.weight.data = linear.weight.data[:, order]
    torch.testing.assert_close(model(fed).logits, expected, atol=1e-4, rtol=0)

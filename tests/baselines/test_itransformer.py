"""iTransformer: phases are tokens, so their order matters to the head alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from fmbench.types import Batch, Modality, Problem
from fmbench_baselines.itransformer import ITransformer

ORDERS = [[0, 2, 1], [1, 2, 0], [2, 1, 0]]


def problem(**changes: Any) -> Problem:
    return Problem(modality=Modality.CURRENT, **changes)


def batch(size: int, samples: int = 240, channels: int = 3) -> Batch:
    draw = torch.Generator().manual_seed(1)
    current = torch.randn(size, samples, channels, generator=draw)
    return Batch(None, current, torch.arange(size) % 2)


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


def test_default_has_359426_parameters() -> None:
    assert sum(p.numel() for p in ITransformer(problem()).parameters()) == 359_426


def test_every_parameter_learns_but_the_keys_biases_which_softmax_takes_away() -> None:
    model = ITransformer(problem())
    F.cross_entropy(model(batch(4)).logits, batch(4).label).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        grad = parameter.grad.abs()
        if name.endswith("to_qkv.bias"):
            assert float(grad[96:192].max()) < 1e-6
            grad = torch.cat([grad[:96], grad[192:]])
        assert float(grad.max()) > 1e-7, name


def test_the_level_of_the_current_is_kept() -> None:
    torch.manual_seed(0)
    model = ITransformer(problem()).eval()
    current = batch(2).current
    assert current is not None
    expected = model(batch(2)).logits
    mean, std = torch.tensor([9e3, 1e4, 1.1e4]), torch.tensor([400.0, 500.0, 600.0])
    model.standardize.set_statistics(mean, std)
    amperes = batch(2)._replace(current=current * std + mean)
    torch.testing.assert_close(model(amperes).logits, expected, atol=1e-3, rtol=1e-3)
    for other in (2 * (current * std + mean), current * std + mean + 500):
        assert not torch.allclose(
            model(amperes._replace(current=other)).logits, expected, atol=1e-2
        )


@pytest.mark.parametrize("mean_pool", [False, True])
def test_other_sizes_work_in_training_and_evaluation(mean_pool: bool) -> None:
    sizes = problem(current_samples=33, current_channels=2, num_classes=5)
    model = ITransformer(sizes, dim=20, heads=1, mean_pool=mean_pool)
    for mode in (True, False):
        assert model.train(mode)(batch(1, 33, 2)).logits.shape == (1, 5)


@pytest.mark.parametrize("mean_pool", [False, True])
def test_a_series_of_another_length_is_refused(mean_pool: bool) -> None:
    model = ITransformer(problem(), mean_pool=mean_pool)
    with pytest.raises(ValueError, match="120 samples of current; this itransformer reads 240"):
        model(batch(2, 120))

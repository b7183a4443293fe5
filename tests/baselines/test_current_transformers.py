"""What Informer, Flowformer, Flashformer and iTransformer have in common around their attention."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from current_windows import batch, problem
from fmbench.nn import sinusoids
from fmbench.types import Batch
from fmbench_baselines.flashformer import Flashformer
from fmbench_baselines.flowformer import Flowformer
from fmbench_baselines.informer import Informer
from fmbench_baselines.itransformer import ITransformer

every_model = pytest.mark.parametrize("model", [Informer, Flowformer, Flashformer, ITransformer])


@pytest.mark.parametrize(
    ("model", "count", "lengths"),
    [
        (Informer, 403_970, [240, 120, 120, 60, 60, 60]),  # distilling halves the series twice
        (Flowformer, 382_178, [240] * 4),
        (Flashformer, 382_658, [240] * 4),
        (ITransformer, 359_426, [3] * 4),
    ],
)
def test_the_default_has_the_stated_parameters_and_tokens_behind_each_part_of_the_encoder(
    model: Any, count: int, lengths: list[int]
) -> None:
    built = model(problem()).eval()
    assert sum(p.numel() for p in built.parameters()) == count
    seen: list[int] = []
    for part in built.encoder:
        part.register_forward_hook(lambda _, __, out: seen.append(out.shape[1]))
    assert built(batch(2)).logits.shape == (2, 2)
    assert seen == lengths


@pytest.mark.parametrize(
    ("model", "scale"), [(Informer, 1), (Flowformer, math.sqrt(96)), (Flashformer, 1)]
)
def test_the_encoder_sees_the_samples_and_the_positions_once(model: Any, scale: float) -> None:
    built = model(problem()).eval()
    seen: list[Tensor] = []
    built.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    current = batch(2).current
    for fed in (current, torch.zeros(2, 240, 3)):
        built(batch(2)._replace(current=fed))
        torch.testing.assert_close(seen.pop(), built.embed(fed) * scale + sinusoids(240, 96))


@pytest.mark.parametrize("model", [Flashformer, ITransformer])
def test_every_parameter_learns_but_the_keys_biases_which_softmax_takes_away(model: Any) -> None:
    built = model(problem())
    F.cross_entropy(built(batch(4)).logits, batch(4).label).backward()
    for name, parameter in built.named_parameters():
        assert parameter.grad is not None, name
        grad = parameter.grad.abs()
        if name.endswith("to_qkv.bias"):
            assert float(grad[96:192].max()) < 1e-6
            grad = torch.cat([grad[:96], grad[192:]])
        assert float(grad.max()) > 1e-7, name


@every_model
def test_amperes_are_standardised_by_the_training_part_and_their_level_is_kept(model: Any) -> None:
    torch.manual_seed(0)
    built = model(problem()).eval()
    current = batch(2).current
    assert current is not None
    expected = built(batch(2)).logits
    mean, std = torch.tensor([9e3, 1e4, 1.1e4]), torch.tensor([400.0, 500.0, 600.0])
    built.standardize.set_statistics(mean, std)
    amperes = batch(2)._replace(current=current * std + mean)
    torch.testing.assert_close(built(amperes).logits, expected, atol=1e-3, rtol=1e-3)
    for other in (2 * (current * std + mean), current * std + mean + 500):
        shifted = built(amperes._replace(current=other)).logits
        assert not torch.allclose(shifted, expected, atol=1e-2)


@pytest.mark.parametrize(
    ("model", "samples"),
    [
        *((Informer, samples) for samples in (5, 6, 7, 33, 241)),
        *((model, n) for model in (Flowformer, Flashformer, ITransformer) for n in (1, 33, 241)),
    ],
)
@pytest.mark.parametrize("mean_pool", [False, True])
def test_other_sizes_work_in_training_and_evaluation(
    model: Any, samples: int, mean_pool: bool
) -> None:
    sizes = problem(current_samples=samples, current_channels=2, num_classes=5)
    built: nn.Module = model(sizes, dim=20, heads=1, mean_pool=mean_pool)
    for mode in (True, False):
        assert built.train(mode)(batch(1, samples, 2)).logits.shape == (1, 5)


@pytest.mark.parametrize(("model", "least"), [(Informer, 5), (Flowformer, 1), (Flashformer, 1)])
def test_with_mean_pool_a_trained_model_reads_other_lengths(model: Any, least: int) -> None:
    built = model(problem(), mean_pool=True).eval()
    assert built(batch(2, least)).logits.shape == built(batch(2, 300)).logits.shape == (2, 2)
    name = model.__name__.lower()
    message = f"{least - 1} samples of current; this {name} needs at least {least}"
    with pytest.raises(ValueError, match=message):
        built(batch(2, least - 1))


@pytest.mark.parametrize(
    ("model", "mean_pool"),
    [
        (Informer, False),
        (Flowformer, False),
        (Flashformer, False),
        (ITransformer, False),
        (ITransformer, True),
    ],
)
def test_a_batch_that_does_not_fit_is_refused(model: Any, mean_pool: bool) -> None:
    built, name = model(problem(), mean_pool=mean_pool), model.__name__.lower()
    with pytest.raises(ValueError, match=f"120 samples of current; this {name} reads 240"):
        built(batch(2, 120))
    with pytest.raises(ValueError, match=f"1 channels of current; this {name} reads 3"):
        built(batch(2, 240, channels=1))
    with pytest.raises(ValueError, match=f"{name} reads current, and the batch has none"):
        built(Batch(torch.zeros(1, 3, 10, 64, 64), None, torch.zeros(1, dtype=torch.int64)))


@every_model
@pytest.mark.parametrize(
    ("net", "message"),
    [
        ({"heads": 5}, "dim 96 is not a multiple of heads 5"),
        ({"depth": 0}, "depth is 0; it must be at least 1"),
    ],
)
def test_impossible_sizes_are_refused(model: Any, net: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model(problem(), **net)

"""Muon beside AdamW: which parameters each trains, their steps, and trainings that resume."""

from __future__ import annotations

import copy
import io
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from fmbench.config.schema import Config
from fmbench.registry import catalogue, create_model, list_models
from fmbench.training.muon import MuonAdamW, hidden_matrices
from fmbench.training.run import fit
from fmbench.types import Modality, Problem
from test_contract import SMALL
from test_precision import facts, weights
from test_run import config, root

__all__ = ["root"]  # a fixture


def built(name: str) -> nn.Module:
    reads = catalogue()[name].modalities
    modality = Modality.CROSS if Modality.CROSS in reads else next(iter(reads))
    problem = Problem(modality=modality, frames=2, current_samples=60)
    return create_model(name, problem, **SMALL.get(name, {}))


def chosen(model: nn.Module) -> set[str]:
    matrices = hidden_matrices(model)
    return {name for name, parameter in model.named_parameters() if parameter in matrices}


def test_muon_trains_the_matrices_of_attention_and_mlp_in_fmformers_blocks() -> None:
    model = built("fmformer")
    layers = ("attention.to_qkv", "attention.to_out", "mlp.1", "mlp.4")
    assert chosen(model) == {
        f"{part}_blocks.{k}.{layer}.weight"
        for part in ("video", "current")
        for k in range(4)  # 2 · 2: the cross-modal blocks follow those of one modality
        for layer in layers
    }


@pytest.mark.parametrize("name", list_models())
def test_muon_trains_no_embedding_head_or_norm_of_any_model(name: str) -> None:
    model = built(name)
    others = dict(model.named_parameters())
    found = {name: others.pop(name) for name in chosen(model)}
    assert all(p.ndim == 2 for p in found.values())
    assert not [p for p in found.values() if 2 in p.shape]  # the logits of two classes
    assert not [n for n in found if any(word in n for word in ("embed", "head", "pos", "norm"))]
    if "blocks.0" in " ".join(others) or "layer.0" in " ".join(others):
        assert found


def test_attention_of_pytorch_is_chosen_with_its_stacked_projection() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16)
    model = nn.ModuleDict({"layers": nn.ModuleList([layer]), "head": nn.Linear(8, 2)})
    start = "layers.0."
    assert chosen(model) == {
        f"{start}self_attn.in_proj_weight",
        f"{start}self_attn.out_proj.weight",
        f"{start}linear1.weight",
        f"{start}linear2.weight",
    }


def net() -> nn.Sequential:
    torch.manual_seed(0)
    block = nn.ModuleDict({"a": nn.Linear(6, 12), "b": nn.Linear(12, 6)})
    return nn.Sequential(nn.Linear(3, 6), block, nn.Linear(6, 2))


def optimizer_of(model: nn.Sequential, fused: bool | None = None) -> MuonAdamW:
    """The last layer in a group with a rate and betas of its own, with the second matrix."""
    last = [*model[2].parameters(), model[1]["b"].weight]
    first = [p for p in model.parameters() if not any(p is q for q in last)]
    groups = [{"params": first}, {"params": last, "lr": 1e-2, "betas": (0.5, 0.9)}]
    matrices = hidden_matrices(model)
    assert len(matrices) == 2
    return MuonAdamW(groups, matrices, lr=1e-3, weight_decay=0.1, fused=fused)


def descend(model: nn.Sequential, optimizers: list[Any], steps: int, seed: int = 0) -> None:
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        x = torch.randn(16, 3, generator=generator)
        h = model[1]["b"](model[1]["a"](model[0](x)).relu())
        model[2](h).square().mean().backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()


def test_each_parameter_takes_the_steps_of_its_own_optimizer() -> None:
    model, other = net(), net()
    both = optimizer_of(model)
    schedule = LambdaLR(both, lambda step: 1 / (1 + step))
    a, b = other[1]["a"], other[1]["b"]
    fixed = {"weight_decay": 0.1, "adjust_lr_fn": "match_rms_adamw"}
    apart: list[Any] = [
        torch.optim.Muon([{"params": [a.weight]}, {"params": [b.weight], "lr": 1e-2}], **fixed),
        AdamW(
            [
                {"params": [*other[0].parameters(), a.bias, b.bias]},
                {"params": other[2].parameters(), "lr": 1e-2, "betas": (0.5, 0.9)},
            ],
            weight_decay=0.1,
        ),
    ]
    schedules = [LambdaLR(each, lambda step: 1 / (1 + step)) for each in apart]
    for seed in range(4):
        descend(model, [both], 1, seed)
        descend(other, apart, 1, seed)
        for each in (schedule, *schedules):
            each.step()
    before = net().state_dict()
    for name, value in model.state_dict().items():
        assert torch.equal(value, other.state_dict()[name])
        assert not torch.equal(value, before[name])


@pytest.mark.parametrize("fused", [None, True])
def test_an_optimizer_that_is_loaded_goes_on_to_the_same_bits(fused: bool | None) -> None:
    whole = net()
    optimizer = optimizer_of(whole, fused)
    descend(whole, [optimizer], 3)
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    resumed = copy.deepcopy(whole)
    descend(whole, [optimizer], 3, seed=1)
    again = optimizer_of(resumed, fused)
    file.seek(0)
    again.load_state_dict(torch.load(file, weights_only=True))
    descend(resumed, [again], 3, seed=1)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name])


def with_muon(root: Path, epochs: int = 2, **trainer: Any) -> Config:
    plain = config(root, epochs=epochs)
    clipped = {**plain.trainer, "gradient_clip_val": 0.5, **trainer}
    optim = {"lr": 1e-3, "schedule": "constant", "name": "muon", "fused": True}
    return replace(plain, optim=optim, trainer=clipped)


def test_a_resumed_training_ends_with_the_weights_of_an_unbroken_one(
    root: Path, tmp_path: Path
) -> None:
    last = Path("checkpoints") / "last.ckpt"
    fit(with_muon(root), run=tmp_path / "whole")
    fit(with_muon(root, epochs=1), run=tmp_path / "broken")
    fit(with_muon(root), run=tmp_path / "broken", resume="auto")
    whole, broken = weights(tmp_path / "whole" / last), weights(tmp_path / "broken" / last)
    assert all(torch.equal(whole[name], broken[name]) for name in whole)
    fit(replace(with_muon(root), optim={"lr": 1e-3}), run=tmp_path / "adamw")
    assert any((whole[n] != v).any() for n, v in weights(tmp_path / "adamw" / last).items())


def test_muon_trains_in_bfloat16(root: Path, tmp_path: Path) -> None:
    fit(with_muon(root, epochs=1, precision="bf16-mixed"), run=tmp_path)
    assert math.isfinite(facts(tmp_path)["metrics"]["loss"])


def test_muon_is_refused_where_it_would_train_nothing_or_is_missing(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without = replace(with_muon(root), model="3dcrnn", net={}, modality="visual")
    with pytest.raises(ValueError, match=r"optim.name muon .* this model has none; set optim.name"):
        fit(without, run=tmp_path)
    monkeypatch.delattr(torch.optim, "Muon")
    with pytest.raises(ValueError, match=r"optim.name muon needs PyTorch 2.9 or later; this is"):
        fit(with_muon(root), run=tmp_path)
    assert not [*tmp_path.iterdir()]

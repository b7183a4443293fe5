"""FmFormer as the paper prints it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from fmbench.models import FmFormer
from fmbench.nn.attention import split_heads
from fmbench.types import Batch, Modality, Problem

SMALL = {"dim": 24, "depth": 2, "heads": 3}


def problem(modality: str, **changes: object) -> Problem:
    sizes = {"frames": 4, "image_size": (32, 32), "current_samples": 20}
    dense = modality != "current"
    return Problem(modality=Modality(modality), **{"dense": dense, **sizes, **changes})  # type: ignore[arg-type]


def batch(p: Problem, size: int = 3, seed: int = 0) -> Batch:
    draw = torch.Generator().manual_seed(seed)
    video = torch.randint(
        0, 256, (size, 3, p.frames, *p.image_size), dtype=torch.uint8, generator=draw
    )
    current = 9000 + 900 * torch.randn(size, p.current_samples, 3, generator=draw)
    return Batch(
        video if p.modality.has_video else None,
        current if p.modality.has_current else None,
        torch.randint(0, 2, (size,), generator=draw),
        torch.randint(0, 2, (size, *p.image_size), generator=draw) if p.dense else None,
    )


def count(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    ("modality", "parameters"),
    [("cross", 3_292_774), ("visual", 1_920_932), ("current", 1_371_842)],
)
def test_parameter_counts_at_the_papers_size(modality: str, parameters: int) -> None:
    paper = Problem(modality=Modality(modality), dense=modality != "current")
    assert count(FmFormer(paper)) == parameters


@pytest.mark.parametrize("interaction", ["sa_ca", "sa_sa", "ca_ca"])
def test_table5_interactions_have_equal_parameter_counts(interaction: str) -> None:
    paper = Problem(modality=Modality.CROSS, dense=True)
    assert count(FmFormer(paper, interaction=interaction)) == 3_292_774  # type: ignore[arg-type]


def test_eq1_class_dilated_standard_tokens_in_this_order() -> None:
    tokens = FmFormer(problem("visual"), **SMALL).video_tokens  # type: ignore[arg-type]
    torch.nn.init.zeros_(tokens.positions.table)
    video = torch.randint(0, 256, (1, 3, 4, 32, 32), dtype=torch.uint8)
    out, grids = tokens(video)
    assert grids == [(2, 2, 2), (2, 4, 4)]
    torch.testing.assert_close(out[:, 0], tokens.cls[:, 0])
    scaled = video.float() / 255

    def patch(top: int, left: int, step: int) -> torch.Tensor:
        rows = scaled[0, :, :2, top : top + 8 * step : step, left : left + 8 * step : step]
        return tokens.embed(rows.permute(2, 3, 1, 0).reshape(-1))  # type: ignore[no-any-return]

    torch.testing.assert_close(out[0, 2], patch(0, 16, 2))  # dilated, second column
    torch.testing.assert_close(out[0, 9 + 1], patch(0, 8, 1))  # standard, second column


def test_eq2_every_sample_of_current_is_a_token() -> None:
    tokens = FmFormer(problem("current"), **SMALL).current_tokens  # type: ignore[arg-type]
    current = torch.randn(2, 20, 3)
    expected = current @ tokens.embed.weight.T + tokens.positions.table[:, 1:]
    torch.testing.assert_close(tokens(current)[:, 1:], expected)


def test_eq12_logits_are_the_sum_over_both_class_tokens() -> None:
    p = problem("cross")
    model = FmFormer(p, **SMALL).eval()  # type: ignore[arg-type]
    data = batch(p)
    video, _ = model.video_tokens(data.video)
    video, current = model.encode(video, model.current_tokens(data.current))
    expected = model.video_head(video[:, 0]) + model.current_head(current[:, 0])
    torch.testing.assert_close(model(data).logits, expected)


@pytest.mark.parametrize("interaction", ["sa_sa", "sa_ca", "ca_ca"])
def test_only_cross_attention_lets_current_reach_the_mask(interaction: str) -> None:
    p = problem("cross")
    model = FmFormer(p, interaction=interaction, **SMALL).eval()  # type: ignore[arg-type]
    data = batch(p)
    other = data._replace(current=batch(p, seed=1).current)
    same = torch.equal(model(data).mask_logits, model(other).mask_logits)
    assert same == (interaction == "sa_sa")
    assert not torch.equal(model(data).logits, model(other).logits)


def test_without_fusion_the_class_is_the_video_tokens_alone() -> None:
    p = problem("cross")
    model = FmFormer(p, fusion="video_only", **SMALL).eval()  # type: ignore[arg-type]
    data = batch(p)
    video, _ = model.video_tokens(data.video)
    video, _ = model.encode(video, model.current_tokens(data.current))
    torch.testing.assert_close(model(data).logits, model.video_head(video[:, 0]))


def test_without_dilated_tokens_the_head_has_no_second_scale() -> None:
    p = problem("visual")
    model = FmFormer(p, dilated=False, **SMALL)  # type: ignore[arg-type]
    assert not hasattr(model.dense_head, "merge_dilated")
    assert model(batch(p)).mask_logits.shape == (3, 2, 32, 32)


@pytest.mark.parametrize("frames", [6, 10, 20])
@pytest.mark.parametrize("samples", [60, 240, 440])
def test_a_trained_model_runs_at_other_lengths(frames: int, samples: int) -> None:
    model = FmFormer(problem("cross", frames=10, current_samples=240), **SMALL).eval()  # type: ignore[arg-type]
    prediction = model(batch(problem("cross", frames=frames, current_samples=samples), size=1))
    assert prediction.logits.shape == (1, 2)
    assert prediction.mask_logits.shape == (1, 2, 32, 32)
    assert torch.isfinite(prediction.mask_logits).all()


def test_a_trained_model_runs_at_another_image_size() -> None:
    model = FmFormer(problem("visual"), **SMALL).eval()  # type: ignore[arg-type]
    prediction = model(batch(problem("visual", image_size=(48, 64))))
    assert prediction.mask_logits.shape == (3, 2, 48, 64)


def test_image_whose_scales_do_not_nest_still_gets_a_full_mask() -> None:
    p = problem("visual", image_size=(40, 56))
    assert FmFormer(p, **SMALL)(batch(p)).mask_logits.shape == (3, 2, 40, 56)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("modality", "net", "message"),
    [
        ("visual", {"interaction": "sa_ca"}, "interaction and fusion join two modalities"),
        ("current", {"fusion": "sum"}, "interaction and fusion join two modalities"),
        ("current", {"dilated": False}, "dilated concerns video tokens"),
        ("cross", {"interaction": "sa_sa", "fusion": "video_only"}, "the current has no effect"),
    ],
)
def test_a_switch_without_effect_is_refused(
    modality: str, net: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        FmFormer(problem(modality), **net)  # type: ignore[arg-type]


def test_a_missing_modality_is_named() -> None:
    p = problem("cross")
    with pytest.raises(ValueError, match="reads current, and the batch has none"):
        FmFormer(p, **SMALL)(batch(p)._replace(current=None))  # type: ignore[arg-type]


@pytest.mark.parametrize("interaction", ["sa_ca", "ca_ca"])
def test_without_fusion_no_parameter_in_training_is_left_without_gradient(interaction: str) -> None:
    p = problem("cross")
    model = FmFormer(p, fusion="video_only", interaction=interaction, **SMALL)  # type: ignore[arg-type]
    prediction = model(batch(p))
    assert prediction.mask_logits is not None
    (prediction.logits.sum() + prediction.mask_logits.sum()).backward()
    assert not [n for n, x in model.named_parameters() if x.requires_grad and x.grad is None]


@pytest.mark.parametrize("modality", ["cross", "current"])
def test_nothing_is_computed_that_no_head_reads(modality: str) -> None:
    """Of the last sub-layer, only class tokens go on: two thirds of a block, but for their keys."""
    p = problem(modality, dense=False)
    model, given = FmFormer(p, **SMALL).eval(), batch(p)
    with FlopCounterMode(display=False) as trimmed:
        short = model(given).logits
    tokens = {"current": 21, "cross": 21 + 2 * (16 + 4) + 1}[modality]
    spared = 2 * 3 * (tokens - (1 + p.modality.has_video)) * 24 * 24 * (1 + 1 + 8)  # q, out, MLP
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "fmbench.nn.attention.Attention.qkv",
            lambda self, tokens, rows=None: split_heads(
                self.to_qkv(self.norm(tokens)), 3, self.heads
            ),
        )
        with FlopCounterMode(display=False) as whole:
            full = model(given).logits
    torch.testing.assert_close(short, full)
    assert whole.get_total_flops() - trimmed.get_total_flops() >= spared  # and attention


@pytest.mark.parametrize("modality", ["cross", "visual", "current"])
def test_checkpointing_changes_no_bit_of_loss_and_gradients(modality: str) -> None:
    p = problem(modality)
    found = []
    for checkpoint in (False, True):
        torch.manual_seed(0)
        model = FmFormer(p, dropout=0.1, checkpoint=checkpoint, **SMALL)  # type: ignore[arg-type]
        prediction = model(batch(p))
        loss = prediction.logits.square().sum()
        if prediction.mask_logits is not None:
            loss = loss + prediction.mask_logits.square().mean()
        loss.backward()
        found.append([loss.detach(), *(x.grad for x in model.parameters())])
    for plain, again in zip(*found, strict=True):
        assert torch.equal(plain, again)


GROWTH = """
import sys
import torch
from fmbench.models import FmFormer
from fmbench.speed.timing import forget, highest
from test_fmformer import batch, problem
p, cpu = problem("cross", frames=8, image_size=(64, 64), current_samples=240), torch.device("cpu")
model = FmFormer(p, checkpoint=sys.argv[1] == "True")
model(batch(p, size=1)).logits.sum().backward()  # what libraries and gradients take, once
given = batch(p, size=16)
forget(cpu)
before = highest(cpu)
model(given).logits.sum().backward()
print(highest(cpu) - before)
"""


@pytest.mark.slow
@pytest.mark.full
def test_checkpointing_takes_less_than_half_the_memory_of_training() -> None:
    grown = []
    for checkpoint in (True, False):  # a process each, for one keeps what it once had
        words = [sys.executable, "-c", GROWTH, str(checkpoint)]
        path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
        done = subprocess.run(
            words, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        grown.append(int(done.stdout))
    assert 0 < grown[0] < 0.5 * grown[1]

"""BiLM against transformers' own language model, loops, and its promise of what is frozen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import DebertaV2ForMaskedLM

from fmbench.objective import Loss
from fmbench.stages import Learn, learnt_in
from fmbench.training.lit import parameter_groups
from fmbench.types import Batch, Modality, Problem
from fmbench_baselines.bilm import (
    CLS,
    FIRST_ANSWER,
    MASK,
    REACH,
    Adapted,
    BiLM,
    language_config,
    load_language,
    without_adapters,
)

SMALL: dict[str, Any] = {
    "dim": 24,
    "depth": 2,
    "heads": 3,
    "levels": 8,
    "vision_dim": 12,
    "vision_depth": 2,
}


def problem(**changes: Any) -> Problem:
    sizes = {"dense": True, "frames": 3, "image_size": (16, 24), "current_samples": 12}
    return Problem(modality=Modality.CROSS, **sizes | changes)


def batch(size: int = 4, of: Problem | None = None) -> Batch:
    of = of or problem()
    draw = torch.Generator().manual_seed(1)
    shape = (size, 3, of.frames, *of.image_size)
    video = torch.randint(256, shape, dtype=torch.uint8, generator=draw)
    current = torch.randn(size, of.current_samples, of.current_channels, generator=draw)
    mask = torch.zeros(size, *of.image_size, dtype=torch.uint8)
    mask[1::2, :4, :4] = 1
    return Batch(video, current, torch.arange(size) % 2, mask)


def small(of: Problem | None = None, **net: Any) -> BiLM:
    torch.manual_seed(0)
    return BiLM(of or problem(), **SMALL | net)


def train(model: BiLM, stage: Learn, rows: Batch, steps: int) -> None:
    """As a fit does it: freeze what the stage does not name, then descend."""
    model.train()
    learnt = learnt_in(stage)
    for parameter in model.parameters():
        parameter.requires_grad_(parameter in learnt)
    (turn,) = stage.turns
    optimizer = torch.optim.AdamW(parameter_groups(turn, 5e-3))
    for _ in range(steps):
        terms = turn.losses(rows) if turn.losses else Loss().terms(model(rows), rows)
        optimizer.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        optimizer.step()


def pretrained(of: Problem | None = None, **net: Any) -> BiLM:
    """Through the stages before the last, two steps each."""
    model = small(of, **net)
    for stage in model.stages()[:-1]:
        assert isinstance(stage, Learn)
        train(model, stage, batch(of=of), 2)
    return model


def learnt_names(model: BiLM, stage: int) -> set[str]:
    learnt = learnt_in(model.stages()[stage])
    return {name for name, parameter in model.named_parameters() if parameter in learnt}


def language_state(model: BiLM) -> dict[str, Tensor]:
    """The language model's tensors under the names of one without adapters."""
    state = model.language.state_dict()
    plain = {k: v for k, v in state.items() if ".dense.up." not in k and ".dense.down." not in k}
    return {key.replace(".dense.dense.", ".dense."): value for key, value in plain.items()}


def plain_language(model: BiLM) -> DebertaV2ForMaskedLM:
    """transformers' own model with the same weights and no adapters."""
    plain = DebertaV2ForMaskedLM(model.language.config).eval()
    plain.load_state_dict(language_state(model))
    return plain


def tokens(size: int = 2, length: int = 20, dim: int = 24) -> Tensor:
    return torch.randn(size, length, dim, generator=torch.Generator().manual_seed(2))


def test_the_last_stage_trains_projection_adapters_layer_norms_and_dense_head_and_no_more() -> None:
    model = small()
    inside = {"project.weight", "frame_bias"}
    layers = "language.deberta.encoder"
    for layer in range(2):
        for branch in ("attention.output", "output"):
            place = f"{layers}.layer.{layer}.{branch}"
            inside |= {f"{place}.dense.{part}.{kind}" for part in ("down", "up") for kind in KINDS}
            inside |= {f"{place}.LayerNorm.{kind}" for kind in KINDS}
    for norm in (f"{layers}.LayerNorm", f"{layers}.conv.LayerNorm"):
        inside |= {f"{norm}.{kind}" for kind in KINDS}
    inside |= {f"language.deberta.embeddings.LayerNorm.{kind}" for kind in KINDS}
    inside |= {f"language.lm_predictions.lm_head.LayerNorm.{kind}" for kind in KINDS}
    head = {name for name, _ in model.named_parameters() if name.startswith("dense_head.")}
    assert head
    assert learnt_names(model, -1) == inside | head


KINDS = ("weight", "bias")


def test_pretraining_stages_train_the_encoder_with_its_head_and_the_language_without_adapters() -> (
    None
):
    model = small()
    assert [stage.name for stage in model.stages()] == ["vision", "language", "adapt"]
    names = {name for name, _ in model.named_parameters()}
    assert learnt_names(model, 0) == {n for n in names if n.startswith(("vision.", "vision_head."))}
    adapters = {n for n in names if ".dense.up." in n or ".dense.down." in n}
    assert len(adapters) == 2 * 2 * 4
    assert learnt_names(model, 1) == {n for n in names if n.startswith("language.")} - adapters


def test_frozen_tensors_are_bit_identical_after_five_steps_and_have_no_gradient() -> None:
    model = pretrained()
    names = learnt_names(model, -1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.zero_grad()  # to None: of pretraining there is some left
    last = model.stages()[-1]
    assert isinstance(last, Learn)
    train(model, last, batch(), 5)
    for name, parameter in model.named_parameters():
        if name in names:
            assert not torch.equal(parameter, before[name]), name
            assert parameter.grad is not None, name
        else:
            assert torch.equal(parameter, before[name]), name
            assert parameter.grad is None, name
    moving = {name for name, _ in model.named_buffers() if name.startswith("dense_head.")}
    for name, buffer in model.named_buffers():
        assert name in moving or torch.equal(buffer, before.get(name, buffer)), name


def test_adapters_start_nearly_as_the_identity_and_without_them_it_is_the_plain_model() -> None:
    torch.manual_seed(0)
    model = BiLM(problem(), dim=96, depth=2, heads=3).eval()
    x = tokens(dim=96)
    with torch.no_grad():
        plain = plain_language(model).deberta(inputs_embeds=x).last_hidden_state
        adapted = model.language.deberta(inputs_embeds=x).last_hidden_state
        with without_adapters(model.language):
            again = model.language.deberta(inputs_embeds=x).last_hidden_state
            torch.testing.assert_close(again, plain)
        assert torch.equal(model.language.deberta(inputs_embeds=x).last_hidden_state, adapted)
        assert 0 < (adapted - plain).norm() / plain.norm() < 5e-3
    for adapter in (m for m in model.modules() if isinstance(m, Adapted)):
        weights = torch.cat([p.flatten() for p in (*adapter.down.parameters(), adapter.up.weight)])
        assert weights.abs().max() <= 2e-3  # clipped at two deviations
        assert float(weights.detach().std()) == pytest.approx(0.95e-3, rel=0.1)


@pytest.mark.parametrize("branch", ["attention.output", "output"])
def test_adapters_stand_between_a_branchs_map_and_its_residual_sum(branch: str) -> None:
    model = small().eval()
    output = model.language.deberta.encoder.layer[1].get_submodule(branch)
    for parameter in output.parameters():
        nn.init.normal_(parameter)
    adapter = output.dense
    assert adapter.down.out_features == 24 // 8
    inner = torch.randn(2, 5, adapter.dense.in_features)
    residual = torch.randn(2, 5, 24)
    h = inner @ adapter.dense.weight.T + adapter.dense.bias
    narrow = (h @ adapter.down.weight.T + adapter.down.bias).clamp(min=0)
    h = h + narrow @ adapter.up.weight.T + adapter.up.bias + residual
    centred = h - h.mean(-1, keepdim=True)
    expected = centred / (centred.square().mean(-1, keepdim=True) + 1e-7).sqrt()
    expected = expected * output.LayerNorm.weight + output.LayerNorm.bias
    torch.testing.assert_close(output(inner, residual), expected, atol=1e-5, rtol=1e-4)


def test_a_later_token_changes_what_comes_of_earlier_ones() -> None:
    model = pretrained().eval()
    seen: list[Tensor] = []
    model.language.deberta.register_forward_hook(
        lambda _, __, out: seen.append(out.last_hidden_state)
    )
    rows = batch(1)
    assert rows.current is not None
    current = rows.current.clone()
    current[:, -1] += 1
    model(rows), model(rows._replace(current=current))
    changed = (seen[0] != seen[1]).any(-1)[0]
    assert changed.all()  # visual tokens, [CLS], the samples, [MASK]


def test_the_class_is_read_at_mask_by_the_frozen_head_and_the_answers_embeddings() -> None:
    model = pretrained().eval()
    seen: list[Tensor] = []
    model.language.deberta.register_forward_hook(
        lambda _, __, out: seen.append(out.last_hidden_state)
    )
    logits = model(batch()).logits
    head = model.language.lm_predictions.lm_head
    h = F.gelu(seen[0][:, -1] @ head.dense.weight.T + head.dense.bias)
    h = F.layer_norm(h, (24,), head.LayerNorm.weight, head.LayerNorm.bias, head.LayerNorm.eps)
    answers = model.words[FIRST_ANSWER : FIRST_ANSWER + 2]
    expected = h @ answers.T + head.bias[FIRST_ANSWER : FIRST_ANSWER + 2]
    torch.testing.assert_close(logits, expected)
    assert not learnt_in(model.stages()[-1]) & {model.words, head.bias, head.dense.weight}


def test_the_sequence_is_visual_tokens_cls_samples_mask() -> None:
    model = pretrained().eval()
    seen: list[Tensor] = []
    model.language.deberta.embeddings.register_forward_pre_hook(
        lambda _, __, kwargs: seen.append(kwargs["inputs_embeds"]), with_kwargs=True
    )
    model(batch(1))
    (sequence,) = seen[0]
    assert len(sequence) == 3 * 2 * 3 + 1 + 12 + 1
    assert torch.equal(sequence[18], model.words[CLS])
    assert torch.equal(sequence[-1], model.words[MASK])
    video = batch(1).video
    assert video is not None
    frame = model.standardize_video(video)[:, :, 1]
    patches = model.vision.forward_features(frame)[0, 1:]  # behind the class token
    projected = patches @ model.project.weight.T + model.frame_bias[1, 0, 0]
    torch.testing.assert_close(sequence[6:12], projected)


def test_frame_tokens_are_one_a_frame_and_none_is_averaged_away() -> None:
    sizes = problem(dense=False)
    model = pretrained(sizes, visual_tokens="frame").double().eval()
    lengths: list[int] = []
    model.language.deberta.register_forward_hook(
        lambda _, __, out: lengths.append(out.last_hidden_state.shape[1])
    )
    rows = batch()
    assert rows.video is not None
    prediction = model(rows)
    assert lengths == [3 + 1 + 12 + 1]
    assert prediction.mask_logits is None
    order = rows._replace(video=rows.video.flip(2))
    assert not torch.allclose(model(order).logits, prediction.logits, rtol=1e-9, atol=1e-9)


def test_a_value_is_its_levels_word_or_lies_between_two() -> None:
    model = small()
    step = 2 * REACH / 7
    current = torch.zeros(1, 12, 3)
    current[0, :4, 0] = torch.tensor([-REACH, -REACH + 2 * step, -REACH + 2.25 * step, 99.0])
    current[0, :4, 1:] = -REACH
    place = model.places(current)
    torch.testing.assert_close(place[0, :4, 0], torch.tensor([0.0, 2, 2.25, 7]))
    first, second, third = model.words[4:].split(8)
    got = model.sentence(place)[0]
    rest = second[0] + third[0]
    torch.testing.assert_close(got[1], first[0] + rest)
    torch.testing.assert_close(got[2], first[2] + rest)
    torch.testing.assert_close(got[3], 0.75 * first[2] + 0.25 * first[3] + rest)
    torch.testing.assert_close(got[4], first[7] + rest)
    assert torch.equal(got[-1], model.words[MASK])


def test_masked_modelling_is_the_mean_cross_entropy_of_the_masked_words_and_of_all_labels() -> None:
    model = small()
    rows = batch(8)
    torch.manual_seed(0)
    with torch.no_grad():
        found = {name: float(loss) for name, loss in model.language_losses(rows).items()}
    torch.manual_seed(0)
    masked = torch.rand(8, 12) < 0.15
    assert rows.current is not None
    place = model.places(rows.current)
    sentence = model.sentence(place).detach()
    plain = plain_language(model)
    losses, answers = [], []
    for row in range(8):
        places = [i for i in range(1, 13) if masked[row, i - 1]]
        sentence[row, [*places, 13]] = model.words[MASK]  # the label's word in every sentence
        with torch.no_grad():
            scores = plain(inputs_embeds=sentence[row : row + 1]).logits[0]
        answers.append(float(F.cross_entropy(scores[13, 2:4], rows.label[row])))
        for i in places:
            levels = [round(float(value)) for value in place[row, i - 1]]
            phases = [
                float(F.cross_entropy(scores[i, 4 + 8 * c : 12 + 8 * c], torch.tensor(level)))
                for c, level in enumerate(levels)
            ]
            losses.append(sum(phases) / 3)
    assert found == {
        "words": pytest.approx(sum(losses) / len(losses), rel=1e-4),
        "answer": pytest.approx(sum(answers) / 8, rel=1e-4),
    }


def test_pretraining_reaches_every_word_and_every_position_that_is_frozen_later() -> None:
    model = small()
    for _ in range(20):
        sum(model.language_losses(batch(8)).values()).backward()
    reached = model.words.grad
    assert (reached.abs().sum(1) > 0).all()
    positions = model.language.deberta.encoder.rel_embeddings.weight
    assert len(positions) == 2 * (12 + 1)  # a sentence is 14 words
    assert (positions.grad.abs().sum(1) > 0).all()
    model = pretrained()
    model.zero_grad()
    last = model.stages()[-1]
    assert isinstance(last, Learn)
    positions = model.language.deberta.encoder.rel_embeddings.weight.requires_grad_()
    model(batch()).logits.sum().backward()  # farther tokens find positions within the table
    assert torch.isfinite(positions.grad).all()


@pytest.mark.parametrize("masks", [True, False])
def test_the_encoder_learns_from_the_labels_own_frame_alone(masks: bool) -> None:
    model = small()
    rows = batch() if masks else batch()._replace(mask=None)
    assert rows.video is not None
    loss = model.vision_losses(rows)["patch"]
    earlier = rows.video.clone()
    earlier[:, :, :-1] = 0
    assert torch.equal(model.vision_losses(rows._replace(video=earlier))["patch"], loss)
    last = rows.video.clone()
    last[:, :, -1] = 0
    assert not torch.equal(model.vision_losses(rows._replace(video=last))["patch"], loss)


@torch.no_grad()
def test_every_patch_of_the_frame_is_classified_and_an_abnormal_one_weighs_five_times() -> None:
    model = small()
    rows = batch()
    assert rows.mask is not None
    rows.mask[1, 15, 23] = 1  # one pixel, in the last patch
    frame = model.standardize_video(rows.video)[:, :, -1]
    assert model.vision_head is not None
    logits = model.vision_head(model.vision.forward_features(frame)[:, 1:])  # no class token
    total = weights = 0.0
    abnormal = []
    for row in range(4):
        for y in range(2):
            for x in range(3):
                patch = rows.mask[row, 8 * y : 8 * y + 8, 8 * x : 8 * x + 8]
                kind = int(patch.sum() > 0)
                weight = 5.0 if kind else 1.0
                total -= weight * float(logits[row, 3 * y + x].log_softmax(-1)[kind])
                weights += weight
                abnormal.append(kind)
    assert sum(abnormal) == 3
    found, label = model.seen(rows)
    torch.testing.assert_close(found, logits.flatten(0, 1))
    assert label.tolist() == abnormal
    loss = float(model.vision_losses(rows)["patch"])
    assert loss == pytest.approx(total / weights, rel=1e-4)


def test_without_masks_the_encoder_learns_the_class_of_the_frame() -> None:
    model = small()
    rows = batch()._replace(mask=None)
    frame = model.standardize_video(rows.video)[:, :, -1]
    assert model.vision_head is not None
    logits = model.vision_head(model.vision.forward_features(frame)[:, 1:].mean(1))
    expected = F.cross_entropy(logits, rows.label)
    torch.testing.assert_close(model.vision_losses(rows)["patch"], expected)


@pytest.mark.parametrize("mode", [True, False])
def test_random_frozen_weights_are_refused(mode: bool) -> None:
    model = small().train(mode)
    with pytest.raises(ValueError, match="vision part is frozen, but neither pretrained nor loade"):
        model(batch())
    first, second, _ = model.stages()
    assert isinstance(first, Learn)
    assert isinstance(second, Learn)
    train(model, first, batch(), 1)
    with pytest.raises(
        ValueError, match=r"language part is frozen.*pretrains it in stage language"
    ):
        model.train(mode)(batch())
    train(model, second, batch(), 3)
    model.train(mode)(batch())
    assert model.sources == {
        "vision": "pretrained in stage vision, 1 batches",
        "language": "pretrained in stage language, 3 batches",
    }
    with pytest.raises(ValueError, match="neither pretrained nor loaded"):
        small().eval()(batch())
    other = small().eval()
    other.load_state_dict(model.state_dict())
    assert other.sources == model.sources
    assert torch.equal(other(batch()).logits, model.eval()(batch()).logits)


def test_loaded_parts_skip_their_stage_and_a_checkpoint_needs_their_files_no_more(
    tmp_path: Path,
) -> None:
    donor = pretrained()
    vision, language = str(tmp_path / "vit.safetensors"), str(tmp_path / "language")
    state = {k: v.contiguous() for k, v in donor.vision.state_dict().items()}
    save_file(state | {"head.weight": torch.zeros(5, 12)}, vision)  # with a classifier, as usual
    plain_language(donor).save_pretrained(language)
    paths = {"pretrained_vision": vision, "pretrained_language": language}
    model = small(**paths).eval()
    assert [stage.name for stage in model.stages()] == ["adapt"]
    assert model.vision_head is None
    assert model.sources == {k: f"loaded from {paths[f'pretrained_{k}']}" for k in model.paths}
    for name, value in donor.vision.state_dict().items():
        assert torch.equal(model.vision.state_dict()[name], value)
    loaded = language_state(model)
    for name, value in language_state(donor).items():
        assert torch.equal(loaded[name], value)
    model.standardize_video.set_statistics(torch.zeros(3), torch.ones(3))
    expected = [255 * 0.485, 255 * 0.456, 255 * 0.406]  # ImageNet's, whatever the recordings'
    assert model.standardize_video.mean.tolist() == pytest.approx(expected)

    moved = small(pretrained_vision="gone.pth", pretrained_language="gone").eval()
    with pytest.raises(ValueError, match=r"pretrained_vision\): gone.pth: no such file"):
        moved(batch())
    moved.load_state_dict(model.state_dict())
    assert torch.equal(moved(batch()).logits, model(batch()).logits)


def test_weights_of_another_model_and_files_that_hold_code_are_refused(tmp_path: Path) -> None:
    wide, code = tmp_path / "wide.pth", tmp_path / "code.pth"
    torch.save(BiLM(problem(), **SMALL | {"vision_dim": 24}).vision.state_dict(), wide)
    with pytest.raises(ValueError, match=r"pretrained_vision: .*wide.pth: .*size mismatch"):
        small(pretrained_vision=str(wide))
    torch.save({"state_dict": nn.Linear(2, 2)}, code)  # a pickled module
    with pytest.raises(ValueError, match=r"pretrained_vision: .*weights_only"):
        small(pretrained_vision=str(code))

    other = tmp_path / "other"
    DebertaV2ForMaskedLM(language_config(99, 12, 24, 2, 3)).save_pretrained(other)
    with pytest.raises(ValueError, match=r"pretrained_language: .*other"):
        small(pretrained_language=str(other))
    shallow = tmp_path / "shallow"
    words = 2 + 2 + 3 * 8
    DebertaV2ForMaskedLM(language_config(words, 12, 24, 1, 3)).save_pretrained(shallow)
    with pytest.raises(ValueError, match=r"another model, it differs in deberta.encoder.layer.1"):
        load_language(str(shallow), language_config(words, 12, 24, 2, 3))
    with pytest.raises(ValueError, match="pretrained_language: "):
        small(pretrained_language=str(tmp_path))  # no model in it


def test_default_reads_882_tokens_and_trains_a_few_per_cent_inside_the_language_model() -> None:
    full = Problem(modality=Modality.CROSS, dense=True)
    model = BiLM(full).eval()
    assert count(model) == 4_257_672
    assert count(model.vision) == 472_416
    language = count(model.language)
    assert language == 3_062_116
    inside = learnt_names(model, -1) & {n for n, _ in model.named_parameters() if "language." in n}
    share = sum(p.numel() for n, p in model.named_parameters() if n in inside) / language
    print(f"trainable share of the language model: {share:.1%}")
    assert 0.02 < share < 0.06
    model.vision_batches += 1  # not trained: only the lengths count here
    model.language_batches += 1
    lengths: list[int] = []
    model.language.deberta.register_forward_hook(
        lambda _, __, out: lengths.append(out.last_hidden_state.shape[1])
    )
    with torch.no_grad():
        assert model(batch(1, full)).mask_logits.shape == (1, 2, 64, 64)
    assert lengths == [640 + 1 + 240 + 1]


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_frozen_parts_compute_the_same_in_training_as_in_evaluation() -> None:
    model = pretrained(dropout=0.0)
    assert torch.equal(model.train()(batch()).logits, model.eval()(batch()).logits)
    with_dropout = pretrained()
    assert not torch.equal(with_dropout.train()(batch()).logits, with_dropout(batch()).logits)


def test_both_inputs_get_a_gradient() -> None:
    model = pretrained().eval()
    rows = batch()
    assert rows.video is not None
    assert rows.current is not None
    video, current = rows.video.float().requires_grad_(), rows.current.clone().requires_grad_()
    model(rows._replace(video=video, current=current)).logits[:, 1].sum().backward()
    assert video.grad is not None
    assert current.grad is not None
    assert (video.grad.abs().amax((1, 2, 3, 4)) > 0).all()
    assert (current.grad.abs().sum(2) > 0).all()


@pytest.mark.slow
def test_adapters_learn_to_see_what_the_current_does_not_tell() -> None:
    sizes = problem(frames=2, image_size=(16, 16), current_samples=4)
    rows = batch(8, sizes)
    assert rows.video is not None
    assert rows.current is not None
    video = rows.video.clone()
    video[1::2, :, -1, :8, :8] = 255
    rows = rows._replace(video=video, current=rows.current[:1].expand(8, -1, -1))
    model = small(sizes)
    for stage, steps in zip(model.stages(), (60, 60, 100), strict=True):
        assert isinstance(stage, Learn)
        if stage.name == "adapt":  # what it knows so far is no more than the current
            assert model.eval()(rows).logits.argmax(1).unique().numel() == 1
        train(model, stage, rows, steps)
    assert (model.eval()(rows).logits.argmax(1) == rows.label).all()


def furnaces(size: int, of: Problem, seed: int) -> Batch:
    """Abnormal windows: a red patch in most last frames, wider swings of the currents in all."""
    draw = torch.Generator().manual_seed(seed)
    label = torch.arange(size) % 2
    video = torch.randint(100, (size, 3, of.frames, *of.image_size), generator=draw).byte()
    mask = torch.zeros(size, *of.image_size).long()
    for row in range(size):
        if label[row] and torch.rand((), generator=draw) < 0.8:
            y, x = (8 * int(torch.randint(side // 8, (), generator=draw)) for side in of.image_size)
            video[row, 0, -1, y : y + 5, x : x + 5] = 200
            mask[row, y : y + 5, x : x + 5] = 1
    swing = (0.5 + label + 0.3 * torch.randn(size, generator=draw)).clamp(min=0.1)
    noise = torch.randn(size, of.current_samples, of.current_channels, generator=draw)
    return Batch(video, swing[:, None, None] * noise, label, mask)


@pytest.mark.full
@pytest.mark.slow
def test_a_short_training_reads_the_frames_and_the_currents() -> None:
    """A vision stage that learns nothing, or an adaptation that ignores it, fails here.

    The mean of two trainings: over so few steps, rounding alone moves one by .04.
    """
    sizes = problem(frames=2, image_size=(16, 16), current_samples=10)
    rows = furnaces(400, sizes, seed=-1)
    other = torch.randperm(400, generator=torch.Generator().manual_seed(0))
    assert rows.video is not None
    assert rows.current is not None
    exchanged = (
        rows,
        rows._replace(video=rows.video[other]),
        rows._replace(current=rows.current[other]),
    )
    found = []
    for seed in range(2):
        model = small(sizes)
        for number, (stage, steps) in enumerate(zip(model.stages(), (120, 60, 250), strict=True)):
            assert isinstance(stage, Learn)
            for step in range(steps):
                draw = 100_000 * seed + 1000 * number + step
                train(model, stage, furnaces(16, sizes, seed=draw), 1)
        model.eval()
        with torch.no_grad():
            logits, patch = model.seen(rows)
            right = [(model(batch).logits.argmax(1) == batch.label).float() for batch in exchanged]
        assert float((logits.argmax(1) == patch).float().mean()) > 0.95
        found.append(torch.stack(right).mean(1))
    whole, blind, deaf = torch.stack(found).mean(0).tolist()
    print(f"accuracy {whole:.3f}; frames exchanged {blind:.3f}; currents exchanged {deaf:.3f}")
    assert whole > 0.9
    assert blind < whole - 0.1
    assert deaf < whole - 0.02


@pytest.mark.parametrize(
    ("net", "message"),
    [
        ({"heads": 5}, "a width of 24 is not a multiple of heads 5"),
        ({"reduction": 7}, "a width of 24 is not a multiple of reduction 7"),
        ({"vision_heads": 5}, "a width of 12 is not a multiple of vision_heads 5"),
        ({"levels": 1}, "levels is 1; it must be at least 2"),
        ({"visual_tokens": "frame"}, 'no mask can be drawn from visual_tokens "frame"'),
        ({"patch": 5}, "height, 16, is not a multiple of the patch's 5"),
    ],
)
def test_impossible_sizes_are_refused(net: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(**net)


def test_other_sizes_work_and_a_batch_that_does_not_fit_is_refused() -> None:
    sizes = problem(frames=1, image_size=(8, 16), current_samples=1, current_channels=2)
    model = pretrained(sizes, patch=4)
    assert model(batch(1, sizes)).mask_logits.shape == (1, 2, 8, 16)
    longer = problem(frames=1, image_size=(8, 16), current_samples=30, current_channels=2)
    assert model.eval()(batch(1, longer)).logits.shape == (1, 2)  # positions are relative
    with pytest.raises(ValueError, match="3 frames; this model was built for 1"):
        model(batch(1))
    with pytest.raises(ValueError, match="images of 16x24; this model was built for 8x16"):
        model(batch(1, problem(frames=1)))
    with pytest.raises(ValueError, match="3 channels of current; this bilm reads 2"):
        model(batch(1, problem(frames=1, image_size=(8, 16))))
    with pytest.raises(ValueError, match="bilm reads current, and the batch has none"):
        model(batch(1, sizes)._replace(current=None))

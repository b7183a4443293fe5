"""ClipBERT: the mean over frames, the grid, the clips, and how its CNN learns."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn
from torch.nn import functional as F

from fmbench.stages import Learn, learnt_in
from fmbench.training.lit import Detector
from fmbench.types import Batch, Modality, Problem
from fmbench_baselines.clipbert import ClipBERT, ClipEmbedding, aggregate_clips

TINY: dict[str, Any] = {"dim": 24, "depth": 1}


def problem(**changes: Any) -> Problem:
    sizes = {"frames": 4, "image_size": (32, 32), "current_samples": 24, "dense": True}
    return Problem(modality=Modality.CROSS, **(sizes | changes))


def build(**net: Any) -> ClipBERT:
    torch.manual_seed(0)
    return ClipBERT(problem(), **(TINY | net))


def batch(size: int = 2, frames: int = 4, side: int = 32, samples: int = 24) -> Batch:
    draw = torch.Generator().manual_seed(1)
    video = torch.randint(0, 256, (size, 3, frames, side, side), dtype=torch.uint8, generator=draw)
    current = torch.randn(size, samples, 3, generator=draw)
    return Batch(video, current, torch.arange(size) % 2)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Files of a whole ResNet-18, classifier included, as timm gives them away."""
    folder = tmp_path_factory.mktemp("weights")
    network = timm.create_model("resnet18", pretrained=False)
    for name, buffer in network.named_buffers():
        if name.endswith("running_var"):
            buffer.uniform_(1, 2)
    state = network.state_dict()
    save_file(state, folder / "resnet18.safetensors")
    torch.save({"state_dict": state}, folder / "resnet18.pth")
    return {"safetensors": folder / "resnet18.safetensors", "pth": folder / "resnet18.pth"}


@pytest.mark.parametrize(
    ("backbone", "parameters"), [("resnet18", 13_308_932), ("resnet50", 26_967_556)]
)
def test_at_the_papers_sizes_a_grid_of_8x8_makes_305_tokens(backbone: Any, parameters: int) -> None:
    model = ClipBERT(Problem(modality=Modality.CROSS, dense=True), backbone=backbone).eval()
    grids: list[tuple[int, ...]] = []
    tokens: list[tuple[int, ...]] = []
    model.features.register_forward_hook(lambda _, __, out: grids.append(tuple(out.shape)))
    model.encoder.register_forward_pre_hook(lambda _, inputs: tokens.append(inputs[0].shape))
    with torch.no_grad():
        model(batch(1, 2, 64, 240))
    assert grids == [(1, 2, 8, 8, 96)]
    assert tokens == [(1, 305, 96)]
    assert sum(p.numel() for p in model.parameters()) == parameters


def test_the_grid_is_timms_resnet_and_a_convolution_of_every_frame_by_itself() -> None:
    model = build().eval()
    network = timm.create_model("resnet18", pretrained=False, output_stride=8, num_classes=0)
    network.load_state_dict(model.features.cnn.state_dict())
    video = torch.randn(2, 3, 4, 32, 40)
    grid = model.features(video)
    assert grid.shape == (2, 4, 4, 5, 24)
    features = network.eval().forward_features(video[1:, :, 2])
    expected = F.conv2d(features, model.features.convolution.weight, padding=1).relu()
    torch.testing.assert_close(grid[1, 2].permute(2, 0, 1), expected[0], atol=1e-4, rtol=1e-4)


def test_a_grid_of_another_stride_is_an_error_of_ours() -> None:
    model = build()
    model.features.cnn = timm.create_model("resnet18", features_only=True, out_indices=(-1,))
    with pytest.raises(AssertionError, match=r"\(8, 512, 1, 1\)"):
        model(batch())


def test_with_one_clip_the_order_and_number_of_frames_do_not_matter() -> None:
    model = build().eval()
    given = batch()
    assert given.video is not None
    for other in (given.video[:, :, [2, 0, 3, 1]], given.video.repeat(1, 1, 2, 1, 1)):
        for mine, theirs in zip(
            model(given)[:2], model(given._replace(video=other))[:2], strict=True
        ):
            torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("frames", [1, 4, 6])
def test_visual_tokens_are_one_grid_whatever_the_frames(frames: int) -> None:
    model = build().eval()
    seen: list[int] = []
    model.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[1]))
    model(batch(1, frames))
    assert seen == [25 + 16]


def test_text_goes_first_and_visual_tokens_follow() -> None:
    model = build().eval()
    seen: list[Tensor] = []
    model.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    given = batch()
    model(given)
    torch.testing.assert_close(seen[0][:, :25], model.series(given.current))
    grid = model.features(model.standardize(given.video))
    torch.testing.assert_close(seen[0][:, 25:], model.clip(grid))


def test_rows_and_columns_are_told_after_the_mean() -> None:
    embedding = ClipEmbedding(3, 5, 12, 0.1).eval()
    grid = torch.randn(2, 4, 3, 5, 12)
    tokens = embedding(grid)
    mean = grid.mean(1)[1, 2, 4]
    place = embedding.rows[0, :, 2] + embedding.columns[0, :, 4] + embedding.kind
    torch.testing.assert_close(tokens[1, 2 * 5 + 4], embedding.norm(mean + place))
    assert embedding(torch.randn(1, 2, 4, 4, 12)).shape == (1, 16, 12)


@pytest.mark.parametrize("axis", [2, 3])
def test_exchanging_rows_or_columns_of_the_grid_changes_the_class(axis: int) -> None:
    model = build().double().eval()
    grid = torch.randn(1, 4, 4, 4, 24, dtype=torch.float64)
    text = torch.randn(1, 25, 24, dtype=torch.float64)

    def first(grid: Tensor) -> Tensor:
        out: Tensor = model.encoder(torch.cat([text, model.clip(grid)], dim=1))[:, 0]
        return out

    assert not torch.allclose(first(grid), first(grid.flip(axis)), atol=1e-6)
    nn.init.zeros_(model.clip.rows if axis == 2 else model.clip.columns)
    torch.testing.assert_close(first(grid), first(grid.flip(axis)))


@pytest.mark.parametrize(
    ("how", "constant"), [(None, math.log(2)), ("lse", math.log(2)), ("mean", 0), ("max", 0)]
)
def test_identical_clips_say_what_one_says_up_to_a_constant(how: Any, constant: float) -> None:
    one, two = build().eval(), build(num_clips=2, aggregate=how).eval()
    two.load_state_dict(one.state_dict())
    given = batch(2, 2)
    assert given.video is not None
    twice = given._replace(video=given.video.repeat(1, 1, 2, 1, 1))
    for said, by_two in zip(one(given)[:2], two(twice)[:2], strict=True):
        torch.testing.assert_close(by_two, said + constant, atol=1e-5, rtol=1e-4)


def test_clips_are_runs_of_frames_each_read_with_the_whole_current() -> None:
    one, two = build().eval(), build(num_clips=2).eval()
    two.load_state_dict(one.state_dict())
    given = batch()
    assert given.video is not None
    halves = [one(given._replace(video=part)).logits for part in given.video.split(2, dim=2)]
    expected = torch.stack(halves).exp().sum(0).log()
    torch.testing.assert_close(two(given).logits, expected, atol=1e-5, rtol=1e-4)


def test_log_sum_exp_mean_and_maximum_are_over_the_clips() -> None:
    logits = torch.tensor([[[0.0, 1.0], [2.0, -1.0]]])
    assert aggregate_clips(logits, "mean").tolist() == [[1, 0]]
    assert aggregate_clips(logits, "max").tolist() == [[2, 1]]
    expected = torch.tensor([[math.log(1 + math.e**2), math.log(math.e + 1 / math.e)]])
    torch.testing.assert_close(aggregate_clips(logits, "lse"), expected)


def test_gradients_reach_the_stem_and_all_else() -> None:
    model = build()
    for norm in model.features.norms():  # timm begins with residual branches of weight nought
        nn.init.ones_(norm.weight)
    prediction = model(batch())
    assert prediction.mask_logits is not None
    loss = F.cross_entropy(prediction.logits, batch().label)
    (loss + prediction.mask_logits.square().mean()).backward()
    stem = model.features.cnn.conv1.weight.grad
    assert stem is not None
    assert stem.any()
    assert not [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]


def test_cnn_and_bert_learn_at_one_rate_a_fifth_of_the_runs() -> None:
    model = build()
    detector = Detector(model, problem=problem())
    (stage,) = detector.stages
    assert isinstance(stage, Learn)
    detector.enter(stage)
    ((group,),) = detector.groups
    assert group["lr"] == pytest.approx(1e-4)
    assert learnt_in(stage) == set(model.parameters())


def test_at_random_batch_norms_train() -> None:
    model = build().train()
    before = model.features.cnn.bn1.running_mean.clone()
    model(batch())
    assert not torch.equal(model.features.cnn.bn1.running_mean, before)


@pytest.mark.parametrize("kind", ["safetensors", "pth"])
def test_weights_are_read_from_a_file_and_their_batch_norms_stay(
    weights: dict[str, Path], kind: str
) -> None:
    model = build(pretrained=str(weights[kind]))
    expected = torch.load(weights["pth"], weights_only=True)["state_dict"]
    for name, weight in model.features.cnn.state_dict().items():
        assert torch.equal(weight, expected[name])
    (stage,) = model.stages()
    frozen = set(model.parameters()) - learnt_in(stage)
    assert frozen == {p for norm in model.features.norms() for p in norm.parameters()}
    model.train()(batch())
    assert torch.equal(model.features.cnn.bn1.running_mean, expected["bn1.running_mean"])
    assert not any(norm.training for norm in model.features.norms())


def test_with_weights_batch_norms_train_if_told_so(weights: dict[str, Path]) -> None:
    model = build(pretrained=str(weights["pth"]), batch_norm="train")
    assert learnt_in(model.stages()[0]) == set(model.parameters())
    assert all(norm.training for norm in model.train().features.norms())


def test_with_weights_frames_are_standardised_as_imagenets(weights: dict[str, Path]) -> None:
    model = build(pretrained=str(weights["pth"]))
    model.standardize.set_statistics(torch.ones(3), torch.ones(3))  # as a fit does
    video = batch().video
    assert video is not None
    mean, std = (
        torch.tensor(x).view(3, 1, 1, 1) for x in (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)
    )
    torch.testing.assert_close(model.standardize(video), (video / 255 - mean) / std)


def test_a_checkpoint_needs_its_file_no_more_and_nothing_else_does_without(
    weights: dict[str, Path], tmp_path: Path
) -> None:
    trained = build(pretrained=str(weights["pth"])).eval()
    other = build(pretrained=str(tmp_path / "gone.pth")).eval()
    with pytest.raises(ValueError, match=r"pretrained: .*gone\.pth: no such file"):
        other(batch())
    other.load_state_dict(trained.state_dict())
    assert torch.equal(other(batch()).logits, trained(batch()).logits)


def test_files_that_do_not_fit_are_refused(weights: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"resnet18\.pth: .*"):
        build(pretrained=str(weights["pth"]), backbone="resnet50")
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(ValueError, match=r"pretrained: .*text\.pth"):
        build(pretrained=str(tmp_path / "text.pth"))


@pytest.mark.parametrize(
    ("net", "message"),
    [
        ({"num_clips": 3}, "4 frames cannot be cut into num_clips 3"),
        ({"num_clips": 0}, "4 frames cannot be cut into num_clips 0"),
        ({"aggregate": "lse"}, "aggregate lse has no effect on one clip"),
        ({"batch_norm": "frozen"}, "give pretrained"),
        ({"lr_scale": 0}, "lr_scale is 0; it must be above 0"),
        ({"heads": 5}, "dim 24 is not a multiple of heads 5"),
    ],
)
def test_impossible_settings_are_refused(net: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(**net)


def test_images_and_frames_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match="height, 36, is not a multiple of the patch's 8"):
        ClipBERT(problem(image_size=(36, 32)), **TINY)
    model = build(num_clips=2)
    with pytest.raises(ValueError, match="3 frames cannot be cut into num_clips 2"):
        model(batch(1, 3))

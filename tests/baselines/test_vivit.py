"""ViViT against transformers' own, torch's encoder layers, and what each design may see."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from fmbench.nn import Block
from fmbench.objective import Loss
from fmbench.types import Batch, Modality, Problem
from fmbench_baselines.vivit import FactorisedBlock, FactorisedEncoder, Vivit

DESIGNS = ["joint", "factorised_encoder", "factorised_attention"]
every_design = pytest.mark.parametrize("design", DESIGNS)


def problem(**changes: Any) -> Problem:
    return Problem(modality=Modality.VISUAL, **{"dense": True, **changes})


def batch(size: int, frames: int = 10, height: int = 64, width: int = 64) -> Batch:
    draw = torch.Generator().manual_seed(1)
    video = torch.randint(
        0, 256, (size, 3, frames, height, width), dtype=torch.uint8, generator=draw
    )
    mask = (video[:, 0, -1] > 128).long()
    return Batch(video, None, torch.arange(size) % 2, mask)


def torch_layer(block: Block) -> nn.TransformerEncoderLayer:
    """Torch's pre-norm layer with the weights of one of ours."""
    dim, hidden = block.mlp[1].in_features, block.mlp[1].out_features
    assert isinstance(dim, int)
    assert isinstance(hidden, int)
    layer = nn.TransformerEncoderLayer(
        dim, block.attention.heads, hidden, 0.0, "gelu", batch_first=True, norm_first=True
    ).double()
    state = block.state_dict()
    for kind in ("weight", "bias"):
        state[f"self_attn.out_proj.{kind}"] = state.pop(f"attention.to_out.{kind}")
        state[f"norm1.{kind}"] = state.pop(f"attention.norm.{kind}")
        for theirs, ours in {"norm2": "mlp.0", "linear1": "mlp.1", "linear2": "mlp.4"}.items():
            state[f"{theirs}.{kind}"] = state.pop(f"{ours}.{kind}")
    state["self_attn.in_proj_weight"] = state.pop("attention.to_qkv.weight")
    state["self_attn.in_proj_bias"] = torch.zeros(3 * dim).double()
    layer.load_state_dict(state)
    return layer


def disturb(norm: nn.Module) -> None:
    """Give a layer norm weights of its own."""
    for parameter in norm.parameters():
        nn.init.normal_(parameter)


def normalised(x: Tensor, norm: Any) -> Tensor:
    """Layer norm, written out."""
    x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()
    out: Tensor = x * norm.weight + norm.bias
    return out


def check_heads(model: Vivit, pooled: Tensor, tokens: Tensor) -> None:
    """The class is Linear, GELU, Linear of the pooled token, the mask is drawn from the tokens."""
    prediction = model(batch(2))
    first, second = (layer for layer in model.head if isinstance(layer, nn.Linear))
    hidden = F.gelu(pooled @ first.weight.T + first.bias)  # not normalised again
    torch.testing.assert_close(prediction.logits, hidden @ second.weight.T + second.bias)
    assert model.dense_head is not None
    torch.testing.assert_close(prediction.mask_logits, model.dense_head(tokens))


@pytest.mark.parametrize(
    ("design", "count"),
    # Model 2: spatial positions (65) and temporal ones (6) for the joint 321, one more class token
    # and layer norm.
    # Model 3: neither class token nor its position, and in every block one more attention.
    [
        ("joint", 1_746_980),
        ("factorised_encoder", 1_746_980 - (321 - 65 - 6) * 96 + 96 + 2 * 96),
        ("factorised_attention", 1_746_980 - 2 * 96 + 12 * (2 * 96 + 4 * 96 * 96 + 96)),
    ],
)
def test_parameters_of_the_default_sizes(design: Any, count: int) -> None:
    model = Vivit(problem(), design=design)
    assert sum(p.numel() for p in model.parameters()) == count


def test_320_tubelets_are_unfolded_patches_through_a_linear_map() -> None:
    model = Vivit(problem()).double()
    video = batch(2).video
    assert video is not None
    tokens = model.tokens(video)
    assert tokens.shape == (2, 5, 8, 8, 96)
    tubelets = (video.double() / 255).unfold(2, 2, 2).unfold(3, 8, 8).unfold(4, 8, 8)
    flat = tubelets.permute(0, 2, 3, 4, 1, 5, 6, 7).reshape(2, 5, 8, 8, 384)
    expected = flat @ model.embed.weight.reshape(96, 384).T + model.embed.bias
    torch.testing.assert_close(tokens, expected)


def test_model_1_is_that_of_transformers() -> None:
    transformers = pytest.importorskip("transformers", minversion="5")
    ours = Vivit(problem(), depth=3).double().eval()
    config = transformers.VivitConfig(
        image_size=64, num_frames=10, tubelet_size=[2, 8, 8], hidden_size=96, num_hidden_layers=3,
        num_attention_heads=3, intermediate_size=384, hidden_act="gelu", qkv_bias=False,
        layer_norm_eps=1e-5,
    )  # fmt: skip
    theirs = transformers.VivitModel(config, add_pooling_layer=False).double().eval()
    shell = ours.encoder.encoder
    disturb(shell.norm)
    state = {
        "embeddings.cls_token": shell.cls,
        "embeddings.position_embeddings": shell.positions.table,
        "embeddings.patch_embeddings.projection.weight": ours.embed.weight,
        "embeddings.patch_embeddings.projection.bias": ours.embed.bias,
        "layernorm.weight": shell.norm.weight,
        "layernorm.bias": shell.norm.bias,
    }
    names = {
        "attention.o_proj": "attention.to_out",
        "layernorm_before": "attention.norm",
        "layernorm_after": "mlp.0",
        "mlp.fc1": "mlp.1",
        "mlp.fc2": "mlp.4",
    }
    blocks = shell.blocks.state_dict()
    for block in range(3):
        for kind in ("weight", "bias"):
            for their, our in names.items():
                state[f"layers.{block}.{their}.{kind}"] = blocks[f"{block}.{our}.{kind}"]
        parts = blocks[f"{block}.attention.to_qkv.weight"].chunk(3)
        for name, part in zip("qkv", parts, strict=True):
            state[f"layers.{block}.attention.{name}_proj.weight"] = part
    theirs.load_state_dict(state)
    video = batch(2).video
    assert video is not None
    expected = theirs(video.double().transpose(1, 2) / 255).last_hidden_state
    cls, tokens = ours.encoder(ours.tokens(video))
    torch.testing.assert_close(cls, expected[:, 0])
    torch.testing.assert_close(tokens.flatten(1, 3), expected[:, 1:])
    check_heads(ours, expected[:, 0], expected[:, 1:].reshape(2, 5, 8, 8, 96))


def test_model_2_gives_five_frames_class_tokens_to_a_temporal_encoder() -> None:
    model = Vivit(problem(), design="factorised_encoder").double().eval()
    encoder = model.encoder
    assert isinstance(encoder, FactorisedEncoder)
    disturb(encoder.spatial.norm)
    disturb(encoder.temporal.norm)
    assert (len(encoder.spatial.blocks), len(encoder.temporal.blocks)) == (8, 4)
    seen: list[tuple[int, ...]] = []
    for part in (encoder.spatial, encoder.temporal):
        part.blocks.register_forward_pre_hook(lambda _, x: seen.append(tuple(x[0].shape)))
    tokens = torch.randn(2, 5, 8, 8, 96, dtype=torch.float64)
    cls, image = encoder(tokens)
    assert seen == [(10, 65, 96), (2, 6, 96)]

    of_frames = []
    for step in range(5):  # one frame group at a time, with torch's layers
        x = tokens[:, step].reshape(2, 64, 96)
        x = torch.cat([encoder.spatial.cls.expand(2, 1, 96), x], 1) + encoder.spatial.positions(
            [(8, 8)]
        )
        for block in encoder.spatial.blocks:
            x = torch_layer(block)(x)  # type: ignore[arg-type]
        x = normalised(x, encoder.spatial.norm)
        of_frames.append(x[:, 0])
        torch.testing.assert_close(image[:, step].flatten(1, 2), x[:, 1:])
    x = torch.stack([encoder.temporal.cls[0].expand(2, 96), *of_frames], 1)
    x = x + encoder.temporal.positions([(5,)])
    for block in encoder.temporal.blocks:
        x = torch_layer(block)(x)  # type: ignore[arg-type]
    torch.testing.assert_close(cls, normalised(x, encoder.temporal.norm)[:, 0])
    rows = batch(2)
    assert rows.video is not None
    check_heads(model, *encoder(model.tokens(rows.video)))


def test_model_3_attends_over_space_then_over_time() -> None:
    torch.manual_seed(0)
    block = FactorisedBlock(24, 3, 4, 0.0).double()
    tokens = torch.randn(2, 5, 7, 24, dtype=torch.float64)

    def attended(attention: Any, x: Tensor) -> Tensor:
        theirs = nn.MultiheadAttention(24, 3, batch_first=True).double()
        theirs.in_proj_weight.data.copy_(attention.to_qkv.weight.data)
        theirs.in_proj_bias.data.zero_()
        theirs.out_proj.load_state_dict(attention.to_out.state_dict())
        normed = F.layer_norm(x, (24,), attention.norm.weight, attention.norm.bias)
        out: Tensor = theirs(normed, normed, normed)[0]
        return out

    space = torch.stack(
        [tokens[:, t] + attended(block.spatial, tokens[:, t]) for t in range(5)], dim=1
    )
    time = torch.stack(
        [space[:, :, s] + attended(block.temporal, space[:, :, s]) for s in range(7)], dim=2
    )
    torch.testing.assert_close(block(tokens), time + block.mlp(time))


def test_model_3_adds_positions_once_and_gives_the_tokens_mean_to_the_class() -> None:
    torch.manual_seed(0)
    model = Vivit(problem(), design="factorised_attention", depth=2).double().eval()
    tokens = torch.randn(2, 5, 8, 8, 96, dtype=torch.float64)
    disturb(model.encoder.norm)
    pooled, out = model.encoder(tokens)
    x = tokens.flatten(1, 3) + model.encoder.positions.table
    for block in model.encoder.blocks:
        x = block(x.reshape(2, 5, 64, 96))
    x = normalised(x, model.encoder.norm)  # before the mean is taken
    torch.testing.assert_close(out, x.reshape(2, 5, 8, 8, 96))
    torch.testing.assert_close(pooled, sum(x.reshape(2, 320, 96).unbind(1)) / 320)
    rows = batch(2)
    assert rows.video is not None
    check_heads(model, *model.encoder(model.tokens(rows.video)))


def test_model_3s_spatial_attention_sees_no_other_frames_and_its_temporal_one_no_other_places() -> (
    None
):
    torch.manual_seed(0)
    block = FactorisedBlock(24, 3, 4, 0.0).eval()
    tokens = torch.randn(1, 5, 7, 24)
    changed = tokens.clone()
    changed[:, 3, 2, 0] += 3  # one channel: the norm would take away what all share
    spatial: list[Tensor] = []
    block.spatial.register_forward_hook(lambda _, __, out: spatial.append(out))
    moved = (block(changed) - block(tokens)).abs().amax(-1)[0] > 1e-6
    of_frame = (spatial[0] - spatial[1]).abs().amax((1, 2)) > 1e-6
    assert of_frame.tolist() == [False, False, False, True, False]
    assert moved.all()  # after the temporal step everything has met everything
    nn.init.zeros_(block.spatial.to_out.weight)
    moved = (block(changed) - block(tokens)).abs().amax(-1)[0] > 1e-6
    assert moved.any(0).tolist() == [place == 2 for place in range(7)]


@pytest.mark.parametrize(
    ("design", "reach"),
    [("joint", 5), ("factorised_encoder", 1), ("factorised_attention", 5)],
)
def test_how_far_in_time_the_tokens_of_a_mask_see(design: Any, reach: int) -> None:
    model = Vivit(problem(), depth=2, design=design).eval()
    video = batch(1).video
    assert video is not None
    painted = video.clone()
    painted[:, :, 9, 20:30, 20:30] ^= 255
    pooled, tokens = model.encoder(model.tokens(video))
    other_pooled, other = model.encoder(model.tokens(painted))
    steps = ((tokens - other).abs().amax((0, 2, 3, 4)) > 1e-6).tolist()
    assert steps == [False] * (5 - reach) + [True] * reach
    assert (pooled - other_pooled).abs().max() > 1e-6


@pytest.mark.parametrize("frames", [2, 3])
def test_central_start_embeds_a_still_clip_as_its_image(frames: int) -> None:
    sizes = problem(frames=2 * frames)
    model = Vivit(sizes, tube=(frames, 8, 8), central=True, depth=2).double()
    image = torch.randint(0, 256, (2, 3, 1, 64, 64), dtype=torch.uint8)
    tokens = model.tokens(image.expand(-1, -1, 2 * frames, -1, -1))
    weight = model.embed.weight[:, :, frames // 2]
    expected = F.conv2d(image[:, :, 0].double() / 255, weight, model.embed.bias, stride=8)
    for step in range(2):
        torch.testing.assert_close(tokens[:, step], rearrange(expected, "b d y x -> b y x d"))
    plain = nn.Conv2d(3, 96, 8).weight.detach()  # as an image's embedding would begin
    assert float(weight.detach().std()) == pytest.approx(float(plain.std()), rel=0.05)
    model.tokens(image.expand(-1, -1, 2 * frames, -1, -1)).square().sum().backward()
    gradient = model.embed.weight.grad
    assert gradient is not None
    assert gradient[:, :, 0].any()  # all frames learn from then on


@every_design
def test_every_parameter_learns(design: Any) -> None:
    model = Vivit(problem(frames=4, image_size=(32, 32)), depth=2, design=design)
    rows = batch(4, 4, 32, 32)
    torch.stack(list(Loss().terms(model(rows), rows).values())).sum().backward()
    still = {n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    assert still == set()


@every_design
@pytest.mark.parametrize(
    ("frames", "height", "width", "tube"), [(1, 8, 8, (1, 8, 8)), (6, 32, 48, (3, 16, 16))]
)
def test_other_problems_work_in_training_and_evaluation(
    design: Any, frames: int, height: int, width: int, tube: Any
) -> None:
    sizes = problem(frames=frames, image_size=(height, width), num_classes=5)
    model = Vivit(sizes, dim=20, heads=1, depth=2, tube=tube, design=design)
    for mode in (True, False):
        prediction = model.train(mode)(batch(1, frames, height, width))
        assert prediction.logits.shape == (1, 5)
        assert prediction.mask_logits.shape == (1, 5, height, width)


@every_design
def test_a_trained_model_reads_other_lengths_and_sizes(design: Any) -> None:
    model = Vivit(problem(), depth=2, design=design).eval()
    assert model(batch(1, 4, 32, 96)).mask_logits.shape == (1, 2, 32, 96)


@pytest.mark.parametrize(
    ("net", "message"),
    [
        ({"tube": (3, 8, 8)}, "10 frames are not a multiple of the patch's 3; use 9 or 12"),
        ({"design": "divided"}, "'divided'; allowed are joint, factorised_encoder"),
        ({"depth": 0}, "depth is 0; with design joint it must be at least 1"),
        ({"depth": 1, "design": "factorised_encoder"}, "it must be at least 2"),
        ({"temporal_depth": 4}, "concerns factorised_encoder; the design is joint"),
        ({"temporal_depth": 12, "design": "factorised_encoder"}, "is 12; it must be 1 to 11"),
        ({"temporal_depth": 0, "design": "factorised_encoder"}, "is 0; it must be 1 to 11"),
        ({"tube": (1, 8, 8), "central": True}, "no effect on tubelets of one frame"),
        ({"heads": 5}, "dim 96 is not a multiple of heads 5"),
    ],
)
def test_what_cannot_be_is_refused(net: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Vivit(problem(), **net)


def test_a_batch_that_does_not_fit_is_refused() -> None:
    model = Vivit(problem(), depth=1)
    with pytest.raises(ValueError, match="9 frames are not a multiple of the patch's 2"):
        model(batch(1, 9))
    with pytest.raises(ValueError, match="the batch has none"):
        model(Batch(None, torch.zeros(1, 240, 3), torch.zeros(1, dtype=torch.int64)))

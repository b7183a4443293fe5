"""The network that the authors released, and conversion from and to its checkpoint layout.

Reference: the authors' repository GaochangWu/FMF-Benchmark at commit ae9a730.
Differs from the paper (and so from `fmbench.models.fmformer`): tokens in the order {class,
standard, dilated}, each scale embedded by its own LayerNorm-Linear-LayerNorm on raw values; one MLP
per layer and stream; heads of one Linear; one task per network; H and W swapped (read data with
`axes: official`); positions of a fixed length.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, cast

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from fmbench.models.official_keys import KEYS, POSITIONS
from fmbench.nn import Attention, mlp, tube_grid, tube_patches
from fmbench.nn.heads import widths
from fmbench.nn.tokens import Tube
from fmbench.types import Batch, Modality, Prediction, Problem


def embedding(width: int, dim: int) -> nn.Sequential:
    """LayerNorm -> Linear -> LayerNorm, on raw values."""
    return nn.Sequential(nn.LayerNorm(width), nn.Linear(width, dim), nn.LayerNorm(dim))


class ResidualUnit(nn.Module):
    """y = ReLU(x); y + conv(BN(y)). The released ReLU acts in place, so the skip has it too."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(x)
        out: Tensor = y + self.conv(self.norm(y))
        return out


def residual_upsample(channels: int, out: int) -> nn.Sequential:
    """Deconvolution 2×2 of stride 2, then a residual unit."""
    return nn.Sequential(nn.ConvTranspose2d(channels, out, 2, stride=2), ResidualUnit(out))


class Layer(nn.Module):
    """Per stream: self-attention, cross-attention if there are two streams, one MLP."""

    def __init__(self, streams: tuple[str, ...], dim: int, heads: int, mlp_ratio: float) -> None:
        super().__init__()
        crossed = streams if len(streams) == 2 else ()
        self.self_attention = nn.ModuleDict({name: Attention(dim, heads) for name in streams})
        self.cross_attention = nn.ModuleDict({name: Attention(dim, heads) for name in crossed})
        hidden = int(dim * mlp_ratio)
        self.mlp = nn.ModuleDict({name: mlp(dim, hidden, dim) for name in streams})

    def forward(
        self, streams: dict[str, Tensor], rows: Mapping[str, int | None] | None = None
    ) -> dict[str, Tensor]:
        """(B, N, D) by stream -> the same, or the first `rows` tokens of each."""
        needed = rows or dict.fromkeys(streams)
        whole = needed if len(streams) == 1 else dict.fromkeys(streams)
        z = {}
        for name, x in streams.items():
            attention = cast(Attention, self.self_attention[name])
            z[name] = attention.added(x, *attention.qkv(x, whole[name]))
        if len(z) == 2:
            video, current = (cast(Attention, self.cross_attention[name]) for name in z)
            query_v, key_v, value_v = video.qkv(z["video"], needed["video"])
            query_c, key_c, value_c = current.qkv(z["current"], needed["current"])
            z = {
                "video": video.added(z["video"], query_v, key_c, value_c),
                "current": current.added(z["current"], query_c, key_v, value_v),
            }
        return {name: x + self.mlp[name](x) for name, x in z.items()}


class MaskHead(nn.Module):
    """A mask from tokens; the paper's stages with residual units."""

    def __init__(self, dim: int, steps: int, patch: int, dilated: bool, num_classes: int) -> None:
        super().__init__()
        self.merge = nn.Conv2d(steps * dim, dim, 1)
        if dilated:
            self.merge_dilated = nn.Conv2d(steps * dim, dim, 1)
            self.upsample_dilated = residual_upsample(dim, dim)
        channels = [dim, *widths(patch)]
        self.upsample = nn.ModuleList(residual_upsample(a, b) for a, b in pairwise(channels))
        self.classify = nn.Conv2d(channels[-1], num_classes, 1)

    def forward(self, tokens: Tensor, dilated: Tensor | None) -> Tensor:
        """(B, n_t, n_h, n_w, D) -> (B, K, H, W) logits."""
        image = self.merge(_as_image(tokens))
        if dilated is not None:
            coarse = self.merge_dilated(_as_image(dilated))
            image = image + self.upsample_dilated(coarse)
        for stage in self.upsample:
            image = stage(image)
        logits: Tensor = self.classify(image)
        return logits


def _as_image(tokens: Tensor) -> Tensor:
    """(B, n_t, n_h, n_w, D) -> (B, n_t·D, n_h, n_w), channels last in memory, like the tokens."""
    return torch.movedim(rearrange(tokens, "b t y x d -> b y x (t d)"), -1, 1)


class OfficialFmFormer(nn.Module):
    """The released network for one task: a class, or a mask if `problem.dense`.

    A dense network has no class head; its class logits follow from the mask: abnormal if and only
    if a pixel is (eq. 13).

    Args:
        problem: inputs and outputs; video is (B, 3, T, W, H), as in the released networks.
        dim: D.
        depth: layers.
        heads: attention heads, each dim/heads wide.
        mlp_ratio: hidden width of the MLPs divided by D.
        tube: frames, columns and rows of a patch.
        dilated: whether to use dilated tokens, which span twice the patch.
        init_std: standard deviation of the initial positions and class tokens (authors: 1.0).

    Raises:
        ValueError: sizes do not divide.
    """

    modalities = frozenset(Modality)
    dense = frozenset({Modality.VISUAL, Modality.CROSS})

    def __init__(
        self,
        problem: Problem,
        *,
        dim: int = 96,
        depth: int = 6,
        heads: int = 3,
        mlp_ratio: float = 4,
        tube: Tube = (2, 8, 8),
        dilated: bool = True,
        init_std: float = 1.0,
    ) -> None:
        super().__init__()
        self.problem = problem
        self.tube = tube = (tube[0], tube[1], tube[2])
        self.dilated = dilated and problem.modality.has_video
        streams = ("video",) * problem.modality.has_video
        streams += ("current",) * problem.modality.has_current
        self.cls, self.positions = nn.ParameterDict(), nn.ParameterDict()
        self.embed = nn.ModuleDict()
        grid = tube_grid(problem.frames, problem.image_size, tube)
        rows = {"video": 1 + math.prod(grid), "current": 1 + problem.current_samples}
        inputs = {"video": 3 * math.prod(tube), "current": problem.current_channels}
        for name in streams:
            self.cls[name] = nn.Parameter(init_std * torch.randn(1, 1, dim))
            self.positions[name] = nn.Parameter(init_std * torch.randn(1, rows[name], dim))
            self.embed[name] = embedding(inputs[name], dim)
        if self.dilated:
            count = math.prod(tube_grid(problem.frames, problem.image_size, tube, 2))
            self.positions["dilated"] = nn.Parameter(init_std * torch.randn(1, count, dim))
            self.embed["dilated"] = embedding(inputs["video"], dim)
        self.layers = nn.ModuleList(Layer(streams, dim, heads, mlp_ratio) for _ in range(depth))
        if problem.dense:
            if problem.num_classes != 2:
                raise ValueError(
                    f"fmformer-official draws masks of two classes, not {problem.num_classes}; set"
                    " dense to false"
                )
            self.mask_head = MaskHead(dim, grid[0], tube[1], self.dilated, problem.num_classes)
            if "current" in streams:  # no head reads the last current tokens: no gradient
                last = cast(Layer, self.layers[-1])
                cast(Attention, last.cross_attention["current"]).to_out.requires_grad_(False)
                last.mlp["current"].requires_grad_(False)
        else:
            classify: dict[str, nn.Module] = {
                name: nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, problem.num_classes))
                for name in streams
            }
            self.heads = nn.ModuleDict(classify)

    def forward(self, batch: Batch) -> Prediction:
        """See `fmbench.types`; video (B, 3, T, W, H), raw 0-255, current in raw amperes."""
        streams: dict[str, Tensor] = {}
        grids: list[torch.Size] = []
        if self.problem.modality.has_video:
            streams["video"], grids = self._video(batch.video)
        if self.problem.modality.has_current:
            if batch.current is None or batch.current.shape[1:] != (
                self.problem.current_samples,
                self.problem.current_channels,
            ):
                raise ValueError(self._fixed("current", batch.current))
            tokens = self.embed["current"](batch.current)
            streams["current"] = self._with_class("current", tokens)
        # Tokens that no head reads are not computed: the last layer only computes the class tokens,
        # and all video tokens if there is a mask.
        needed: dict[str, int | None] = dict.fromkeys(streams, 1)
        if self.problem.dense:
            needed["video"] = None
        for k, layer in enumerate(self.layers):
            streams = layer(streams, needed if k == len(self.layers) - 1 else None)
        if not self.problem.dense:
            logits = [self.heads[name](x[:, 0]) for name, x in streams.items()]
            return Prediction(sum(logits[1:], logits[0]))
        parts = torch.split(streams["video"][:, 1:], [math.prod(grid) for grid in grids], dim=1)
        images = [
            rearrange(part, "b (t y x) d -> b t y x d", t=grid[0], y=grid[1])
            for part, grid in zip(parts, grids, strict=True)
        ]
        mask_logits = self.mask_head(images[0], images[1] if self.dilated else None)
        return Prediction(_any_pixel(mask_logits), mask_logits)

    def _video(self, video: Tensor | None) -> tuple[Tensor, list[torch.Size]]:
        shape = (3, self.problem.frames, *self.problem.image_size)
        if video is None or video.shape[1:] != shape:
            raise ValueError(self._fixed("video", video))
        video = video.to(self.cls["video"].dtype)
        patches = tube_patches(video, self.tube)
        grids = [patches.shape[1:4]]
        tokens = self._with_class("video", self.embed["video"](patches.flatten(1, 3)))
        if self.dilated:
            patches = tube_patches(video, self.tube, 2)
            grids.append(patches.shape[1:4])
            extra = self.embed["dilated"](patches.flatten(1, 3)) + self.positions["dilated"]
            tokens = torch.cat([tokens, extra], dim=1)
        return tokens, grids

    def _with_class(self, name: str, tokens: Tensor) -> Tensor:
        tokens = torch.cat([self.cls[name].expand(tokens.shape[0], -1, -1), tokens], dim=1)
        out: Tensor = tokens + self.positions[name]
        return out

    def _fixed(self, name: str, x: Tensor | None) -> str:
        got = "none" if x is None else f"{tuple(x.shape)}"
        return (
            f"the released network takes {name} of one size ({self.problem}); the batch's is {got}"
        )


def _any_pixel(mask_logits: Tensor) -> Tensor:
    """(B, 2, H, W) -> (B, 2) logits whose larger one is class 1 iff a pixel's is."""
    margin = (mask_logits[:, 1] - mask_logits[:, 0]).amax(dim=(1, 2)) / 2
    return torch.stack([-margin, margin], dim=1)


_UNUSED = "head.mlp_head2."  # weights in the video-only files that the network never uses
_WIDTH = 32  # width of a head in all released networks


def infer_problem(state: Mapping[str, Tensor]) -> Problem:
    """The Problem that a released state dict was trained for, with 64×64 frames.

    Raises:
        ValueError: the layout is not a released network's; the message describes it.
    """
    modality, dense = _task_of(state)
    rows = {name: state[key].shape[1] - 1 for name, key in POSITIONS[modality].items()}
    frames, rest = divmod(rows.get("video", 5 * 64), 64)  # 8×8 patches of 2 frames
    if rest or not frames:
        raise ValueError(f"{rows['video']} video tokens are not of 64×64 frames: give the problem")
    return Problem(
        modality=modality,
        dense=dense,
        frames=2 * frames,
        current_samples=rows.get("current", 240),
    )


def infer_net(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """The network's hyperparameters from the sizes in a released state dict."""
    dim = next(state[key].shape[-1] for key in ("cls_token1", "cls_token") if key in state)
    hidden = next(value for key, value in state.items() if key.endswith("net.1.weight")).shape[0]
    return {
        "dim": dim,
        "depth": len({key.split(".")[2] for key in state if key.startswith("transformer.layers.")}),
        "heads": dim // _WIDTH,
        "mlp_ratio": hidden / dim,
        "dilated": any(key.startswith("get_additional_tokens.") for key in state),
    }


def from_state_dict(
    state: Mapping[str, Tensor], problem: Problem | None = None
) -> OfficialFmFormer:
    """A released state dict -> the network, in eval mode; each tensor must be used once.

    The network takes the inputs of the released one: video (B, 3, T, W, H) in raw grey levels,
    current (B, L, 3) in raw amperes.

    Args:
        state: output of `torch.load(path, weights_only=True)`.
        problem: what it was trained for; default: inferred, with 64×64 frames.

    Raises:
        ValueError: layout or sizes do not fit the problem; the message names the differences.
    """
    modality, dense = _task_of(state)
    problem = problem or infer_problem(state)
    if (problem.modality, problem.dense) != (modality, dense):
        raise ValueError(
            f"the file holds a network for {_task(modality, dense)}, "
            f"the problem asks for {_task(problem.modality, problem.dense)}"
        )
    model = OfficialFmFormer(problem, **infer_net(state))
    renamed = {}
    for key, value in state.items():
        if problem.modality is Modality.VISUAL and key.startswith(_UNUSED):
            continue
        renamed[_rename(key, _pairs(model))] = value
    expected = model.state_dict()
    missing = sorted(expected.keys() - renamed.keys())
    unknown = sorted(renamed.keys() - expected.keys())
    shapes = [
        f"{key} {tuple(renamed[key].shape)} instead of {tuple(expected[key].shape)}"
        for key in sorted(expected.keys() & renamed.keys())
        if renamed[key].shape != expected[key].shape
    ]
    wrong = [
        f"{what} {len(keys)} (first: {keys[0]})"
        for what, keys in (("missing", missing), ("unknown", unknown), ("other sizes", shapes))
        if keys
    ]
    if wrong:
        raise ValueError(f"the state dict does not fit {problem}: {'; '.join(wrong)}")
    model.load_state_dict(renamed)
    return model.eval()


def to_state_dict(model: OfficialFmFormer) -> dict[str, Tensor]:
    """The network's weights under the released names, without the unused head of video only."""
    pairs = [(ours, theirs) for theirs, ours in _pairs(model)]
    return {_rename(key, pairs): value for key, value in model.state_dict().items()}


def _pairs(model: OfficialFmFormer) -> list[tuple[str, str]]:
    return [
        (theirs.format(i=i), ours.format(i=i))
        for theirs, ours in KEYS[model.problem.modality]
        for i in range(len(model.layers) if "{i}" in theirs else 1)
    ]


def _rename(key: str, pairs: list[tuple[str, str]]) -> str:
    for old, new in pairs:
        if key == old or (old.endswith(".") and key.startswith(old)):
            return new + key.removeprefix(old)
    return key


def _task(modality: Modality, dense: bool) -> str:
    return f"{modality} input and a {'mask' if dense else 'class'}"


def _task_of(state: Mapping[str, Tensor]) -> tuple[Modality, bool]:
    for modality, keys in POSITIONS.items():
        if all(key in state for key in keys.values()):
            return modality, "head.decode_out.weight" in state
    raise ValueError(_foreign(state))


def _foreign(state: Mapping[str, Tensor]) -> str:
    if any(key.startswith(("video_tokens.", "current_tokens.")) for key in state):
        return (
            "these are weights of fmformer, the paper's variant, which differs from the released "
            "network in: no LayerNorm around the embeddings, one projection for both scales, two "
            "MLPs a layer and stream, two-layer heads, token order {class, dilated, standard}. "
            "Load its checkpoint as it is: fmbench test --checkpoint"
        )
    some = ", ".join(sorted(state)[:3]) or "nothing"
    return (
        f"neither a released FmFormer nor one of ours: {len(state)} tensors, the first are {some}; "
        "expected pos_embedding1 (video and current), pos_embedding.pe (video) or pos_embedding "
        "(current)"
    )

"""A plain transcription of the released network's arithmetic: the yardstick of `official.py`.

Softmax attention with its map in memory, a matrix product for the scores and one for the values,
every token of every layer computed, dropout modules of rate 0 in place, patches by one
rearrangement: as official-format 1 and 2 restate the network of GaochangWu/FMF-Benchmark at commit
ae9a730. It has the modules and the names of `fmbench.models.official`, so that one state dict fits
both; only what is computed, and how, is its own.
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from fmbench.models.official import OfficialFmFormer
from fmbench.nn import Attention


def split(attention: Attention, tokens: Tensor) -> list[Tensor]:
    """Queries, keys and values, each (B, h, N, d)."""
    parts = attention.to_qkv(attention.norm(tokens)).chunk(3, dim=-1)
    return [rearrange(part, "b n (h d) -> b h n d", h=attention.heads) for part in parts]


def mapped(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Softmax attention with its map in memory."""
    scores = torch.matmul(query, key.transpose(-1, -2)) * query.shape[-1] ** -0.5
    return torch.matmul(F.dropout(torch.softmax(scores, dim=-1), 0.0), value)


class Released(nn.Module):
    """Wraps a network of ours: the same weights, the released arithmetic.

    Args:
        network: cross-modal, with dilated tokens.
        fused: attention by PyTorch's fused kernel instead, to see what that alone gives.
    """

    def __init__(self, network: OfficialFmFormer, *, fused: bool = False) -> None:
        super().__init__()
        self.network = network
        self.attend = F.scaled_dot_product_attention if fused else mapped

    def attended(self, attention: Attention, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        out = rearrange(self.attend(query, key, value), "b h n d -> b n (h d)")
        return F.dropout(attention.to_out(out), 0.0)

    def forward(self, video: Tensor, current: Tensor) -> Tensor:
        """(B, 3, T, W, H) and (B, L, 3), raw float32 -> class logits (B, 2) or a mask's."""
        net = self.network
        v, c = self.video_tokens(video), self.current_tokens(current)
        for layer in net.layers:
            own, cross = layer.self_attention, layer.cross_attention
            v = v + self.attended(own["video"], *split(own["video"], v))
            c = c + self.attended(own["current"], *split(own["current"], c))
            q_v, k_v, v_v = split(cross["video"], v)
            q_c, k_c, v_c = split(cross["current"], c)
            new = self.attended(cross["video"], q_v, k_c, v_c)
            c = c + self.attended(cross["current"], q_c, k_v, v_v)
            v = v + new
            v, c = v + layer.mlp["video"](v), c + layer.mlp["current"](c)
        if not net.problem.dense:
            return net.heads["video"](v[:, 0]) + net.heads["current"](c[:, 0])
        steps, side = net.problem.frames // net.tube[0], net.problem.image_size[0] // net.tube[1]
        fine, coarse = v[:, 1:].split([steps * side**2, steps * (side // 2) ** 2], dim=1)
        head = net.mask_head
        image = head.merge(rearrange(fine, "b (t y x) d -> b (t d) y x", t=steps, y=side))
        small = rearrange(coarse, "b (t y x) d -> b (t d) y x", t=steps, y=side // 2)
        image = image + head.upsample_dilated(head.merge_dilated(small))
        for stage in head.upsample:
            image = stage(image)
        return head.classify(image)

    def video_tokens(self, video: Tensor) -> Tensor:
        net, (t, h, w) = self.network, self.network.tube
        order = "b c (t p0) (y p1) (x p2) -> b (t y x) (p1 p2 p0 c)"
        fine = net.embed["video"](rearrange(video, order, p0=t, p1=h, p2=w))
        tokens = torch.cat([net.cls["video"].expand(len(video), -1, -1), fine], dim=1)
        tokens = tokens + net.positions["video"]
        half = (video.shape[2], video.shape[3] // 2, video.shape[4] // 2)
        small = F.interpolate(video, size=half, mode="nearest")
        coarse = net.embed["dilated"](rearrange(small, order, p0=t, p1=h, p2=w))
        return torch.cat([tokens, coarse + net.positions["dilated"]], dim=1)

    def current_tokens(self, current: Tensor) -> Tensor:
        net = self.network
        tokens = net.embed["current"](current)
        tokens = torch.cat([net.cls["current"].expand(len(current), -1, -1), tokens], dim=1)
        return tokens + net.positions["current"]

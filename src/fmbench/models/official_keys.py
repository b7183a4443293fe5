"""Names in the released files and here: (prefix of theirs, prefix of ours), {i} is the layer.

Rows of to_qkv, patch vectors and grids have the same order in both, so that renaming is enough to
convert a checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping

from fmbench.types import Modality

_MASK_HEAD = (
    ("head.de_patch_embedding.1.", "mask_head.merge."),
    ("head.de_patch_embedding_dilated.1.", "mask_head.merge_dilated."),
    ("head.decode_dilated.0.", "mask_head.upsample_dilated.0."),
    ("head.decode_dilated.1.conv1.", "mask_head.upsample_dilated.1.conv."),
    ("head.decode_dilated.1.bn1.", "mask_head.upsample_dilated.1.norm."),
    *(
        pair
        for i in range(3)
        for pair in (
            (f"head.decode{i + 1}.0.", f"mask_head.upsample.{i}.0."),
            (f"head.decode{i + 1}.1.conv1.", f"mask_head.upsample.{i}.1.conv."),
            (f"head.decode{i + 1}.1.bn1.", f"mask_head.upsample.{i}.1.norm."),
        )
    ),
    ("head.decode_out.", "mask_head.classify."),
)
_DILATED = (
    ("get_additional_tokens.pos_embedding", "positions.dilated"),
    ("get_additional_tokens.to_patch_embedding.1.", "embed.dilated.0."),
    ("get_additional_tokens.to_patch_embedding.2.", "embed.dilated.1."),
    ("get_additional_tokens.to_patch_embedding.3.", "embed.dilated.2."),
)


def _one_stream(name: str) -> tuple[tuple[str, str], ...]:
    return (
        ("transformer.layers.{i}.0.norm.", f"layers.{{i}}.self_attention.{name}.norm."),
        ("transformer.layers.{i}.0.to_qkv.", f"layers.{{i}}.self_attention.{name}.to_qkv."),
        ("transformer.layers.{i}.0.to_out.0.", f"layers.{{i}}.self_attention.{name}.to_out."),
        ("transformer.layers.{i}.1.net.", f"layers.{{i}}.mlp.{name}."),
    )


KEYS: Mapping[Modality, tuple[tuple[str, str], ...]] = {
    Modality.CURRENT: (
        ("cls_token", "cls.current"),
        ("pos_embedding", "positions.current"),
        ("to_patch_embedding.", "embed.current."),
        *_one_stream("current"),
        ("transformer.norm.", "heads.current.0."),
        ("mlp_head.", "heads.current.1."),
    ),
    Modality.VISUAL: (
        ("cls_token", "cls.video"),
        ("pos_embedding.pe", "positions.video"),
        *((f"to_patch_embedding.{i + 1}.", f"embed.video.{i}.") for i in range(3)),
        *_DILATED,
        *_one_stream("video"),
        ("head.mlp_head1.", "heads.video."),
        *_MASK_HEAD,
    ),
    Modality.CROSS: (
        ("cls_token1", "cls.video"),
        ("cls_token2", "cls.current"),
        ("pos_embedding1", "positions.video"),
        ("pos_embedding2", "positions.current"),
        *((f"to_patch_embedding1.{i + 1}.", f"embed.video.{i}.") for i in range(3)),
        ("to_patch_embedding2.", "embed.current."),
        *_DILATED,
        *(
            (f"transformer.layers.{{i}}.{theirs}.", f"layers.{{i}}.{ours}.")
            for n, name in ((1, "video"), (2, "current"))
            for theirs, ours in (
                (f"0.stream{n}.norm", f"self_attention.{name}.norm"),
                (f"0.stream{n}.to_qkv", f"self_attention.{name}.to_qkv"),
                (f"0.stream{n}.to_out.0", f"self_attention.{name}.to_out"),
                (f"0.cross_attn.norm{n}", f"cross_attention.{name}.norm"),
                (f"0.cross_attn.to_qkv{n}", f"cross_attention.{name}.to_qkv"),
                (f"0.cross_attn.to_out{n}.0", f"cross_attention.{name}.to_out"),
                (f"1.ff{n}.net", f"mlp.{name}"),
            )
        ),
        ("head.mlp_head1.", "heads.video."),
        ("head.mlp_head2.", "heads.current."),
        *_MASK_HEAD,
    ),
}
POSITIONS: Mapping[Modality, Mapping[str, str]] = {
    Modality.CROSS: {"video": "pos_embedding1", "current": "pos_embedding2"},
    Modality.VISUAL: {"video": "pos_embedding.pe"},
    Modality.CURRENT: {"current": "pos_embedding"},
}

"""What two models share: attention, blocks, tokens, positions, series, heads, standardisation."""

from fmbench.nn.attention import Attention, Block, attend, cross_update, mlp
from fmbench.nn.encoder import Encoder
from fmbench.nn.heads import DenseHead, class_head
from fmbench.nn.positions import Positions
from fmbench.nn.series import (
    MultiHead,
    PostNormLayer,
    conv_embedding,
    given_current,
    post_norm_encoder,
    series_head,
    sinusoids,
)
from fmbench.nn.standardize import Standardize
from fmbench.nn.tokens import tube_grid, tube_patches, video_of

__all__ = [
    "Attention",
    "Block",
    "DenseHead",
    "Encoder",
    "MultiHead",
    "Positions",
    "PostNormLayer",
    "Standardize",
    "attend",
    "class_head",
    "conv_embedding",
    "cross_update",
    "given_current",
    "mlp",
    "post_norm_encoder",
    "series_head",
    "sinusoids",
    "tube_grid",
    "tube_patches",
    "video_of",
]

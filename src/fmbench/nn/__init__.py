"""Parts shared by models: attention, blocks, tokens, positions, heads, features, normalisation."""

from fmbench.nn.attention import Attention, Block, attend, cross_update, mlp
from fmbench.nn.current_features import current_features, num_current_features
from fmbench.nn.encoder import Encoder
from fmbench.nn.heads import DenseHead, class_head, dense_head
from fmbench.nn.positions import Positions
from fmbench.nn.series import (
    MultiHead,
    PostNormLayer,
    conv_embedding,
    current_reader,
    given_current,
    post_norm_encoder,
    series_head,
    sinusoids,
)
from fmbench.nn.standardize import ImageNet, Standardize
from fmbench.nn.time_blocks import TimeBlocks
from fmbench.nn.tokens import how_to_fit, tube_grid, tube_patches, video_of

__all__ = [
    "Attention",
    "Block",
    "DenseHead",
    "Encoder",
    "ImageNet",
    "MultiHead",
    "Positions",
    "PostNormLayer",
    "Standardize",
    "TimeBlocks",
    "attend",
    "class_head",
    "conv_embedding",
    "cross_update",
    "current_features",
    "current_reader",
    "dense_head",
    "given_current",
    "how_to_fit",
    "mlp",
    "num_current_features",
    "post_norm_encoder",
    "series_head",
    "sinusoids",
    "tube_grid",
    "tube_patches",
    "video_of",
]

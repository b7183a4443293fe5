"""What two models share: attention, blocks, tokens, positions, heads, standardisation."""

from fmbench.nn.attention import Attention, Block, attend, cross_update, mlp
from fmbench.nn.encoder import Encoder
from fmbench.nn.heads import DenseHead, class_head
from fmbench.nn.positions import Positions
from fmbench.nn.standardize import Standardize
from fmbench.nn.tokens import tube_grid, tube_patches, video_of

__all__ = [
    "Attention",
    "Block",
    "DenseHead",
    "Encoder",
    "Positions",
    "Standardize",
    "attend",
    "class_head",
    "cross_update",
    "mlp",
    "tube_grid",
    "tube_patches",
    "video_of",
]

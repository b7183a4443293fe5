"""What two models share: attention, blocks, tokens, positions, heads, standardisation, features."""

from fmbench.nn.attention import Attention, Block, attend, cross_update, mlp
from fmbench.nn.current_features import current_features, num_current_features
from fmbench.nn.heads import DenseHead, class_head
from fmbench.nn.positions import Positions
from fmbench.nn.standardize import Standardize
from fmbench.nn.time_blocks import TimeBlocks
from fmbench.nn.tokens import tube_grid, tube_patches

__all__ = [
    "Attention",
    "Block",
    "DenseHead",
    "Positions",
    "Standardize",
    "TimeBlocks",
    "attend",
    "class_head",
    "cross_update",
    "current_features",
    "mlp",
    "num_current_features",
    "tube_grid",
    "tube_patches",
]

"""iTransformer: each phase's whole series is one token, and attention runs between the phases.

Liu, Hu, Zhang, Wu, Wang, Ma, Long: "iTransformer: Inverted Transformers Are Effective for Time
Series Forecasting", ICLR 2024, arXiv 2310.06625, Sec. 3.
Differs: the width is FmFormer's (96, 3 heads; the source takes 128 to 512, 8), with 3 layers
(source: 2 to 4). Dropout does not reach the attention map (source: it does). As in the
Time-Series-Library's classifiers, a head of GELU, flatten, linear takes the forecast's place, and
windows are not normalised one by one, which would remove the level of the current.
"""

from __future__ import annotations

from einops.layers.torch import Rearrange
from torch import nn

from fmbench.nn import Standardize, current_reader, post_norm_encoder, series_head
from fmbench.types import Batch, Modality, Prediction, Problem


class ITransformer(nn.Module):
    """Classify the current by softmax attention between its phases, one token each.

    Tokens have no positions: only the head tells the phases apart, and with mean_pool nothing does.
    The weights of the embedding encode the order of the samples.

    Args:
        problem: inputs and outputs.
        dim: D, width of a token, which encodes a whole series (source: 128 to 512): try 256.
        depth: encoder layers (source: 2 to 4).
        heads: attention heads, h (source: 8).
        mlp_ratio: hidden width of the MLPs divided by D (source: 1 to 4).
        dropout: rate for embedding, attention output, MLPs and head, in training.
        mean_pool: whether the head reads the mean of the phases' tokens instead of all of them.

    Raises:
        ValueError: a hyperparameter is out of range.
    """

    modalities = frozenset({Modality.CURRENT})
    dense: frozenset[Modality] = frozenset()

    def __init__(
        self,
        problem: Problem,
        *,
        dim: int = 96,
        depth: int = 3,
        heads: int = 3,
        mlp_ratio: float = 4,
        dropout: float = 0.1,
        mean_pool: bool = False,
    ) -> None:
        super().__init__()
        samples, channels = problem.current_samples, problem.current_channels
        self.read = current_reader(problem, "itransformer")
        self.standardize = Standardize.current(channels)
        self.embed = nn.Sequential(
            Rearrange("b l c -> b c l"), nn.Linear(samples, dim), nn.Dropout(dropout)
        )
        self.encoder = post_norm_encoder(dim, depth, heads, mlp_ratio=mlp_ratio, dropout=dropout)
        self.head = series_head(
            channels, dim, problem.num_classes, mean_pool=mean_pool, dropout=dropout
        )

    def forward(self, batch: Batch) -> Prediction:
        """See `fmbench.types` for the shapes of a Batch and a Prediction."""
        tokens = self.embed(self.standardize(self.read(batch)))  # (B, C, D)
        return Prediction(self.head(self.encoder(tokens)))

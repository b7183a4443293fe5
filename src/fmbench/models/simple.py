"""Strong simple detectors: boosted trees on features of the current, a small CNN on the clip.

They are not baselines of the paper. In a table they show what a method gains over an afternoon's
work with well-known tools; a row that joins the two by adding their log-odds shows what fusion
without training gains (Table IV's untrained join).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from fmbench.nn import Standardize, current_reader, video_of
from fmbench.nn.current_features import current_features, num_current_features
from fmbench.stages import Solve, Stage
from fmbench.types import Batch, Modality, Prediction, Problem


class BoostedCurrent(nn.Module):
    """Gradient boosting on hand-made features of the last 10, 30, 60 and 120 s of current.

    scikit-learn's `GradientBoostingClassifier` (Friedman, 2001; stochastic as in Friedman, 2002)
    on `fmbench.nn.current_features` of each horizon that the window holds, and of the whole window.
    The fitted trees are stored in buffers: a checkpoint holds no scikit-learn object.

    Args:
        problem: inputs and outputs; two classes and at least 2 samples of current.
        trees: boosting rounds.
        depth: largest depth of a tree.
        rate: shrinkage of each tree.
        share: windows that each tree is fitted on, drawn without replacement, in (0, 1].

    Raises:
        ValueError: more than two classes, too few samples, or an option is out of range.
    """

    modalities = frozenset({Modality.CURRENT})
    dense: frozenset[Modality] = frozenset()

    HORIZONS = (10, 30, 60, 120)
    """Seconds before the end of the window."""

    feature: Tensor
    threshold: Tensor
    child: Tensor
    value: Tensor
    prior: Tensor
    fitted: Tensor

    def __init__(
        self,
        problem: Problem,
        *,
        trees: int = 200,
        depth: int = 4,
        rate: float = 0.05,
        share: float = 0.5,
    ) -> None:
        super().__init__()
        if problem.num_classes != 2:
            raise ValueError(f"boosted_current has two classes, not {problem.num_classes}")
        if problem.current_samples < 2:
            raise ValueError("boosted_current needs at least 2 samples of current")
        if min(trees, depth) < 1 or not 0 < share <= 1 or rate <= 0:
            raise ValueError("trees and depth must be at least 1, share in (0, 1], rate above 0")
        self.options = {
            "n_estimators": trees,
            "max_depth": depth,
            "learning_rate": rate,
            "subsample": share,
        }
        self.depth = depth
        self.read = current_reader(problem, "boosted_current", any_from=2)
        self.standardize = Standardize.current(problem.current_channels)
        length = problem.current_samples
        inside = (round(seconds * problem.current_rate) for seconds in self.HORIZONS)
        self.lengths = [*(samples for samples in inside if 2 <= samples < length), None]
        self.num_features = len(self.lengths) * num_current_features(problem.current_channels)
        nodes = 2 ** (depth + 1) - 1
        self.register_buffer("feature", torch.zeros(trees, nodes, dtype=torch.long))
        self.register_buffer("threshold", torch.zeros(trees, nodes, dtype=torch.float64))
        self.register_buffer("child", torch.zeros(trees, nodes, 2, dtype=torch.long))
        self.register_buffer("value", torch.zeros(trees, nodes, dtype=torch.float64))
        self.register_buffer("prior", torch.tensor(0.0, dtype=torch.float64))
        self.register_buffer("fitted", torch.tensor(False))

    def stages(self) -> Sequence[Stage]:
        """Fit the trees to the training windows."""
        return [Solve(name="trees", gather=self.gather, solve=self.solve)]

    def features(self, batch: Batch) -> Tensor:
        """Features of every horizon: (B, `num_features`), float32."""
        current = self.standardize(self.read(batch)).float()
        each = [current[:, -n:] if n and n < current.shape[1] else current for n in self.lengths]
        return torch.cat([current_features(part) for part in each], dim=1)

    def gather(self, batch: Batch) -> Mapping[str, Tensor]:
        """Features and label of each labelled window."""
        rows = batch.label >= 0
        return {"features": self.features(batch)[rows], "label": batch.label[rows]}

    def solve(self, kept: Mapping[str, Tensor]) -> None:
        """Fit the trees and store their nodes.

        Raises:
            ValueError: the training windows are of one class.
        """
        from sklearn.ensemble import GradientBoostingClassifier  # its import takes a second

        features, label = (kept[name].numpy() for name in ("features", "label"))
        if len(set(label.tolist())) < 2:
            raise ValueError("boosted_current needs training windows of both classes")
        boosted = GradientBoostingClassifier(**self.options, max_features=0.3, random_state=0)
        boosted.fit(features, label)
        for k, (tree,) in enumerate(boosted.estimators_):
            nodes = tree.tree_
            count, leaf = nodes.node_count, nodes.children_left < 0
            own = torch.arange(count)  # a leaf is its own child
            for side, children in enumerate((nodes.children_left, nodes.children_right)):
                child = torch.where(torch.as_tensor(leaf), own, torch.as_tensor(children))
                self.child[k, :count, side] = child
            self.feature[k, :count] = torch.as_tensor(nodes.feature).clamp(min=0)
            self.threshold[k, :count] = torch.as_tensor(nodes.threshold)
            self.value[k, :count] = boosted.learning_rate * torch.as_tensor(nodes.value[:, 0, 0])
        share = float(label.mean())
        self.prior.fill_(torch.tensor(share, dtype=torch.float64).logit())
        self.fitted.fill_(True)

    def forward(self, batch: Batch) -> Prediction:
        """Log-odds: the prior's plus the value of the leaf that each tree reaches.

        Raises:
            ValueError: the trees are not fitted, or the batch has too few samples.
        """
        if not self.fitted:
            raise ValueError(
                "boosted_current has no trees yet: `fmbench fit` fits them and stores them in"
                " checkpoints/"
            )
        x = self.features(batch).double()
        tree = torch.arange(len(self.feature), device=x.device)
        node = torch.zeros(len(x), len(tree), dtype=torch.long, device=x.device)
        for _ in range(self.depth):
            right = x.gather(1, self.feature[tree, node]) > self.threshold[tree, node]
            node = self.child[tree, node, right.long()]
        log_odds = (self.prior + self.value[tree, node].sum(1)).float()
        return Prediction(torch.stack([-log_odds / 2, log_odds / 2], 1), None)


class SmallCnn(nn.Module):
    """A plain CNN on three frames of the clip, stacked as channels.

    Three convolutions of 3x3, each with batch normalisation, ReLU and max pooling; the class
    follows from the mean and the maximum of the last map. The frames are the clip's first, middle
    and last one, so that it sees the change over the clip.

    Args:
        problem: inputs and outputs; frames of at least 8x8.
        width: channels of the first convolution; the others have twice and four times as many.

    Raises:
        ValueError: width is below 1, or the frames are too small.
    """

    modalities = frozenset({Modality.VISUAL})
    dense: frozenset[Modality] = frozenset()

    FRAMES = 3

    def __init__(self, problem: Problem, *, width: int = 32) -> None:
        super().__init__()
        if width < 1:
            raise ValueError(f"width is {width}; it must be at least 1")
        if min(problem.image_size) < 8:
            raise ValueError(f"frames are {problem.image_size}; small_cnn needs at least 8x8")
        self.standardize = Standardize.video()
        self.count = min(self.FRAMES, problem.frames)
        widths = [3 * self.count, width, 2 * width, 4 * width]
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after)]
            layers += [nn.ReLU(), nn.MaxPool2d(2)]
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(8 * width, problem.num_classes)

    def forward(self, batch: Batch) -> Prediction:
        """(B, K) logits from a clip of at least as many frames as it stacks.

        Raises:
            ValueError: the clip is shorter.
        """
        video = video_of(batch)
        if video.shape[2] < self.count:
            raise ValueError(f"the clip has {video.shape[2]} frames; small_cnn needs {self.count}")
        chosen = torch.linspace(0, video.shape[2] - 1, self.count).round().long().tolist()
        frames = self.standardize(video[:, :, chosen])  # (B, 3, count, H, W)
        found = self.layers(frames.flatten(1, 2))
        pooled = torch.cat([found.mean((2, 3)), found.amax((2, 3))], dim=1)
        return Prediction(self.head(pooled), None)

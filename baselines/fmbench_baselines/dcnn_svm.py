"""DCNN-SVM: image and current are classified separately, and a support vector machine joins them.

Zhou, Gao, Wang, Chai, 2022, as the FmFormer paper describes it in Sec. II-B (late fusion).
Reconstruction: the published facts are that image and current have a branch each, that each branch
classifies by itself, and that an SVM joins their decisions. Filled in: the layers of both branches,
the features of the current, the kernel (RBF) and how its C is chosen, and Platt scaling, which
makes the softmax of the logits a calibrated probability. The SVM is fitted on blocks of time that
the branches are not trained on; on windows that a branch has memorised, the SVM would only trust
that branch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from fmbench.nn import (
    Standardize,
    TimeBlocks,
    current_features,
    current_reader,
    num_current_features,
    video_of,
)
from fmbench.nn.tracing import exporting
from fmbench.stages import Learn, Solve, Stage, Turn, trainable
from fmbench.types import Batch, Modality, Prediction, Problem

if TYPE_CHECKING:  # only `solve` needs scikit-learn, whose import takes half a second
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

HALVINGS = 4


def image_branch(image_size: tuple[int, int], width: int) -> nn.Sequential:
    """A standardised frame (B, 3, H, W) -> (B, 2) logits.

    Raises:
        ValueError: the frame is too small to be halved four times.
    """
    rows, columns = (size // 2**HALVINGS for size in image_size)
    if not rows or not columns:
        raise ValueError(
            f"frames of {image_size[0]}x{image_size[1]} pixels are too small for dcnn_svm; "
            f"give it at least {2**HALVINGS}x{2**HALVINGS}"
        )
    layers: list[nn.Module] = []
    for before, after in pairwise((3, width, 2 * width, 4 * width, 4 * width)):
        convolution = nn.Conv2d(before, after, 3, padding=1, bias=False)
        layers += [convolution, nn.BatchNorm2d(after), nn.ReLU(), nn.MaxPool2d(2)]
    flat = 4 * width * rows * columns
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(flat, 128), nn.ReLU(), nn.Linear(128, 2))


def current_branch(channels: int) -> nn.Sequential:
    """Features of a window of current (B, 9·C + 1) -> (B, 2) logits."""
    return nn.Sequential(nn.Linear(num_current_features(channels), 64), nn.ReLU(), nn.Linear(64, 2))


def sum_of_parameters(module: nn.Module) -> Tensor:
    """A scalar; times 0, it is a loss with zero gradients."""
    return torch.stack([parameter.sum() for parameter in module.parameters()]).sum()


def folds(label: Ints, block: Ints) -> list[tuple[Ints, Ints]]:
    """Five folds of whole blocks, or fewer if a fold would leave a single class to train on.

    Raises:
        ValueError: not even two folds are possible.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    counts = np.bincount(label, minlength=2)
    blocks = len(np.unique(block))
    for number in range(min(5, blocks, int(counts.min())), 1, -1):
        splits = list(StratifiedGroupKFold(number).split(label, label, block))
        if all(len(test) and len(np.unique(label[train])) == 2 for train, test in splits):
            return splits
    raise ValueError(
        f"the SVM needs held-out windows of both classes in two blocks or more; there are "
        f"{counts[0]} normal and {counts[1]} abnormal windows in {blocks} blocks. Raise "
        "epoch_windows or held_out, shorten block_seconds, or train on more recordings"
    )


class Fitted(NamedTuple):
    """The parts fitted by scikit-learn."""

    scaler: StandardScaler
    svc: SVC
    calibrated: CalibratedClassifierCV
    """The same SVM with Platt's constants."""

    @property
    def platt(self) -> tuple[float, float]:
        """a, b of P(abnormal) = 1 / (1 + exp(a·f + b))."""
        (chosen,) = self.calibrated.calibrated_classifiers_
        (sigmoid,) = chosen.calibrators
        return float(sigmoid.a_), float(sigmoid.b_)


def fit_svm(scores: Floats, label: Ints, block: Ints, costs: Sequence[float]) -> Fitted:
    """RBF SVM on scores (N, 4); C and Platt's constants come from cross-validation over blocks.

    Raises:
        ValueError: there are too few blocks to cross-validate.
    """
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.model_selection import GridSearchCV
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    splits = folds(label, block)
    scaler = StandardScaler().fit(scores)
    x = scaler.transform(scores)
    gamma = 1 / (x.shape[1] * x.var())  # scikit-learn's "scale", as a number to store
    machine = SVC(kernel="rbf", gamma=gamma, class_weight="balanced")
    svc = GridSearchCV(machine, {"C": list(costs)}, cv=splits).fit(x, label).best_estimator_
    calibrated = CalibratedClassifierCV(svc, method="sigmoid", cv=splits, ensemble=False)
    return Fitted(scaler, svc, calibrated.fit(x, label))


def evenly(label: Ints, block: Ints, count: int) -> Ints:
    """Indices of at most `count` rows, in proportion to classes and blocks."""
    order = np.lexsort((block, label))
    if len(order) <= count:
        return order
    return order[np.linspace(0, len(order) - 1, count).astype(np.int64)]


class DcnnSvm(nn.Module):
    """Predict a class by a CNN on the last frame, an MLP on current features, an SVM on both.

    Training has two stages: both branches learn, each from its own cross-entropy, on all blocks
    except the held-out ones; then the SVM is fitted on those. Prediction needs both.

    Args:
        problem: inputs and outputs; two classes, at least 16x16 pixels and two samples of current.
        width: channels of the first convolution; 2, 4, 4 times as many follow.
        held_out: share of the blocks of time that train the SVM and not the branches.
        block_seconds: length of a block in seconds; longer than the window of current.
        costs: candidates for C.
        svm_windows: maximum number of windows for the SVM, and so of support vectors; the fitting
            time grows with the square.
        lr_scale: factor on the run's learning rate: 1e-3 if the run's is 5e-4.

    Raises:
        ValueError: more than two classes, too small an input, or an option is out of range.
    """

    modalities = frozenset({Modality.CROSS})
    dense: frozenset[Modality] = frozenset()

    vectors: Tensor
    dual: Tensor
    intercept: Tensor
    gamma: Tensor
    score_mean: Tensor
    score_std: Tensor
    platt: Tensor
    support: Tensor

    def __init__(
        self,
        problem: Problem,
        *,
        width: int = 32,
        held_out: float = 0.25,
        block_seconds: int = 600,
        costs: Sequence[float] = (0.1, 1, 10),
        svm_windows: int = 5000,
        lr_scale: float = 2,
    ) -> None:
        super().__init__()
        if problem.num_classes != 2:
            raise ValueError(f"dcnn_svm tells two classes apart, not {problem.num_classes}")
        if problem.current_samples < 2:
            raise ValueError("dcnn_svm needs at least 2 samples of current")
        if width < 1:
            raise ValueError(f"width is {width}; it must be at least 1")
        if not costs or min(costs) <= 0:
            raise ValueError(f"costs are {list(costs)}; give one or more, above 0")
        if svm_windows < 4:
            raise ValueError(f"svm_windows is {svm_windows}; it must be at least 4")
        self.problem = problem
        self.read_current = current_reader(problem, "dcnn_svm", any_from=2)
        self.costs = costs
        self.lr_scale = lr_scale
        self.blocks = TimeBlocks(
            share=held_out,
            seconds=block_seconds,
            history=problem.current_samples / problem.current_rate,
        )
        self.standardize_video = Standardize.video()
        self.standardize_current = Standardize.current(problem.current_channels)
        self.image = image_branch(problem.image_size, width)
        self.current = current_branch(problem.current_channels)
        # One row per possible support vector, so that all checkpoints have the same size; unused
        # rows have dual coefficient 0.
        self.register_buffer("vectors", torch.zeros(svm_windows, 4))
        self.register_buffer("dual", torch.zeros(svm_windows))
        self.register_buffer("intercept", torch.tensor(0.0))
        self.register_buffer("gamma", torch.tensor(1.0))
        self.register_buffer("score_mean", torch.zeros(4))
        self.register_buffer("score_std", torch.ones(4))
        self.register_buffer("platt", torch.tensor([-1.0, 0.0]))
        self.register_buffer("support", torch.tensor(0))

    def stages(self) -> list[Stage]:
        """One stage for both branches, which share no parameter, then one for the SVM."""
        groups = [{"params": trainable(self.image, self.current), "lr_scale": self.lr_scale}]
        return [
            Learn(name="branches", turns=[Turn(parameters=groups, losses=self.branch_losses)]),
            Solve(name="svm", gather=self.held_out_scores, solve=self.solve),
        ]

    def branch_losses(self, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropy of each branch over the windows outside held-out blocks; 0 without any."""
        rest = self.blocks.split(batch).rest & (batch.label >= 0)
        rows = rest.nonzero().squeeze(1)  # the only wait for the device: it tells their number
        if not len(rows):  # batch normalisation rejects an empty batch
            branches = {"image": self.image, "current": self.current}
            return {name: 0 * sum_of_parameters(branch) for name, branch in branches.items()}
        frame, features = self.inputs(batch)
        frame, features, label = (
            each.index_select(0, rows) for each in (frame, features, batch.label)
        )
        return {
            "image": F.cross_entropy(self.image(frame), label),
            "current": F.cross_entropy(self.current(features), label),
        }

    def held_out_scores(self, batch: Batch) -> dict[str, Tensor]:
        """Scores, labels and blocks of the windows in held-out blocks."""
        parts = self.blocks.split(batch)
        rows = parts.chosen & (batch.label >= 0)
        scores = self.scores(batch)
        return {"scores": scores[rows], "label": batch.label[rows], "block": parts.block[rows]}

    def solve(self, kept: Mapping[str, Tensor]) -> None:
        """Fit the SVM and store it in buffers: a checkpoint holds no scikit-learn object."""
        scores, label, block = (kept[name].numpy() for name in ("scores", "label", "block"))
        rows = evenly(label, block, len(self.dual))
        fitted = fit_svm(scores[rows].astype(np.float64), label[rows], block[rows], self.costs)
        scaler, svc, _ = fitted
        self.support.fill_(len(svc.support_))
        for buffer, found in (
            (self.vectors, svc.support_vectors_),
            (self.dual, svc.dual_coef_[0]),
        ):
            buffer.zero_()
            buffer[: len(found)] = torch.as_tensor(found).to(buffer)
        for buffer, found in (
            (self.intercept, svc.intercept_[0]),
            (self.gamma, svc.gamma),
            (self.score_mean, scaler.mean_),
            (self.score_std, scaler.scale_),
            (self.platt, fitted.platt),
        ):
            buffer.copy_(torch.as_tensor(found))

    def forward(self, batch: Batch) -> Prediction:
        """See `fmbench.types` for the shapes of a Batch and a Prediction.

        Raises:
            ValueError: the SVM is not fitted, or the batch does not fit the model.
        """
        if not exporting() and not self.support:
            raise ValueError(
                "dcnn_svm has no support vectors yet: its second stage, svm, finds them; "
                "`fmbench fit` goes through both, and leaves them in checkpoints/"
            )
        slope, shift = self.platt.unbind()
        margin = -(slope * self.decision(self.scores(batch)) + shift)  # log-odds of abnormal
        return Prediction(torch.stack([-margin / 2, margin / 2], dim=1))

    def decision(self, scores: Tensor) -> Tensor:
        """f(s) = Σ αᵢ yᵢ exp(-γ ‖sᵢ - s‖²) + b on standardised scores: (B, 4) -> (B,)."""
        x = (scores - self.score_mean) / self.score_std
        distance = torch.cdist(x, self.vectors, compute_mode="donot_use_mm_for_euclid_dist")
        kernel = torch.exp(-self.gamma * distance.square())
        return (kernel * self.dual).sum(1) + self.intercept

    def scores(self, batch: Batch) -> Tensor:
        """Probabilities of normal and abnormal, from image, then from current: (B, 4)."""
        frame, features = self.inputs(batch)
        logits = [self.image(frame), self.current(features)]
        return torch.cat([each.float().softmax(1) for each in logits], dim=1)

    def inputs(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The standardised last frame (B, 3, H, W) and the features of the current (B, 9·C + 1)."""
        video = video_of(batch, image_size=self.problem.image_size)
        features = current_features(self.standardize_current(self.read_current(batch)))
        return self.standardize_video(video[:, :, -1]), features

"""How much the currents tell beside the picture: reference probes, none a method of the tables.

`observe` reads from a recording what the probes may know, `current_log_odds` is the current probe,
`visibility_observer` a visual observer, and `measure` compares an observer with and without the
current probe. Every model is tested on recordings on which it was not trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier

from fmbench.simulator.camera import Camera, visibility
from fmbench.simulator.process import Run
from fmbench.simulator.scene import Tag, tags
from fmbench.types import CURRENT_RATE

Array = NDArray[np.float64]

WINDOWS = (10, 30, 60, 120)  # s of current before an instant
HIDDEN = 8  # grey levels: a spot that changes the picture by less is hard to see
FOLDS = 5
SEEN_TAGS = (Tag.MIST_HEAVY, Tag.FLAME, Tag.AMBIENT, Tag.FEEDING, Tag.EXHAUSTING, Tag.SPATTER)
"""The disturbances that a picture shows."""
BLOCKING = Tag.MIST_HEAVY | Tag.FLAME | Tag.AMBIENT


class Observed(NamedTuple):
    """What the probes know of the n instants of a recording.

    Attributes:
        label: (n,) abnormal.
        tags: (n,) bits of `Tag`.
        visibility: (n,) grey levels by which the hot spot changes the picture.
        currents: (n, F) features of the 120 s of current that end there.
        shifted: (n, F) the same of the recording's current shifted, in a circle, by half of it.
        frames: (n,) index of the frame.
    """

    label: NDArray[np.bool_]
    tags: NDArray[np.uint16]
    visibility: NDArray[np.float32]
    currents: Array
    shifted: Array
    frames: NDArray[np.int64]


@dataclass(frozen=True)
class Estimate:
    """A value and its 95 % interval, by a jackknife over recordings."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}]"


@dataclass(frozen=True, kw_only=True)
class Information:
    """Accuracies of a visual observer, of the current probe, and of both together.

    Attributes:
        recordings, instants: how many were tested.
        current, visual, joint: accuracies.
        gain: joint less visual.
        shifted_gain: the same where each recording's current is shifted by half of it.
        gains: by kind of instant, the share of the instants and the gain there. "clear" has no
            mist, flame or step of the hall's light.
    """

    recordings: int
    instants: int
    current: Estimate
    visual: Estimate
    joint: Estimate
    gain: Estimate
    shifted_gain: Estimate
    gains: dict[str, tuple[float, Estimate]]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def instants(run: Run, every: int = 3) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(n,) seconds at which a window of current ends, and (n,) the first frame of each.

    Stalls, which have no frame, are left out.
    """
    ends = np.arange(max(WINDOWS), run.length, every)
    first = np.cumsum(run.frame_counts) - run.frame_counts
    ends = ends[run.frame_counts[ends] > 0]
    return ends, first[ends]


def observe(camera: Camera, every: int = 3) -> Observed:
    """What the probes know of a recording, every so many seconds after the first 120."""
    ends, frames = instants(camera.run, every)
    currents = camera.run.currents
    return Observed(
        label=camera.labels(frames),
        tags=tags(camera.run, frames),
        visibility=visibility(camera, frames),
        currents=current_features(currents, ends),
        shifted=current_features(np.roll(currents, len(currents) // 2, axis=0), ends),
        frames=frames,
    )


def current_features(currents: Array, ends: NDArray[np.int64]) -> Array:
    """(n, F): mean, deviation and mean change of each phase, by phase and sorted, in kiloamperes.

    Args:
        currents: (2S, 3) amperes.
        ends: (n,) seconds at which the windows of `WINDOWS` end.
    """
    x = np.asarray(currents, np.float64) / 1000
    change = np.abs(np.diff(x, axis=0, prepend=x[:1]))
    total = np.concatenate(
        [np.zeros((1, 9)), np.cumsum(np.concatenate([x, x * x, change], 1), axis=0)]
    )
    last = CURRENT_RATE * (np.asarray(ends) + 1) - 1  # the sample of the instant is the last
    found = []
    for seconds in WINDOWS:
        count = CURRENT_RATE * seconds
        mean, square, moved = np.split((total[last + 1] - total[last + 1 - count]) / count, 3, 1)
        for values in (mean, np.sqrt(np.maximum(square - mean * mean, 0)), moved):
            found += [values, np.sort(values, axis=1)]
    return np.concatenate(found, axis=1)


def out_of_fold(
    features: Sequence[Array], labels: Sequence[NDArray[np.bool_]], monotonic: Sequence[int] = ()
) -> list[Array]:
    """(n,) log-odds of abnormal for each recording, by boosted trees trained on other recordings.

    Args:
        features: (n, F) of each recording.
        labels: (n,) of each recording.
        monotonic: 1 for a feature whose growth never lowers the log-odds, else 0; empty: all 0.
    """
    fold = np.arange(len(features)) % FOLDS
    found: list[Array] = [np.empty(0)] * len(features)
    for part in range(FOLDS):
        model = HistGradientBoostingClassifier(
            max_iter=120,
            learning_rate=0.06,
            max_leaf_nodes=15,
            min_samples_leaf=100,
            monotonic_cst=list(monotonic) or None,
            early_stopping=False,
        )
        model.fit(
            np.concatenate([x for x, f in zip(features, fold, strict=True) if f != part]),
            np.concatenate([y for y, f in zip(labels, fold, strict=True) if f != part]),
        )
        for i in np.flatnonzero(fold == part).tolist():
            found[i] = model.decision_function(features[i])
    return found


class CurrentLogOdds(NamedTuple):
    """(n,) of each recording: what the current alone says, out of fold; `shifted`, the control."""

    current: list[Array]
    shifted: list[Array]


def current_log_odds(seen: Sequence[Observed]) -> CurrentLogOdds:
    """The current probe, and the same probe trained on currents that are shifted in time."""
    labels = [each.label for each in seen]
    return CurrentLogOdds(
        out_of_fold([each.currents for each in seen], labels),
        out_of_fold([each.shifted for each in seen], labels),
    )


def visibility_observer(seen: Sequence[Observed], noise: float = 2.0, seed: int = 0) -> list[Array]:
    """(n, 1 + len(SEEN_TAGS)) of each recording: noisy visibility, and which disturbances it sees.

    Args:
        noise: sd of the noise, grey levels.
    """
    rng = np.random.default_rng(seed)
    bits = np.array(SEEN_TAGS)
    return [
        np.column_stack(
            [
                each.visibility + noise * rng.standard_normal(len(each.label)),
                (each.tags[:, None] & bits) > 0,
            ]
        )
        for each in seen
    ]


def measure(
    seen: Sequence[Observed], visual: Sequence[Array], currents: CurrentLogOdds
) -> Information:
    """Compare a visual observer with the same observer that also has the current's log-odds.

    Args:
        seen: the recordings.
        visual: (n, F) of each recording, what the observer knows; a higher first column speaks
            for abnormal.
        currents: of the same recordings.

    Raises:
        ValueError: fewer recordings than folds.
    """
    if len(seen) < FOLDS:
        raise ValueError(f"{len(seen)} recordings; the probes need at least {FOLDS}")
    labels = [each.label for each in seen]
    rising = [1] + [0] * (visual[0].shape[1] - 1)

    def right(beside: Sequence[Array] | None) -> list[NDArray[np.bool_]]:
        features, signs = list(visual), rising
        if beside is not None:
            features = [np.column_stack(pair) for pair in zip(visual, beside, strict=True)]
            signs = [*rising, 1]
        return _right(out_of_fold(features, labels, signs), labels)

    alone, joint, wrong = right(None), right(currents.current), right(currents.shifted)
    gain = [b.astype(float) - a for a, b in zip(alone, joint, strict=True)]
    everywhere = [np.ones(len(label), np.bool_) for label in labels]
    kinds = {"clear": [(each.tags & BLOCKING) == 0 for each in seen]}
    kinds |= {tag.name.lower(): [(e.tags & tag) > 0 for e in seen] for tag in Tag if tag.name}
    kinds["hidden spot"] = [each.label & (each.visibility < HIDDEN) for each in seen]
    return Information(
        recordings=len(seen),
        instants=sum(map(len, labels)),
        current=estimate(_right(currents.current, labels), everywhere),
        visual=estimate(alone, everywhere),
        joint=estimate(joint, everywhere),
        gain=estimate(gain, everywhere),
        shifted_gain=estimate(
            [b.astype(float) - a for a, b in zip(alone, wrong, strict=True)], everywhere
        ),
        gains={
            name: (float(np.concatenate(where).mean()), estimate(gain, where))
            for name, where in kinds.items()
        },
    )


def estimate(values: Sequence[NDArray[Any]], where: Sequence[NDArray[np.bool_]]) -> Estimate:
    """The mean of (n,) `values` where `where` holds, over all recordings."""
    sums = np.array([value[at].sum() for value, at in zip(values, where, strict=True)], float)
    counts = np.array([at.sum() for at in where], float)
    sums, counts = sums[counts > 0], counts[counts > 0]
    if len(counts) < 2:
        return Estimate(float("nan"), float("nan"), float("nan"))
    mean = sums.sum() / counts.sum()
    without = (sums.sum() - sums) / (counts.sum() - counts)
    sd = np.sqrt((len(counts) - 1) * np.mean((without - without.mean()) ** 2))
    return Estimate(float(mean), float(mean - 1.96 * sd), float(mean + 1.96 * sd))


def _right(
    log_odds: Sequence[Array], labels: Sequence[NDArray[np.bool_]]
) -> list[NDArray[np.bool_]]:
    return [(score > 0) == label for score, label in zip(log_odds, labels, strict=True)]

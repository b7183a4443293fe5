"""Rates of weighted windows, their intervals, and paired comparisons."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import scipy.special
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    f1_score,
    recall_score,
    roc_auc_score,
)

from fmbench.tables.intervals import blocks, compare, intervals, named_blocks, rates
from fmbench.tables.results import PIXELS

Floats = np.ndarray


def windows_of(
    label: Floats, log_odds: Floats, recording: Floats | None = None, pixels: Floats | None = None
) -> pd.DataFrame:
    count = len(label)
    which = np.zeros(count, int) if recording is None else recording
    table = pd.DataFrame(
        {
            "recording": [f"furnace-{k}" for k in which],
            "frame": np.arange(count),
            "label": label.astype(int),
            "decision": (log_odds > 0).astype(int),
            "log_odds": log_odds,
        }
    )
    return table if pixels is None else table.assign(**dict(zip(PIXELS, pixels.T, strict=True)))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 1), st.integers(-3, 3), st.integers(0, 3)), min_size=4, max_size=40
    )
)
def test_weighted_rates_are_scikit_learns(rows: list[tuple[int, int, int]]) -> None:
    label, score, weight = (np.array(column, float) for column in zip(*rows, strict=True))
    label[:2], weight[:2] = (0, 1), 1  # both classes, so that every rate is defined
    windows = windows_of(label, score + 0.5)
    found = {name: value[0] for name, value in rates(windows, weight[None]).items()}
    decided = score + 0.5 > 0
    expected = {
        "acc": accuracy_score(label, decided, sample_weight=weight),
        "f1": f1_score(label, decided, sample_weight=weight, zero_division=0.0),
        "mdr": 1 - recall_score(label, decided, sample_weight=weight),
        "fdr": 1 - recall_score(label, decided, sample_weight=weight, pos_label=0),
        "auroc": roc_auc_score(label, score, sample_weight=weight),
        "aupr": average_precision_score(label, score, sample_weight=weight),
    }
    assert found == pytest.approx(expected)


def test_a_window_of_weight_two_is_two_windows() -> None:
    rng = np.random.default_rng(0)
    label, score = rng.integers(0, 2, 30), rng.normal(size=30)
    pixels = rng.integers(0, 50, (30, 4)).astype(float)
    times = rng.integers(0, 3, 30)
    windows = windows_of(label, score, pixels=pixels)
    repeated = windows.loc[np.repeat(np.arange(30), times)].reset_index(drop=True)
    weighted = rates(windows, times[None].astype(float))
    for name, value in rates(repeated).items():
        assert weighted[name] == pytest.approx(value), name
    tn, fp, fn, tp = repeated[list(PIXELS)].sum()
    assert weighted["miou"][0] == pytest.approx((tn / (tn + fp + fn) + tp / (tp + fp + fn)) / 2)


def test_windows_of_one_class_leave_the_other_rates_undefined() -> None:
    found = rates(windows_of(np.zeros(4), np.array([1.0, -1, -1, -1])))
    assert found["acc"] == pytest.approx(0.75)
    assert found["fdr"] == pytest.approx(0.25)
    for name in ("mdr", "auroc", "aupr"):
        assert np.isnan(found[name][0]), name


def test_blocks_are_recordings_where_there_are_many() -> None:
    which = np.repeat(np.arange(25), 4)
    windows = windows_of(np.tile([0, 0, 1, 1], 25), np.zeros(100), which)
    assert len(np.unique(blocks(windows))) == 25
    assert named_blocks(windows) == "25 recordings"


def test_blocks_are_two_events_cut_amid_normal_windows_where_recordings_are_few() -> None:
    first = [0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 1, 0, 1, 0]  # four events
    second = [1, 0, 1, 0, 1]  # three: the last block takes what is left
    label = np.array(first + second + [0])
    which = np.array([0] * 14 + [1] * 5 + [2])
    windows = windows_of(label, np.zeros(20), which)
    assert blocks(windows).tolist() == [0] * 8 + [1] * 6 + [2] * 5 + [3]
    assert named_blocks(windows) == "4 stretches of two events"


def furnaces(
    rng: np.random.Generator,
    recordings: int,
    events: int,
    length: int,
    spread: float,
    centred: bool = False,
) -> pd.DataFrame:
    """Windows that are as easy as their event; it is abnormal in the first half, or amid it."""
    within = np.arange(length)
    abnormal = abs(within - length / 2) < length / 4 if centred else within < length // 2
    parts = []
    for k in range(recordings):
        ease = np.repeat(rng.normal(0, spread, events), length)
        label = np.tile(abnormal, events).astype(int)
        right = rng.random(len(label)) < 1 / (1 + np.exp(-(3 + ease)))
        log_odds = np.where(right == (label == 1), 1.0, -1.0)
        parts.append(windows_of(label, log_odds, np.full(len(label), k)))
    return pd.concat(parts, ignore_index=True)


@pytest.mark.slow
@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize(("recordings", "events"), [(30, 1), (3, 12)])
def test_a_95_percent_interval_covers_the_truth_and_a_frame_wise_one_does_not(
    recordings: int, events: int, centred: bool
) -> None:
    rng = np.random.default_rng(7)
    truth = np.mean(1 / (1 + np.exp(-(3 + rng.normal(0, 2, 1_000_000)))))
    covered = naive = 0
    sets = 300
    for _ in range(sets):
        windows = furnaces(rng, recordings, events, 60, 2, centred)
        value, low, high = intervals([windows])["acc"]
        covered += low <= truth <= high
        half = 1.96 * np.sqrt(value * (1 - value) / len(windows))
        naive += abs(value - truth) <= half
    print(f"{recordings} recordings: {covered / sets:.3f}, frame-wise {naive / sets:.3f}")
    assert covered / sets >= 0.9
    assert naive / sets < 0.6


def test_an_interval_is_the_same_every_time_and_holds_the_value() -> None:
    windows = furnaces(np.random.default_rng(1), 25, 2, 10, 1)
    first, second = (intervals([windows]) for _ in range(2))
    assert first == second
    for value, low, high in first.values():
        assert low <= value <= high


def test_the_standard_error_is_that_of_independent_blocks() -> None:
    """Where each block is one number, the jackknife's error is s / sqrt(n), as of any mean."""
    rng = np.random.default_rng(8)
    share = rng.uniform(0.2, 0.8, 30).round(1)
    parts = [
        windows_of(np.ones(10), np.where(np.arange(10) < 10 * s, 1.0, -1.0), np.full(10, k))
        for k, s in enumerate(share)
    ]
    other = pd.concat(parts, ignore_index=True)
    base = other.assign(log_odds=-1.0, decision=0)  # finds nothing, so that the gap is the share
    found = compare([other], [base], exchanges=10)["acc"].difference
    low, high = scipy.stats.t.interval(0.95, 29, share.mean(), scipy.stats.sem(share))
    assert found == pytest.approx((share.mean(), low, high))


def test_a_rate_of_nought_or_one_has_the_binomial_end_of_its_blocks() -> None:
    label = np.tile([0, 1], 50)
    which = np.repeat(np.arange(25), 4)
    perfect = windows_of(label, np.where(label == 1, 1.0, -1.0), which)
    found = intervals([perfect])
    ends = scipy.stats.binomtest(0, 25).proportion_ci(0.95, "exact")
    assert found["mdr"] == pytest.approx((0, 0, ends.high))
    assert found["acc"] == pytest.approx((1, 1 - ends.high, 1))


def test_one_block_alone_gives_a_value_and_no_interval() -> None:
    found = intervals([windows_of(np.array([0, 1, 1, 0]), np.array([1.0, 1, -1, -1]))])
    assert found["acc"].value == 0.5
    assert np.isnan(found["acc"].low)
    assert np.isnan(found["acc"].high)
    perfect = [windows_of(np.array([0, 1]), np.array([-1.0, 1]))]
    assert np.isnan(intervals(perfect)["acc"].low)
    gap = compare(perfect, perfect)["acc"]
    assert gap.difference.value == 0
    assert np.isnan([gap.difference.low, gap.difference.high, gap.p]).all()


def right_in(shares: Floats) -> pd.DataFrame:
    """Windows of C recordings, 20 each, all abnormal, of which (C,) shares are found."""
    rank = np.tile(np.arange(20), len(shares))
    found = rank < np.repeat(shares, 20) * 20
    which = np.repeat(np.arange(len(shares)), 20)
    return windows_of(np.ones(len(found)), np.where(found, 1.0, -1.0), which)


def test_seeds_that_differ_alike_in_every_block_have_the_interval_of_their_mean() -> None:
    """Where recordings do not differ, all that is left is Student's interval of a few numbers."""
    accuracy = np.array([0.6, 0.7, 0.75])
    seeds = [right_in(np.full(22, share)) for share in accuracy]
    scaled = scipy.special.logit(accuracy)
    reach = scipy.stats.t.ppf(0.975, 2) * scipy.stats.sem(scaled)
    middle = scipy.special.logit(accuracy.mean())
    ends = scipy.special.expit([middle - reach, middle + reach])
    assert intervals(seeds)["acc"] == pytest.approx((accuracy.mean(), *ends))
    base = [right_in(np.full(22, 0.5))]
    gap = compare(seeds, base, exchanges=10)["acc"].difference
    low, high = scipy.stats.t.interval(0.95, 2, accuracy.mean() - 0.5, scipy.stats.sem(accuracy))
    assert gap == pytest.approx((accuracy.mean() - 0.5, low, high))


def test_a_seed_is_not_a_block() -> None:
    """The same seed three times knows no more than once."""
    seed = right_in(np.random.default_rng(2).uniform(0.2, 0.8, 25).round(1))
    assert intervals([seed] * 3)["acc"] == pytest.approx(intervals([seed])["acc"])


@pytest.mark.slow
@pytest.mark.parametrize(("apart", "together"), [(0.3, 0.0), (0.0, 0.3)])
def test_seeds_and_recordings_in_one_interval_cover_the_truth(
    apart: float, together: float
) -> None:
    """Crossed: recordings, seeds that differ alike in all (`together`) or in each (`apart`)."""
    rng = np.random.default_rng(11)
    draws = rng.normal(0, np.sqrt(1 + apart**2 + together**2), 1_000_000)
    truth = np.mean(scipy.special.expit(1.5 + draws))
    covered = blind = 0
    sets = 150
    for _ in range(sets):
        recording = rng.normal(0, 1, 40)
        seeds = []
        for _ in range(3):
            ease = 1.5 + recording + rng.normal(0, together) + rng.normal(0, apart, 40)
            seeds.append(right_in(rng.binomial(20, scipy.special.expit(ease)) / 20))
        _, low, high = intervals(seeds)["acc"]
        covered += low <= truth <= high
        _, low, high = intervals(seeds[:1])["acc"]
        blind += low <= truth <= high
    print(f"apart {apart}, together {together}: {covered / sets:.3f}, one seed {blind / sets:.3f}")
    assert covered / sets >= 0.90


def test_a_detector_compared_with_itself_differs_by_nothing() -> None:
    windows = furnaces(np.random.default_rng(3), 22, 2, 10, 1)
    for each in compare([windows], [windows], exchanges=100).values():
        assert each.difference == (0, 0, 0)
        assert np.isnan(each.p) or each.p == 1


def test_a_better_detector_is_told_from_chance() -> None:
    rng = np.random.default_rng(4)
    label = np.tile([0, 1], 300)
    which = np.repeat(np.arange(30), 20)
    good = windows_of(
        label, np.where(label == 1, 1.0, -1.0) * np.where(rng.random(600) < 0.95, 1, -1), which
    )
    poor = windows_of(
        label, np.where(label == 1, 1.0, -1.0) * np.where(rng.random(600) < 0.8, 1, -1), which
    )
    found = compare([good], [poor], exchanges=500)
    assert found["acc"].difference.low > 0
    assert found["acc"].p <= 0.01
    back = compare([poor], [good], exchanges=500)
    assert back["acc"].difference.value == pytest.approx(-found["acc"].difference.value)
    assert back["acc"].p == found["acc"].p


def test_where_nothing_differs_p_is_small_as_seldom_as_it_says() -> None:
    rng = np.random.default_rng(5)
    small = 0
    for _ in range(200):
        ease = np.repeat(rng.normal(0, 2, 24), 10)
        label = np.tile([0, 1], 120)
        which = np.repeat(np.arange(24), 10)
        pair = []
        for _ in range(2):
            right = rng.random(240) < 1 / (1 + np.exp(-(1 + ease)))
            pair.append(windows_of(label, np.where(right == (label == 1), 1.0, -1.0), which))
        p = compare([pair[0]], [pair[1]], exchanges=60)["acc"].p
        small += p <= 0.1
    assert 0.04 <= small / 200 <= 0.17  # 0.1 within what 200 draws and 60 exchanges allow


OTHER: list[Callable[[pd.DataFrame], pd.DataFrame]] = [
    lambda windows: windows.iloc[:-1],
    lambda windows: windows.assign(frame=windows["frame"] + 1),
    lambda windows: windows.assign(label=1 - windows["label"]),
]


@pytest.mark.parametrize("change", OTHER)
def test_other_windows_cannot_be_paired(change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    windows = furnaces(np.random.default_rng(6), 3, 2, 10, 1)
    with pytest.raises(ValueError, match="tested on different windows; they cannot be paired"):
        compare([windows], [change(windows)])

"""Range-based measures against plain loops and the numbers of the authors' library."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from fmbench.alarms.ranges import event_f1, vus_pr


def ranges_of(label: list[float]) -> list[tuple[int, int]]:
    found, start = [], None
    for k, value in enumerate([*label, 0]):
        if value > 0 and start is None:
            start = k
        if value == 0 and start is not None:
            found.append((start, k - 1))
            start = None
    return found


def by_definition(score: np.ndarray, label: np.ndarray, longest: int) -> float:
    """One recording, every threshold, every buffer."""
    areas = []
    for buffer in range(longest + 1):
        soft = label.astype(float).tolist()
        for start, stop in ranges_of(label.tolist()):
            for k in range(len(label)):
                far = max(start - k, k - stop)
                if 0 < far <= buffer // 2:
                    soft[k] += (1 - far / buffer) ** 0.5
        soft = [min(1.0, value) for value in soft]
        area = before = 0.0
        for threshold in sorted(set(score.tolist()), reverse=True):
            called = [k for k in range(len(score)) if score[k] >= threshold]
            true = sum(soft[k] for k in called)
            spans = ranges_of(soft)
            exist = sum(any(a <= k <= b for k in called) for a, b in spans) / len(spans)
            recall = min(1.0, true / ((sum(label) + sum(soft)) / 2)) * exist
            area += true / len(called) * (recall - before)
            before = recall
        areas.append(area)
    return float(np.mean(areas))


@given(st.integers(0, 10_000), st.booleans())
def test_vus_pr_is_its_definition(seed: int, tied: bool) -> None:
    rng = np.random.default_rng(seed)
    label = np.repeat(rng.integers(0, 2, 8), rng.integers(1, 7, 8))
    label[rng.integers(len(label))] = 1
    score = rng.normal(size=len(label)) + label
    score = np.round(score) if tied else score
    assert vus_pr([score], [label], 7) == pytest.approx(by_definition(score, label, 7))


def test_vus_pr_has_the_numbers_of_the_authors_library() -> None:
    """`metricor.RangeAUC` of vus 0.0.6 gave precision and recall at each of 240 thresholds, for
    buffers of 0 to 20; the mean of the areas, sum of precision x growth of recall."""
    rng = np.random.default_rng(7)
    label = np.zeros(240)
    for start, stop in ((40, 60), (100, 103), (150, 190), (236, 240)):
        label[start:stop] = 1
    score = rng.normal(size=240) + 1.5 * label + np.convolve(label, np.ones(9) / 9, "same")
    assert vus_pr([np.round(score, 6)], [label], 20) == pytest.approx(0.934964473415253, abs=1e-12)


def test_buffers_do_not_reach_into_another_recording() -> None:
    label = np.array([0, 0, 0, 1, 1, 1])
    apart = vus_pr([np.arange(6.0), -np.arange(1.0, 7.0)], [label, np.zeros(6)], 4)
    joined = vus_pr(
        [np.append(np.arange(6.0), -np.arange(1.0, 7.0))], [np.append(label, [0] * 6)], 4
    )
    assert apart != pytest.approx(joined)
    assert np.isnan(vus_pr([np.arange(6.0)], [np.zeros(6)], 4))


@given(
    st.lists(st.integers(0, 60), max_size=6, unique=True),
    st.lists(st.integers(0, 60), max_size=6, unique=True),
    st.sampled_from([0, 3, 10]),
)
def test_event_f1_counts_the_most_pairs(onsets: list[int], alarms: list[int], most: int) -> None:
    a, b = np.sort(np.array(onsets, float)), np.sort(np.array(alarms, float))
    pairs = 0
    if len(a) and len(b):
        near = csr_array((np.abs(a[:, None] - b[None]) <= most).astype(int))
        pairs = int((maximum_bipartite_matching(near) >= 0).sum())
    found = event_f1(a, b, most)
    total = len(a) + len(b)
    assert (found == 2 * pairs / total) if total else np.isnan(found)

"""Window arithmetic against plain loops."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fmbench.data.windows import WindowSpec, align_currents, clip_index, current_index
from fmbench.format.columns import Currents, format_seconds

SECOND = 1_683_754_407  # 2023-05-10 21:33:27


def currents_of(rows_per_second: list[int], first: int = SECOND) -> Currents:
    """Sample values count up from 0, the same in all three phases."""
    seconds = np.repeat(first + np.arange(len(rows_per_second)), rows_per_second)
    values = np.arange(len(seconds), dtype=np.float32)
    return Currents(seconds, np.stack([values] * 3, axis=1))


def window(currents: Currents, seconds: np.ndarray, frame: int, spec: WindowSpec) -> list[float]:
    track = align_currents(currents, seconds, spec)
    end = track.end[[frame]]
    rows = current_index(end, np.zeros(1, np.int64), spec.current_samples, spec.history)
    return track.values[rows[0], 0].tolist()


def released_window(
    rows: list[tuple[int, float]], second: int, current_seconds: int
) -> list[float]:
    """What official-format 4.3 and 4.6 say, in plain Python: pairs, their order, a stretch."""
    pairs = [rows[i : i + 2] for i in range(0, len(rows), 2)]
    place = [pair[0][0] for pair in pairs].index(second)
    chosen = pairs[max(place + 1 - current_seconds, 0) : place + 1]
    values = [value for pair in chosen for _, value in pair]
    if len(values) < 2 * current_seconds:
        points = np.linspace(start=0, stop=len(values) - 1, num=2 * current_seconds)
        values = [values[int(point)] for point in points]
    return values


@given(
    frame=st.lists(st.integers(0, 200), min_size=1, max_size=5),
    frames=st.integers(1, 12),
    stride=st.integers(1, 20),
)
def test_a_clip_ends_at_its_frame_and_repeats_frame_0_before_the_start(
    frame: list[int], frames: int, stride: int
) -> None:
    index = clip_index(np.array(frame, np.int32), frames, stride)
    for row, last in zip(index, frame, strict=True):
        assert row.tolist() == [max(last - k * stride, 0) for k in range(frames - 1, -1, -1)]


@settings(deadline=None)
@given(
    length=st.integers(1, 40),
    place=st.integers(0, 39),
    current_seconds=st.integers(1, 50),
)
def test_a_clean_file_gives_the_released_window(
    length: int, place: int, current_seconds: int
) -> None:
    place = min(place, length - 1)
    currents = currents_of([2] * length)
    rows = list(zip(currents.seconds.tolist(), currents.values[:, 0].tolist(), strict=True))
    seconds = SECOND + np.arange(length)
    for gaps in ("positional", "hold", "drop"):
        spec = WindowSpec(current_samples=2 * current_seconds, gaps=gaps)
        expected = released_window(rows, SECOND + place, current_seconds)
        assert window(currents, seconds, place, spec) == expected


@given(rows=st.integers(1, 30), samples=st.integers(1, 40), base=st.integers(0, 7))
def test_a_padded_history_repeats_the_first_sample(rows: int, samples: int, base: int) -> None:
    index = current_index(np.array([base + rows]), np.array([base]), samples, "pad")
    expected = [max(base + rows - samples + k, base) for k in range(samples)]
    assert index[0].tolist() == expected


@settings(deadline=None)
@given(
    counts=st.lists(st.integers(0, 3), min_size=2, max_size=15),
    samples=st.integers(1, 12),
    causal=st.booleans(),
)
def test_gaps_agree_with_a_clock_of_two_samples_a_second(
    counts: list[int], samples: int, causal: bool
) -> None:
    counts[0] = 2
    currents = currents_of(counts)
    seconds = np.repeat(SECOND + np.arange(len(counts)), 25)
    spec = {"current_samples": samples, "history": "pad", "causal": causal}
    # the reference: one slot after another
    slots: list[float] = []
    for k, count in enumerate(counts):
        mine = currents.values[currents.seconds == SECOND + k, 0].tolist()
        slots += [mine[0], mine[-1]] if count else [slots[-1]] * 2
    held = WindowSpec(gaps="hold", **spec)
    dropped = align_currents(currents, seconds, WindowSpec(gaps="drop", **spec)).whole
    for frame in range(0, len(seconds), 7):
        second, place = divmod(frame, 25)
        last = 2 * second + (0 if causal and place < 12.5 else 1)
        expected = [slots[max(last - k, 0)] for k in range(samples - 1, -1, -1)]
        assert window(currents, seconds, frame, held) == expected
        touched = {max(last - k, 0) // 2 for k in range(samples)}
        assert dropped[frame] == all(counts[k] == 2 for k in touched)


def test_positional_windows_take_the_last_rows_whatever_their_time() -> None:
    currents = currents_of([2, 0, 1, 2])
    seconds = SECOND + np.arange(4)
    spec = WindowSpec(current_samples=4, gaps="positional")
    assert window(currents, seconds, 3, spec) == [1, 2, 3, 4]
    assert align_currents(currents, seconds, spec).whole.tolist() == [True, False, True, True]


def test_a_causal_window_holds_no_sample_after_its_frame() -> None:
    counts = [24, 25, 26, 25]
    seconds = np.repeat(SECOND + np.arange(4), counts)
    track = align_currents(
        currents_of([2] * 4), seconds, WindowSpec(causal=True, gaps="positional")
    )
    place = np.concatenate([np.arange(count) for count in counts])
    for frame, (end, k) in enumerate(zip(track.end, place, strict=True)):
        sampled_at = (end - 1) / 2  # s after the start, of the last sample of the window
        shot_at = seconds[frame] - SECOND + k / 25
        assert sampled_at <= shot_at


def test_frames_before_the_first_current_have_no_window() -> None:
    currents = currents_of([2, 2], first=SECOND + 1)
    seconds = SECOND + np.arange(3)
    for gaps in ("hold", "drop"):
        track = align_currents(currents, seconds, WindowSpec(current_samples=2, gaps=gaps))
        assert track.whole.tolist() == [False, True, True]


def test_hold_repeats_the_last_sample_after_the_current_has_ended() -> None:
    spec = WindowSpec(current_samples=4, gaps="hold")
    assert window(currents_of([2, 2]), SECOND + np.arange(4), 3, spec) == [3, 3, 3, 3]


def test_a_date_decades_off_is_named_rather_than_filling_memory() -> None:
    with pytest.raises(ValueError, match="dates must be wrong"):
        align_currents(
            currents_of([2]), np.array([SECOND, SECOND + 10**9]), WindowSpec(gaps="hold")
        )


def test_seconds_are_written_as_the_files_write_them() -> None:
    assert format_seconds(np.array([SECOND])) == ["2023-05-10 21:33:27"]
    later = datetime(2023, 5, 10, 21, 33, 27) + timedelta(days=300, seconds=5)
    assert format_seconds(np.array([SECOND + 300 * 86400 + 5])) == [str(later)]


def test_the_guard_is_the_longest_clip_and_the_longest_current_window() -> None:
    assert WindowSpec(frames=10, stride=4, current_samples=240).seconds == pytest.approx(121.44)

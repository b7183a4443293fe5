"""Window arithmetic against plain loops."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fmbench.data.windows import (
    WindowSpec,
    align_currents,
    clip_index,
    current_index,
    samples_of,
    spacing_of,
    stride_of,
)
from fmbench.format.columns import Currents, format_seconds
from fmbench.types import Plant

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


PLANTS = st.builds(
    Plant,
    frame_rate=st.sampled_from([0.5, 1.0, 2.0, 9.99, 10.0, 25.0, 30.0, 120.0]),
    current_rate=st.sampled_from([0.1, 0.2, 0.5, 1, 2, 3, 20, 50.0]),
)


def slow_loop(
    rows: list[tuple[int, float]], seconds: list[int], frame: int, spec: WindowSpec
) -> list[float] | None:
    """The window of a frame, sample after sample; None where it is left out, or has no current.

    The history is padded. Without `hold`, rows that are there are taken, whatever their time.
    """
    rate, fps = spec.plant.current_rate, spec.plant.frame_rate
    now, begin = seconds[frame], rows[0][0]
    place = sum(second == now for second in seconds[:frame])
    if rate >= 1:  # groups of a second; a sample is seen if it is not after the frame
        each, every = round(rate), 1
        seen = sum(1 for j in range(each) if j * fps <= place * each * (1 + 1e-12))
        seen = seen if spec.causal else each
    else:
        each, every, seen = 1, round(1 / rate), 1
    if now < begin:
        return None

    def group(start: int) -> list[float]:
        return [value for second, value in rows if start <= second < start + every]

    own = (now - begin) // every
    if spec.gaps == "hold":
        slots: list[float] = []
        for k in range(own + 1):
            start = begin + k * every
            mine = [value for second, value in rows if second == start]
            held = [value for second, value in rows if second <= start][-1]
            for j in range(each):
                last = mine[-1] if mine else held
                slots.append(mine[j] if j < min(each - 1, len(mine)) else last)
        slots = slots[: own * each + seen]
        return [slots[max(k, 0)] for k in range(len(slots) - spec.current_samples, len(slots))]
    current = max((second for second, _ in rows if second <= now), default=-1)
    if current < 0 or now - current >= every:
        return None
    known = [value for second, value in rows if second < current]
    newest = [value for second, value in rows if second == current]
    known += newest[:seen] if seen < each else newest
    if spec.gaps == "drop":
        first = max(own * each + seen - spec.current_samples, 0) // each
        for k in range(first, own + 1):
            if len(group(begin + k * every)) != each:
                return None
    return [known[max(k, 0)] for k in range(len(known) - spec.current_samples, len(known))]


@settings(deadline=None, max_examples=300)
@given(
    plant=PLANTS,
    gaps=st.sampled_from(["positional", "hold", "drop"]),
    causal=st.booleans(),
    samples=st.integers(1, 60),
    draw=st.data(),
)
def test_windows_of_any_rates_agree_with_a_loop_over_samples(
    plant: Plant, gaps: str, causal: bool, samples: int, draw: st.DataObject
) -> None:
    counts = draw.draw(
        st.lists(st.sampled_from([plant.samples] * 5 + [0, 1, plant.samples + 1]), min_size=1)
    )
    counts[0] = counts[0] or 1
    late = draw.draw(st.sampled_from([0, 0, 0, 1]))  # rows go on beside the grid after a gap
    starts = [k * plant.period + (late if k > len(counts) // 2 else 0) for k in range(len(counts))]
    seconds = np.repeat(SECOND + np.array(starts), counts)
    values = np.arange(len(seconds), dtype=np.float32)
    currents = Currents(seconds, np.stack([values] * 2, axis=1))
    length = len(counts) * plant.period + 2
    times = SECOND - 1 + np.arange(0, length, 1 / plant.frame_rate)
    frames = np.floor(times + 1e-9).astype(np.int64)
    spec = WindowSpec(current_samples=samples, gaps=gaps, causal=causal, history="pad", plant=plant)
    track = align_currents(currents, frames, spec)
    rows = list(zip(seconds.tolist(), values.tolist(), strict=True))
    chosen = draw.draw(st.lists(st.integers(0, len(frames) - 1), min_size=1, max_size=6))
    for frame in chosen:
        expected = slow_loop(rows, frames.tolist(), frame, spec)
        assert track.whole[frame] == (expected is not None)
        if expected is not None:
            index = current_index(track.end[[frame]], np.zeros(1, np.int64), samples, "pad")
            assert track.values[index[0], 0].tolist() == expected


@settings(deadline=None)
@given(plant=PLANTS, gaps=st.sampled_from(["positional", "hold", "drop"]))
def test_no_window_holds_a_sample_after_its_frame(plant: Plant, gaps: str) -> None:
    periods = 12
    seconds = np.repeat(SECOND + plant.period * np.arange(periods), plant.samples)
    within = np.tile(np.arange(plant.samples) / plant.samples, periods)
    times = (seconds - SECOND + within).astype(np.float32)  # each sample is its own time
    currents = Currents(seconds, times[:, None])
    filmed = np.arange(0, periods * plant.period, 1 / plant.frame_rate)
    spec = WindowSpec(current_samples=5, gaps=gaps, causal=True, plant=plant)
    track = align_currents(currents, SECOND + np.floor(filmed + 1e-9).astype(np.int64), spec)
    newest = track.values[track.end - 1, 0]
    assert track.whole.all()
    assert (newest <= filmed + 1e-4).all()
    # A frame lacks at most the samples of one frame period, and of one sample period.
    assert (newest > filmed - 1 / plant.frame_rate - 1 / plant.current_rate - 1e-4).all()


def test_a_span_at_a_high_rate_is_refused_sooner() -> None:
    currents = Currents(np.array([SECOND, SECOND + 10**6]), np.zeros((2, 1), np.float32))
    spec = WindowSpec(gaps="hold", plant=Plant(current_rate=1000))
    with pytest.raises(ValueError, match="one of its dates must be wrong"):
        align_currents(currents, np.array([SECOND]), spec)


@pytest.mark.parametrize(
    ("seconds", "frames", "rate", "stride"),
    [(1.44, 10, 25, 4), (1.8, 10, 10, 2), (1.5, 4, 10, 5), (0.36, 10, 25, 1), (60, 2, 0.5, 30)],
)
def test_a_clip_in_seconds_gives_the_nearest_stride(
    seconds: float, frames: int, rate: float, stride: int
) -> None:
    assert stride_of(seconds, frames, rate) == stride


def test_a_clip_that_is_too_short_says_what_is_possible() -> None:
    with pytest.raises(ValueError, match=r"10 frames at 10 a second span at least 0\.9 s; set fr"):
        stride_of(0.3, 10, 10)
    with pytest.raises(ValueError, match="one frame has no length"):
        stride_of(1, 1, 25)


def test_current_in_seconds_gives_samples() -> None:
    assert [samples_of(120, 2), samples_of(12.02, 50), samples_of(60, 0.2)] == [240, 601, 12]
    with pytest.raises(ValueError, match=r"at 0\.2 samples a second, it must be at least 5"):
        samples_of(2, 0.2)


@given(rate=st.sampled_from([0.5, 5.0, 10.0, 25.0, 30000 / 1001]), tenths=st.integers(1, 100))
def test_a_spacing_in_seconds_is_one_in_frames_by_the_rate(rate: float, tenths: int) -> None:
    seconds = tenths / 10
    if seconds * rate < 1 - 1e-6:
        with pytest.raises(ValueError, match=f"less than a frame; at {rate:g} frames a second"):
            spacing_of(f"{seconds}s", rate)
    else:
        assert spacing_of(f"{seconds} s", rate) == pytest.approx(seconds * rate)
    assert spacing_of(tenths, rate) == spacing_of(str(tenths), rate) == tenths

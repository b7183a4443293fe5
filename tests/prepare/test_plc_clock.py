"""The clock of a log: formats, zones, the hour that comes twice, rows out of order."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fmbench.format.columns import format_second
from fmbench.prepare.ingest.times import parse_times, spread_within_seconds
from test_plc import SECOND, log, read, stamp, three

AUTUMN = datetime(2030, 10, 27, 2, 30)


@pytest.mark.parametrize(
    ("cells", "form"),
    [
        (["2030-05-20 06:00:00", "2030-05-20 06:00:01.5"], None),
        (["2030-05-20T06:00:00", "2030-05-20T06:00:01.500"], None),
        (["20300520T060000", "20300520T060001.5"], None),
        (["2030/5/20 6:00:00,0", "2030/5/20 6:00:01,5"], None),
        ([str(SECOND), str(SECOND + 1.5)], None),
        (["20.05.2030 06:00:00,0", "20.05.2030 06:00:01,5"], "%d.%m.%Y %H:%M:%S,%f"),
        (["20.05.30 06:00:00:000", "20.05.30 06:00:01:500"], None),
    ],
)
def test_times_as_people_and_machines_write_them(cells: list[str], form: str | None) -> None:
    found = parse_times(pd.Series(cells), Path("a.csv"), form).seconds
    assert found.tolist() == [SECOND, SECOND + 1.5]
    assert format_second(found[1]) == "2030-05-20 06:00:01"


@pytest.mark.parametrize(
    ("text", "hour"), [("12:00:00 AM", 0), ("12:00:00 PM", 12), ("1:00:00 p.m.", 13)]
)
def test_noon_and_midnight_of_a_12_hour_clock(text: str, hour: int) -> None:
    found = parse_times(pd.Series([f"20/05/2030 {text}"]), Path("a.csv")).seconds
    assert found[0] == SECOND + 3600 * (hour - 6)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=20))
def test_rows_of_one_second_are_spread_over_it(counts: list[int]) -> None:
    whole = np.repeat(np.arange(len(counts)), counts).astype(float)
    found = spread_within_seconds(whole)
    assert (np.floor(found) == whole).all()
    assert (np.diff(found) > 0).all()
    for second, count in enumerate(counts):
        inside = found[whole == second] - second
        assert np.allclose(inside, np.arange(count) / count)


def test_finer_times_are_left_as_they_are() -> None:
    times = np.array([0, 0.2, 0.2, 1.0])
    assert spread_within_seconds(times) is times


@pytest.mark.parametrize(
    ("head", "ahead"),
    [
        ("Time (UTC)", 0),
        ("Zeit UTC", 0),
        ("time GMT+8", 8),
        ("t [UTC-03:30]", -3.5),
        ("UTCtime", 0),
    ],
)
def test_a_header_may_say_the_zone(tmp_path: Path, head: str, ahead: float) -> None:
    found = read(log(tmp_path, f"{stamp(0)},9000", f"{stamp(1)},9000", head=f"{head},I")).log
    assert (found.clock, found.seconds[0]) == ("utc", SECOND - 3600 * ahead)


@pytest.mark.parametrize(
    ("head", "scale"),
    [("t", 1), ("t [s]", 1), ("t [ms]", 0.001), ("elapsed_ms", 0.001), ("time (min)", 60)],
)
def test_elapsed_times_have_the_unit_of_their_header(
    tmp_path: Path, head: str, scale: float
) -> None:
    found = read(log(tmp_path, *(f"{500 * k},9000" for k in range(4)), head=f"{head},I")).log
    assert found.clock == "elapsed"
    assert np.allclose(found.seconds, 500 * scale * np.arange(4))


def test_offsets_may_change_within_a_file(tmp_path: Path) -> None:
    rows = ["2030-03-31T01:59:59+01:00,9000", "2030-03-31T03:00:00+02:00,9001"]
    told = read(log(tmp_path, *rows, head="time,A"))
    assert told.log.clock == "utc"
    assert np.diff(told.log.seconds).tolist() == [1]
    assert format_second(told.log.seconds[0]) == "2030-03-31 00:59:59"


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Shanghai"]),
    st.integers(0, 365 * 24 - 1),
    st.integers(-90, 0),
)
def test_local_times_of_a_zone_are_those_of_zoneinfo(name: str, hour: int, minutes: int) -> None:
    """Four hours from any time of a year."""
    begin = datetime(2030, 1, 1, tzinfo=UTC) + timedelta(hours=hour, minutes=minutes)
    check_zone(name, begin)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("Europe/Berlin", "2030-10-27T01:00"),
        ("Europe/Berlin", "2030-03-31T01:00"),
        ("America/New_York", "2030-11-03T06:00"),
        ("Australia/Lord_Howe", "2030-04-06T15:00"),  # half an hour
    ],
)
def test_the_clock_of_a_zone_may_change_within_a_log(name: str, change: str) -> None:
    check_zone(name, datetime.fromisoformat(change).replace(tzinfo=UTC) - timedelta(hours=2))


def check_zone(name: str, begin: datetime) -> None:
    times = [begin + timedelta(seconds=30 * k) for k in range(480)]
    local = [when.astimezone(ZoneInfo(name)).replace(tzinfo=None) for when in times]
    with tempfile.TemporaryDirectory() as folder:
        rows = [f"{when.isoformat(' ')},{9000 + k}" for k, when in enumerate(local)]
        told = read(log(Path(folder), *rows, head="time,A"), zone=name)
    assert told.log.seconds.tolist() == [when.timestamp() for when in times]
    assert told.log.values[:, 0].tolist() == [9000 + k for k in range(480)]
    assert told.log.clock == "utc"


def test_the_repeated_hour_is_kept_apart_by_the_zone_or_by_a_jump_of_an_hour(
    tmp_path: Path,
) -> None:
    rows = [three(k, 9000, AUTUMN) for k in range(0, 1800, 5)]
    rows += [three(k, 20_000, AUTUMN) for k in range(-1800, 1800, 5)]
    path = log(tmp_path, *rows)
    told = read(path)
    assert told.log.values[:, 0].tolist() == [9000] * 360 + [20_000] * 720
    assert set(np.diff(told.log.seconds)) == {5.0}
    assert "the clock goes back an hour in line 362 (2030-10-27 02:00:00)" in told.remarks[0]
    zoned = read(path, zone="Europe/Berlin").log
    assert zoned.values.tolist() == told.log.values.tolist()
    assert zoned.seconds[0] == (AUTUMN - timedelta(hours=2)).replace(tzinfo=UTC).timestamp()
    assert set(np.diff(zoned.seconds)) == {5.0}


def test_a_part_of_the_repeated_hour_needs_the_zone(tmp_path: Path) -> None:
    rows = [three(k / 2, value, AUTUMN) for value in (9000, 20_000) for k in range(60)]
    path = log(tmp_path, *rows)
    with pytest.raises(ValueError, match=r"line 62: the clock goes back 30 s, .* --zone tells the"):
        read(path)
    zoned = read(path, zone="Europe/Berlin").log
    assert zoned.seconds[60] - zoned.seconds[0] == 3600
    assert zoned.values[:, 0].tolist() == [9000] * 60 + [20_000] * 60
    with pytest.raises(ValueError, match="lines 2 to 61: these times come twice in Europe/Berlin"):
        read(log(tmp_path, *rows[:60]), zone="Europe/Berlin")


def test_an_hour_that_is_skipped_at_night_is_told(tmp_path: Path) -> None:
    rows = [three(k, 9000, datetime(2030, 3, 31, 1, 59)) for k in [*range(60), *range(3660, 3700)]]
    path = log(tmp_path, *rows)
    (remark,) = read(path).remarks
    assert "the clock skips an hour in line 62 (2030-03-31 03:00:00), as in spring" in remark
    zoned = read(path, zone="Europe/Berlin")
    assert not zoned.remarks
    assert set(np.diff(zoned.log.seconds)) == {1.0}


def test_a_time_that_its_zone_skips_is_refused(tmp_path: Path) -> None:
    path = log(tmp_path, three(0, 9000, datetime(2030, 3, 31, 2, 30)))
    with pytest.raises(ValueError, match="line 2: 2030-03-31 02:30:00 does not exist in Europe"):
        read(path, zone="Europe/Berlin")


def test_joined_exports_are_sorted_and_equal_rows_dropped(tmp_path: Path) -> None:
    rows = [three(k / 2, 9000 + k) for k in range(60)]
    whole = read(log(tmp_path, *rows)).log
    told = read(log(tmp_path, *rows[:40], "time,A,B,C", *rows[20:]))
    assert told.log.values.tolist() == whole.values.tolist()
    assert told.log.seconds.tolist() == whole.seconds.tolist()
    assert told.remarks == [
        "the header comes again in line 42; exports were joined",
        "20 rows repeat earlier ones, lines 43, 44, 45, …; exports overlap, and the rows were"
        " dropped",
        "the clock goes back 1 times, first in line 43 (2030-05-20 06:00:10), by up to 9.5 s; rows"
        " were sorted",
    ]
    turned = read(log(tmp_path, *rows[30:], *rows[:30]))
    assert turned.log.values.tolist() == whole.values.tolist()
    assert len(turned.remarks) == 1
    other = [three(k / 2, 9100 + k) for k in range(60)]
    with pytest.raises(
        ValueError, match=r"line 42: the clock goes back 10 s, .* contradict earlier"
    ):
        read(log(tmp_path, *rows[:40], *other[20:]))


def test_rows_out_of_order_are_sorted_and_told(tmp_path: Path) -> None:
    rows = [three(k / 2, 9000 + k) for k in range(40)]
    rows[10], rows[20] = rows[20], rows[10]
    rows.append(rows[-1])
    told = read(log(tmp_path, *rows))
    assert told.log.values[:, 0].tolist() == [9000 + k for k in range(40)]
    assert "the clock goes back 2 times, first in line 13 (2030-05-20 06:00:05)" in told.remarks[0]
    assert told.remarks[1] == "1 rows come twice, line 42; dropped"


def test_a_12_hour_clock_without_am_and_pm_is_refused(tmp_path: Path) -> None:
    noon = datetime(2030, 5, 20, 12, 59)
    rows = [three(k, 9000 + k, noon) for k in range(60)]
    rows += [three(k, 9500 + k, noon - timedelta(hours=12)) for k in range(60, 120)]
    with pytest.raises(ValueError, match=r"line 62: the clock goes back 12 hours, .* AM and PM"):
        read(log(tmp_path, *rows))
    night = datetime(2030, 5, 20, 23, 59)
    rows = [three(k, 9000 + k, night) for k in range(60)]
    rows += [three(k, 9500 + k, night - timedelta(days=1)) for k in range(60, 120)]
    with pytest.raises(ValueError, match="the date does not change at midnight"):
        read(log(tmp_path, *rows))


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ([f"01.05.2030 06:0{k // 60}" for k in range(180)], "line 2: 60 rows have one time (its"),
        (["1.90385E+12"] * 6000, "line 2: 6000 rows have one time (they may be rounded)"),
    ],
)
def test_times_that_were_rounded_by_a_spreadsheet_are_refused(
    tmp_path: Path, cells: list[str], said: str
) -> None:
    with pytest.raises(ValueError) as refusal:
        read(log(tmp_path, *(f"{cell},9000" for cell in cells), head="time,A"))
    assert said in str(refusal.value)


def test_equal_times_with_other_values_are_told(tmp_path: Path) -> None:
    rows = [three(0.5, 9000), three(0.5, 9100), three(1.5, 9000)]
    told = read(log(tmp_path, *rows))
    assert told.remarks[0].startswith("1 times come twice with other values, first at 2030-05-20")


@pytest.mark.parametrize(
    ("rows", "options", "said"),
    [
        (["x,1,2,3"], {}, "plc.csv, line 2: 'x' is no time; expected YYYY-MM-DD HH:MM:SS[.fff]"),
        (
            [f"{stamp(0)},1,2,3", "2030-05-20T06:00:01+01:00,1,2,3"],
            {},
            "plc.csv: some of its times have a zone and others have none: lines 2 and 3",
        ),
        ([f"{stamp(0)},1,2,3"], {"time_format": "%Q"}, "plc.csv: '%Q' is no format of a time"),
        ([f"{stamp(0)},1,2,3"], {"phases": "D"}, "no column 'D'"),
        ([f"{stamp(0)},1,2,3"], {"time": "tiem"}, "no column 'tiem'; did you mean 'time'?"),
        ([f"{stamp(0)},,2,3"] * 3, {}, "phase 'A' has no value at all"),
        ([], {}, "0 rows, 3 phases; nothing to read"),
        ([f"{stamp(0)},1,2,3", f"{stamp(2e7)},1,2,3"], {}, "one of them must be wrong"),
    ],
)
def test_a_log_that_cannot_be_read_is_refused(
    tmp_path: Path, rows: list[str], options: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError) as refusal:
        read(log(tmp_path, *rows), **options)
    assert said in str(refusal.value)

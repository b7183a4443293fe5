"""A log's rows as two samples a second, and what `fmbench data ingest` says of a log."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fmbench.data.recording import MatRecording, upright_frames
from fmbench.prepare.ingest import Remarks, to_samples
from fmbench.prepare.ingest.sampling import describe_rate
from test_cli import Command, fmbench, refused
from test_plc import BEGIN, SECOND, log, read, stamp, three

__all__ = ["fmbench"]  # a fixture

AUTUMN = datetime(2030, 10, 27, 2, 30)
ROWS = [three(k / 2, 9000 + 37 * (k % 5)) for k in range(60)]


def samples(times: Any, values: Any, **options: Any) -> NDArray[np.float64]:
    seconds, columns = SECOND + np.asarray(times, float), np.asarray(values, float)
    return to_samples(seconds, columns.reshape(len(seconds), -1), **options).values


def test_two_samples_a_second_pass_as_they_are() -> None:
    values = np.random.default_rng(0).normal(9000, 500, (20, 3))
    found = to_samples(SECOND + np.arange(20) / 2, values)
    assert found.seconds.tolist() == [int(SECOND) + k for k in range(10)]
    assert (found.values.reshape(20, 3) == values).all()


@settings(deadline=None, max_examples=60, derandomize=True)
@given(st.sampled_from([4, 10, 50, 1000]), st.integers(0, 9), st.sampled_from(["mean", "last"]))
def test_a_faster_log_gives_the_mean_or_the_last_of_each_half_second(
    rate: int, seed: int, slot: str
) -> None:
    values = pd.Series(np.random.default_rng(seed).normal(9000, 500, 3 * rate))
    groups = values.groupby(np.arange(len(values)) // (rate // 2))
    found = samples(np.arange(len(values)) / rate, values, slot=slot).ravel()
    assert found == pytest.approx(groups.agg(slot).to_numpy())


def test_a_slower_log_is_joined_by_lines_and_has_its_last_second() -> None:
    found = samples(np.arange(5), 10 * np.arange(5))[..., 0]
    assert found[:, 0].tolist() == [0, 10, 20, 30, 40]
    assert found[:, 1].tolist() == pytest.approx([7.5, 17.5, 27.5, 37.5, 40])
    held = samples(np.arange(5), 10 * np.arange(5), between="hold")
    assert held.ravel().tolist() == [0, 0, 10, 10, 20, 20, 30, 30, 40, 40]
    slow = samples([0, 10, 20], [0, 100, 200]).ravel()
    middle = np.arange(41) / 2 + 0.25
    assert slow[1:41] == pytest.approx(np.where(middle[1:] % 10 < 0.5, slow[1:41], 10 * middle[1:]))


@settings(deadline=None, max_examples=60, derandomize=True)
@given(st.lists(st.tuples(st.integers(1, 4000), st.integers(0, 20_000)), min_size=1, max_size=30))
def test_held_values_are_the_mean_over_time(changes: list[tuple[int, int]]) -> None:
    """Against the values at every millisecond."""
    times = np.cumsum([0, *(step for step, _ in changes)])
    values = np.array([9000, *(value for _, value in changes)])
    found = samples(times / 1000, values, between="hold").ravel()
    every = np.repeat(values, np.append(np.diff(times), 500 * len(found) - times[-1]))
    assert found == pytest.approx(every.reshape(len(found), 500).mean(axis=1), abs=0.05)
    last = samples(times / 1000, values, between="hold", slot="last").ravel()
    assert last.tolist() == every[499::500].tolist()


def test_a_gap_in_the_log_is_not_drawn_over() -> None:
    seconds = np.concatenate([np.arange(0, 10, 0.5), np.arange(15, 20, 0.5)])
    missing = np.isnan(samples(seconds, np.ones(len(seconds)))).all((1, 2))
    assert np.flatnonzero(missing).tolist() == [10, 11, 12, 13, 14]


def test_a_clock_that_jitters_leaves_no_gap() -> None:
    times = np.arange(40) / 2 + 0.03 + 0.02 * (-1.0) ** np.arange(40)
    times[7] -= 0.05  # into the half second before
    assert np.isfinite(samples(times, np.arange(40))).all()


def test_a_second_logged_in_part_is_left_out_at_the_ends() -> None:
    found = to_samples(SECOND + np.arange(1, 8) / 2, np.arange(7.0)[:, None])
    assert (found.seconds - SECOND).tolist() == [1, 2, 3]


def test_a_time_just_before_a_whole_second_belongs_to_the_half_second_before_it(
    tmp_path: Path,
) -> None:
    result = read(log(tmp_path, "10.5,1", "10.9999999,3", head="time,A"), missing="none").log
    found = to_samples(result.seconds, result.values).values[0, :, 0]
    assert found.tolist() == pytest.approx([np.nan, 2], nan_ok=True)


@pytest.mark.parametrize(
    ("times", "between", "said"),
    [
        (np.arange(10.0), "line", "a row every 1 s; samples between rows are on a line"),
        (np.array([0, 0.5, 4, 4.5, 9]), "line", "where a value changes, give --between hold"),
        (np.array([0, 0.5, 4, 4.5, 9]), "hold", "longest time without a row is 4.5 s, from 2030"),
        (np.arange(10) / 2, "line", ""),
    ],
)  # fmt: skip
def test_how_a_slow_or_uneven_log_is_sampled_is_told(
    times: NDArray[np.float64], between: Any, said: str
) -> None:
    remarks = Remarks()
    describe_rate(SECOND + times, between, remarks)
    assert said in " ".join(remarks)
    assert bool(said) == bool(list(remarks))


# The command


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """10 s."""
    path = tmp_path_factory.mktemp("video") / "v.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, (64, 48))
    for k in range(250):
        writer.write(np.full((48, 64, 3), k, np.uint8))
    writer.release()
    return path


Ingest = Callable[..., Any]


@pytest.fixture
def ingest(video: Path, fmbench: Command, tmp_path: Path) -> Ingest:
    def run(path: Path, *more: str | Path, start: str = stamp(0)) -> Any:
        return fmbench(
            "data", "ingest", "--video", video, "--current", path, "--out", tmp_path / "root",
            "--roi", "0,0,48,48", *(["--start", start] if start else []), *more,
        )  # fmt: skip

    return run


def written(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "root" / "unlabelled" / "currents" / "v.csv")


def test_a_european_export_becomes_currents(tmp_path: Path, ingest: Ingest) -> None:
    rows = [
        f'"{BEGIN + timedelta(seconds=k / 2):%d.%m.%Y %H:%M:%S,%f}";"9,{k:02d}5";"9,1";"9,2";'
        for k in range(20)
    ]
    path = tmp_path / "plc.txt"
    text = "\n".join(["Anlage: Ofen 7", "", "Zeit;Ia [kA];Ib [kA];Ic [kA]", *rows]) + "\n"
    path.write_text(text, encoding="utf-16")
    done = ingest(path)
    assert done.status == 0, done.err
    assert "log: semicolon, decimal comma, UTF-16, header on line 3, time column Zeit" in done.out
    assert "log: 20 rows, 2030-05-20 06:00:00 to 2030-05-20 06:00:09 (no zone), one" in done.out
    assert written(tmp_path)["A"].tolist() == [9005 + 10 * k for k in range(20)]


def test_the_format_of_times_is_the_logs_and_not_that_of_start(
    tmp_path: Path, ingest: Ingest
) -> None:
    rows = [f"{BEGIN + timedelta(seconds=k):%d/%m/%y %H:%M:%S},9000" for k in range(10)]
    done = ingest(
        log(tmp_path, *rows, head="time,A"), "--time_format", "%d/%m/%y %H:%M:%S", "--unit", "A",
        "--decimal", ".", "--missing", "-9999", "--slot", "last", "--encoding", "utf-8",
        "--separator", ",", "--header_line", "1",
    )  # fmt: skip
    assert done.status == 0, done.err
    assert len(written(tmp_path)) == 20  # the last second, too


def test_a_zone_in_one_file_only_is_refused(tmp_path: Path, ingest: Ingest, video: Path) -> None:
    zoned = log(tmp_path, *(f"{stamp(k)}+02:00,{9000 + k}" for k in range(10)), head="time,A")
    refused(
        ingest(zoned), "plc.csv has times with a zone", "as --zone Europe/Berlin", "--start with"
    )
    done = ingest(zoned, "--zone", "Europe/Berlin")
    assert done.status == 0, done.err
    assert "note: times have zones: the recording's clock is UTC" in done.out
    assert written(tmp_path).iloc[0].tolist() == ["2030-05-20 04:00:00", 9000]
    again = ingest(zoned, "--name", "w", start=f"{stamp(0)}+02:00")
    assert again.status == 0, again.err
    plain = log(tmp_path, *(f"{stamp(k)},{9000 + k}" for k in range(10)), head="time,A")
    said = "--start has times with a zone (or since 1970), "
    refused(ingest(plain, start=f"{stamp(-7200)}Z"), said, "plc.csv without")
    done = ingest(plain, "--zone", "Europe/Berlin", "--name", "x", start=f"{stamp(-7200)}Z")
    assert done.status == 0, done.err
    stamps = tmp_path / "t.csv"
    stamps.write_text("time\n" + "".join(f"{stamp(k / 25)}Z\n" for k in range(250)))
    refused(ingest(plain, "--timestamps", stamps, start=""), "t.csv has times with a zone")


def test_a_start_within_the_repeated_hour_must_say_which(tmp_path: Path, ingest: Ingest) -> None:
    rows = [three(k, 9000, AUTUMN) for k in range(0, 1800, 2)]
    rows += [three(k, 20_000, AUTUMN) for k in range(-1800, 7200, 2)]
    path = log(tmp_path, *rows)
    refused(ingest(path, start=stamp(0, AUTUMN)), "is in the hour that", "give --zone")
    zone = ("--zone", "Europe/Berlin")
    refused(ingest(path, *zone, start=stamp(0, AUTUMN)), '--start: 2030-10-27 02:30:00 comes twice',
            'write "2030-10-27 02:30:00+02:00" or "2030-10-27 02:30:00+01:00"')  # fmt: skip
    for name, start, more, value in (
        ("a", f"{stamp(10, AUTUMN)}+02:00", zone, 9000),
        ("b", f"{stamp(10, AUTUMN)}+01:00", zone, 20_000),
        ("c", stamp(3600, AUTUMN), (), 20_000),
        ("d", stamp(3600, AUTUMN), zone, 20_000),
    ):
        done = ingest(path, *more, "--name", name, start=start)
        assert done.status == 0, done.err
        found = pd.read_csv(tmp_path / f"root/unlabelled/currents/{name}.csv")
        assert found["A"].tolist() == [value] * 20


def test_elapsed_seconds_begin_at_the_start(tmp_path: Path, ingest: Ingest) -> None:
    path = log(tmp_path, *(f"{k / 2},{9000 + k}" for k in range(20)), head="t [s],A")
    refused(ingest(path, start=""), "has elapsed seconds, not times: give --start")
    done = ingest(path)
    assert done.status == 0, done.err
    assert written(tmp_path)["A"].tolist() == [9000 + k for k in range(20)]
    assert "note: plc.csv has elapsed seconds; its second 0 is taken at --start" in done.out


def test_a_log_that_does_not_cover_the_video_is_told(tmp_path: Path, ingest: Ingest) -> None:
    done = ingest(log(tmp_path, *(three(k / 2, 9000) for k in range(6, 14))))
    assert done.status == 0, done.err
    assert (
        "the log starts at 2030-05-20 06:00:03, 3.0 s after v.avi (2030-05-20 06:00:00)" in done.out
    )
    assert (
        "the log ends at 2030-05-20 06:00:07, 3.0 s before v.avi (2030-05-20 06:00:09)" in done.out
    )
    report = json.loads((tmp_path / "root/unlabelled/sources/v.json").read_text())
    assert sum("are left out" in each for each in report["remarks"]) == 2
    late = ingest(log(tmp_path, *(three(k / 2, 9000) for k in range(60, 80))), "--name", "w")
    refused(late, "the log starts 20 s after the video")


def test_an_event_driven_log_is_held_and_its_remarks_are_told_before_the_refusal(
    tmp_path: Path, ingest: Ingest
) -> None:
    rows = [f"{stamp(0)},9000,9000,9000", f"{stamp(0.25)},9100,,", f"{stamp(6)},,8000,",
            f"{stamp(6.5)},9300,,9500", f"{stamp(11)},9300,8000,9500"]  # fmt: skip
    path = log(tmp_path, *rows)
    failed = ingest(path)
    refused(failed, "no whole second of current")
    assert "note: rows come at uneven times" in failed.out
    assert "give --between hold" in failed.out
    done = ingest(path, "--between", "hold")
    assert done.status == 0, done.err
    found = written(tmp_path)
    assert found["A"].tolist() == [9050] + [9100] * 12 + [9300] * 7
    assert found["B"].tolist() == [9000] * 12 + [8000] * 8
    assert found["C"].tolist() == [9000] * 13 + [9500] * 7


@pytest.mark.parametrize(
    ("size", "found"),
    [((), (64, 64)), (("--size", "32"), (32, 32)), (("--size", "24,40"), (24, 40))],
)
def test_frames_have_the_size_that_is_asked_for(
    size: tuple[str, ...], found: tuple[int, int], ingest: Ingest, tmp_path: Path
) -> None:
    path = log(tmp_path, *ROWS)
    assert ingest(path, *size).status == 0
    assert MatRecording(tmp_path / "root/unlabelled/videos/v.mat", tmp_path).size == found


def test_the_size_of_a_data_set_holds(ingest: Ingest, tmp_path: Path) -> None:
    path = log(tmp_path, *ROWS)
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "root.yaml").write_text("frame_size: [24, 40]\n")
    refused(ingest(path, "--size", "64"), "--size is 64", "root.yaml", "frame_size: [24, 40]")
    assert ingest(path).status == 0
    assert MatRecording(tmp_path / "root/unlabelled/videos/v.mat", tmp_path).size == (24, 40)
    for wrong in ("24,40,3", "24x40", "", "24,4"):
        refused(ingest(path, f"--size={wrong}"), "--size is")


def test_each_pixel_is_the_mean_over_its_area(
    video: Path, fmbench: Command, tmp_path: Path
) -> None:
    path = log(tmp_path, *ROWS)
    gradient = tmp_path / "g.mkv"
    pixels = np.random.default_rng(0).integers(0, 256, (48, 80, 3)).astype(np.uint8)
    with av.open(str(gradient), "w") as out:
        stream = out.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 80, 48, "bgr0"
        for _ in range(250):
            for packet in stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")):
                out.mux(packet)
        for packet in stream.encode():
            out.mux(packet)
    words = ["--roi", "0,0,80,48", "--size", "12,20", "--start", stamp(0), "--out", "root"]
    done = fmbench("data", "ingest", "--video", gradient, "--current", path, *words)
    assert done.status == 0, done.err
    recording = MatRecording(tmp_path / "root/unlabelled/videos/g.mat", tmp_path)
    frame = upright_frames(recording, np.array([7]))[0].transpose(1, 2, 0)
    mean = pixels.reshape(12, 4, 20, 4, 3).mean((1, 3))
    assert np.abs(frame - mean).max() <= 0.51

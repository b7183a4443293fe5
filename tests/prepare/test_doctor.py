"""`fmbench data doctor`: each kind of finding is planted and found; the page is whole by itself."""

from __future__ import annotations

import html.parser
import json
import re
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest

from browser import Browse, asked_by_a_page, browse
from fmbench.cli import main
from fmbench.page.svg import COLUMNS, jpegs, lane
from fmbench.prepare.doctor import Finding, Report, examine, page
from fmbench.prepare.doctor.duplicates import Prints, average_hash, pairs, sampled, step_of
from fmbench.prepare.doctor.examine import halves, pooled
from fmbench.prepare.doctor.findings import (
    deviations,
    median_brightness,
    of_balance,
    of_drift,
    of_exposure,
    of_faults,
    of_guards,
    of_offset,
    stops,
)
from fmbench.prepare.doctor.reading import described, open_readable
from fmbench.prepare.faults import Kind
from fmbench.prepare.ingest.align import Described, Offset
from fmbench.simulator import write_dataset
from recordings import Written, write_csv, write_mat, write_root

__all__ = ["browse"]  # a fixture

LIMIT = 3_000_000


def above_note(report: Report) -> list[Finding]:
    return [each for each in report.findings if each.severity != "note"]


def rewrite(root: Path, written: Written, frames: np.ndarray) -> None:
    write_mat(root / "pixel-level" / "videos" / f"{written.name}.mat", frames, written.masks)


def whole_splits(root: Path, written: list[Written], *, test: int = 1) -> None:
    """The last `test` recordings are the test list, the others train: no guard is needed."""
    cut = len(written) - test
    for split, of in (("train", written[:cut]), ("test", written[cut:])):
        lists = {f"{each.name}.mat": list(range(len(each.frames))) for each in of}
        (root / "pixel-level" / f"{split}.json").write_text(json.dumps(lists))


@pytest.fixture
def clean(tmp_path: Path) -> tuple[Path, list[Written]]:
    """Three recordings, whole ones in each split, currents for every second."""
    root = tmp_path / "root"
    written = write_root(root, recordings=3, seconds=20, size=(32, 32))
    whole_splits(root, written)
    return root, written


# Findings


def test_a_clean_root_has_nothing_above_a_note(clean: tuple[Path, list[Written]]) -> None:
    report = examine(clean[0])
    assert above_note(report) == []
    assert len(report.recordings) == 3


@pytest.mark.parametrize("other", ["test", "val"])
def test_a_frame_of_train_that_stands_again_is_found_with_its_place(
    clean: tuple[Path, list[Written]], other: str
) -> None:
    root, written = clean
    if other == "val":
        lists = {f"{written[1].name}.mat": list(range(len(written[1].frames)))}
        (root / "pixel-level" / "val.json").write_text(json.dumps(lists))
        only = {f"{written[0].name}.mat": list(range(len(written[0].frames)))}
        (root / "pixel-level" / "train.json").write_text(json.dumps(only))
    target = written[1 if other == "val" else 2]
    target.frames[77] = written[0].frames[30]
    rewrite(root, target, target.frames)
    (found,) = above_note(examine(root))
    assert (found.severity, found.recording) == ("serious", target.name)
    assert found.time == target.times[77]
    assert f"1 of the compared {other} frames" in found.what
    assert "1 byte for byte" in found.what
    assert f"frame 77, which is frame 30 of {written[0].name}" in found.what


def test_a_frame_that_stands_again_with_little_noise_is_found_with_more_it_is_not(
    clean: tuple[Path, list[Written]],
) -> None:
    root, written = clean
    rng = np.random.default_rng(0)
    written[0].frames[30] = np.add.outer(np.arange(32), 5 * np.arange(32)) + 20  # has a shape
    rewrite(root, written[0], written[0].frames)
    copy = written[0].frames[30].astype(int)
    copy += rng.integers(-1, 2, copy.shape)  # below a grey level on average
    written[2].frames[77] = copy.clip(0, 255)
    rewrite(root, written[2], written[2].frames)
    (found,) = above_note(examine(root))
    assert "0 byte for byte" in found.what
    copy += rng.integers(-8, 9, copy.shape)
    written[2].frames[77] = copy.clip(0, 255)
    rewrite(root, written[2], written[2].frames)
    assert above_note(examine(root)) == []


def test_pairs_are_those_of_a_comparison_of_all_with_all() -> None:
    rng = np.random.default_rng(1)
    coarse = rng.integers(40, 200, (12, 8, 8, 1)).repeat(8, 1).repeat(8, 2).repeat(3, 3)
    noisy = (
        coarse[3:9] + rng.integers(-2, 3, (6, 64, 64, 3)) * (np.arange(6) % 2)[:, None, None, None]
    )
    train, test = Prints.none(), Prints.none()
    for prints, frames in ((train, coarse), (test, np.concatenate([noisy, noisy[:2] + 1]))):
        for k, frame in enumerate(frames.astype(np.uint8)):
            prints.add("r", k, k, frame)
    expected = {
        (i, j)
        for i, a in enumerate(train.grey)
        for j, b in enumerate(test.grey)
        if np.abs(a.astype(int) - b).mean() < 1
    }
    assert {(pair.train, pair.other) for pair in pairs(train, test)} == expected
    assert 3 <= len(expected) <= 7  # a grey level brighter is another picture


def test_an_average_hash_has_a_bit_for_each_bright_cell() -> None:
    grey = np.zeros((64, 64), np.uint8)
    grey[:8, 8:16] = 200  # the second cell of the first row
    assert average_hash(grey).tolist() == [0b01000000, 0, 0, 0, 0, 0, 0, 0]


def test_the_sample_is_bounded_and_nested() -> None:
    lists = {"a": np.arange(100_000), "b": np.arange(1, 50_000, 2)}
    chosen = sampled(lists)
    assert 500 < sum(map(len, chosen.values())) <= 2000
    longer = sampled({"a": np.arange(400_000)})["a"]
    assert set(longer[longer < 100_000]) <= set(chosen["a"])
    assert step_of(2000) == 1
    assert step_of(2001) == 2
    assert sampled({"a": np.arange(7)})["a"].tolist() == list(range(7))


def test_an_over_exposed_recording_is_found(clean: tuple[Path, list[Written]]) -> None:
    root, written = clean
    rewrite(root, written[1], (written[1].frames.astype(int) + 120).clip(0, 255).astype(np.uint8))
    found = above_note(examine(root))
    assert {each.recording for each in found} == {written[1].name}
    assert any(each.what.startswith("Over-exposed") for each in found)
    assert any("brighter than the others" in each.what for each in found)
    assert not stops(found)


def test_a_black_border_is_found(clean: tuple[Path, list[Written]]) -> None:
    root, written = clean
    for each in written:
        each.frames[..., :6] = 0
        rewrite(root, each, each.frames)
    found = above_note(examine(root))
    assert [each.what[:13] for each in found] == ["Under-exposed"] * 3
    assert "18.8%" in found[0].what  # 6 of 32 columns


def test_a_guard_that_is_too_short_is_found_once_with_its_length(tmp_path: Path) -> None:
    root = tmp_path / "root"
    written = write_root(root, recordings=1, seconds=60, size=(32, 32))
    (found,) = above_note(examine(root))
    test = written[0].test[0]
    assert (found.severity, found.recording, found.time) == (
        "warning",
        written[0].name,
        written[0].times[test],
    )
    assert found.what.startswith(f"{len(written[0].test)} test windows reach back into train")
    assert "a guard of 2 s" in found.what or "a guard of 3 s" in found.what
    assert "121.44 s" in found.what


def test_windows_reach_back_only_and_a_long_guard_is_enough() -> None:
    seconds = np.arange(400)
    lists = {"train": np.arange(0, 100), "test": np.arange(221, 300)}
    assert of_guards("r", lists, seconds, 121.4) == of_guards("r", lists, seconds, 122)[1:]
    assert of_guards("r", lists, seconds, 122.0) == of_guards("r", lists, seconds, 122)
    close = of_guards("r", lists, seconds, 130)
    assert [each.what.split(" windows")[0] for each in close] == ["8 test"]


def test_a_single_file_is_examined_as_well(tmp_path: Path) -> None:
    folder = tmp_path / "single"
    folder.mkdir()
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 200, (500, 3, 32, 32), dtype=np.uint8)
    with h5py.File(folder / "one.mat", "w") as file:
        file["video"] = frames
        file["label"] = (np.arange(500) % 100 < 50)[:, None, None] * np.ones((1, 32, 32), np.uint8)
        file["current"] = rng.normal(9000, 300, (500, 3))
        file["train_test_index"] = (np.arange(500) >= 250)[:, None].astype(float)
    report = examine(folder)
    (found,) = above_note(report)
    assert "250 test windows reach back into train" in found.what
    assert found.time == "0:00:10"
    assert "0:00:10" in page(report)


def test_a_damaged_recording_stands_among_the_findings(
    clean: tuple[Path, list[Written]], capsys: pytest.CaptureFixture[str]
) -> None:
    root, written = clean
    path = root / "pixel-level" / "videos" / f"{written[0].name}.mat"
    path.write_bytes(path.read_bytes()[:5000])
    out = root.parent / "doctor.html"
    assert main(["data", "doctor", str(root), "--out", str(out)]) == 1
    printed = capsys.readouterr().out
    assert printed.splitlines()[-1] == str(out)
    assert re.search(rf"^fault: .*{written[0].name}.*Copy the file again", printed, re.MULTILINE)
    text = out.read_text()
    assert written[0].name in text
    assert "1 more cannot be opened" in text
    assert text.count("<section") == 2  # the two others are shown in full


def test_a_recording_that_breaks_when_it_is_read_does_not_stop_the_page(
    tmp_path: Path,
) -> None:
    root = tmp_path / "root"
    written = write_root(root, recordings=2, seconds=20, size=(32, 32), chunked=True)
    path = root / "pixel-level" / "videos" / f"{written[0].name}.mat"
    with h5py.File(path, "r") as file:
        chunk = file["data"].id.get_chunk_info(0)
    with path.open("r+b") as raw:
        raw.seek(chunk.byte_offset)
        raw.write(b"\x00" * 64)
    report = examine(root)
    assert any(
        each.severity == "fault" and each.recording == written[0].name for each in report.findings
    )
    assert written[1].name in page(report)


def test_no_recording_at_all_is_a_fault_with_a_page(tmp_path: Path) -> None:
    (tmp_path / "pixel-level").mkdir()
    report = examine(tmp_path)
    assert stops(report.findings)
    assert "ingest" in page(report)
    with pytest.raises(ValueError, match="no such folder"):
        examine(tmp_path / "none")


@pytest.mark.parametrize("part", ["class-level", "unlabelled"])
def test_parts_without_masks_or_without_labels(tmp_path: Path, part: str) -> None:
    written = write_root(tmp_path, recordings=2, seconds=20, size=(32, 32), part="class-level")
    folder = tmp_path / "class-level"
    if part == "unlabelled":
        folder = folder.rename(tmp_path / part)
        for each in written:
            write_mat(folder / "videos" / f"{each.name}.mat", each.frames, None)
        for split in ("train", "test"):
            (folder / f"{split}.json").unlink()
    report = examine(tmp_path)
    text = page(report)
    assert not stops(report.findings)
    assert ("No recording has labels" in text) == (part == "unlabelled")
    assert ("Table I: frames by class" in text) == (part == "class-level")
    assert "Simulated" not in text


@pytest.mark.parametrize(
    ("frames", "severity"),
    [((10, 10), None), ((0, 7), "serious"), ((7, 0), "serious"), ((95, 5), "warning")],
)
def test_class_balance(frames: tuple[int, int], severity: str | None) -> None:
    found = of_balance("train", *frames)
    assert [each.severity for each in found] == ([severity] if severity else [])


def test_counts_of_a_split_are_those_of_the_labels(clean: tuple[Path, list[Written]]) -> None:
    root, written = clean
    rows = {split: (normal, abnormal) for _, split, normal, abnormal in examine(root).splits}
    labels = written[2].masks.any(axis=(1, 2))
    assert rows["test"] == (int((~labels).sum()), int(labels.sum()))


def test_clocks_that_differ_are_serious_only_where_that_is_sure() -> None:
    (sure,) = of_offset(Offset(7.5, 12.0, 10))
    assert sure.severity == "serious"
    assert "--offset 7.5" in sure.todo
    (not_sure,) = of_offset(Offset(7.5, 5.0, 10))
    assert not_sure.severity == "note"
    assert "not sure" in not_sure.what
    assert [each.severity for each in of_offset(Offset(0.4, 12.0, 10))] == ["note"]
    assert of_offset(Offset(7.5, 5.0, 10), "one") == []
    assert of_offset(Offset(-7.5, 12.0, 10), "one")[0].recording == "one"
    assert of_offset(None) == []


def test_drift_is_told_only_where_both_halves_are_sure() -> None:
    here, there = Offset(0.5, 12.0, 5), Offset(4.0, 12.0, 5)
    assert of_drift(here, there)[0].severity == "serious"
    assert of_drift(here, here)[0].severity == "note"
    assert of_drift(here, there._replace(confidence=8)) == []
    assert of_drift(None, there) == []


def test_halves_hold_every_row_once_at_its_time() -> None:
    pairs = [
        (Described(float(start), np.arange(n)[:, None] + start * 2.0), Described(0.0, np.zeros(1)))
        for start, n in ((0, 10), (5, 40), (25, 20))
    ]
    first, second = halves(pairs)
    assert [len(video.values) for video, _ in first] == [10, 25]
    assert [len(video.values) for video, _ in second] == [15, 20]
    for video, _ in [*first, *second]:
        assert video.values[0, 0] == 2 * video.start


def test_brightness_is_compared_robustly() -> None:
    assert median_brightness(np.bincount([3, 5, 9], minlength=256)) == 5
    z = deviations([100, 101, 100, 99, 180])
    assert (np.abs(z) > 4).tolist() == [False] * 4 + [True]
    assert not deviations([10, 200]).any()
    assert (np.abs(deviations([100, 100, 100, 104])) < 4).all()
    kinds = of_exposure("r", dark=0.06, bright=0.06, median=9, deviation=-9.0)
    assert len(kinds) == 3


def test_a_finding_takes_place_severity_and_advice_from_its_fault(tmp_path: Path) -> None:
    part = tmp_path / "pixel-level"
    faults = [
        Kind.ODD_ROWS.at(part / "currents" / "a.csv", "odd number of current rows", 7),
        Kind.MISSING_LIST.at(part / "train.json", "is missing"),
        Kind.IN_NO_LIST.at(part, "a is in no list"),
        Kind.TIME.at(Path("elsewhere"), "something new"),
        Kind.REACHES_BACK.at(part / "test.json", "windows reach back", 3),  # see of_guards
    ]
    found = of_faults(faults, tmp_path)
    assert [each.severity for each in found] == ["fault", "fault", "warning", "fault"]
    assert (found[0].recording, found[0].time) == ("a", "line 7")
    assert "fmbench data select" in found[1].todo
    assert [each.todo for each in found] == [each.kind.remedy for each in faults[:4]]


@pytest.mark.parametrize("kind", Kind)
def test_every_kind_of_fault_has_something_to_do_about_it(kind: Kind) -> None:
    assert re.fullmatch(r"[A-Z].+\.", kind.remedy)
    assert kind.remedy in str(kind.at(Path("x.csv"), "something is wrong", 2))


@pytest.mark.parametrize("message", ["", "is truncated", "is missing", "reach back into"])
def test_advice_does_not_depend_on_the_words_of_a_message(message: str, tmp_path: Path) -> None:
    [found] = of_faults([Kind.PHASES.at(tmp_path / "currents", message)], tmp_path)
    assert found.todo == Kind.PHASES.remedy


# The page


class Outline(html.parser.HTMLParser):
    """Elements and attributes of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def outline(text: str) -> Outline:
    found = Outline()
    found.feed(text)
    return found


def test_the_page_needs_nothing_outside_itself_and_is_accessible(
    clean: tuple[Path, list[Written]],
) -> None:
    report = examine(clean[0])
    text = page(report)
    assert "http:" not in text
    assert "https:" not in text
    assert "@import" not in text
    assert "url(" not in text
    found = outline(text)
    for _, attributes in found.elements:
        for name in ("src", "href", "srcset", "data", "action"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:", "#"))
    assert not found.all("script")
    alts = [str(each["alt"]) for each in found.all("img")]
    assert sum(alt.endswith(("abnormal, test", "normal, test")) for alt in alts) == 12
    assert len(found.all("img")) == 36
    assert all(each["alt"] for each in found.all("img"))
    assert all(each["aria-label"] for each in found.all("svg"))
    assert all(each["scope"] in ("col", "row") for each in found.all("th"))
    assert len(found.all("caption")) == len(found.all("table")) == 3 + bool(report.findings)
    assert any(each.get("name") == "viewport" for each in found.all("meta"))
    assert "prefers-color-scheme:dark" in text


def test_a_name_that_is_html_does_no_harm(tmp_path: Path) -> None:
    root = tmp_path / "root"
    written = write_root(root, recordings=1, seconds=20, size=(32, 32))
    part, name = root / "pixel-level", '<b>x"&'
    for kind, suffix in (("videos", "mat"), ("timestamps", "csv"), ("currents", "csv")):
        source = part / kind / f"{written[0].name}.{suffix}"
        source.rename(source.with_name(f"{name}.{suffix}".replace("/", "")))
    for split in ("train", "test"):
        path = part / f"{split}.json"
        path.write_text(path.read_text().replace(f"{written[0].name}.mat", f'{name[:-2]}\\"&.mat'))
    text = page(examine(root))
    assert "<b>x" not in text
    assert "&lt;b&gt;x&#34;&amp;" in text
    assert not outline(text).all("b")


def test_pictures_become_smaller_until_they_fit() -> None:
    frames = [np.random.default_rng(0).integers(0, 255, (400, 300, 3), dtype=np.uint8)] * 3
    sizes = [sum(map(len, jpegs(frames, most))) for most in (10**7, 30_000, 8_000)]
    assert sizes[0] > sizes[1] > sizes[2]
    assert sizes[1] <= 30_000
    assert all(each.startswith("data:image/jpeg;base64,") for each in jpegs(frames, 1))


def test_a_lane_draws_each_span_once() -> None:
    spans = np.zeros(COLUMNS, np.bool_)
    spans[[0, 1, 2, 10]] = True
    assert 'd="M0 0H3V10H0zM10 0H11V10H10z"' in lane(spans, "train", "x")


def many(folder: Path, recordings: int) -> Path:
    """Small recordings, one file each, of which most have a fault."""
    root = folder / "many"
    written = write_root(root, recordings=recordings, seconds=4, size=(16, 16))
    for each in written[2:]:
        rows = [[time, "1", "2", "nothing"] for time in each.times[:8]]
        write_csv(root / "pixel-level" / "currents" / f"{each.name}.csv", "time,A,B,C", rows)
    return root


def test_at_most_twelve_recordings_are_shown_in_full_and_the_page_says_so(tmp_path: Path) -> None:
    report = examine(many(tmp_path, 15))
    text = page(report)
    assert text.count("<section") == 12
    assert "Of 15 recordings 12 are shown in full" in text
    assert len(report.findings) > 60


# The command


def test_the_command_prints_what_it_finds_and_writes_one_file(
    clean: tuple[Path, list[Written]],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(clean[0].parent)
    before = set(Path().rglob("*"))
    assert main(["data", "doctor", str(clean[0])]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "doctor.html"
    assert set(Path().rglob("*")) - before == {Path("doctor.html")}
    for words in ([str(clean[0]), "--hours", "-1"], ["nowhere"], [str(clean[0]), "--out", "root"]):
        assert main(["data", "doctor", *words]) == 2
        assert "fmbench: error:" in capsys.readouterr().err


def test_a_simulated_root_says_that_it_is(tmp_path: Path) -> None:
    root = tmp_path / "tiny"
    write_dataset(root, preset="tiny", seed=0, lazy=True)
    report = examine(root)
    assert report.simulated
    assert above_note(report) == []
    assert page(report).count("Simulated recordings") >= 1


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """400 simulated recordings of 15 minutes."""
    root = tmp_path_factory.mktemp("data") / "wide"
    write_dataset(root, preset="wide", seed=0, lazy=True)
    return root


@pytest.mark.full
@pytest.mark.slow
def test_400_recordings_fit_in_3_mb(wide: Path) -> None:
    report = examine(wide, hours=3)
    text = page(report)
    assert len(report.recordings) == 400
    assert report.footage == "12 of 400 recordings"
    assert len(text.encode()) < LIMIT
    assert text.count("<section") == 12
    assert above_note(report) == []


@pytest.mark.full
@pytest.mark.slow
def test_a_clock_that_is_wrong_and_one_that_drifts_are_found_in_twenty_hours(
    tmp_path: Path,
) -> None:
    """In version 1, whose flame flares often; in version 2, both clocks share fewer events."""
    root = tmp_path / "wide"
    write_dataset(root, preset="wide", seed=0, version=1, lazy=True)
    entries = json.loads((root / "manifest.json").read_text())["recordings"]["pixel-level"]
    some = set(list(entries)[:320])  # without most of the test part: 80 recordings, 20 hours
    recordings = [r for r in open_readable(root / "pixel-level")[0] if r.name in some]
    right = [described(each) for each in recordings[::4]]
    right.sort(key=lambda pair: pair[0].start)

    def late(pair: tuple[Described, Described], by: float) -> tuple[Described, Described]:
        return pair[0]._replace(start=pair[0].start + by), pair[1]

    (found,) = of_offset(pooled([late(pair, 7) for pair in right]))
    assert found.severity == "serious"
    advised = re.search(r"--offset (\S+)\.$", found.todo)
    assert advised
    assert abs(float(advised[1]) + 7) < 1  # what is 7 s late needs 7 s less
    drifting = [late(pair, 0 if k < 40 else 4) for k, pair in enumerate(right)]
    first, second = (pooled(half) for half in halves(drifting))
    (drift,) = of_drift(first, second)
    assert drift.severity == "serious"
    assert first is not None
    assert second is not None
    assert abs(second.seconds - first.seconds + 4) < 1


# A browser


@pytest.mark.slow
@pytest.mark.parametrize("width", [1200, 500])
def test_a_browser_shows_findings_and_pictures_and_asks_for_nothing(
    clean: tuple[Path, list[Written]], browse: Browse, tmp_path: Path, width: int
) -> None:
    root, written = clean
    for each in written:  # a colour that nothing else on the page has
        each.frames[:, 0], each.frames[:, 1:] = 20, 0
        each.frames[:, 1] = 180
        rewrite(root, each, each.frames)
    path = tmp_path / "page.html"
    path.write_text(page(examine(root)))
    log = tmp_path / "net.json"
    dom = browse(path, "--dump-dom", f"--log-net-log={log}").stdout
    assert "are also in train" in dom
    assert 'class="badge serious"' in dom
    assert asked_by_a_page(log) == set()
    control = tmp_path / "control.html"
    control.write_text('<img src="http://outside.invalid/x.png">')
    browse(control, "--dump-dom", f"--log-net-log={log}")
    assert asked_by_a_page(log) == {"http://outside.invalid/x.png"}
    shot = tmp_path / "page.png"
    browse(path, f"--screenshot={shot}", f"--window-size={width},4000")
    picture = cv2.imread(str(shot)).astype(int)
    assert picture.shape[1] == width
    green = (np.abs(picture - np.array([0, 180, 20])) < 12).all(axis=2)  # blue, green, red
    assert green.sum() > 12 * 60 * 60  # the frames were decoded and drawn

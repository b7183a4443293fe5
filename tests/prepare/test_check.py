"""Every fault is found with its file and row, and clean data raise no alarm."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from fmbench.data import FurnaceData
from fmbench.data.windows import WindowSpec
from fmbench.prepare.check import check_root
from fmbench.prepare.faults import Fault, Kind
from fmbench.prepare.frames_by_class import table_of_recordings, table_of_splits, table_one
from recordings import Written, write_lists, write_mat, write_root

SIZE = (16, 24)
SHORT = WindowSpec(frames=2, stride=1, current_samples=2)
NAME = "furnace-0"
OPTIONS = {"frames": 4, "stride": 3, "current_samples": 16}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_root(tmp_path, size=SIZE, seconds=30, recordings=2)
    return tmp_path


def faults(root: Path, kind: str, spec: WindowSpec = SHORT) -> list[Fault]:
    """Those of one file of the first recording, or of one list."""
    found = check_root(root, spec)
    path = root / "pixel-level" / kind
    file = path if path.suffix else next(path.glob(f"{NAME}.*"), path / f"{NAME}.mat")
    return [fault for fault in found if fault.file == str(file)]


def edit(root: Path, kind: str, change: Callable[[list[str]], object]) -> None:
    """Change the lines of a CSV file of the first recording; line 1 is lines[0]."""
    path = root / "pixel-level" / kind / f"{NAME}.csv"
    lines = path.read_text().splitlines()
    change(lines)
    path.write_text("\n".join(lines) + "\n")


def rewrite(root: Path, frames: np.ndarray | None = None, labels: np.ndarray | None = None) -> None:
    path = root / "pixel-level" / "videos" / f"{NAME}.mat"
    with h5py.File(path, "r") as file:
        frames = file["data"][()].swapaxes(2, 3) if frames is None else frames
        labels = file["label"][()].swapaxes(1, 2) if labels is None else labels
    write_mat(path, frames, labels)


def masks_of(root: Path) -> np.ndarray:
    with h5py.File(root / "pixel-level" / "videos" / f"{NAME}.mat", "r") as file:
        return file["label"][()].swapaxes(1, 2)


@pytest.mark.parametrize("part", ["pixel-level", "class-level"])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_clean_root_has_no_fault(tmp_path: Path, part: str, chunked: bool) -> None:
    write_root(tmp_path, size=SIZE, seconds=40, part=part, chunked=chunked)
    assert check_root(tmp_path, SHORT) == []
    assert check_root(tmp_path / part, SHORT) == []


def test_an_odd_number_of_current_rows_is_reported_with_file_and_row(root: Path) -> None:
    edit(root, "currents", lambda lines: lines.pop())
    found = faults(root, "currents")
    assert [fault.row for fault in found] == [60, 60]  # 1 header, 59 rows
    assert "odd number of current rows (59)" in found[0].message
    assert "has 1 rows of current, not 2" in found[1].message
    assert str(found[0]).startswith(f"{root}/pixel-level/currents/{NAME}.csv, line 60: ")
    assert str(found[0]).endswith(f". {Kind.ODD_ROWS.remedy}")


def test_a_missing_second_of_current_is_reported_and_the_frames_that_lack_it(root: Path) -> None:
    edit(root, "currents", lambda lines: [lines.pop(11) for _ in range(2)])  # second 5
    [fault] = faults(root, "currents")
    assert fault.row == 11
    assert "1 seconds of current are missing after 2023-05-10 21:33:31" in fault.message
    [lost] = faults(root, "timestamps")
    lines = (root / "pixel-level" / "timestamps" / f"{NAME}.csv").read_text().splitlines()
    assert lost.row is not None
    assert lines[lost.row - 1] == "2023-05-10 21:33:32"
    assert lines[lost.row - 2] == "2023-05-10 21:33:31"


def test_a_repeated_second_is_reported(root: Path) -> None:
    edit(root, "currents", lambda lines: lines.extend(lines[3:5]))
    [fault] = faults(root, "currents")
    assert fault.row == 62
    assert "2023-05-10 21:33:28 is repeated; line 4 has it already" in fault.message


def test_seconds_out_of_order_are_reported(root: Path) -> None:
    def swap(lines: list[str]) -> None:
        lines[3:5], lines[5:7] = lines[5:7], lines[3:5]

    edit(root, "currents", swap)
    [fault] = faults(root, "currents")
    assert fault.row == 6
    assert "out of order: 2023-05-10 21:33:28 follows 2023-05-10 21:33:29" in fault.message


def test_frames_out_of_order_are_reported(root: Path) -> None:
    def swap(lines: list[str]) -> None:
        lines[10], lines[100] = lines[100], lines[10]

    edit(root, "timestamps", swap)
    assert [fault.row for fault in faults(root, "timestamps")] == [12, 101]


@pytest.mark.parametrize("cell", ["nan", "", "high", "inf"])
def test_a_current_that_is_no_number_is_reported(root: Path, cell: str) -> None:
    def spoil(lines: list[str]) -> None:
        time, first, _, third = lines[7].split(",")
        lines[7] = f"{time},{first},{cell},{third}"

    edit(root, "currents", spoil)
    [fault] = faults(root, "currents")
    assert fault.row == 8
    assert "no finite number" in fault.message
    with pytest.raises(ValueError, match=rf"{NAME}\.csv, line 8: .*no finite number"):
        FurnaceData(root=root, **OPTIONS).dataset("test")


@pytest.mark.parametrize("kind", ["timestamps", "currents"])
@pytest.mark.parametrize("cell", ["10.05.2023 21:33:27", "", "2023-02-30 00:00:00"])
def test_a_bad_time_is_reported(root: Path, kind: str, cell: str) -> None:
    def spoil(lines: list[str]) -> None:
        lines[4] = ",".join([cell, *lines[4].split(",")[1:]])

    edit(root, kind, spoil)
    [fault] = faults(root, kind)
    assert fault.row == 5
    assert "no time; expected YYYY-MM-DD HH:MM:SS" in fault.message
    with pytest.raises(ValueError, match=rf"{NAME}\.csv, line 5: .*no time"):
        FurnaceData(root=root, **OPTIONS).dataset("test")


def test_a_count_of_timestamps_other_than_frames_is_reported(root: Path) -> None:
    edit(root, "timestamps", lambda lines: lines.pop())
    [fault] = faults(root, "timestamps")
    frames = len(masks_of(root))
    assert fault.message == f"{frames - 1} rows for {frames} frames"
    with pytest.raises(ValueError, match=f"has {frames - 1} rows for the {frames} frames"):
        FurnaceData(root=root, **OPTIONS).dataset("test")


def test_a_count_of_labels_other_than_frames_is_reported(root: Path) -> None:
    rewrite(root, labels=masks_of(root)[:-3])
    [fault] = faults(root, "videos")
    assert f"has {len(masks_of(root)) + 3} frames but {len(masks_of(root))} labels" in fault.message


@pytest.mark.parametrize("value", [2, 255])
def test_a_mask_value_other_than_0_and_1_is_reported(root: Path, value: int) -> None:
    labels = masks_of(root)
    labels[[40, 50], 3, 3] = value
    rewrite(root, labels=labels)
    [fault] = faults(root, "videos")
    assert fault.row == 40
    assert "other than 0 and 1" in fault.message
    assert "(2 frames)" in fault.message


def test_frames_that_are_no_bytes_are_reported_where_they_do_not_fit(root: Path) -> None:
    drawn = np.random.default_rng(0).integers(0, 256, (len(masks_of(root)), 3, *SIZE))
    frames = drawn.astype(np.float32)
    frames[17, 1, 2, 3] = np.nan
    rewrite(root, frames=frames)
    [fault] = faults(root, "videos")
    assert (fault.row, "outside 0-255" in fault.message) == (17, True)


def test_wrong_axes_are_reported(root: Path) -> None:
    path = root / "pixel-level" / "videos" / f"{NAME}.mat"
    with h5py.File(path, "w") as file:
        file["data"] = np.zeros((30, *SIZE, 3), np.uint8)
        file["label"] = np.zeros((30, *SIZE), np.uint8)
    [fault] = faults(root, "videos")
    assert "[30, 16, 24, 3]; expected [T, 3, W, H]" in fault.message
    assert fault.kind is Kind.DATASETS
    with pytest.raises(ValueError, match=r"expected \[T, 3, W, H\]"):
        _ = FurnaceData(root=root).opened


def test_masks_turned_against_their_frames_are_reported(root: Path) -> None:
    rewrite(root, labels=masks_of(root).swapaxes(1, 2))
    [fault] = faults(root, "videos")
    assert "with frames of [24, 16] (W, H) it must be" in fault.message


def test_a_mat_file_without_frames_is_reported_with_what_it_holds(root: Path) -> None:
    with h5py.File(root / "pixel-level" / "videos" / f"{NAME}.mat", "w") as file:
        file["movie"] = np.zeros(3)
    [fault] = faults(root, "videos")
    assert fault.message == "has no 'data' (or 'video'); it holds movie"


@pytest.mark.parametrize("keep", [0, 100, 100_000])
def test_a_truncated_or_foreign_mat_file_is_reported(root: Path, keep: int) -> None:
    path = root / "pixel-level" / "videos" / f"{NAME}.mat"
    path.write_bytes(path.read_bytes()[:keep])
    [fault] = faults(root, "videos")
    expected = "truncated" if keep else "no HDF5 file"
    assert expected in fault.message
    with pytest.raises(ValueError, match=expected):
        _ = FurnaceData(root=root).opened


def test_damaged_compressed_frames_are_reported(tmp_path: Path) -> None:
    write_root(tmp_path, size=SIZE, seconds=30, recordings=1, chunked=True)
    path = tmp_path / "pixel-level" / "videos" / f"{NAME}.mat"
    with h5py.File(path, "r") as file:
        place = file["data"].id.get_chunk_info(1)
    content = bytearray(path.read_bytes())
    content[place.byte_offset + 20 : place.byte_offset + place.size] = bytes(place.size - 20)
    path.write_bytes(content)
    assert ["is damaged here" in fault.message for fault in faults(tmp_path, "videos")] == [True]


@pytest.mark.parametrize("kind", ["videos", "timestamps", "currents"])
def test_a_missing_file_is_reported(root: Path, kind: str) -> None:
    [path] = (root / "pixel-level" / kind).glob(f"{NAME}.*")
    path.unlink()
    missing = [fault for fault in check_root(root, SHORT) if fault.file == str(path)]
    assert missing
    assert all("is missing" in fault.message for fault in missing)


BROKEN = [
    ("videos/furnace-0.mat", "", Kind.UNREADABLE_MAT),
    ("timestamps/furnace-0.csv", "", Kind.TABLE),
    ("currents/furnace-0.csv", "time,A,B,C\n", Kind.TABLE),
    ("currents/furnace-0.csv", None, Kind.MISSING_FILE),
    ("train.json", None, Kind.MISSING_LIST),
    ("train.json", "{", Kind.LIST_FORMAT),
    ("train.json", '{"furnace-0.mat": 3}', Kind.LIST_FORMAT),
    ("manifest.json", "{", Kind.MANIFEST),
]


@pytest.mark.parametrize(("file", "content", "kind"), BROKEN)
def test_an_error_of_a_reader_has_the_kind_of_the_check_that_failed(
    root: Path, file: str, content: str | None, kind: Kind
) -> None:
    path = root / "pixel-level" / file
    path.unlink() if content is None else path.write_text(content)
    assert [fault.kind for fault in faults(root, file) if not fault.warning] == [kind]


def test_a_single_file_without_currents_or_split_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "one.mat"
    write_mat(path, np.zeros((50, 3, *SIZE), np.uint8), np.zeros((50, 1, 1), np.uint8))
    found = check_root(tmp_path, SHORT)
    assert [fault.kind for fault in found] == [Kind.SINGLE_FILE_CURRENT, Kind.SINGLE_FILE_SPLIT]
    assert all(fault.file == str(path) for fault in found)


def test_a_missing_list_is_reported(root: Path) -> None:
    (root / "pixel-level" / "test.json").unlink()
    assert [fault.message for fault in faults(root, "test.json")] == ["is missing"]


@pytest.mark.parametrize(
    ("content", "row", "message"),
    [
        ("{", None, "is no JSON file"),
        ("[1, 2]", None, "expected one object"),
        ('{"furnace-7.mat": [1]}', None, "did you mean 'furnace-"),
        ('{"furnace-0.mat": [1.5]}', None, "list of whole numbers"),
        ('{"furnace-0.mat": 3}', None, "list of whole numbers"),
        ('{"furnace-0.mat": [600, 100000]}', 100000, "(1 listed are outside)"),
        ('{"furnace-0.mat": [-1]}', -1, "(1 listed are outside)"),
        ('{"furnace-0.mat": [600, 600]}', None, "listed twice"),
    ],
)
def test_a_wrong_list_is_reported(root: Path, content: str, row: int | None, message: str) -> None:
    (root / "pixel-level" / "test.json").write_text(content)
    [fault] = [fault for fault in faults(root, "test.json") if not fault.warning]
    assert fault.row == row
    assert message in fault.message
    if "twice" not in message:
        with pytest.raises(ValueError, match=r"test\.json"):
            _ = FurnaceData(root=root).opened


def test_frames_in_train_and_test_are_reported(tmp_path: Path) -> None:
    written = write_root(tmp_path, size=SIZE, seconds=30)
    written[0].train += written[0].test[4:7]
    write_lists(tmp_path / "pixel-level", written)
    [fault] = faults(tmp_path, "test.json")
    assert (fault.row, fault.warning) == (written[0].test[4], False)
    assert fault.message == "3 frames of furnace-0 are in train as well"
    with pytest.raises(ValueError, match="both train and test"):
        FurnaceData(root=tmp_path, **OPTIONS, val_fraction=0).dataset("test")


def reaching(recording: Written, spec: WindowSpec) -> list[int]:
    """Test frames whose clip, or whose seconds of current, hold something of train."""
    seconds = [np.datetime64(time).astype(int) for time in recording.times]
    train, clock = set(recording.train), {seconds[frame] for frame in recording.train}
    return [
        frame
        for frame in recording.test
        if any(frame - k * spec.stride in train for k in range(spec.frames))
        or any(seconds[frame] - k in clock for k in range(spec.current_samples // 2))
    ]


@pytest.mark.parametrize("spec", [WindowSpec(current_samples=12), WindowSpec(frames=30, stride=1)])
def test_windows_that_reach_from_test_into_train_are_a_warning(
    tmp_path: Path, spec: WindowSpec
) -> None:
    [recording] = write_root(tmp_path, size=SIZE, seconds=60, recordings=1)
    expected = reaching(recording, spec)
    assert expected
    [fault] = faults(tmp_path, "test.json", spec)
    assert fault.warning
    assert fault.row == expected[0]
    assert fault.message.startswith(f"{len(expected)} test windows of furnace-0 reach back into")


def test_a_recording_in_no_list_is_a_warning(root: Path) -> None:
    for split in ("train", "test"):
        path = root / "pixel-level" / f"{split}.json"
        lists = json.loads(path.read_text())
        del lists["furnace-1.mat"]
        path.write_text(json.dumps(lists))
    assert [(f.warning, f.message) for f in check_root(root, SHORT)] == [
        (True, "furnace-1 is in no list")
    ]


def test_an_empty_root_is_a_fault_and_a_missing_one_an_error(tmp_path: Path) -> None:
    [fault] = check_root(tmp_path)
    assert "holds no recordings" in fault.message
    with pytest.raises(ValueError, match="no such folder"):
        check_root(tmp_path / "nowhere")


def test_all_faults_are_reported_not_only_the_first(root: Path) -> None:
    edit(root, "currents", lambda lines: lines.pop())
    edit(root, "timestamps", lambda lines: lines.pop())
    labels = masks_of(root)
    labels[3] = 9
    rewrite(root, labels=labels)
    (root / "pixel-level" / "train.json").write_text("{")
    kinds = {Path(fault.file).parent.name for fault in check_root(root, SHORT)}
    assert kinds == {"currents", "timestamps", "videos", "pixel-level"}


def test_checking_takes_memory_for_a_block_not_for_the_recording(tmp_path: Path) -> None:
    write_root(tmp_path, size=SIZE, seconds=4, recordings=1)
    path = tmp_path / "pixel-level" / "videos" / f"{NAME}.mat"
    with h5py.File(path, "w") as file:  # 250 MB of masks, all zero: not stored
        file.create_dataset("data", (60_000, 3, 64, 64), np.uint8, chunks=(1000, 3, 64, 64))
        file.create_dataset("label", (60_000, 64, 64), np.uint8, chunks=(1000, 64, 64))
    from fmbench.prepare.faults import check_mat

    tracemalloc.start()
    check_mat(path, [])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 150e6


def test_table_one_counts_frames_by_part_and_class(tmp_path: Path) -> None:
    written = write_root(tmp_path, size=SIZE, seconds=30)
    write_root(tmp_path, size=SIZE, seconds=30, recordings=1, part="class-level")
    table = table_one(tmp_path)
    abnormal = [int(each.masks.any((1, 2)).sum()) for each in written]
    total = [len(each.frames) for each in written]
    assert table.loc["abnormal"].tolist() == [
        sum(abnormal),
        abnormal[0],
        sum(abnormal) + abnormal[0],
    ]
    assert table.loc["total"].tolist() == [sum(total), total[0], sum(total) + total[0]]
    assert (table.loc["normal"] + table.loc["abnormal"]).equals(table.loc["total"])
    each = table_of_recordings(tmp_path)
    assert each["frames"].tolist() == [*total, total[0]]
    assert each["seconds of current"].tolist() == [30, 30, 30]
    assert each["train"].tolist()[:2] == [len(one.train) for one in written]
    splits = table_of_splits(tmp_path)
    assert splits["total"].sum() == each["train"].sum() + each["test"].sum()

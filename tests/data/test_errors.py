"""What a user is told of options and roots that cannot be used: a line or two, and a way out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from fmbench.data import FurnaceData
from recordings import write_lists, write_root

SIZE = (16, 24)
SHORT: dict[str, Any] = {"frames": 4, "stride": 3, "current_samples": 16}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("root")
    write_root(root, size=SIZE, seconds=30)
    return root


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"modality": "visul"}, "modality is 'visul'; did you mean 'visual'?"),
        ({"part": "pixel"}, "no part is called 'pixel'; did you mean 'pixel-level'?"),
        ({"part": "class-level"}, "has no part class-level; it has pixel-level"),
        ({"axes": "images"}, "axes is 'images'; did you mean 'image'?"),
        ({"history": "strech"}, "history is 'strech'; did you mean 'stretch'?"),
        ({"early": "redraw"}, "Allowed: clamp, drop"),
        ({"gaps": "fill"}, "Allowed: positional, hold, drop"),
        ({"frames": 0}, "frames is 0; it must be at least 1"),
        ({"stride": -1}, "stride is -1"),
        ({"current_samples": 0}, "current_samples is 0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"epoch_windows": 0}, "epoch_windows is 0"),
        ({"val_fraction": 1.0}, r"val_fraction is 1.0; it must be in \[0, 1\)"),
        ({"guard_seconds": -1.0}, "guard_seconds is -1.0"),
        ({"num_workers": -1}, "num_workers"),
    ],
)
def test_a_wrong_option_is_named_before_any_file_is_read(
    root: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message.replace("?", r"\?")) as error:
        FurnaceData(root=root, **options)
    assert len(str(error.value).splitlines()) <= 2


def test_no_such_root_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no such folder: .*fmbench data simulate"):
        FurnaceData(root=tmp_path / "nowhere")


@pytest.mark.parametrize("folder", [".", "pixel-level", "pixel-level/videos"])
def test_a_root_without_recordings_says_what_is_expected(tmp_path: Path, folder: str) -> None:
    (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    data = FurnaceData(root=tmp_path)
    with pytest.raises(ValueError, match=r"holds no recordings; expected videos/\*\.mat"):
        data.problem(dense=True)


@pytest.mark.parametrize(
    "options",
    [
        {"early": "drop", "stride": 10_000},
        {"history": "drop", "current_samples": 10_000},
    ],
)
def test_zero_usable_windows_say_what_to_lower(root: Path, options: dict[str, Any]) -> None:
    data = FurnaceData(root=root, **{**SHORT, **options}, val_fraction=0)
    with pytest.raises(ValueError, match=r"none of \d+ train frames has a usable window; lower"):
        data.train_dataloader()


def test_an_unlisted_split_is_named(tmp_path: Path) -> None:
    write_root(tmp_path, size=SIZE, seconds=30)
    (tmp_path / "pixel-level" / "test.json").write_text("{}")
    with pytest.raises(ValueError, match=r"lists no test frames \(test\.json\)"):
        FurnaceData(root=tmp_path, **SHORT).test_dataloader()


def test_nothing_left_to_train_on_names_the_recording_and_what_to_lower(root: Path) -> None:
    data = FurnaceData(root=root)  # 120 s of current from recordings of 30 s
    with pytest.raises(ValueError, match=r"furnace-0: of \d+ train frames none is left") as error:
        data.train_dataloader()
    assert "gap of 121.44 s; lower current_samples, guard_seconds or val_fraction" in str(
        error.value
    )
    assert len(data.table("test"))  # testing needs no validation


def test_recordings_of_different_size_are_refused(tmp_path: Path) -> None:
    first = write_root(tmp_path, size=SIZE, seconds=30, recordings=2)
    second = write_root(tmp_path, size=(16, 16), seconds=30, recordings=1)
    write_lists(tmp_path / "pixel-level", [second[0], first[1]])
    with pytest.raises(ValueError, match=r"size is \(16, 24\), but \(16, 16\) in .*furnace-0\.mat"):
        FurnaceData(root=tmp_path, **SHORT).problem(dense=True)


def test_recordings_with_different_phases_are_refused(tmp_path: Path) -> None:
    write_root(tmp_path, size=SIZE, seconds=30)
    path = tmp_path / "pixel-level" / "currents" / "furnace-1.csv"
    path.write_text(
        "\n".join(row.rsplit(",", 1)[0] for row in path.read_text().splitlines()) + "\n"
    )
    with pytest.raises(ValueError, match="furnace-1 has 2 phases of current, furnace-0 has 3"):
        FurnaceData(root=tmp_path, **SHORT).test_dataloader()


def test_a_frame_without_current_is_an_error_unless_gaps_says_otherwise(tmp_path: Path) -> None:
    [recording] = write_root(tmp_path, size=SIZE, seconds=30, recordings=1)
    path = tmp_path / "pixel-level" / "currents" / "furnace-0.csv"
    lines = path.read_text().splitlines()
    lost = recording.times[recording.test[40]]
    path.write_text("\n".join(line for line in lines if not line.startswith(lost)) + "\n")
    with pytest.raises(ValueError, match=r"furnace-0: frame \d+ and .*set gaps to hold or drop"):
        FurnaceData(root=tmp_path, **SHORT).dataset("test")
    held = FurnaceData(root=tmp_path, **SHORT, gaps="hold").table("test")
    assert held.frame.tolist() == recording.test
    dropped = FurnaceData(root=tmp_path, **SHORT, gaps="drop").table("test")
    assert 0 < len(dropped) < len(held)
    assert lost not in set(dropped.time)


def test_an_early_or_short_window_can_be_dropped(root: Path) -> None:
    loader, table = FurnaceData(root=root, **SHORT, early="drop").windows_of("furnace-0")
    assert table.frame.min() == 9
    assert len(loader.dataset) == len(table)
    _, table = FurnaceData(root=root, **SHORT, history="drop").windows_of("furnace-0")
    assert table.time.min() == "2023-05-10 21:33:34"  # the eighth second


def test_an_unknown_recording_is_answered_with_the_nearest(root: Path) -> None:
    data = FurnaceData(root=root, **SHORT)
    with pytest.raises(ValueError, match="did you mean 'furnace-"):
        data.windows_of("furnaces-1")
    with pytest.raises(ValueError, match="every is 0"):
        data.windows_of("furnace-1", every=0)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("current", np.ones((7, 3)), "'current' has 7 columns for 100 frames"),
        ("current", np.full((100, 3), np.nan), "'current' column 0 is not finite"),
        ("train_test_index", np.full((100, 1), 2), "must hold 0"),
        ("train_test_index", None, "has no 'train_test_index'"),
    ],
)
def test_a_wrong_single_file_is_named(
    tmp_path: Path, key: str, value: np.ndarray | None, message: str
) -> None:
    content = {
        "video": np.zeros((100, 3, 8, 8), np.uint8),
        "label": np.zeros((100, 8, 8), np.uint8),
        "current": np.ones((100, 3)),
        "train_test_index": np.zeros((100, 1)),
        key: value,
    }
    with h5py.File(tmp_path / "old.mat", "w") as file:
        for name, array in content.items():
            if array is not None:
                file[name] = array
    with pytest.raises(ValueError, match=message):
        FurnaceData(root=tmp_path, **SHORT, val_fraction=0).dataset("train")


def test_a_manifest_that_is_no_json_is_named(tmp_path: Path) -> None:
    write_root(tmp_path, size=SIZE, seconds=30)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(ValueError, match=r"manifest\.json is no JSON"):
        _ = FurnaceData(root=tmp_path, **SHORT).description
    (tmp_path / "manifest.json").write_text(json.dumps({"synthetic": False}))
    assert not FurnaceData(root=tmp_path, **SHORT).synthetic

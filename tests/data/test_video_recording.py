"""Recordings that are stored as videos are read like those in .mat files."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path
from typing import get_args

import decord
import h5py
import numpy as np
import pytest
from torch.utils.data import DataLoader

from fmbench.cli import main
from fmbench.data import FurnaceData
from fmbench.data.dataset import already_collated
from fmbench.data.recording import upright_frames, upright_masks
from fmbench.data.root import open_root
from fmbench.data.video_recording import VideoRecording
from fmbench.format.video import SUFFIX, ClipReader, Codec, probe, write_video
from fmbench.prepare.annotate import annotate
from fmbench.prepare.pack import pack
from recordings import write_root


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("raw")
    write_root(folder, recordings=2, seconds=12, size=(32, 48))
    return folder


@pytest.fixture(scope="module")
def packed(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packed") / "ffv1"
    assert pack(raw, [raw / "pixel-level"], folder, "ffv1").error == 0
    return folder


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FMBENCH_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("unpacked", [False, True])
def test_frames_and_masks_are_those_of_the_mat_files(
    raw: Path, packed: Path, unpacked: bool
) -> None:
    for ours, theirs in zip(open_root(packed).recordings, open_root(raw).recordings, strict=True):
        assert isinstance(ours, VideoRecording)
        ours.unpacked = unpacked
        ours.prepare(video=True, masks=True)
        count = theirs.num_frames
        assert (ours.name, ours.num_frames, ours.size) == (theirs.name, count, (32, 48))
        index = np.array([count - 1, 0, 7, 7, 60, 1])
        assert np.array_equal(upright_frames(ours, index), upright_frames(theirs, index))
        assert np.array_equal(upright_masks(ours, index), upright_masks(theirs, index))
        assert np.array_equal(ours.labels(index), theirs.labels(index))
        assert np.array_equal(ours.seconds, theirs.seconds)


@pytest.mark.parametrize(
    ("unpack", "workers"), [(True, 0), (False, 0), (False, 2)], ids=["cache", "video", "workers"]
)
def test_batches_are_those_of_the_mat_files(
    raw: Path, packed: Path, unpack: bool, workers: int
) -> None:
    options = {"frames": 3, "stride": 2, "current_samples": 4, "batch_size": 8, "val_fraction": 0}
    of_mat = FurnaceData(root=raw, **options).dataset("train")
    of_video = FurnaceData(root=packed, unpack_videos=unpack, **options).dataset("train")
    order = [list(range(0, 40, 5)), [~k for k in range(8)]]

    def batches(windows: object) -> list[object]:
        return list(
            DataLoader(
                windows,  # type: ignore[arg-type]
                batch_sampler=order,  # type: ignore[arg-type]
                collate_fn=already_collated,
                num_workers=workers,
            )
        )

    for ours, theirs in zip(batches(of_video), batches(of_mat), strict=True):
        for one, other in zip(ours, theirs, strict=True):  # type: ignore[call-overload]
            assert one.equal(other)


def test_a_recording_that_has_been_read_can_be_pickled(packed: Path) -> None:
    recording = open_root(packed).recordings[0]
    recording.unpacked = False  # type: ignore[attr-defined]
    first = upright_frames(recording, np.arange(3))
    again = pickle.loads(pickle.dumps(recording))
    assert np.array_equal(upright_frames(again, np.arange(3)), first)


def test_packets_are_read_once_and_again_where_the_file_changed(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "v.mkv"
    shutil.copy(next((packed / "pixel-level" / "videos").glob("*.mkv")), path)
    first = probe(path)
    [kept] = (tmp_path / "cache").glob("v-packets-*.raw")
    with monkeypatch.context() as without:
        without.setattr("av.open", None)
        again = probe(path)
    assert np.array_equal(again.stamps, first.stamps)
    assert again[1:] == first[1:] == ((32, 48), False, True)
    kept.write_bytes(kept.read_bytes()[:-8])  # not whole: read anew
    assert probe(path).frames == first.frames
    blocks = [np.zeros((30, 3, 32, 48), np.uint8)]
    write_video(path, (32, 48), blocks, "ffv1", synthetic=True)
    assert probe(path)[1:] == ((32, 48), True, True)
    assert probe(path).frames == 30
    (tmp_path / "file").touch()
    monkeypatch.setenv("FMBENCH_CACHE", str(tmp_path / "file"))  # no folder
    assert probe(path).frames == 30


def test_the_disk_holds_no_raw_frames_unless_they_are_unpacked(
    packed: Path, tmp_path: Path
) -> None:
    recording = open_root(packed).recordings[0]
    recording.unpacked = False  # type: ignore[attr-defined]
    recording.prepare(video=True, masks=True)
    upright_frames(recording, np.arange(5))
    assert not list((tmp_path / "cache").glob("*-frames-*"))
    recording.unpacked = True  # type: ignore[attr-defined]
    recording.prepare(video=True, masks=True)
    (file,) = (tmp_path / "cache").glob("*-frames-*")
    assert file.stat().st_size == recording.num_frames * 3 * 32 * 48


def test_simulated_recordings_say_so_as_videos(raw: Path, tmp_path: Path) -> None:
    assert not any(recording.synthetic for recording in open_root(raw).recordings)
    root = tmp_path / "root"
    shutil.copytree(raw, root)
    for path in (root / "pixel-level" / "videos").iterdir():
        with h5py.File(path, "r+") as file:
            file.attrs["synthetic"] = 1
    for codec in get_args(Codec):
        pack(root, [root / "pixel-level"], tmp_path / codec, codec)
        opened = open_root(tmp_path / codec)
        assert opened.synthetic
        assert all(isinstance(r, VideoRecording) and r.synthetic for r in opened.recordings)


def test_a_damaged_video_is_named(packed: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    shutil.copytree(packed, root)
    path = sorted((root / "pixel-level" / "videos").iterdir())[0]
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert main(["data", "check", str(root)]) == 1
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=f"{path.name} holds no video"):
        open_root(root)
    path.unlink()
    with pytest.raises(ValueError, match="is missing"):
        probe(path)


@pytest.mark.parametrize("codec", ["ffv1", "h264"])
def test_frames_are_those_that_decord_reads(tmp_path: Path, codec: Codec) -> None:
    path, size = tmp_path / f"run{SUFFIX[codec]}", (64, 64)
    grey = np.arange(120, dtype=np.uint8)[:, None, None, None] * 2
    write_video(path, size, [np.tile(grey, (1, 3, *size))], codec, synthetic=False)
    index = np.array([119, 3, 80, 81, 3, 0])
    ours = ClipReader(path, probe(path)).take(index)
    theirs = decord.VideoReader(str(path)).get_batch(index.tolist()).asnumpy()
    assert np.abs(ours.astype(int) - theirs).max() <= 1
    assert np.abs(ours[:, 32, 32, 0].astype(int) - 2 * index).max() <= 2


def test_labels_of_another_number_of_frames_are_refused(packed: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    shutil.copytree(packed, root)
    path = sorted((root / "pixel-level" / "masks").iterdir())[0]
    with h5py.File(path, "r+") as file:
        labels = file["label"][:74]
        del file["label"]
        file["label"] = labels
    with pytest.raises(
        ValueError, match=rf"{path.name}: 'label' is \[74, 48, 32\].*\d+ frames of 32 x 48"
    ):
        open_root(root)


def test_h264_of_an_odd_size_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    write_root(tmp_path / "raw", recordings=1, seconds=5, size=(33, 32))
    with pytest.raises(ValueError, match="even height and width, not 33 x 32; use ffv1"):
        pack(tmp_path / "raw", [tmp_path / "raw" / "pixel-level"], tmp_path / "out", "h264")
    assert not (tmp_path / "out").exists()


def test_the_command_packs_checks_and_describes(
    raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "pack", str(raw), "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "2 recordings" in said
    assert "without loss" in said
    assert main(["data", "check", str(tmp_path / "out")]) == main(["data", "check", str(raw)])


def test_a_packed_recording_is_not_annotated(packed: Path) -> None:
    recording = open_root(packed).recordings[0]
    with pytest.raises(ValueError, match=r"furnace-0.mkv is a video.*before `fmbench data pack`"):
        annotate(recording, [], replace=True)


def test_a_folder_inside_the_data_set_and_an_empty_data_set_are_refused(
    raw: Path, tmp_path: Path
) -> None:
    part = raw / "pixel-level"
    for out in (raw / "packed", raw):
        with pytest.raises(ValueError, match=r"lies in .*; give a folder outside"):
            pack(raw, [part], out, "ffv1")
    assert sorted(path.name for path in raw.iterdir()) == ["pixel-level"]
    empty = tmp_path / "root" / "pixel-level"
    empty.mkdir(parents=True)
    with pytest.raises(ValueError, match="holds no recordings"):
        pack(tmp_path / "root", [empty], tmp_path / "out", "ffv1")
    assert not (tmp_path / "out").exists()

"""FurnaceData on small written roots: what it delivers, and to which split."""

from __future__ import annotations

import json
import os
import pickle
import random
from pathlib import Path

import h5py
import lightning
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from fmbench.data.datamodule import FurnaceData
from fmbench.data.order import TrainOrder
from fmbench.format import memory_map
from fmbench.format.columns import parse_seconds
from fmbench.prepare.check import check_root
from fmbench.types import Batch, Modality
from recordings import Written, write_lists, write_mat, write_root

SIZE = (16, 24)
SHORT = {"frames": 4, "stride": 3, "current_samples": 16, "batch_size": 32, "flip": False}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Written]]:
    root = tmp_path_factory.mktemp("furnaces")
    return root, write_root(root, size=SIZE, seconds=60)


def batches(loader: DataLoader[Batch]) -> list[Batch]:
    return list(loader)


def together(loader: DataLoader[Batch]) -> Batch:
    parts = zip(*loader, strict=True)
    return Batch(*(torch.cat(part) if part[0] is not None else None for part in parts))


def expected_clip(recording: Written, frame: int) -> np.ndarray:
    index = [max(frame - k * SHORT["stride"], 0) for k in range(SHORT["frames"] - 1, -1, -1)]
    return np.stack([recording.frames[i] for i in index], axis=1)  # (3, T, H, W)


def expected_current(recording: Written, frame: int) -> list[list[float]]:
    times = [time for time, _ in recording.currents]
    last = max(i for i, time in enumerate(times) if time == recording.times[frame])
    rows = [row for _, row in recording.currents[: last + 1]][-SHORT["current_samples"] :]
    points = np.linspace(0, len(rows) - 1, SHORT["current_samples"]).astype(int)
    return [rows[point] for point in points]


@pytest.mark.parametrize("storage", [{}, {"chunked": True}, {"userblock": 512}])
def test_every_test_window_is_what_a_plain_loop_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, storage: dict[str, bool]
) -> None:
    monkeypatch.setenv("FMBENCH_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "root"
    recordings = {each.name: each for each in write_root(root, size=SIZE, seconds=30, **storage)}
    data = FurnaceData(root=root, **SHORT)
    batch, table = together(data.test_dataloader()), data.table("test")
    assert batch.video.dtype == batch.mask.dtype == torch.uint8
    assert batch.current.dtype == torch.float32
    assert batch.label.dtype == torch.int64
    assert len(batch.label) == len(table) == sum(len(each.test) for each in recordings.values())
    for k, (name, frame, time) in enumerate(table.itertuples(index=False)):
        recording = recordings[name]
        assert np.array_equal(batch.video[k].numpy(), expected_clip(recording, frame))
        assert np.array_equal(batch.mask[k].numpy(), recording.masks[frame])
        assert batch.label[k] == int(recording.masks[frame].sum() > 0.5)
        assert np.allclose(batch.current[k].numpy(), expected_current(recording, frame))
        assert time == recording.times[frame]


def test_a_window_knows_its_recording_and_its_second(
    written: tuple[Path, list[Written]],
) -> None:
    data = FurnaceData(root=written[0], **SHORT)
    batch, table = together(data.test_dataloader()), data.table("test")
    assert batch.recording is not None
    assert batch.second is not None
    names = table.recording.unique()
    assert [names[k] for k in batch.recording.tolist()] == table.recording.tolist()
    assert batch.second.tolist() == parse_seconds(table.time).tolist()


def test_compressed_frames_are_unpacked_once_and_never_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = tmp_path / "cache"
    monkeypatch.setenv("FMBENCH_CACHE", str(cache))
    write_root(tmp_path, size=SIZE, seconds=30, recordings=1, chunked=True)
    together(FurnaceData(root=tmp_path, **SHORT).test_dataloader())
    assert "unpacking furnace-0.mat: data" in capsys.readouterr().err
    assert sorted(path.suffix for path in cache.iterdir()) == [".raw", ".raw"]
    together(FurnaceData(root=tmp_path, **SHORT).test_dataloader())
    assert "unpacking" not in capsys.readouterr().err


def test_the_cache_keeps_one_state_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    monkeypatch.setenv("FMBENCH_CACHE", str(cache))
    for root in (tmp_path / "a", tmp_path / "b"):
        write_root(root, size=SIZE, seconds=30, recordings=2, chunked=True)
        together(FurnaceData(root=root, **SHORT).test_dataloader())
    before = {path.name for path in cache.iterdir()}
    rewritten = tmp_path / "a" / "pixel-level" / "videos" / "furnace-0.mat"
    os.utime(rewritten, ns=(0, 0))
    together(FurnaceData(root=tmp_path / "a", **SHORT).test_dataloader())
    after = {path.name for path in cache.iterdir()}
    gone, new = sorted(before - after), sorted(after - before)
    assert len(before & after) == 6
    assert [name.split("-")[2] for name in new] == ["data", "label"]
    assert [name.rsplit("-", 1)[0] for name in gone] == [name.rsplit("-", 1)[0] for name in new]
    for path in cache.iterdir():  # as another process does that began to unpack at the same time
        memory_map._sweep(path)
    assert {path.name for path in cache.iterdir()} == after


def test_the_cache_forgets_what_nobody_has_used_for_a_month(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    monkeypatch.setenv("FMBENCH_CACHE", str(cache))
    for root in (tmp_path / "gone", tmp_path / "used"):
        write_root(root, size=SIZE, seconds=30, recordings=1, chunked=True)
        together(FurnaceData(root=root, **SHORT).test_dataloader())
        if root.name == "gone":
            gone = [*cache.iterdir()]
    (cache / f".1.{gone[0].name}").touch()
    (cache / "notes.raw").touch()
    for path in cache.iterdir():
        os.utime(path, (path.stat().st_mtime - memory_map.UNUSED - 60,) * 2)
    together(FurnaceData(root=tmp_path / "used", **SHORT).test_dataloader())
    write_root(tmp_path / "new", size=SIZE, seconds=30, recordings=1, chunked=True)
    together(FurnaceData(root=tmp_path / "new", **SHORT).test_dataloader())
    left = {path.name for path in cache.iterdir()}
    assert len(left) == 5
    assert "notes.raw" in left
    assert not left & {path.name for path in gone}
    assert not any(name.startswith(".") for name in left)


def test_a_half_goes_after_a_day_and_one_that_is_being_written_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    monkeypatch.setenv("FMBENCH_CACHE", str(cache))
    cache.mkdir()
    left, written = (cache / f".{k}.furnace-0-data-{'0' * 16}-{'1' * 16}.raw" for k in (1, 2))
    left.touch()
    os.utime(left, (left.stat().st_mtime - memory_map.DAY - 60,) * 2)
    written.touch()
    write_root(tmp_path / "root", size=SIZE, seconds=30, recordings=1, chunked=True)
    together(FurnaceData(root=tmp_path / "root", **SHORT).test_dataloader())
    assert [path for path in cache.iterdir() if path.name.startswith(".")] == [written]


@pytest.mark.parametrize("modality", ["current", "cross"])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_file_with_a_flipped_bit_is_opened_or_refused_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, modality: str, chunked: bool
) -> None:
    monkeypatch.setenv("FMBENCH_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "root"
    write_root(root, recordings=1, seconds=12, size=(8, 8), chunked=chunked)
    [file] = root.rglob("*.mat")
    whole, draw, refusals = file.read_bytes(), random.Random(0), []
    for _ in range(60):
        damaged = bytearray(whole)
        damaged[draw.randrange(4096)] ^= 1 << draw.randrange(8)  # where the structure is
        file.write_bytes(damaged)
        try:
            data = FurnaceData(root=root, modality=modality, frames=2, current_samples=8)
            data.dataset("test")
        except ValueError as error:
            refusals.append(str(error))
    assert 0 < len(refusals) < 60
    assert all(file.name in said and "\n" not in said for said in refusals)


@pytest.mark.parametrize("storage", [{}, {"chunked": True}])
@pytest.mark.parametrize("at_once", [memory_map.AT_ONCE, 1000])
def test_labels_are_worked_out_once_and_no_mask_is_unpacked_for_them(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    storage: dict[str, bool],
    at_once: int,
) -> None:
    cache = tmp_path / "cache"
    monkeypatch.setenv("FMBENCH_CACHE", str(cache))
    monkeypatch.setattr(memory_map, "AT_ONCE", at_once)
    root = tmp_path / "root"
    recordings = {each.name: each for each in write_root(root, size=SIZE, seconds=30, **storage)}
    expected = {name: each.masks.any((1, 2)) for name, each in recordings.items()}
    for again in (False, True):
        data = FurnaceData(root=root, **SHORT, modality="current")
        batch, table = together(data.test_dataloader()), data.table("test")
        told = capsys.readouterr().err
        assert batch.mask is None
        assert batch.label.tolist() == [
            expected[name][frame] for name, frame in zip(table.recording, table.frame, strict=True)
        ]
        if at_once == 1000:
            assert ("looking through furnace-0.mat: label" in told) is not again
            sizes = {path.name.split("-label")[0]: path.stat().st_size for path in cache.iterdir()}
            assert sizes == {name: len(labels) for name, labels in expected.items()}
        else:
            assert told == ""
            assert not cache.exists()
    assert sum(labels.sum() for labels in expected.values()) > 0


def test_a_damaged_compressed_file_is_named_and_leaves_nothing_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FMBENCH_CACHE", str(tmp_path / "cache"))
    write_root(tmp_path, size=SIZE, seconds=30, recordings=1, chunked=True)
    path = tmp_path / "pixel-level" / "videos" / "furnace-0.mat"
    with h5py.File(path, "r") as file:
        place = file["data"].id.get_chunk_info(file["data"].id.get_num_chunks() // 2)
    content = bytearray(path.read_bytes())
    content[place.byte_offset : place.byte_offset + place.size] = bytes(place.size)
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"furnace-0\.mat: '/data' is damaged"):
        FurnaceData(root=tmp_path, **SHORT).dataset("test")
    assert list((tmp_path / "cache").iterdir()) == []


def test_an_unwritable_cache_says_how_to_choose_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FMBENCH_CACHE", str(tmp_path / "file" / "cache"))
    write_root(tmp_path, size=SIZE, seconds=30, recordings=1, chunked=True)
    with pytest.raises(ValueError, match="FMBENCH_CACHE"):
        FurnaceData(root=tmp_path, **SHORT).dataset("test")


def test_official_axes_are_the_transpose_of_upright_ones(
    written: tuple[Path, list[Written]],
) -> None:
    upright = together(FurnaceData(root=written[0], **SHORT).test_dataloader())
    data = FurnaceData(root=written[0], axes="official", **SHORT)
    official = together(data.test_dataloader())
    assert upright.video.shape[-2:] == SIZE
    assert torch.equal(official.video, upright.video.transpose(-1, -2))
    assert torch.equal(official.mask, upright.mask.transpose(-1, -2))
    assert data.problem(dense=True).image_size == SIZE[::-1]


def test_the_top_row_of_an_upright_frame_rises_to_the_right(
    written: tuple[Path, list[Written]],
) -> None:
    batch = next(iter(FurnaceData(root=written[0], **SHORT).test_dataloader()))
    assert batch.video[0, 0, -1, 0].tolist() == list(range(SIZE[1]))


@pytest.mark.parametrize("axes", ["image", "official"])
def test_half_of_the_training_clips_are_flipped_with_their_masks(
    written: tuple[Path, list[Written]], axes: str
) -> None:
    options = {**SHORT, "axes": axes}
    plain = FurnaceData(root=written[0], **options).dataset("train")
    loader = FurnaceData(root=written[0], **{**options, "flip": True}).train_dataloader()
    order = list(loader.sampler)
    flipped = [index < 0 for index in order]
    assert 0.4 < np.mean(flipped) < 0.6
    for k, index in enumerate(order[:40]):
        mine = loader.dataset[index]
        theirs = plain[~index if index < 0 else index]
        if flipped[k]:  # the last axis: W upright, H in the released loader
            theirs = theirs._replace(video=theirs.video.flip(-1), mask=theirs.mask.flip(-1))
        assert torch.equal(mine.video, theirs.video)
        assert torch.equal(mine.mask, theirs.mask)
        assert torch.equal(mine.current, theirs.current)


def test_the_same_flips_come_again_for_the_same_seed_and_epoch_only(
    written: tuple[Path, list[Written]],
) -> None:
    options = {**SHORT, "flip": True}
    order = [
        FurnaceData(root=written[0], **options, seed=seed).train_dataloader().sampler
        for seed in (0, 0, 1)
    ]
    first = list(order[0])
    assert list(order[1]) == first
    assert list(order[2]) != first
    order[0].set_epoch(1)
    assert list(order[0]) != first


@pytest.mark.parametrize(
    ("modality", "absent"), [("current", "video"), ("visual", "current"), ("cross", None)]
)
def test_an_absent_modality_is_none(
    written: tuple[Path, list[Written]], modality: str, absent: str | None
) -> None:
    data = FurnaceData(root=written[0], modality=modality, **SHORT)
    batch = next(iter(data.test_dataloader()))
    assert (batch.video is None) == (absent == "video")
    assert (batch.current is None) == (absent == "current")
    assert (batch.mask is None) == (absent == "video")
    problem = data.problem(dense=modality != "current")
    assert problem.modality is Modality(modality)
    assert (problem.frames, problem.current_samples) == (4, 16)
    statistics = data.statistics()
    assert (statistics.video_mean is None) == (absent == "video")
    assert (statistics.current_mean is None) == (absent == "current")


def test_labels_do_not_depend_on_the_modality(written: tuple[Path, list[Written]]) -> None:
    labels = [
        together(FurnaceData(root=written[0], modality=m, **SHORT).test_dataloader()).label
        for m in ("current", "cross")
    ]
    assert torch.equal(*labels)
    assert 0 < labels[0].float().mean() < 1


def test_class_level_labels_come_without_masks(tmp_path: Path) -> None:
    pixel = write_root(tmp_path, size=SIZE, seconds=30)
    write_root(tmp_path, size=SIZE, seconds=30, part="class-level")
    data = FurnaceData(root=tmp_path, part="class-level", **SHORT)
    batch = together(data.test_dataloader())
    assert not data.has_masks
    assert batch.mask is None
    expected = [each.masks[frame].any() for each in pixel for frame in each.test]
    assert batch.label.tolist() == [int(label) for label in expected]
    assert not data.problem(dense=False).dense
    with pytest.raises(ValueError, match="class labels only"):
        data.problem(dense=True)


def test_any_mask_value_above_zero_counts_as_one(tmp_path: Path) -> None:
    [recording] = write_root(tmp_path, size=SIZE, seconds=30, recordings=1)
    path = tmp_path / "pixel-level" / "videos" / "furnace-0.mat"
    write_mat(path, recording.frames, recording.masks * 255)
    batch = together(FurnaceData(root=tmp_path, **SHORT).test_dataloader())
    assert np.array_equal(batch.mask.numpy(), recording.masks[recording.test])


def test_a_part_folder_or_a_root_may_be_given(written: tuple[Path, list[Written]]) -> None:
    root = FurnaceData(root=written[0], **SHORT)
    part = FurnaceData(root=written[0] / "pixel-level", **SHORT)
    assert root.fingerprint() == part.fingerprint()


def test_validation_is_the_end_of_train_with_a_gap_before_it(
    written: tuple[Path, list[Written]],
) -> None:
    root, recordings = written
    data = FurnaceData(root=root, **SHORT, val_fraction=0.2)
    tables = {split: data.table(split) for split in ("train", "val", "test")}
    for recording in recordings:
        frames = {
            split: table.frame[table.recording == recording.name].to_numpy()
            for split, table in tables.items()
        }
        count = len(frames["val"])
        assert count == -(-len(recording.train) // 5)
        assert frames["val"].tolist() == recording.train[-count:]
        assert frames["test"].tolist() == recording.test
        # No validation window may reach what is trained on: not its clip, not its seconds.
        assert frames["val"].min() - 3 * 3 > frames["train"].max()
        clock = np.array([np.datetime64(time) for time in recording.times]).astype(np.int64)
        gap = clock[frames["val"]].min() - clock[frames["train"]].max()
        assert gap > 16 / 2 + 9 / 25
        assert frames["train"].tolist() == list(range(len(frames["train"])))


def test_a_val_list_in_the_root_is_used_as_it_is(tmp_path: Path) -> None:
    recordings = write_root(tmp_path, size=SIZE, seconds=30)
    chosen = {f"{each.name}.mat": list(range(5, 50)) for each in recordings}
    folder = tmp_path / "pixel-level"
    (folder / "val.json").write_text(json.dumps(chosen))
    for each in recordings:
        each.train = list(range(300, 400))
    write_lists(folder, recordings)
    data = FurnaceData(root=tmp_path, **SHORT)
    assert data.table("val").frame.tolist() == [*range(5, 50), *range(5, 50)]
    assert data.table("train").frame.tolist() == [*range(300, 400), *range(300, 400)]


def test_no_validation_where_none_is_asked_for(written: tuple[Path, list[Written]]) -> None:
    data = FurnaceData(root=written[0], **SHORT, val_fraction=0)
    assert data.val_dataloader() == []
    assert len(data.dataset("train")) == sum(len(each.train) for each in written[1])


def test_a_few_windows_are_evenly_spaced(written: tuple[Path, list[Written]]) -> None:
    every = FurnaceData(root=written[0], **SHORT).table("test")
    few = FurnaceData(root=written[0], **SHORT, test_windows=11)
    assert len(together(few.test_dataloader()).label) == 11
    chosen = few.table("test")
    places = np.linspace(0, len(every) - 1, 11).astype(int)
    assert chosen.equals(every.iloc[places].reset_index(drop=True))


def test_an_epoch_draws_other_windows_and_none_twice(
    written: tuple[Path, list[Written]],
) -> None:
    data = FurnaceData(root=written[0], **SHORT, epoch_windows=100)
    sampler = data.train_dataloader().sampler
    epochs = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        drawn = list(sampler)
        assert len(set(drawn)) == len(drawn) == len(sampler) == 100
        epochs.append(set(drawn))
    assert len(set.union(*epochs)) > 200


def test_processes_of_one_job_share_an_epoch_without_overlap(
    written: tuple[Path, list[Written]],
) -> None:
    windows = FurnaceData(root=written[0], **SHORT).dataset("train")
    shares = [
        list(TrainOrder(windows, windows=101, seed=3, num_replicas=2, rank=rank)) for rank in (0, 1)
    ]
    assert len(shares[0]) == len(shares[1]) == 50
    assert not set(shares[0]) & set(shares[1])


@pytest.mark.parametrize("start", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_workers_give_the_batches_that_no_workers_give(
    written: tuple[Path, list[Written]], start: str
) -> None:
    options = {**SHORT, "flip": True, "epoch_windows": 200}
    alone = batches(FurnaceData(root=written[0], **options).train_dataloader())
    workers = 2 if start == "fork" else 1  # a spawned one takes seconds to import torch
    data = FurnaceData(root=written[0], **options, num_workers=workers)
    data.dataset("train")[0]  # the map is open in the parent process before workers start
    loader = data.train_dataloader()
    loader.multiprocessing_context = start
    helped = batches(loader)
    assert len(alone) == len(helped) == 200 // 32
    for mine, theirs in zip(helped, alone, strict=True):
        for one, other in zip(mine, theirs, strict=True):
            assert torch.equal(one, other)


def test_statistics_are_those_of_the_training_part(written: tuple[Path, list[Written]]) -> None:
    root, recordings = written
    data = FurnaceData(root=root, **SHORT)
    measured, table = data.statistics(), data.table("train")
    frames, amperes = [], []
    for recording in recordings:
        mine = table[table.recording == recording.name]
        frames.append(recording.frames[mine.frame])
        amperes += [row for time, row in recording.currents if time in set(mine.time)]
    pixels = np.concatenate(frames).astype(float)  # fewer than 2000 frames: all of them
    assert np.allclose(measured.video_mean, pixels.mean((0, 2, 3)), rtol=1e-5)
    assert np.allclose(measured.video_std, pixels.std((0, 2, 3)), rtol=1e-5)
    assert np.allclose(measured.current_mean, np.mean(amperes, 0), rtol=1e-5)
    assert np.allclose(measured.current_std, np.std(amperes, 0), rtol=1e-5)


def test_the_fingerprint_does_not_follow_the_versions_that_wrote_the_same_bytes(
    tmp_path: Path,
) -> None:
    write_root(tmp_path, size=SIZE)
    prints = []
    for versions, seed in (("1.0", 0), ("2.0", 0), ("2.0", 1)):
        manifest = {"synthetic": True, "seed": seed, "versions": {"numpy": versions}}
        (tmp_path / "manifest.json").write_text(json.dumps(manifest))
        prints.append(FurnaceData(root=tmp_path, **SHORT).fingerprint())
    assert prints[0] == prints[1] != prints[2]


def test_the_fingerprint_follows_lists_and_currents(tmp_path: Path) -> None:
    recordings = write_root(tmp_path, size=SIZE, seconds=30)
    before = FurnaceData(root=tmp_path, **SHORT).fingerprint()
    assert FurnaceData(root=tmp_path, **SHORT).fingerprint() == before
    recordings[0].test.pop()
    write_lists(tmp_path / "pixel-level", recordings)
    lists = FurnaceData(root=tmp_path, **SHORT).fingerprint()
    path = tmp_path / "pixel-level" / "currents" / "furnace-1.csv"
    path.write_text(path.read_text().replace("9", "8", 1))
    currents = FurnaceData(root=tmp_path, **SHORT).fingerprint()
    assert len({before, lists, currents}) == 3


def test_the_older_layout_is_read_from_one_file(tmp_path: Path) -> None:
    [recording] = write_root(tmp_path / "new", size=SIZE, seconds=40, recordings=1)
    old = tmp_path / "old"
    old.mkdir()
    n = len(recording.frames)
    current = np.arange(3 * n, dtype=np.float64).reshape(n, 3)
    split = np.zeros((n, 1))
    split[recording.test] = 1
    with h5py.File(old / "batch.mat", "w", userblock_size=512) as file:
        file["video"] = recording.frames.swapaxes(2, 3)
        file["label"] = recording.masks.swapaxes(1, 2).astype(np.float64)
        file["current"] = current
        file["train_test_index"] = split
    data = FurnaceData(root=old, **SHORT)
    batch, table = together(data.test_dataloader()), data.table("test")
    assert table.frame.tolist() == recording.test
    assert np.array_equal(batch.mask.numpy(), recording.masks[recording.test])
    assert np.array_equal(batch.video[5].numpy(), expected_clip(recording, recording.test[5]))
    second = recording.test[5] // 25  # two columns of each second: its first and its thirteenth
    kept = [25 * s + half for s in range(second - 7, second + 1) for half in (0, 12)]
    assert np.array_equal(batch.current[5].numpy(), current[kept])


def test_a_recording_is_opened_for_prediction_by_name_or_by_path(
    written: tuple[Path, list[Written]], tmp_path: Path
) -> None:
    root, recordings = written
    data = FurnaceData(root=root, **SHORT)
    loader, table = data.windows_of("furnace-1", every=10)
    assert table.frame.tolist() == list(range(0, len(recordings[1].frames), 10))
    batch = together(loader)
    assert np.array_equal(batch.video[7].numpy(), expected_clip(recordings[1], 70))
    by_path, same = data.windows_of(root / "pixel-level" / "videos" / "furnace-1.mat", every=10)
    assert torch.equal(together(by_path).video, batch.video)
    assert same.equals(table)


def test_an_unlabelled_recording_is_predicted_with_label_minus_one(
    written: tuple[Path, list[Written]], tmp_path: Path
) -> None:
    [recording] = write_root(tmp_path, size=SIZE, seconds=20, recordings=1, part="unlabelled")
    path = tmp_path / "unlabelled" / "videos" / "furnace-0.mat"
    write_mat(path, recording.frames, None)
    loader, table = FurnaceData(root=written[0], **SHORT).windows_of(path)
    batch = together(loader)
    assert len(table) == len(recording.frames)
    assert batch.mask is None
    assert batch.label.unique().tolist() == [-1]


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The same simulated recordings, rendered on demand and written out."""
    from fmbench.simulator import write_dataset

    folder = tmp_path_factory.mktemp("simulated")
    write_dataset(folder / "lazy", preset="tiny", seed=3, lazy=True)
    write_dataset(folder / "files", preset="tiny", seed=3)
    return folder / "lazy", folder / "files"


def test_a_lazily_simulated_root_gives_what_a_written_one_gives(
    simulated: tuple[Path, Path],
) -> None:
    options = {**SHORT, "test_windows": 64, "epoch_windows": 64, "flip": True}
    roots = [FurnaceData(root=root, **options) for root in simulated]
    for data in roots:
        assert data.synthetic
        assert data.description.startswith("synthetic data (simulator v2, seed 3, preset tiny)")
    for split in ("test_dataloader", "train_dataloader"):
        mine, theirs = (together(getattr(data, split)()) for data in roots)
        for one, other in zip(mine, theirs, strict=True):
            assert torch.equal(one, other)
    assert roots[0].table("val").equals(roots[1].table("val"))
    assert pickle.loads(pickle.dumps(roots[0].dataset("test")))[0].video.shape == (1, 3, 4, 64, 64)


def test_simulated_roots_have_no_fault(simulated: tuple[Path, Path]) -> None:
    assert [check_root(root) for root in simulated] == [[], []]


class Recorder(lightning.LightningModule):
    """Remembers which windows it was shown; its one weight is only there to be stepped."""

    def __init__(self, stop_after: int | None = None) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen: list[list[float]] = []
        self.stop_after = stop_after

    def training_step(self, batch: Batch, _: int) -> torch.Tensor:
        if self.stop_after is not None and len(self.seen) == self.stop_after:
            raise KeyboardInterrupt
        self.seen.append(batch.current.sum((1, 2)).tolist())
        return self.weight.sum()

    def validation_step(self, batch: Batch, _: int) -> None:
        pass

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class SaveAt(lightning.Callback):
    """Saves a checkpoint at one moment of a fit, as ModelCheckpoint or a handler of Ctrl-C does."""

    def __init__(self, moment: str, step: int, path: Path) -> None:
        self.path = path
        self.step = step
        setattr(self, moment, self.save)

    def save(self, trainer: lightning.Trainer, *_: object) -> None:
        if trainer.global_step == self.step and not trainer.sanity_checking:
            trainer.save_checkpoint(self.path)


@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*logging interval")
@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    ("limit", "moment", "step"),
    [
        ({"max_steps": 20}, "on_train_batch_end", 5),
        ({"max_steps": 20}, "on_validation_end", 8),
        ({"max_epochs": 3}, "on_train_batch_end", 16),
        ({"max_epochs": 3}, "on_validation_end", 8),
        ({"max_epochs": 3}, "on_train_epoch_end", 8),
        ({"max_epochs": 3}, "on_exception", 13),
    ],
)
def test_a_resumed_fit_sees_the_windows_that_an_unbroken_one_sees(
    written: tuple[Path, list[Written]],
    tmp_path: Path,
    workers: int,
    limit: dict[str, int],
    moment: str,
    step: int,
) -> None:
    checkpoint = tmp_path / "stopped.ckpt"

    def fit(model: Recorder, path: Path | None = None) -> None:
        options = {**SHORT, "epoch_windows": 256, "num_workers": workers}  # 8 batches an epoch
        trainer = lightning.Trainer(
            **limit,
            accelerator="cpu",
            logger=False,
            callbacks=[] if path else [SaveAt(moment, step, checkpoint)],
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(
            model,
            datamodule=FurnaceData(root=written[0], **options, val_windows=32),
            ckpt_path=path,
        )

    unbroken = Recorder()
    fit(unbroken)
    if moment == "on_exception":
        with pytest.raises((SystemExit, KeyboardInterrupt)):
            fit(Recorder(stop_after=step))
    resumed = Recorder()
    fit(resumed, checkpoint)
    assert len(unbroken.seen) == limit.get("max_steps", 24)
    assert resumed.seen == unbroken.seen[step:]

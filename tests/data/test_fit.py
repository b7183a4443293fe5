"""Frames of 100 x 140 for models that read another size, against PIL and torch."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.nn.functional import interpolate

from fmbench.config.schema import Config
from fmbench.data import FurnaceData
from fmbench.data.fit import Fit
from fmbench.prepare.check import check_root
from fmbench.prepare.faults import Kind
from fmbench.training.measure import measure
from fmbench.training.predict import predict, predicted_scene
from fmbench.training.run import fit
from recordings import Written, write_mat, write_root
from test_resident import assert_same_data

STORED, RESIZED, PADDED = (100, 140), (96, 144), (112, 144)
SHORT: dict[str, Any] = {"frames": 2, "stride": 3, "current_samples": 8, "batch_size": 8}
WAYS = [("resize", RESIZED), ("pad", PADDED)]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Written]]:
    folder = tmp_path_factory.mktemp("wide")
    return folder, write_root(folder, recordings=1, seconds=20, size=STORED, seed=1)


@pytest.fixture(scope="module")
def root(written: tuple[Path, list[Written]]) -> Path:
    return written[0]


def by_pil(planes: np.ndarray, size: tuple[int, int], how: Image.Resampling) -> np.ndarray:
    """(..., H, W) uint8 resized to `size`."""
    flat = planes.reshape(-1, *planes.shape[-2:])
    done = [np.asarray(Image.fromarray(plane).resize(size[::-1], how)) for plane in flat]
    return np.stack(done).reshape(*planes.shape[:-2], *size)


def batch_of(data: FurnaceData, frames: list[int]) -> Any:
    return next(iter(data.windows_of("furnace-0", frames=frames)[0]))


@pytest.mark.parametrize("resident", [False, True])
@pytest.mark.parametrize("axes", ["image", "official"])
def test_frames_and_masks_are_resized_as_pil_does(
    written: tuple[Path, list[Written]], axes: str, resident: bool
) -> None:
    root, [recording] = written
    options = {**SHORT, "axes": axes, "resident": resident, "test_windows": 20, "flip": False}
    data = FurnaceData(root=root, image_size=RESIZED, fit="resize", **options)
    assert data.problem(dense=True).image_size == (RESIZED if axes == "image" else RESIZED[::-1])
    batch = next(iter(data.test_dataloader()))
    frames = data.table("test")["frame"].to_numpy()[: len(batch.label)]
    video, mask = batch.video.numpy(), batch.mask.numpy()
    if axes == "official":
        video, mask = video.swapaxes(-1, -2), mask.swapaxes(-1, -2)
    expected = by_pil(recording.frames[frames], RESIZED, Image.Resampling.BILINEAR)
    assert np.abs(video[:, :, -1].astype(int) - expected).max() <= 1  # fixed-point arithmetic
    earlier = by_pil(recording.frames[frames - 3], RESIZED, Image.Resampling.BILINEAR)
    assert np.abs(video[:, :, 0].astype(int) - earlier).max() <= 1
    nearest = by_pil(recording.masks[frames], RESIZED, Image.Resampling.NEAREST)
    assert np.array_equal(mask, nearest)
    assert nearest.any()


@pytest.mark.parametrize("axes", ["image", "official"])
def test_padding_adds_zeros_at_the_right_and_bottom_also_of_flipped_frames(
    written: tuple[Path, list[Written]], axes: str
) -> None:
    root, [recording] = written
    data = FurnaceData(root=root, image_size=PADDED, fit="pad", axes=axes, **SHORT)
    train = data.dataset("train")
    k = int(np.flatnonzero(recording.masks[train.frame].any((1, 2)))[5])
    frame, tall, wide = train.frame[k], *STORED
    for window, flipped in ((k, False), (~k, True)):
        batch = train[window]
        video, mask = batch.video[0, :, -1].numpy(), batch.mask[0].numpy()
        if axes == "official":
            video, mask = video.swapaxes(-1, -2), mask.swapaxes(-1, -2)
        assert video.shape == (3, *PADDED)
        expected, marked = recording.frames[frame], recording.masks[frame]
        if flipped:  # the released loader reverses the rows
            turn = (..., slice(None, None, -1)) if axes == "image" else np.s_[..., ::-1, :]
            expected, marked = expected[turn], marked[turn]
        assert np.array_equal(video[:, :tall, :wide], expected)
        assert np.array_equal(mask[:tall, :wide], marked)
        assert not video[:, tall:].any()
        assert not video[:, :, wide:].any()
        assert mask.sum() == marked.sum() > 0


@pytest.mark.parametrize(("way", "size"), WAYS)
@pytest.mark.parametrize("axes", ["image", "official"])
def test_resident_windows_give_the_same(root: Path, way: str, size: Any, axes: str) -> None:
    options = {**SHORT, "epoch_windows": 40, "val_windows": 10, "test_windows": 10, "axes": axes}
    options |= {"image_size": size, "fit": way, "guard_seconds": 2}
    assert_same_data(
        FurnaceData(root=root, **options), FurnaceData(root=root, **options, resident=True)
    )


def planted(root: Path, folder: Path, rows: slice, columns: slice) -> Path:
    """A copy of `root` with frames that are bright, and abnormal, in one rectangle."""
    shutil.copytree(root, folder, ignore=shutil.ignore_patterns("*.mat"))
    count = len((root / "pixel-level/timestamps/furnace-0.csv").read_text().splitlines()) - 1
    masks = np.zeros((count, *STORED), np.uint8)
    masks[:, rows, columns] = 1
    frames = np.repeat(200 * masks[:, None], 3, axis=1)
    write_mat(folder / "pixel-level/videos/furnace-0.mat", frames, masks)
    return folder


def test_a_planted_square_is_where_it_must_be(root: Path, tmp_path: Path) -> None:
    """Of 20 x 28 pixels, from row 40 and column 70."""
    planted(root, tmp_path / "root", slice(40, 60), slice(70, 98))
    for way, size in WAYS:
        data = FurnaceData(root=tmp_path / "root", image_size=size, fit=way, **SHORT)
        batch = batch_of(data, [100])
        bright, mask = batch.video[0, 0, -1] > 100, batch.mask[0] == 1
        scale = (size[0] / 100, size[1] / 140) if way == "resize" else (1, 1)
        rows, columns = (torch.arange(side) + 0.5 for side in size)
        inside = ((rows > 40 * scale[0]) & (rows < 60 * scale[0]))[:, None] & (
            (columns > 70 * scale[1]) & (columns < 98 * scale[1])
        )
        assert torch.equal(mask, inside)
        row, column = round(50 * scale[0]), round(84 * scale[1])
        assert torch.equal(bright[row], inside[row])
        assert torch.equal(bright[:, column], inside[:, column])
        assert not (bright & ~inside).any()


def test_the_class_of_a_frame_is_that_of_its_stored_mask(root: Path, tmp_path: Path) -> None:
    """One abnormal pixel, which no pixel of the smaller mask shows."""
    planted(root, tmp_path / "root", slice(0, 1), slice(0, 1))
    for resident in (False, True):
        data = FurnaceData(
            root=tmp_path / "root", image_size=(10, 14), fit="resize", resident=resident, **SHORT
        )
        batch = next(iter(data.test_dataloader()))
        assert batch.label.tolist() == [1] * len(batch.label)
        assert not batch.mask.any()


@settings(deadline=None, max_examples=100, derandomize=True)
@given(*(st.integers(1, 40) for _ in range(4)), st.integers(0, 9))
def test_masks_are_those_of_torchs_exact_nearest_neighbour(
    tall: int, wide: int, height: int, width: int, seed: int
) -> None:
    masks = torch.from_numpy(np.random.default_rng(seed).integers(0, 3, (2, tall, wide))).byte()
    fit = Fit("resize", (height, width))
    exact = interpolate(masks[:, None].double(), (height, width), mode="nearest-exact")[:, 0]
    (
        rows,
        columns,
    ) = (  # where no centre lies on an edge, which floating point may put on either side
        [k for k in range(wanted) if (2 * k + 1) * had % (2 * wanted)]
        for had, wanted in ((tall, height), (wide, width))
    )
    found = fit.masks(masks, (height, width))
    assert torch.equal(found[:, rows][..., columns], exact.byte()[:, rows][..., columns])
    assert fit.back(masks, (height, width)).shape == (2, height, width)
    padded = Fit("pad", (tall + height, wide + width))
    larger = padded.masks(masks, padded.size)
    assert torch.equal(padded.back(larger, (tall, wide)), masks)
    assert larger.sum() == masks.sum()


def config(root: Path, **data: Any) -> Config:
    few = {"epoch_windows": 8, "val_windows": 8, "test_windows": 8, "guard_seconds": 2}
    return Config(
        net={"dim": 12, "depth": 1},
        data=SHORT | few | {"root": str(root)} | data,
        trainer={"max_epochs": 1, "max_steps": 1, "accelerator": "cpu"},
    )


@pytest.mark.parametrize(("way", "size"), WAYS)
def test_a_model_is_trained_measured_and_shown_on_frames_that_are_not_square(
    root: Path, tmp_path: Path, way: str, size: tuple[int, int]
) -> None:
    best = fit(config(root, image_size=list(size), fit=way), run=tmp_path / "run")
    assert 0 <= measure(best, out=tmp_path)["miou"] <= 1
    scene, _ = predicted_scene(best, "furnace-0", every=100)
    assert scene.frames.shape[1:] == (*STORED, 3)
    assert scene.predicted is not None
    assert scene.predicted.shape == scene.frames.shape[:3]
    written = predict(best, "furnace-0", out=tmp_path / "out", every=100)
    assert all(path.stat().st_size > 100 for path in written)
    if way == "resize":  # frames of any size, by the options of the training
        write_root(tmp_path / "small", recordings=1, seconds=20, size=(32, 32))
        assert 0 <= measure(best, data={"root": tmp_path / "small"}, out=tmp_path)["acc"] <= 1


def test_a_predicted_mask_is_shown_where_the_model_saw_it(root: Path) -> None:
    """A mask of the model's size, back on the stored frame."""
    seen = torch.zeros(1, *RESIZED, dtype=torch.uint8)
    seen[0, 48:, :72] = 1
    back = Fit("resize", RESIZED).back(seen, STORED)[0]
    assert back[50:, :70].all()
    assert back.sum() == 50 * 70
    padded = torch.zeros(1, *PADDED, dtype=torch.uint8)
    padded[0, 20:40, 30:50] = 1
    assert Fit("pad", PADDED).back(padded, STORED)[0, 20:40, 30:50].all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": (96, 144)}, "image_size is set, but fit is not: give resize or pad"),
        ({"fit": "pad"}, r"fit is pad, but image_size is not set: give \[height, width\]"),
        ({"image_size": (96, 144), "fit": "padd"}, "fit is 'padd'; did you mean 'pad'"),
        ({"image_size": (0, 144), "fit": "pad"}, r"image_size is \[0, 144\]"),
        (
            {"image_size": (96, 144), "fit": "pad"},
            r"frames of 100 x 140 cannot be padded to 96 x 144; set image_size to at least"
            r" \[100, 140\], or fit to resize",
        ),
    ],
)
def test_sizes_that_cannot_be_made_are_refused(
    root: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        FurnaceData(root=root, **SHORT, **options).dataset("test")


def test_a_model_names_a_size_that_it_can_read(root: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="height, 100, is not a multiple") as refused:
        fit(config(root), run=tmp_path / "run")
    assert "--data.image_size '[96, 144]' --data.fit resize" in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "run").exists()


def test_frames_of_another_size_than_the_checkpoints_are_refused(
    root: Path, tmp_path: Path
) -> None:
    write_root(tmp_path / "small", recordings=1, seconds=30, size=(32, 32))
    best = fit(config(tmp_path / "small"), run=tmp_path / "run")
    with pytest.raises(ValueError, match=r"frames are 100 x 140, .* on 32 x 32: give --data.image"):
        measure(best, data={"root": root}, out=tmp_path)
    options = {"root": root, "image_size": (32, 32), "fit": "resize"}
    assert 0 <= measure(best, data=options, out=tmp_path)["acc"] <= 1


def test_check_finds_a_recording_of_another_size_than_root_yaml_says(
    root: Path, tmp_path: Path
) -> None:
    shutil.copytree(root, tmp_path / "root")
    (tmp_path / "root" / "root.yaml").write_text("frame_size: [100, 140]\n")
    assert not [each for each in check_root(tmp_path / "root") if each.kind is Kind.FRAME_SIZE]
    (tmp_path / "root" / "root.yaml").write_text("frame_size: [140, 100]\n")
    [fault] = [each for each in check_root(tmp_path / "root") if each.kind is Kind.FRAME_SIZE]
    assert "frames of 100 x 140" in str(fault)
    assert "says 140 x 100" in str(fault)

"""Labels of more than two classes, from files to batches."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from fmbench.data import FurnaceData, open_root
from fmbench.data.recording import MatRecording, SingleFileRecording, upright_masks
from fmbench.format import memory_map
from fmbench.format.mat import write_labels
from fmbench.format.video import masks_file
from fmbench.prepare.pack import pack
from recordings import write_mat, write_root
from three_classes import CLASSES, relabel, write_classes, write_three_classes

FEW = {"frames": 2, "stride": 1, "current_samples": 8}


@st.composite
def labels_of(draw: st.DrawFn) -> tuple[int, np.ndarray]:
    """A number of classes, and masks (n, H, W) of any type that holds them."""
    count = draw(st.integers(2, 6))
    shape = draw(st.tuples(st.integers(1, 9), st.just(4), st.integers(1, 5)))
    if shape[2] == 1:
        shape = (shape[0], 1, 1)  # classes of frames
    kind = draw(st.sampled_from([np.uint8, np.int16, np.float64]))
    values = st.integers(0, count - 1)
    return count, draw(arrays.arrays(np.uint8, shape, elements=values)).astype(kind)


@settings(max_examples=25, deadline=None)
@given(labels_of(), st.sampled_from([0, memory_map.AT_ONCE]))
def test_the_class_of_a_frame_is_the_highest_in_its_mask(
    case: tuple[int, np.ndarray], at_once: int
) -> None:
    count, labels = case
    expected = []
    for mask in labels:  # a slow loop
        highest = 0
        for row in mask:
            for value in row:
                highest = max(highest, int(value))
        expected.append(highest)
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patched:
        part = Path(folder) / "pixel-level"
        (part / "videos").mkdir(parents=True)
        patched.setenv("FMBENCH_CACHE", f"{folder}/cache")
        patched.setattr(memory_map, "AT_ONCE", at_once)  # 0: by way of the cache
        write_classes(Path(folder), ("normal", *(f"fault {k}" for k in range(1, count))))
        shape = (len(labels), 3, 4, 5) if labels.shape[1:] == (1, 1) else (len(labels), 3)
        frames = np.zeros(shape if len(shape) == 4 else (*shape, *labels.shape[1:]), np.uint8)
        write_mat(part / "videos" / "a.mat", frames, labels)
        recording, index = MatRecording(part / "videos" / "a.mat", part), np.arange(len(labels))
        recording.prepare(video=False, masks=recording.has_masks)
        assert recording.class_of(index).tolist() == expected
        assert recording.labels(index).tolist() == [each > 0 for each in expected]
        if recording.has_masks:
            np.testing.assert_array_equal(upright_masks(recording, index), labels)


@pytest.mark.parametrize("resident", [False, True])
@pytest.mark.parametrize("part", ["pixel-level", "class-level"])
def test_batches_hold_class_indices(tmp_path: Path, part: str, resident: bool) -> None:
    written = write_three_classes(tmp_path, part=part, recordings=1, size=(16, 20))
    data = FurnaceData(root=tmp_path, part=part, resident=resident, **FEW)
    assert (data.classes, data.problem(False).num_classes) == (CLASSES, 3)
    data.setup("test")
    batches = list(data.test_dataloader())
    frames = written[0].test
    label = torch.cat([batch.label for batch in batches])
    assert label.dtype == torch.int64
    assert label.tolist() == written[0].masks.max((1, 2))[frames].tolist()
    assert set(label.tolist()) == {0, 1, 2}
    if part == "pixel-level":
        mask = torch.cat([batch.mask for batch in batches])
        np.testing.assert_array_equal(mask, written[0].masks[frames])


@pytest.mark.parametrize("wrong", [3, 255, 300, 1.5, -1])
@pytest.mark.parametrize("part", ["pixel-level", "class-level"])
def test_a_value_that_is_no_class_is_refused_before_training(
    tmp_path: Path, part: str, wrong: float
) -> None:
    [written] = write_three_classes(tmp_path, part=part, recordings=1, seconds=20, size=(16, 20))
    labels = written.masks.astype(np.float64)
    labels = labels if part == "pixel-level" else labels.max((1, 2))
    labels[(77, 9, 3)[: labels.ndim]] = wrong
    relabel(tmp_path / part / "videos" / "furnace-0.mat", labels)
    data = FurnaceData(root=tmp_path, part=part, **FEW)
    with pytest.raises(ValueError, match=rf"furnace-0.mat: the label of frame 77 is {wrong:g}; .*"):
        data.dataset("train")


def test_with_two_classes_any_value_above_0_is_abnormal(tmp_path: Path) -> None:
    [written] = write_root(tmp_path, recordings=1, seconds=20, size=(16, 20))
    write_classes(tmp_path, ("normal", "leak"))
    relabel(tmp_path / "pixel-level" / "videos" / "furnace-0.mat", 255 * written.masks)
    data = FurnaceData(root=tmp_path, **FEW)
    [recording] = data.opened.recordings
    index = np.arange(recording.num_frames)
    assert recording.class_of(index).tolist() == written.masks.max((1, 2)).tolist()
    np.testing.assert_array_equal(upright_masks(recording, index), written.masks)
    assert data.problem(False).num_classes == 2


@pytest.mark.parametrize("part", ["pixel-level", "class-level"])
def test_labels_of_a_packed_video_are_the_same(tmp_path: Path, part: str) -> None:
    root, packed = tmp_path / "root", tmp_path / "packed"
    [written] = write_three_classes(root, part=part, recordings=1, seconds=20, size=(16, 20))
    pack(root, [root / part], packed, "ffv1")
    [recording] = open_root(packed, part).recordings
    index = np.arange(recording.num_frames)
    assert recording.classes == CLASSES
    assert recording.class_of(index).tolist() == written.masks.max((1, 2)).tolist()
    labels = masks_file(packed / part, "furnace-0")
    write_labels(labels, len(index), [np.full((len(index), 1, 1), 3)], (1, 1))
    with pytest.raises(ValueError, match=r"the label of frame 0 is 3; root\.yaml has 3 classes"):
        open_root(packed, part).recordings[0].prepare(video=False, masks=False)


def test_the_older_layout_is_normal_and_abnormal(tmp_path: Path) -> None:
    write_classes(tmp_path, CLASSES)
    write_mat(tmp_path / "a.mat", np.zeros((2, 3, 4, 5), np.uint8), np.full((2, 4, 5), 2, np.uint8))
    recording = SingleFileRecording(tmp_path / "a.mat", tmp_path)
    assert recording.classes == ("normal", "abnormal")
    assert recording.class_of(np.arange(2)).tolist() == [1, 1]


def test_other_classes_are_other_data(tmp_path: Path) -> None:
    write_three_classes(tmp_path, recordings=1, seconds=20, size=(16, 20))
    before = open_root(tmp_path).fingerprint
    write_classes(tmp_path, ("normal", "burn-through", "crack"))
    assert open_root(tmp_path).fingerprint != before

"""Files as `write_mat` writes them, against h5py and against what readers give."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

from fmbench.data.recording import MatRecording, upright_frames, upright_masks
from fmbench.format.mat import Labels, new_label, video_file, write_mat, write_rows
from recordings import make_recording

SIZE = (24, 40)


@pytest.mark.parametrize("labels", ["masks", "classes", None])
def test_what_is_written_upright_is_stored_transposed_and_read_upright(
    tmp_path: Path, labels: Labels | None
) -> None:
    made = make_recording("a", 4, SIZE, 1)
    count = len(made.frames)
    kept = {"masks": made.masks, "classes": made.masks.any((1, 2)), None: None}[labels]

    def blocks() -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
        for at in range(0, count, 7):
            yield made.frames[at : at + 7], None if kept is None else kept[at : at + 7]

    path = video_file(tmp_path, "a")
    write_mat(path, count, SIZE, blocks(), labels=labels, synthetic=True)
    with h5py.File(path) as file:
        np.testing.assert_array_equal(file["data"][:], made.frames.swapaxes(2, 3))
        assert ("label" in file) == (labels is not None)
        if labels == "classes":
            np.testing.assert_array_equal(file["label"][:], kept[:, None, None])
        if labels == "masks":
            np.testing.assert_array_equal(file["label"][:], made.masks.swapaxes(1, 2))
    recording, index = MatRecording(path, tmp_path), np.array([2, 5, 5, count - 1])
    assert (recording.size, recording.synthetic) == (SIZE, True)
    assert (recording.has_labels, recording.has_masks) == (labels is not None, labels == "masks")
    np.testing.assert_array_equal(upright_frames(recording, index), made.frames[index])
    if labels == "masks":
        np.testing.assert_array_equal(upright_masks(recording, index), made.masks[index])
    with new_label(path, count, SIZE) as label:
        write_rows(label, 3, np.ones((2, *SIZE), np.uint8))
    relabelled = MatRecording(path, tmp_path)
    assert np.flatnonzero(relabelled.labels(np.arange(count))).tolist() == [3, 4]

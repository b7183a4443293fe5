"""The pictures, read back as images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from fmbench.pictures import PREDICTED, Scene, minutes_seconds, overlay, overlay_video, painted


def scene(n: int = 6, *, height: int = 64, width: int = 64, **changes: Any) -> Scene:
    """A grey shell with a spot: true in its left half, predicted in its right half."""
    truth = np.zeros((n, height, width), np.uint8)
    predicted = truth.copy()
    truth[2:4, 20:40, 10:30] = 1
    predicted[2:4, 20:40, 34:54] = 1
    seconds = np.arange(4, 100)
    content: dict[str, Any] = {
        "frames": np.full((n, height, width, 3), 90, np.uint8),
        "times": np.linspace(5, 95, n),
        "truth": truth,
        "predicted": predicted,
        "currents": np.full((200, 3), 12_500.0) + np.arange(200)[:, None],
        "current_times": np.arange(200) / 2,
        "scores": np.linspace(0, 1, len(seconds)),
        "score_times": seconds,
        "labels": (seconds > 50).astype(int),
        "title": "SIM-0-10-21_40_52-100",
    }
    return Scene(**(content | changes))


def colour(name: str) -> list[int]:
    return [int(name[i : i + 2], 16) for i in (1, 3, 5)]


def test_prediction_is_tinted_truth_is_outlined_and_the_rest_left_alone() -> None:
    picture = painted(*scene().seen(2), 320).astype(int)
    assert (picture[300, 300] == 90).all()
    inside_prediction = picture[150, 220]
    toward = np.array(colour(PREDICTED)) - 90
    assert ((inside_prediction - 90) * np.sign(toward) > 20).any()
    inside_truth, on_its_edge = picture[150, 100], picture[97:104, 100]
    assert (inside_truth == 90).all()
    assert on_its_edge.max() == 255  # white, with a black rim so that it shows on a glow too
    assert on_its_edge.min() < 60
    assert (painted(*scene().seen(0), 320) == 90).all()


def test_without_masks_the_frame_is_shown_as_it_is() -> None:
    bare = scene(truth=None, predicted=None)
    assert (painted(*bare.seen(2), 320) == 90).all()


def test_a_frame_keeps_its_shape() -> None:
    assert painted(*scene(height=36, width=64).seen(2), 480).shape == (270, 480, 3)


def test_overlay_writes_a_png_large_enough_to_read(tmp_path: Path) -> None:
    path = overlay(tmp_path / "new" / "a.png", scene())
    image = cv2.imread(str(path))
    assert image.shape[0] > 700
    assert image.shape[1] > 1400
    tint, band = (88, 135, 161), (240, 215, 229)  # half of 90; three tenths of it on white
    for wanted in (tint, band):
        near = np.abs(image[:, :, ::-1].astype(int) - wanted).max(axis=2) <= 2
        assert near.sum() > 500


@pytest.mark.parametrize(("n", "masks"), [(1, True), (2, False), (40, False)])
def test_overlay_draws_any_number_of_frames_with_or_without_truth(
    n: int, masks: bool, tmp_path: Path
) -> None:
    some = scene(max(n, 4))
    some = replace(
        some,
        frames=some.frames[:n],
        times=some.times[:n],
        truth=some.truth[:n] if masks and some.truth is not None else None,
        predicted=some.predicted[:n] if masks and some.predicted is not None else None,
        labels=some.labels if masks else None,
    )
    assert overlay(tmp_path / "a.png", some).stat().st_size > 10_000


def test_a_simulated_recording_says_so_in_the_picture(tmp_path: Path) -> None:
    real = cv2.imread(str(overlay(tmp_path / "a.png", scene())))
    simulated = cv2.imread(str(overlay(tmp_path / "b.png", scene(synthetic=True))))
    corner = (slice(-18, None), slice(-400, None))
    assert (simulated[corner] < 128).any()
    assert not (real[corner] < 128).any()


def test_video_has_every_frame_and_a_moving_instant(tmp_path: Path) -> None:
    path = overlay_video(tmp_path / "a.mp4", scene(12), fps=4)
    video = cv2.VideoCapture(str(path))
    frames = []
    while (read := video.read())[0]:
        frames.append(read[1].astype(int))
    video.release()
    assert len(frames) == 12
    assert frames[0].shape == (480, 1440, 3)
    panels = [frame[:, 480:] for frame in frames]
    columns = [
        np.abs(panel - np.median(panels, axis=0)).sum(axis=(0, 2)).argmax() for panel in panels
    ]
    assert (np.diff(columns) > 30).all()


def test_lengths_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(ValueError, match="labels has 3 entries for 96 times"):
        scene(labels=np.zeros(3))
    with pytest.raises(ValueError, match="at least one frame"):
        scene(
            frames=np.zeros((0, 64, 64, 3), np.uint8), times=np.zeros(0), truth=None, predicted=None
        )


def test_times_read_as_minutes_and_seconds() -> None:
    assert [minutes_seconds(seconds) for seconds in (0, 59.9, 60, 725)] == [
        "0:00",
        "0:59",
        "1:00",
        "12:05",
    ]

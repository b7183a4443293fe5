"""Apply a detector to one recording: scores, a picture, a movie."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast, get_args

import lightning as L
import numpy as np
import pandas as pd
import torch
import yaml
from numpy.typing import NDArray
from torch import Tensor

from fmbench.data.dataset import WindowDataset
from fmbench.data.recording import upright_frames, upright_masks
from fmbench.data.root import Part, part_with
from fmbench.files.atomic import write_text
from fmbench.format.columns import NO_CURRENTS, timestamps_file
from fmbench.format.plant import PLANT_FILE
from fmbench.metrics import abnormal_probability
from fmbench.pictures import Scene, overlay, overlay_video
from fmbench.training.checkpoint import load, read_checkpoint
from fmbench.training.lit import Detector
from fmbench.training.loop import interruptible, quiet
from fmbench.training.measure import data_root, open_data
from fmbench.types import Prediction

AlarmOf = Callable[[NDArray[Any], Tensor], NDArray[np.bool_]]
"""(n,) times in seconds and (n, K) logits of a recording -> (n,) whether there is an alarm."""


def predict(
    checkpoint: str | Path,
    recording: str | Path,
    *,
    out: Path,
    data: Mapping[str, Any] | None = None,
    every: int | str = 25,
    movie: bool = False,
    alarm: AlarmOf | None = None,
) -> list[Path]:
    """Write the scores of one recording as `<name>.csv`, and `<name>.png`, `<name>.mp4` of them.

    The CSV has the columns frame, time, score (probability in [0, 1] that the window is abnormal),
    decision and, for a labelled recording, label (both 1 = abnormal). With more than two classes,
    decision and label are a class's name, and p_NAME is the probability of each class.

    Args:
        checkpoint: a file that `fit` or `import_official` wrote.
        recording: a name in the data root, in the part of the training or else in another; or the
            path of a .mat, .mkv or .mp4 in the benchmark's layout.
        out: folder of the files.
        data: options of `FurnaceData` that differ from those of the training.
        every: frames from one score to the next; or seconds, as "1s".
        movie: whether to write the MP4.
        alarm: gives the CSV a column alarm (1 = alarm), and the pictures a bar.

    Returns:
        The paths of the files.

    Raises:
        ValueError: no such recording, or one that the detector cannot read.
    """
    options = dict(data or {})
    path = Path(recording)
    if path.is_file() and in_layout(path):
        folder = path.resolve().parent.parent
        options.setdefault("root", folder)
        if folder.name in get_args(Part):
            options.setdefault("part", folder.name)
    elif "part" not in options:
        trained = read_checkpoint(checkpoint)["fmbench"]["data"]
        root = data_root(trained, options)
        options["part"] = part_with(root, str(recording), trained.get("part", "pixel-level"))
    scene, table = predicted_scene(checkpoint, recording, data=options, every=every, alarm=alarm)
    if scene.labels is not None:
        names = np.array(scene.classes)
        table["label"] = scene.labels if len(names) == 2 else names[scene.labels]
    out.mkdir(parents=True, exist_ok=True)
    written = [out / f"{path.stem}.csv", overlay(out / f"{path.stem}.png", scene)]
    table.to_csv(written[0], index=False, float_format="%.6g")
    if movie:
        written.append(overlay_video(out / f"{path.stem}.mp4", scene))
    return written


def write_plant_of(detector: Detector, root: Path) -> None:
    """Write the root.yaml of a data set of recordings that the detector can read.

    Raises:
        OSError: it cannot be written.
    """
    content = detector.stamp.get("plant")
    if content is None:  # an imported checkpoint, or one of an earlier release
        height, width = detector.problem.image_size
        official = detector.stamp["data"].get("axes") == "official"  # which swaps the axes
        content = {"frame_size": [width, height] if official else [height, width]}
    write_text(root / PLANT_FILE, yaml.safe_dump(content))


def in_layout(path: Path) -> bool:
    """Whether a file is a recording in the benchmark's layout; otherwise it is a raw video."""
    part = path.resolve().parent.parent
    return path.suffix == ".mat" or timestamps_file(part, path.stem).is_file()


def predicted_scene(
    checkpoint: str | Path,
    recording: str | Path,
    *,
    data: Mapping[str, Any] | None = None,
    every: int | str = 1,
    frames: Sequence[int] | None = None,
    alarm: AlarmOf | None = None,
) -> tuple[Scene, pd.DataFrame]:
    """Predict a frame `every` so many frames or seconds, or those with the indices `frames`.

    Returns:
        The scene to draw, and a table with the columns frame, time, score, decision and, if
        `alarm` is given, alarm.

    Raises:
        ValueError: no such recording or frame, or one that the detector cannot read.
    """
    detector = load(checkpoint)
    part = open_data(detector, data)
    loader, table = part.windows_of(recording, every, frames)
    with quiet(), interruptible():
        engine = L.Trainer(logger=False, enable_checkpointing=False, enable_progress_bar=False)
        predictions = cast(list[Prediction], engine.predict(detector, dataloaders=loader))
    logits = torch.cat([prediction.logits for prediction in predictions])
    masks = None
    if detector.problem.dense:
        logit_maps = [prediction.mask_logits for prediction in predictions]
        masks = torch.cat([each.argmax(1).byte() for each in logit_maps if each is not None])
    table = table.assign(
        score=abnormal_probability(logits).float().numpy(), decision=logits.argmax(1).numpy()
    )
    class_scores = None
    if len(detector.classes) > 2:
        class_scores = logits.float().softmax(1).numpy()
        table["decision"] = np.array(detector.classes)[table["decision"]]
        table[[f"p_{name}" for name in detector.classes]] = class_scores
    title = f"{detector.stamp['model']} ({detector.problem.modality}) on {Path(recording).stem}"
    windows = cast(WindowDataset, loader.dataset)
    scene = scene_of(windows, table, masks, title, part.axes == "image")
    alarms = None
    if alarm is not None:
        alarms = alarm(scene.score_times, logits)
        table["alarm"] = alarms.astype(np.int64)
    scene = replace(scene, classes=detector.classes, class_scores=class_scores, alarms=alarms)
    return scene, table


def scene_of(
    windows: WindowDataset,
    table: pd.DataFrame,
    masks: Tensor | None,
    title: str,
    upright: bool,
) -> Scene:
    """The frames, currents and labels of a recording beside its predictions.

    Video and currents are read also where the detector uses only one of them.

    Args:
        windows: of one recording.
        table: frame and score of each of the n windows.
        masks: (n, H, W) uint8 predicted masks of class indices, or None.
        title: heading of the picture.
        upright: whether `masks` are (n, H, W); False for the (n, W, H) of the released network.
    """
    source = windows.recordings[0]
    frame = table["frame"].to_numpy()
    pixels = upright_frames(source, frame).transpose(0, 2, 3, 1)
    truth: NDArray[np.uint8] | None = None
    labels: NDArray[Any] | None = None
    if source.has_masks:
        truth = upright_masks(source, frame)
        labels = np.asarray(truth.max(axis=(1, 2)))
    elif source.has_labels:
        labels = source.class_of(frame)
    if labels is not None and len(source.classes) == 2:
        labels = labels > 0
    if masks is not None and not upright:
        masks = masks.mT
    if masks is not None and windows.fit:
        masks = windows.fit.back(masks, source.size)
    predicted = None if masks is None else masks.numpy()
    start = int(source.seconds[0])
    times = elapsed(source.seconds, start, source.plant.frame_rate)[frame]
    currents = source.currents if source.has_currents else NO_CURRENTS
    return Scene(
        frames=np.ascontiguousarray(pixels),
        times=times,
        truth=truth,
        predicted=predicted,
        currents=currents.values,
        channels=source.plant.channels,
        current_times=elapsed(currents.seconds, start, source.plant.current_rate),
        scores=table["score"].to_numpy(),
        score_times=times,
        labels=labels,
        title=title,
        synthetic=source.synthetic,
    )


def elapsed(seconds: NDArray[np.int64], start: int, rate: float) -> NDArray[np.float64]:
    """Seconds since `start` of samples whose timestamps are whole seconds.

    Args:
        seconds: (n,) timestamps in seconds, sorted.
        start: the timestamp of time 0, in seconds.
        rate: samples per second; the k-th sample of a second lies k / rate after its beginning.

    Returns:
        (n,) float64, seconds.
    """
    within = np.arange(len(seconds)) - np.searchsorted(seconds, seconds)
    fraction: NDArray[np.float64] = (seconds - start) + within / rate
    return fraction

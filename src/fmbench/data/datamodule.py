"""FurnaceData: the one LightningDataModule. Its signature is the configuration of `--data.*`."""

from __future__ import annotations

import atexit
import math
import weakref
from collections.abc import Mapping, Sequence
from functools import cached_property
from inspect import signature
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
import torch
from lightning.pytorch import LightningDataModule
from torch import distributed
from torch.utils.data import DataLoader

from fmbench.data.dataset import WindowDataset, already_collated
from fmbench.data.fit import Fit, Way
from fmbench.data.order import EvenBatches, TrainOrder, WindowLoader
from fmbench.data.recording import MatRecording, Recording
from fmbench.data.resident import ResidentWindows, check_room, hold
from fmbench.data.root import Part, Root, open_root, part_folder
from fmbench.data.splits import Lists, check_disjoint, split_lists
from fmbench.data.statistics import Statistics, measure_inputs
from fmbench.data.video_recording import VideoRecording
from fmbench.data.windows import (
    Early,
    Gaps,
    History,
    WindowSpec,
    check_choice,
    check_positive,
    samples_of,
    spacing_of,
    stride_of,
)
from fmbench.data.workers import end_workers, ignore_stop_signals
from fmbench.errors import nearest
from fmbench.format.names import as_known
from fmbench.format.plant import read_plant
from fmbench.format.video import SUFFIX
from fmbench.types import Batch, Modality, Problem

Axes = Literal["image", "official"]
SYNTHETIC = "synthetic data"
"""How the description of simulated recordings begins; checkpoints store it as `trained_on`."""
Split = Literal["train", "val", "test"]
START = {"epoch": 0, "windows": 0}


class FurnaceData(LightningDataModule):
    """Windows of furnace recordings as Batches, for every modality and both parts.

    Args:
        root: folder with pixel-level/ (and class-level/), or one of these folders itself.
        modality: cross, visual or current: which inputs a batch carries.
        part: pixel-level, with masks; class-level, where only the class is labelled.
        frames: T, frames of a clip.
        stride: frames from one frame of the clip to the next; 10 frames at stride 4 span 1.44 s,
            nearest to the 1.5 s that the paper chose (official-format, row 25).
        current_samples: L, two a second unless the root.yaml of the data set says another rate; 240
            are 120 s.
        clip_seconds: replaces stride: seconds from the first frame of the clip to the last.
        current_seconds: replaces current_samples: seconds of current.
        batch_size: windows of a batch (paper IV-C: 64).
        axes: image gives upright (H, W) frames; official gives the transposed frames, and the
            vertical flip, that the released network was trained on (rows 27, 28).
        causal: never show a sample of current after the frame; the released loader shows up to 1 s.
        history: windows at the start of a recording that lack current: stretch the samples (as
            released), pad with the first sample, or drop the window.
        early: clips at the start of a recording: clamp repeats frame 0; drop leaves them out.
        gaps: seconds that lack current: positional takes the last L rows regardless of time (as
            released); hold repeats the last sample known; drop leaves such windows out.
        val_fraction: share of each recording's train frames, at the end, to validate on, where the
            root has no val.json; 0 for no validation.
        guard_seconds: frames left out between train and validation; by default the longest clip
            plus the longest current window.
        epoch_windows: training windows, drawn anew for each epoch; all of them if None.
        val_windows: validation windows, evenly spaced; all of them if None.
        test_windows: test windows, evenly spaced; all of them if None.
        image_size: (H, W) of the frames that the model reads, made from the stored ones by `fit`;
            as stored if None.
        fit: resize the stored frames to image_size, or pad them with zeros at the right and bottom.
        flip: mirror half of the training clips and masks (row 28).
        num_workers: processes that load batches; 0 loads in the training process.
        unpack_videos: where recordings are videos (.mkv, .mp4), decode each once into the cache;
            false decodes every clip anew, which takes no disk and more time.
        resident: hold all frames, masks and currents that the windows show in the memory of the
            device that trains; the batches stay the same. Simulated recordings are rendered once.
        seed: of the order of training windows and of the flips.

    Attributes:
        options: the arguments but modality and seed, as plain values.

    Raises:
        ValueError: a value is not allowed, the folder is missing, or recordings cannot be used.
    """

    def __init__(
        self,
        *,
        root: str | Path = "data/sim",
        modality: Modality | str = Modality.CROSS,
        part: Part = "pixel-level",
        frames: int = 10,
        stride: int = 4,
        current_samples: int = 240,
        clip_seconds: float | None = None,
        current_seconds: float | None = None,
        batch_size: int = 64,
        axes: Axes = "image",
        causal: bool = False,
        history: History = "stretch",
        early: Early = "clamp",
        gaps: Gaps = "positional",
        val_fraction: float = 0.1,
        guard_seconds: float | None = None,
        epoch_windows: int | None = None,
        val_windows: int | None = None,
        test_windows: int | None = None,
        image_size: tuple[int, int] | None = None,
        fit: Way | None = None,
        flip: bool = True,
        num_workers: int = 0,
        unpack_videos: bool = True,
        resident: bool = False,
        seed: int = 0,
    ) -> None:
        given = dict(locals())
        super().__init__()
        self.options = {
            name: str(value) if isinstance(value, Path) else value
            for name, value in given.items()
            if name in signature(FurnaceData).parameters and name not in ("modality", "seed")
        }
        check_choice("modality", modality, [str(each) for each in Modality])
        check_choice("axes", axes, get_args(Axes))
        check_positive(
            batch_size=batch_size,
            epoch_windows=epoch_windows,
            val_windows=val_windows,
            test_windows=test_windows,
        )
        if num_workers < 0 or seed < 0:
            raise ValueError("num_workers and seed must be at least 0")
        if resident and num_workers:
            raise ValueError(
                f"num_workers is {num_workers}, but resident windows need no workers: set "
                "num_workers to 0, or resident to false"
            )
        if not 0 <= val_fraction < 1:
            raise ValueError(f"val_fraction is {val_fraction}; it must be in [0, 1)")
        if guard_seconds is not None and not 0 <= guard_seconds < math.inf:
            raise ValueError(f"guard_seconds is {guard_seconds}; it must be at least 0")
        plant = read_plant(part_folder(root, part))
        if clip_seconds is not None:
            stride = stride_of(_above_0("clip_seconds", clip_seconds), frames, plant.frame_rate)
        if current_seconds is not None:
            current_samples = samples_of(
                _above_0("current_seconds", current_seconds), plant.current_rate
            )
        self.root = root
        self.modality = Modality(modality)
        self.part = part
        self.spec = WindowSpec(
            frames=frames,
            stride=stride,
            current_samples=current_samples,
            early=early,
            history=history,
            gaps=gaps,
            causal=causal,
            plant=plant,
        )
        self.fit = Fit.of(fit, image_size)
        self.batch_size = batch_size
        self.axes = axes
        self.val_fraction = val_fraction
        self.guard_seconds = self.spec.seconds if guard_seconds is None else guard_seconds
        self.epoch_windows = epoch_windows
        self.val_windows = val_windows
        self.test_windows = test_windows
        self.flip = flip
        self.num_workers = num_workers
        self.unpack_videos = unpack_videos
        self.resident = resident
        self.seed = seed
        self.judged: Split = "test"
        self._place_in_order = START
        self._datasets: dict[str, WindowDataset] = {}
        self._held: dict[str, ResidentWindows] = {}

    @cached_property
    def opened(self) -> Root:
        """Recordings and lists, opened on first use.

        Raises:
            ValueError: recordings that differ in frame size or labels, or lists that overlap.
        """
        opened = open_root(self.root, self.part)
        for recording in opened.recordings:
            if isinstance(recording, VideoRecording):
                recording.unpacked = self.unpack_videos
        first = opened.recordings[0]
        for recording in opened.recordings:
            for fact in ("size", "has_masks", "has_labels"):
                mine, other = getattr(recording, fact), getattr(first, fact)
                if mine != other:
                    raise ValueError(
                        f"{recording.source}: {fact} is {mine}, but {other} in {first.source}; "
                        "recordings of one root must agree"
                    )
        check_disjoint(opened)
        return opened

    @property
    def has_masks(self) -> bool:
        """Whether the labels are masks of pixels, as in pixel-level."""
        return self.opened.recordings[0].has_masks

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the K classes; class 0 is normal."""
        return self.opened.recordings[0].classes

    @property
    def validates(self) -> bool:
        """Whether there are windows for validation."""
        return self.val_fraction > 0 or "val" in self.opened.splits

    @property
    def synthetic(self) -> bool:
        """Whether a simulator made the recordings."""
        return self.opened.synthetic

    @property
    def description(self) -> str:
        """The data set in one line: name or simulator, part, numbers of recordings and frames."""
        recordings = self.opened.recordings
        frames = sum(recording.num_frames for recording in recordings)
        size = f"{len(recordings)} recordings, {frames} frames"
        if not self.synthetic:
            return f"{Path(self.root).resolve().name}, {self.part}: {size}"
        facts = self.opened.manifest
        return (
            f"{SYNTHETIC} (simulator v{facts.get('sim_version', '?')}, "
            f"seed {facts.get('seed', '?')}, preset {facts.get('preset', '?')}), "
            f"{self.part}: {size}"
        )

    def fingerprint(self) -> str:
        """SHA-256 over names, sizes, lists, CSV files and manifest."""
        return self.opened.fingerprint

    def problem(self, dense: bool) -> Problem:
        """Inputs and outputs of a model for these data.

        Args:
            dense: whether the model predicts masks.

        Raises:
            ValueError: `dense` is set, but the labels are classes.
        """
        first = self.opened.recordings[0]
        if dense and not self.has_masks:
            raise ValueError(
                f"{self.opened.folder} has class labels only; set dense to false, or choose "
                "a root with masks"
            )
        height, width = self.fit.size if self.fit else first.size
        channels = first.currents.values.shape[1] if self.modality.has_current else 3
        return Problem(
            modality=self.modality,
            num_classes=len(self.classes),
            dense=dense,
            frames=self.spec.frames,
            image_size=(height, width) if self.axes == "image" else (width, height),
            current_samples=self.spec.current_samples,
            current_channels=channels,
            frame_rate=self.spec.plant.frame_rate,
            current_rate=self.spec.plant.current_rate,
        )

    def dataset(self, split: Split) -> WindowDataset:
        """The windows of a split; of val and test, those that are evaluated.

        Raises:
            ValueError: the split has no window.
        """
        if split not in self._datasets:
            every = {"train": None, "val": self.val_windows, "test": self.test_windows}
            lists = self._lists_of(split)
            windows = self._windows(lists) if any(map(len, lists.values())) else ()
            if not windows:
                raise ValueError(self._why_empty(split))
            self._datasets[split] = windows.evenly(every[split])
        return self._datasets[split]

    def statistics(self) -> Statistics:
        """Mean and standard deviation of the inputs of the training part, per channel."""
        return measure_inputs(self.dataset("train"))

    def table(self, split: Split) -> pd.DataFrame:
        """Recording, frame and time of each window, in the order of the val and test loaders."""
        return self.dataset(split).table()

    def setup(self, stage: str) -> None:
        """Hold the windows of a training or test on its device, if they are `resident`.

        Raises:
            ValueError: the device lacks the memory.
        """
        if self.resident:
            validated: list[Split] = ["val"] if self.validates else []
            uses: dict[str, list[Split]] = {
                "fit": ["train", *validated],
                "validate": validated,
                "predict": ["train"],
                "test": [self.judged],
            }
            self._hold(*uses[stage])

    def release(self) -> None:
        """Free the memory of resident windows, on the device too."""
        for held in self._held.values():
            held.release()
        self._held = {}

    def _hold(self, *splits: Split) -> None:
        trainer = self.trainer
        device = trainer.strategy.root_device if trainer else torch.device("cpu")
        processes = trainer.world_size // trainer.num_nodes if trainer else 1
        missing = [s for s in splits if s not in self._held or self._held[s].device != device]
        windows = [self.dataset(split) for split in missing]
        check_room(windows, device, processes)
        if trainer:
            trainer.strategy.barrier()  # on a CPU, one's windows are room that another lacks
        self._held |= dict(zip(missing, hold(windows, device, processes), strict=True))

    def _loaded(self, split: Split) -> WindowDataset | ResidentWindows:
        """The windows of a split, as loaders take them."""
        if not self.resident:
            return self.dataset(split)
        self._hold(split)
        return self._held[split]

    def train_dataloader(self) -> DataLoader[Batch]:
        """Batches in random order; a resumed fit continues after the last batch it had seen."""
        train = self.dataset("train")
        order = TrainOrder(
            train,
            windows=self.epoch_windows,
            flip=self.flip and self.modality.has_video,
            seed=self.seed,
            **_place(),
        )
        # Batch normalisation fails on a last batch of one window and is unstable on two.
        drop_last = len(order) >= self.batch_size
        loader = self._loader(
            self._loaded("train"), sampler=order, batch_size=self.batch_size, drop_last=drop_last
        )
        order.resume(**self._place_in_order)
        self._place_in_order = START  # the next stage of a training starts with its first epoch
        return loader

    def state_dict(self) -> dict[str, int]:
        """The place in the order of training windows: epoch, and windows seen of it."""
        assert self.trainer is not None
        loop: Any = self.trainer.fit_loop
        done, epochs = loop.epoch_loop.batch_progress.current, loop.epoch_progress.current
        amid = done.processed < self.trainer.num_training_batches
        if amid and epochs.processed < epochs.ready:
            return {"epoch": epochs.processed, "windows": done.processed * self.batch_size}
        return {"epoch": epochs.ready, "windows": 0}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Restore the place, before Lightning makes loaders, whose workers start at once."""
        self._place_in_order = state

    def predict_dataloader(self) -> DataLoader[Batch]:
        """The training windows of an epoch, for a stage without optimisation steps."""
        return self.train_dataloader()

    def val_dataloader(self) -> DataLoader[Batch] | list[DataLoader[Batch]]:
        """Validation windows, by recording and frame; no loader if there are none."""
        return self._in_order(self._loaded("val")) if self.validates else []

    def test_dataloader(self) -> DataLoader[Batch]:
        """Windows of the split `judged`, by default test, by recording and frame."""
        return self._in_order(self._loaded(self.judged))

    def windows_of(
        self, recording: str | Path, every: int | str = 1, frames: Sequence[int] | None = None
    ) -> tuple[DataLoader[Batch], pd.DataFrame]:
        """The windows of one recording, for prediction, and their table.

        Args:
            recording: a name in this root, or the path of a `.mat`, `.mkv` or `.mp4`
                file in the benchmark's layout.
            every: use every n-th frame; or seconds, as "1s", of which each gives the nearest frame
                by the frame rate.
            frames: use these frames, in order, instead.

        Raises:
            ValueError: there is no such recording or frame, or no window, or `every` is less than
                a frame.
        """
        spacing = spacing_of(every, self.spec.plant.frame_rate)
        found = self._find(recording)
        if frames is None:
            last = math.ceil(found.num_frames / spacing)
            chosen = np.floor(np.arange(last) * spacing + 0.5).astype(np.int64)
            chosen = chosen[chosen < found.num_frames]
        else:
            chosen = np.array(frames)
        if chosen.max(initial=0) >= found.num_frames or chosen.min(initial=0) < 0:
            raise ValueError(
                f"{found.name} has frames 0 to {found.num_frames - 1}, not {chosen.max()}"
            )
        windows = WindowDataset(
            [found],
            [chosen],
            self.spec,
            self.modality,
            upright=self.axes == "image",
            fit=self.fit,
        )
        if not len(windows):
            raise ValueError(f"{found.name} has no usable window of this length")
        return self._in_order(windows), windows.table()

    def _find(self, recording: str | Path) -> Recording:
        path = Path(recording)
        if path.suffix == ".mat" and path.is_file():
            return MatRecording(path, path.resolve().parent.parent)
        if path.suffix in SUFFIX.values() and path.is_file():
            return VideoRecording(path, path.resolve().parent.parent, unpacked=self.unpack_videos)
        names = {each.name: each for each in self.opened.recordings}
        name = as_known(str(recording), names)
        if name not in names:
            raise ValueError(
                f"no recording is called {str(recording)!r}{nearest(str(recording), names)}. "
                f"{self.opened.folder} has {', '.join(names)}"
            )
        return names[name]

    def _lists_of(self, split: str) -> Lists:
        # Recordings too short for a validation cut can still be tested.
        return self.opened.splits.get("test", {}) if split == "test" else self._lists[split]

    @cached_property
    def _lists(self) -> Mapping[str, Lists]:
        return split_lists(self.opened, self.val_fraction, self.guard_seconds)

    def _windows(self, lists: Lists) -> WindowDataset:
        recordings = [each for each in self.opened.recordings if len(lists.get(each.name, ()))]
        frames = [lists[recording.name] for recording in recordings]
        return WindowDataset(
            recordings,
            frames,
            self.spec,
            self.modality,
            upright=self.axes == "image",
            fit=self.fit,
        )

    def _in_order(self, windows: WindowDataset | ResidentWindows) -> DataLoader[Batch]:
        batches = EvenBatches(len(windows), self.batch_size, **_place())
        return self._loader(windows, batch_sampler=batches)

    def _loader(self, windows: WindowDataset | ResidentWindows, **order: Any) -> DataLoader[Batch]:
        loader = WindowLoader(
            windows,
            collate_fn=already_collated,
            # For worker seeds, which nothing uses. A resumed run creates one more iterator; drawing
            # worker seeds from the global generator would change its random stream.
            generator=torch.Generator().manual_seed(0),
            worker_init_fn=ignore_stop_signals,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=isinstance(windows, WindowDataset) and torch.cuda.is_available(),
            **order,
        )
        atexit.register(end_workers, weakref.ref(loader))
        return loader

    def _why_empty(self, split: str) -> str:
        listed = sum(len(frames) for frames in self._lists_of(split).values())
        if not listed:
            return f"{self.opened.folder} lists no {split} frames ({split}.json)"
        return (
            f"{self.opened.folder}: none of {listed} {split} frames has a usable window; lower "
            "frames, stride or current_samples, or set early to clamp, history to stretch, "
            "gaps to hold"
        )


def _above_0(name: str, seconds: float) -> float:
    if not 0 < seconds < math.inf:
        raise ValueError(f"{name} is {seconds:g}; it must be above 0")
    return seconds


def _place() -> dict[str, int]:
    """Number of processes and rank of this one."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return {"num_replicas": 1, "rank": 0}
    return {"num_replicas": distributed.get_world_size(), "rank": distributed.get_rank()}

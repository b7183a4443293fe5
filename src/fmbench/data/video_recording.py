"""A recording whose frames are a compressed video."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import numpy as np

from fmbench.data.recording import Bytes, Index, MatRecording
from fmbench.format import mat
from fmbench.format.memory_map import MappedArray, map_blocks
from fmbench.format.plant import read_plant
from fmbench.format.video import ClipReader, frames_in_order, masks_file, probe


class VideoRecording(MatRecording):
    """`videos/<name>.mkv` or `.mp4`; its labels, if any, are `label` in `masks/<name>.mat`.

    Args:
        path: the video.
        part: the folder with `timestamps/`, `currents/` and `masks/`.
        unpacked: decode all frames once into the cache; otherwise each clip when it is read.

    Raises:
        ValueError: no video, labels of other axes or of another number of frames.
    """

    def __init__(self, path: Path, part: Path, *, unpacked: bool = True) -> None:
        self.name = mat.stem(path.name)
        self.plant = read_plant(part)
        self.source = path
        self.part = part
        self.label_source = masks_file(part, self.name)
        self.unpacked = unpacked
        self._facts = probe(path)
        self.num_frames, self.size = self._facts.frames, self._facts.size
        self.synthetic = self._facts.synthetic
        self.has_labels = self.label_source.is_file()
        self.has_masks = False
        if self.has_labels:
            shape = mat.label_shape(self.label_source)
            masks = (self.num_frames, *self.size[::-1])
            if shape not in (masks, (self.num_frames, 1, 1)):
                raise ValueError(
                    f"{self.label_source}: 'label' is {list(shape)}; {path.name} has "
                    f"{self.num_frames} frames of {self.size[0]} x {self.size[1]}, so it must be "
                    f"{list(masks)}, or {[self.num_frames, 1, 1]} for class-level labels"
                )
            self.has_masks = shape == masks
        self._clips = ClipReader(path, self._facts)

    @cached_property
    def _frames(self) -> MappedArray:
        shape = (self.num_frames, 3, *self.size[::-1])
        return map_blocks(self.source, "frames", shape, self._as_in_mat())

    def _as_in_mat(self) -> Iterator[Bytes]:
        for block in frames_in_order(self.source, self._facts):
            yield mat.upright(block)

    def prepare(self, *, video: bool, masks: bool) -> None:
        super().prepare(video=video and self.unpacked, masks=masks)

    def read_frames(self, index: Index, out: Bytes) -> None:
        if self.unpacked:
            super().read_frames(index, out)
        else:
            np.copyto(out, self._clips.take(index).transpose(0, 3, 2, 1))

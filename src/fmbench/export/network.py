"""A detector as a function of tensors alone, and its graph for any batch size."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from fmbench.nn.attention import attention_by
from fmbench.training.lit import Detector
from fmbench.types import Batch, Modality, Prediction

BATCH_SIZES = (1, 2, 7)
"""A graph is checked at these: tracing can freeze a batch size without an error."""
TRACED = 3
LARGEST_BATCH = 4096


class Network(nn.Module):
    """Physical inputs to probabilities: the interface of an export.

    Takes `video` (B, 3, T, H, W) uint8 and `current` (B, L, C) float32, or the one that the model
    reads. Returns the probabilities (B, K) and, of a dense model, of each pixel (B, K, H, W).
    """

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.model = detector.model
        self.modality = detector.problem.modality

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        video = inputs[0] if self.modality.has_video else None
        current = inputs[-1] if self.modality.has_current else None
        label = inputs[0].new_zeros(inputs[0].shape[0], dtype=torch.int64)
        found: Prediction = self.model(Batch(video, current, label))
        logits = [found.logits] if found.mask_logits is None else [found.logits, found.mask_logits]
        return tuple(each.float().softmax(1) for each in logits)


def input_names(modality: Modality) -> list[str]:
    """The names of a network's inputs, in order."""
    present = {"video": modality.has_video, "current": modality.has_current}
    return [name for name, read in present.items() if read]


def inputs_of(batch: Batch, modality: Modality) -> tuple[Tensor, ...]:
    """A network's inputs from a batch, in order."""
    found = (getattr(batch, name) for name in input_names(modality))
    return tuple(each.contiguous() for each in found)


def traced(detector: Detector, inputs: tuple[Tensor, ...]) -> ExportedProgram:
    """The graph of a detector in float32, for every batch size up to LARGEST_BATCH.

    Args:
        detector: in eval mode, on the CPU.
        inputs: of one or more windows.

    Raises:
        ValueError: the model cannot be traced, or not for another batch size.
    """
    network = Network(detector).eval()
    example = rows(inputs, TRACED)
    size = Dim("batch", min=1, max=LARGEST_BATCH)
    shapes = (tuple({0: size} for _ in inputs),)
    with torch.no_grad(), attention_by("sdpa"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network(*example)  # a model that is not ready, such as an SVM without vectors, says why
        try:
            program = torch.export.export(network, example, dynamic_shapes=shapes, strict=False)
        except Exception as error:  # torch.export raises many types
            raise ValueError(not_exported(detector, error)) from error
        graph = program.module()
        for count in BATCH_SIZES:
            batch = rows(inputs, count)
            for found, expected in zip(graph(*batch), network(*batch), strict=True):
                if found.shape != expected.shape or not torch.allclose(found, expected, atol=1e-4):
                    why = f"its graph differs from the model at batch size {count}"
                    raise ValueError(not_exported(detector, why))
    return program


def rows(inputs: tuple[Tensor, ...], count: int) -> tuple[Tensor, ...]:
    """`count` windows: the first ones, repeated where there are fewer."""
    index = torch.arange(count) % len(inputs[0])
    return tuple(each[index] for each in inputs)


def not_exported(detector: Detector, why: object) -> str:
    """A message: which model cannot be exported, and the first line of the reason."""
    while isinstance(why, BaseException) and why.__cause__ is not None:
        why = why.__cause__
    first = next((line for line in str(why).splitlines() if line.strip()), type(why).__name__)
    return (
        f"{detector.stamp['model']} cannot be exported: {first}\n"
        "A model can be exported if its forward has no loop or branch that depends on values, and "
        "takes the batch size from x.shape[0], not len(x)"
    )

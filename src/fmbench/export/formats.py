"""The two formats of a graph: how each is written, and how it is run."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch.export import ExportedProgram

from fmbench.data.windows import check_choice
from fmbench.export.network import LARGEST_BATCH

Format = Literal["onnx", "torch"]
Quantize = Literal["dynamic"]
Array = NDArray[Any]
Runner = Callable[[Sequence[Array]], list[Array]]
"""Inputs in order -> probabilities (B, K) and, of a dense model, masks (B, K, H, W)."""

MODEL_FILE = {"onnx": "model.onnx", "torch": "model.pt2"}
PACKAGES = ("onnx", "onnxruntime", "onnxscript")
QUANTIZED = ["MatMul", "Gemm"]
"""Operators of which the weights become int8. onnxruntime has no int8 convolution of this kind for
CPUs, and a recurrent layer loses too much."""


def check_format(form: str, quantize: str | None) -> None:
    """Refuse a format that cannot be written here.

    Raises:
        ValueError: no such format or quantization, or packages are not installed.
    """
    check_choice("format", form, get_args(Format))
    if quantize is not None:
        check_choice("quantize", quantize, get_args(Quantize))
        if form != "onnx":
            raise ValueError("quantize needs the format onnx; leave it out, or set format to onnx")
    missing = [name for name in PACKAGES if form == "onnx" and find_spec(name) is None]
    if missing:
        raise ValueError(
            f"the format onnx needs {', '.join(missing)}, not installed here: "
            'pip install "fmformer-bench[export]"; or set --format torch, which needs no package'
        )


def write_model(
    program: ExportedProgram,
    path: Path,
    form: Format,
    *,
    inputs: Sequence[str],
    outputs: Sequence[str],
    quantize: Quantize | None = None,
) -> None:
    """Write a graph as .onnx, its weights inside, or as .pt2.

    Args:
        program: the graph.
        path: the file.
        form: its format.
        inputs: names of the inputs, in order.
        outputs: names of the outputs, in order.
        quantize: dynamic: int8 weights of QUANTIZED, activations quantized at run time.

    Raises:
        Exception: torch or onnxruntime cannot convert an operator, of many types.
    """
    if form == "torch":
        torch.export.save(program, path)
        return
    with _quietly():
        size = torch.export.Dim("batch", min=1, max=LARGEST_BATCH)
        torch.onnx.export(
            program,
            f=path,
            dynamo=True,
            external_data=False,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_shapes=({0: size},) * len(inputs),
            verbose=False,
        )
        if quantize:
            from onnxruntime.quantization import QuantType, quantize_dynamic

            plain = path.replace(path.with_name("float32.onnx"))
            quantize_dynamic(
                plain, path, weight_type=QuantType.QInt8, op_types_to_quantize=QUANTIZED
            )
            plain.unlink()


def open_model(path: Path, *, threads: int = 0) -> Runner:
    """Open a written model on the CPU.

    Args:
        path: a .onnx or .pt2 file.
        threads: of onnxruntime; 0: its choice. A .pt2 uses the threads of PyTorch.
    """
    if path.suffix == ".pt2":
        module = torch.export.load(path).module()

        def by_torch(inputs: Sequence[Array]) -> list[Array]:
            with torch.inference_mode():
                found = module(*(torch.from_numpy(each) for each in inputs))
            return [each.numpy() for each in found]

        return by_torch
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]

    def by_onnxruntime(inputs: Sequence[Array]) -> list[Array]:
        found = session.run(None, dict(zip(names, inputs, strict=True)))
        return [np.asarray(each) for each in found]

    return by_onnxruntime


@contextlib.contextmanager
def _quietly() -> Any:
    """No warnings of libraries about their own internals."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)

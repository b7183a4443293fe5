"""Every row of Table II on one GPU: the same results as on the CPU, how fast, and trained.

    python benchmarks/gpu.py --minutes 9 --out gpu            # on a machine with a GPU
    python benchmarks/gpu.py --minutes 2 --out gpu --device cpu   # rehearsal, in small sizes

Needs torch, einops, timm, transformers, lightning, torchmetrics and PyYAML, and for training what
`fmbench fit` needs; with `src` and `baselines` on PYTHONPATH nothing has to be installed. One
folder receives `gpu.json`, rewritten after each measurement, and `profile.txt`. Figures that the
folder holds already are not measured again. Each row has a process of its own: a capture that fails
leaves the random generator of its process unusable, and a graph's memory is not given back.

The measurements take random inputs. Then rows are trained with the profile paper, on simulated
recordings that the device holds (`data.resident`), and tested: those of FIRST, which share the
time, then the others; each for `--row-minutes` at most. What they reach goes to `training.json`,
and the test's predictions, as far as they fit, to `predictions.zip`.

A training step is the joint loss (or the stage's own losses), its gradients and a fused AdamW, for
the last stage of a model that learns by gradient. "graph" replays the whole step as one CUDA graph.
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import os
import statistics
import tempfile
import time
import zipfile
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn
from torch._C._autograd import DeviceType
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from fmbench.config.profiles import find_config
from fmbench.config.resolve import config_of
from fmbench.config.schema import Config
from fmbench.files.atomic import in_one_step, write_text
from fmbench.files.yaml_json import read_yaml
from fmbench.models import MODELS as OWN
from fmbench.nn import attention
from fmbench.simulator import write_dataset
from fmbench.speed.benchmark import random_batch, standardize_noise
from fmbench.stages import Learn, Solve, stages_of
from fmbench.tabular import markdown
from fmbench.training.lit import Detector, parameter_groups
from fmbench.training.measure import measure as measure_checkpoint
from fmbench.training.run import fit
from fmbench.types import Batch, Modality, Problem
from fmbench_baselines import MODELS as BASELINES

MODELS: dict[str, Any] = {**OWN, **BASELINES}
ROWS = Path(__file__).parents[1] / "experiments" / "table2.yaml"
LR = 5e-4
SOLVED_ON = 64
"""Windows on which a stage without gradients finds its solution."""
SIZES = {"cuda": (64, 10, 240), "cpu": (4, 2, 20)}
"""Windows of a batch, frames and samples of current, where the command line does not say."""
FIRST = (
    ("fmformer", "cross"),
    ("fmformer", "visual"),
    ("fmformer", "current"),
    ("3dcrnn", "visual"),
    ("clipbert", "cross"),
)
"""Rows that are trained before the others."""
PRESETS = {"cuda": "paper", "cpu": "tiny"}
"""Simulated recordings to train on."""
EVALUATED: dict[str, dict[str, Any]] = {
    "cuda": {"val_windows": 2000, "test_windows": 12_000},
    "cpu": {"epoch_windows": 64, "val_windows": 32, "test_windows": 64},
}
"""What differs from the profile paper, so that most of the time is spent on training."""
EPOCHS = {"cuda": 30, "cpu": 1}
ENDING = {"cuda": 15.0, "cpu": 3.0}
"""Seconds of a row's time that are left for its validation and its test. No row starts with less
than three times as many, nor is given less."""
ZIPPED = 15 * 2**20
"""Bytes of `predictions.zip` at most."""


def noise(problem: Problem, size: int, device: torch.device) -> Batch:
    """`size` windows of noise on a device."""
    parts = random_batch(problem, size)
    return Batch(*(None if part is None else part.to(device) for part in parts))  # type: ignore[arg-type]


class Case:
    """One row: a detector on a device, its batch, and its training step."""

    def __init__(
        self,
        detector: Detector,
        device: torch.device,
        size: int,
        low: bool,
        capturable: bool,
        stage: Learn | None = None,
    ) -> None:
        self.detector, self.device, self.low = detector.to(device).train(), device, low
        self.batch = noise(detector.problem, size, device)
        learning = [stage for stage in detector.stages if isinstance(stage, Learn)]
        self.stage = stage or (learning[-1] if learning else None)
        self.optimizers = []
        if self.stage is not None:
            detector.enter(self.stage)
            fused = device.type == "cuda"
            self.optimizers = [
                torch.optim.AdamW(
                    parameter_groups(turn, LR), lr=LR, fused=fused, capturable=capturable and fused
                )
                for turn in self.stage.turns
            ]

    def cast(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.device.type, torch.bfloat16) if self.low else nullcontext()

    def forward(self) -> Any:
        with torch.no_grad(), self.cast():
            return self.detector(self.batch)

    def step(self) -> Tensor:
        """Losses, gradients and optimizer of every turn; returns the last turn's loss."""
        assert self.stage is not None
        for turn, optimizer in zip(self.stage.turns, self.optimizers, strict=True):
            mine = {p for group in optimizer.param_groups for p in group["params"]}
            if len(self.optimizers) > 1:
                for other in self.optimizers:
                    for group in other.param_groups:
                        for parameter in group["params"]:
                            parameter.requires_grad_(parameter in mine)
            with self.cast():
                if turn.losses:
                    terms = turn.losses(self.batch)
                else:
                    detector = self.detector
                    terms = detector.loss.terms(detector(self.batch), self.batch)
                loss = torch.stack(list(terms.values())).sum()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return loss.detach()


def go_through(detector: Detector) -> None:
    """Run a step or a solution of each stage on the CPU: some models cannot predict before."""
    for stage in detector.stages:
        if isinstance(stage, Solve):
            detector.eval()
            with torch.no_grad():
                windows = noise(detector.problem, SOLVED_ON, torch.device("cpu"))
                stage.solve(dict(stage.gather(windows)))
        else:
            case = Case(detector, torch.device("cpu"), 4, low=False, capturable=False, stage=stage)
            case.step()


def seconds(call: Callable[[], Any], device: torch.device, budget: float = 0.7) -> float:
    """Median seconds of a call, by events on a GPU; three calls warm up."""
    for _ in range(3):
        call()
    taken: list[float] = []
    if device.type != "cuda":
        end = time.perf_counter() + budget
        while len(taken) < 3 or time.perf_counter() < end:
            begin = time.perf_counter()
            call()
            taken.append(time.perf_counter() - begin)
        return statistics.median(taken)
    torch.cuda.synchronize()
    end = time.perf_counter() + budget
    while len(taken) < 3 or (time.perf_counter() < end and len(taken) < 50):
        # A few calls between two events keep the queue full, as in a training.
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        first.record()
        for _ in range(4):
            call()
        last.record()
        last.synchronize()
        taken.append(first.elapsed_time(last) / 4e3)
    return statistics.median(taken)


def captured(call: Callable[[], Any]) -> Callable[[], None]:
    """The call as one CUDA graph."""
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


def relative(a: Tensor, b: Tensor) -> float:
    a, b = a.detach().double().cpu(), b.detach().double().cpu()
    return float((a - b).norm() / b.norm().clamp_min(1e-30))


def compared(first: Detector, second: Detector, device: torch.device) -> dict[str, float]:
    """Relative distance of the device's logits, masks and first loss to the CPU's, in float32."""
    second.load_state_dict(first.state_dict())
    found: dict[str, float] = {}
    here = Case(first, torch.device("cpu"), 4, low=False, capturable=False)
    there = Case(second, device, 4, low=False, capturable=False)
    for case in (here, there):
        case.detector.eval()
    a, b = there.forward(), here.forward()
    found["logits"] = relative(a.logits, b.logits)
    if b.mask_logits is not None:
        found["mask"] = relative(a.mask_logits, b.mask_logits)
    if here.stage is not None:
        # eval mode: dropout draws other numbers on another device
        losses = []
        for case in (there, here):
            torch.manual_seed(0)
            losses.append(case.step())
        found["loss"] = relative(*losses)
        a, b = there.forward(), here.forward()
        found["logits after a step"] = relative(a.logits, b.logits)
    return found


def ceilings(device: torch.device) -> dict[str, float]:
    """Highest rates of the device: matrix products by precision, FLOP/s, and a copy, bytes/s."""
    found = {}
    n = 8192 if device.type == "cuda" else 1024
    for name, dtype, tf32 in (
        ("bfloat16", torch.bfloat16, False),
        ("tf32", torch.float32, True),
        ("float32", torch.float32, False),
    ):
        torch.backends.cuda.matmul.allow_tf32 = tf32
        a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
        taken = seconds(partial(torch.matmul, a, b), device)
        found[f"product, {name}, FLOP/s"] = 2 * n**3 / taken
    torch.backends.cuda.matmul.allow_tf32 = False
    source = torch.randn(2**28 if device.type == "cuda" else 2**24, device=device)
    target = torch.empty_like(source)
    found["copy, bytes/s"] = 2 * source.nbytes / seconds(lambda: target.copy_(source), device)
    return found


def explicit(query: Tensor, key: Tensor, value: Tensor, dropout: float = 0.0) -> Tensor:
    scores = query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5
    weights = nn.functional.dropout(scores.softmax(-1), dropout)
    return (weights @ value).transpose(1, 2).flatten(2)


class Session:
    """The figures measured so far, written to disk after each."""

    def __init__(self, given: argparse.Namespace, end: float) -> None:
        self.out, self.end = given.out, end
        self.frames, self.samples = given.frames, given.samples
        self.device = torch.device(given.device)
        self.path = self.out / "gpu.json"
        if self.path.is_file():
            self.found: dict[str, Any] = json.loads(self.path.read_text())
        else:
            cuda = self.device.type == "cuda"
            self.found = {
                "device": torch.cuda.get_device_name() if cuda else "cpu",
                "torch": torch.__version__,
                "window": f"{given.frames} frames of 64 x 64, {given.samples} samples",
                "batch": given.batch,
                "rows": {},
            }

    def note(
        self, row: str, name: str, measure: Callable[..., Any], *args: Any, **options: Any
    ) -> None:
        """Measure, write and print a figure; for a failure, its reason."""
        known = self.found["rows"].setdefault(row, {})
        if name in known or time.time() > self.end:
            return
        begin = time.monotonic()
        try:
            value = measure(*args, **options)
        except Exception as error:
            value = f"{type(error).__name__}: {error}"[:300]
        known[name] = value
        self.path.write_text(json.dumps(self.found, indent=1) + "\n")
        shown = f"{value:,.0f}" if isinstance(value, float) and value > 10 else value
        print(f"{row}: {name}: {shown}  ({time.monotonic() - begin:.1f} s)", flush=True)

    def detector(self, row: Mapping[str, Any]) -> Detector:
        """The row's model, through the stages that come before its last."""
        torch.manual_seed(0)
        modality, model = Modality(row["modality"]), MODELS[row["model"]]
        problem = Problem(
            modality=modality,
            dense=modality in model.dense,
            frames=self.frames,
            current_samples=self.samples,
        )
        detector = Detector(model(problem, **row.get("net", {})), problem=problem)
        standardize_noise(detector.model, problem)
        if len(detector.stages) > 1:
            go_through(detector)
        return detector

    def apart(self, row: Mapping[str, Any]) -> dict[str, float]:
        """See `compared`."""
        return compared(self.detector(row), self.detector(row), self.device)

    def rate(
        self, row: Mapping[str, Any], kind: str, size: int, *, low: bool = True, way: str = "eager"
    ) -> float | None:
        """Windows a second, forward or in training."""
        detector = self.detector(row)
        if "explicit" in way:
            attention.attend = explicit
        if "compile" in way:
            detector.model.compile()
        case = Case(detector, self.device, size, low, capturable="graph" in way)
        if kind == "training" and case.stage is None:
            return None
        call = case.step if kind == "training" else case.forward
        if kind == "forward":
            case.detector.eval()
        if "graph" in way:
            call = captured(call)
        return size / seconds(call, self.device)

    def memory(self, row: Mapping[str, Any], size: int) -> float | None:
        """MiB of tensors at most, in a training step in bfloat16."""
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        case = Case(self.detector(row), self.device, size, low=True, capturable=False)
        if case.stage is None:
            return None
        case.step()
        case.step()
        return float(torch.cuda.max_memory_allocated()) / 2**20

    def flops(self, row: Mapping[str, Any]) -> float | None:
        """Operations of one window's training step."""
        case = Case(self.detector(row), self.device, 4, low=False, capturable=False)
        if case.stage is None:
            return None
        with FlopCounterMode(display=False) as counter:
            case.step()
        return float(counter.get_total_flops()) / 4

    def profile(self, row: Mapping[str, Any], size: int) -> float:
        """Writes the kernels of three steps in bfloat16; returns their seconds in one step."""
        case = Case(self.detector(row), self.device, size, low=True, capturable=False)
        for _ in range(3):
            case.step()
        kinds = [ProfilerActivity.CPU]
        kinds += [ProfilerActivity.CUDA] if self.device.type == "cuda" else []
        with profile(activities=kinds) as seen:
            for _ in range(3):
                case.step()
        averages = seen.key_averages()
        by = "self_cuda_time_total" if self.device.type == "cuda" else "self_cpu_time_total"
        table = averages.table(sort_by=by, row_limit=45, max_name_column_width=90)
        with (self.out / "profile.txt").open("a") as file:
            file.write(f"{row['model']} ({row['modality']}), batch {size}, 3 steps\n{table}\n\n")
        # A kernel's time is counted in its own row and in that of the operator that launched it.
        kernels = [e for e in averages if e.device_type == DeviceType.CUDA]
        return float(sum(e.self_device_time_total for e in kernels)) / 3e6


def every_figure(given: argparse.Namespace, end: float, name: str, row: Mapping[str, Any]) -> None:
    """What is measured of every row."""
    session, size = Session(given, end), given.batch
    note = partial(session.note, name)
    note("apart from the CPU", session.apart, row)
    note("forward, bf16", session.rate, row, "forward", size)
    note("training, f32", session.rate, row, "training", size, low=False)
    note("training, bf16", session.rate, row, "training", size)
    note("FLOP/window", session.flops, row)
    if session.device.type == "cuda":
        note("memory, MiB", session.memory, row, size)
        note("training, bf16, graph", session.rate, row, "training", size, way="graph")


def one_figure(
    given: argparse.Namespace, end: float, name: str, row: Mapping[str, Any], size: int, way: str
) -> None:
    """Measure one way to train."""
    session, label = Session(given, end), f"training, bf16, {way}, batch {size}"
    if way == "profile":
        session.note(name, f"kernels of a step, s, batch {size}", session.profile, row, size)
    else:
        session.note(name, label, session.rate, row, "training", size, way=way)


def the_device(given: argparse.Namespace, end: float) -> None:
    """Measure the highest rates of the device."""
    session = Session(given, end)
    session.note("device", "ceilings", ceilings, session.device)


def simulate(root: Path, preset: str) -> None:
    """Write the recordings to train on, unless they are there."""
    if not (root / "manifest.json").is_file():
        begin = time.monotonic()
        write_dataset(root, preset=preset)
        print(f"recordings: preset {preset} ({time.monotonic() - begin:.0f} s)", flush=True)


def training_of(
    given: argparse.Namespace, row: Mapping[str, Any], root: Path, until: float
) -> Config:
    """The row's training: profile paper, in bfloat16 where the device has it, until a time."""
    problem = Problem(modality=row["modality"], frames=given.frames, current_samples=given.samples)
    model = MODELS[row["model"]](problem, **row.get("net", {}))
    # Lightning's limit is of one Trainer, and a method in stages has one for each.
    seconds = max(1, int((until - ENDING[given.device] - time.time()) / len(stages_of(model))))
    data = {
        "root": str(root),
        "frames": given.frames,
        "current_samples": given.samples,
        "batch_size": given.batch,
        "resident": True,
        **EVALUATED[given.device],
    }
    trainer = {
        "accelerator": "gpu" if given.device == "cuda" else "cpu",
        "devices": 1,
        "precision": "auto",
        "max_epochs": EPOCHS[given.device],
        "max_time": f"00:{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}",
    }
    optim = {"fused": given.device == "cuda"}
    options = {key: row[key] for key in ("model", "modality", "net") if key in row}
    changed = options | {"data": data, "optim": optim, "trainer": trainer}
    return config_of([("paper", read_yaml(find_config("paper"))), (row["model"], changed)])


def train(
    given: argparse.Namespace,
    end: float,
    seconds: float,
    name: str,
    row: Mapping[str, Any],
    root: Path,
    runs: Path,
) -> None:
    """Train and test a row in some seconds, and add what it reaches to `training.json`."""
    path, until = given.out / "training.json", min(end, time.time() + seconds)
    run = runs / name.replace(" ", "-")
    try:
        config = training_of(given, row, root, until)
        best = fit(config, run=run)
        engine = {key: config.trainer[key] for key in ("accelerator", "devices", "precision")}
        measure_checkpoint(best, out=run, trainer=engine)
        val, test = (json.loads((run / f"{part}.json").read_text()) for part in ("val", "test"))
        taken, steps = val["fit_seconds"], val["steps"]
        # Windows of several optimizers' steps count once for each, as the steps do.
        reached: dict[str, Any] = {
            "device": torch.cuda.get_device_name() if given.device == "cuda" else "cpu",
            "fit_seconds": taken,
            "epochs": val["epochs"],
            "steps": steps,
            "windows/s": steps * given.batch / taken,
            "val": val["metrics"],
            "test": test["metrics"],
            **{key: test[key] for key in ("data", "parameters", "precision", "git_commit")},
            "config": config.to_plain(),
        }
        keep_predictions(given.out / "predictions.zip", name, run / "test-predictions.csv")
    except Exception as error:
        reached = {"failed": f"{type(error).__name__}: {error}"[:300]}
    found = json.loads(path.read_text()) if path.is_file() else {}
    write_text(path, json.dumps(found | {name: reached}, indent=1) + "\n")
    shown = reached.get("failed") or {key: round(x, 3) for key, x in reached["test"].items()}
    print(f"{name}: {shown}", flush=True)


def keep_predictions(archive: Path, name: str, table: Path) -> None:
    """Add a table to the archive, which is replaced in one step, if it stays below ZIPPED."""
    content = io.BytesIO(archive.read_bytes() if archive.is_file() else b"")
    with zipfile.ZipFile(content, "a", zipfile.ZIP_DEFLATED) as file:
        file.write(table, f"{name}.csv")
    if (size := content.getbuffer().nbytes) <= ZIPPED:
        with in_one_step(archive, size=size) as beside:
            beside.write_bytes(content.getvalue())


FIGURES = {
    "logits": ("apart from the CPU, logits", ".1e"),
    "forward, bf16": ("forward", ",.0f"),
    "training, f32": ("training, float32", ",.0f"),
    "training, bf16": ("training, bfloat16", ",.0f"),
    "training, bf16, graph": ("training, bfloat16, one CUDA graph", ",.0f"),
    "memory, MiB": ("memory, MiB", ",.0f"),
    "FLOP/window": ("GFLOP/window of training", ".2f"),
}


def tables_of(found: Mapping[str, Any]) -> str:
    """The figures as tables; a dash where a figure is missing or its measurement failed."""

    def cell(figures: Mapping[str, Any], name: str, form: str) -> str:
        value = figures.get(name)
        if name == "logits":
            value = figures.get("apart from the CPU")
            value = value.get("logits") if isinstance(value, dict) else value
        if name == "FLOP/window" and isinstance(value, float):
            value /= 1e9
        return format(value, form) if isinstance(value, float) else "–"

    rows = {name: row for name, row in found["rows"].items() if name != "device"}
    lines = [
        f"{found['device']}, PyTorch {found['torch']}; {found['window']}, batch {found['batch']};"
        " random inputs; windows a second unless the column names another unit.",
        "",
    ]
    table = [["", *(title for title, _ in FIGURES.values())]]
    for name, row in rows.items():
        table.append([name, *(cell(row, figure, form) for figure, (_, form) in FIGURES.items())])
    ways = {figure: None for row in rows.values() for figure in row if figure.count("batch") == 1}
    compared = [name for name in rows if any(way in rows[name] for way in ways)]
    steps = [["", *compared]]
    for way in ways:
        form = ".4f" if way.startswith("kernels") else ",.0f"
        steps.append([way, *(cell(rows[name], way, form) for name in compared)])
    ceilings = found["rows"]["device"]["ceilings"]
    device = [["of the device, a second", ""]]
    device += [[name, f"{value:.3g}"] for name, value in ceilings.items()]
    return "\n".join([*lines, "\n\n".join(map(markdown, (table, steps, device)))]) + "\n"


def trained_table(found: Mapping[str, Any]) -> str:
    """What the trained rows reach, as a table."""
    columns = ("fit_seconds", "epochs", "windows/s")
    metrics = ("acc", "f1", "fdr", "mdr", "miou", "auroc")
    table = [["", "seconds", "epochs", "windows/s", *metrics]]
    for name, row in found.items():
        if "failed" in row:
            table.append([name, row["failed"], *[""] * (len(table[0]) - 2)])
            continue
        values = [f"{row[key]:,.0f}" for key in columns]
        values += [f"{row['test'][key]:.4f}" if key in row["test"] else "–" for key in metrics]
        table.append([name, *values])
    return markdown(table)


def in_order(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of FIRST, then the others."""

    def place(row: Mapping[str, Any]) -> int:
        key = (row["model"], row["modality"])
        return FIRST.index(key) if key in FIRST else len(FIRST)

    return sorted(rows, key=place)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=9)
    parser.add_argument(
        "--training-minutes", type=float, help="of these, kept for training (default: half)"
    )
    parser.add_argument("--row-minutes", type=float, default=2, help="of a training, at most")
    parser.add_argument("--device", default="cuda", choices=list(SIZES))
    parser.add_argument("--batch", type=int)
    parser.add_argument("--frames", type=int)
    parser.add_argument("--samples", type=int)
    parser.add_argument("--models", nargs="*", help="only these")
    parser.add_argument("--ways", nargs="*", default=["graph", "explicit, graph", "compile, graph"])
    parser.add_argument("--out", type=Path, default=Path("gpu"))
    parser.add_argument("--root", type=Path, help="recordings to train on, or where to write them")
    parser.add_argument("--show", action="store_true", help="measure nothing, print what DIR holds")
    given = parser.parse_args()
    if given.show:
        print(tables_of(json.loads((given.out / "gpu.json").read_text())), end="")
        if (given.out / "training.json").is_file():
            print(f"\n{trained_table(json.loads((given.out / 'training.json').read_text()))}")
        return
    for name, size in zip(("batch", "frames", "samples"), SIZES[given.device], strict=True):
        setattr(given, name, getattr(given, name) or size)
    given.out.mkdir(parents=True, exist_ok=True)
    end = time.time() + 60 * given.minutes
    training = given.minutes / 2 if given.training_minutes is None else given.training_minutes
    rows = yaml.safe_load(ROWS.read_text())["rows"]
    rows = [row for row in rows if not given.models or row["model"] in given.models]
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    with tempfile.TemporaryDirectory() as folder:
        os.environ["FMBENCH_CACHE"] = folder  # unpacked labels are deleted with the recordings
        root = given.root or Path(folder) / "recordings"
        # On a GPU beside the measurements, which take one core of many.
        simulation = FORK.Process(target=simulate, args=(root, PRESETS[given.device]))
        if training > 0:
            simulation.start()
            simulation.join(0 if given.device == "cuda" else None)
        measure_rows(given, end - 60 * training, rows)
        if training > 0:
            simulation.join(max(0, end - time.time()))
            train_rows(given, end, rows, root, Path(folder))
            simulation.kill()
    print(f"{end - time.time():.0f} s left")


FORK = multiprocessing.get_context("fork")
"""The first process never touches the device."""


def in_process(end: float, call: Callable[..., None], *args: Any) -> None:
    """Call in a process of its own, which ends 20 s after `end` at the latest."""
    if time.time() < end:
        process = FORK.Process(target=call, args=args)
        process.start()
        process.join(end + 20 - time.time())
        process.kill()


def measure_rows(given: argparse.Namespace, end: float, rows: list[dict[str, Any]]) -> None:
    """The figures of all rows, then those of FmFormer's ways to train."""
    in_process(end, the_device, given, end)
    for row in rows:
        in_process(end, every_figure, given, end, f"{row['model']} {row['modality']}", row)
    cuda = given.device == "cuda"
    for row in reversed(rows):
        if row["model"] == "fmformer":
            name = f"{row['model']} {row['modality']}"
            for way in ("eager", *given.ways, "profile") if cuda else ("eager", "explicit"):
                for size in (64, 256) if cuda else (given.batch,):
                    in_process(end, one_figure, given, end, name, row, size, way)


def train_rows(
    given: argparse.Namespace, end: float, rows: list[dict[str, Any]], root: Path, runs: Path
) -> None:
    """Train and test the rows that `training.json` lacks, as far as the time goes.

    Those of FIRST share it evenly; each of the others may take what is left.
    """
    path = given.out / "training.json"
    known = json.loads(path.read_text()) if path.is_file() else {}
    done = [name for name, reached in known.items() if "failed" not in reached]
    lacking = [row for row in in_order(rows) if f"{row['model']} {row['modality']}" not in done]
    first = sum((row["model"], row["modality"]) in FIRST for row in lacking)
    least = 3 * ENDING[given.device]
    for k, row in enumerate(lacking):
        left = end - time.time()
        seconds = min(60 * given.row_minutes, max(least, left / max(1, first - k)))
        if left >= least:
            name = f"{row['model']} {row['modality']}"
            in_process(end, train, given, end, seconds, name, row, root, runs)


if __name__ == "__main__":
    main()

"""A configuration -> its throughput, latency, memory and operations on this machine."""

from __future__ import annotations

import statistics
from dataclasses import asdict, replace
from itertools import chain, repeat
from typing import Any, cast

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.plugins.precision import Precision
from lightning.pytorch.profilers import Profiler
from torch import nn
from torch.utils.data import DataLoader, Dataset

from fmbench.config.schema import Config
from fmbench.data import FurnaceData
from fmbench.data.dataset import already_collated
from fmbench.data.statistics import Statistics, standardize_inputs
from fmbench.objective import Loss, Optim
from fmbench.registry import create_model
from fmbench.speed.flops import ceiling, count
from fmbench.speed.report import Figures, SpeedReport, SpeedRow, conditions
from fmbench.speed.timing import StepTimer, Waits, durations, forget, highest
from fmbench.stages import Learn, Solve
from fmbench.training.lit import Detector
from fmbench.training.loop import interruptible, quiet
from fmbench.training.precision import with_precision
from fmbench.types import Batch, Problem

FROM_TRAINER = (
    "accelerator",
    "precision",
    "gradient_clip_val",
    "gradient_clip_algorithm",
    "accumulate_grad_batches",
    "deterministic",
    "benchmark",
)
"""Options of the Trainer that apply to measuring one device for some seconds."""
ENDLESS = 100_000
"""Batches of an epoch that a StepTimer ends."""
TOUCHED = 1000
"""Windows, evenly spaced, to read before loading is timed."""
SOLVED_ON = 256
"""Random windows for a stage that solves: it needs both classes and many recordings."""

NOISE = (12_000.0, 1_500.0)
"""Mean and standard deviation of random currents, amperes."""


def measure_speed(
    config: Config,
    problem: Problem,
    *,
    batch_size: int,
    data: FurnaceData | None = None,
    seconds: float = 1.0,
    stage: str | None = None,
) -> SpeedReport:
    """Measure a model on random windows; returns a report of one row.

    Measure once a process: memory is the growth of the process.

    Args:
        config: model, its options, optimiser and loss, and the Trainer's options FROM_TRAINER.
        problem: the problem that the model is built for.
        batch_size: windows in a batch.
        data: for the figures on loading and epochs; they are missing without it.
        seconds: measuring time for each figure.
        stage: the stage whose steps are timed; by default the last that learns by gradient.

    Raises:
        ValueError: no such stage, or options that contradict each other.
    """
    engine = _engine(config, [])
    device, precision = engine.strategy.root_device, engine.precision_plugin
    batch, one = (_to(random_batch(problem, size), device) for size in (batch_size, 1))
    forget(device)
    bare = highest(device)
    detector = _detector(config, problem).to(device)
    learning = _learning(detector, stage)
    if config.compile:
        detector.model.compile(mode=config.compile)
    clock = StepTimer(seconds)
    top = _go_through(config, detector, learning, batch, clock)
    detector = cast(Detector, precision.convert_module(detector)).to(device).eval()
    alone = durations(
        lambda: _forward(detector, one, precision), seconds=seconds, least=100, device=device
    )
    whole = durations(lambda: _forward(detector, batch, precision), seconds=seconds, device=device)
    percentiles = statistics.quantiles(alone, n=100, method="inclusive")
    pass_ = statistics.median(whole)
    step = statistics.median(clock.warm()[1]) if learning else None
    top = top or highest(device)
    figures: Figures = {
        "parameters": sum(p.numel() for p in detector.model.parameters()),
        "memory": None if top is None or bare is None else top - bare,
        "forward": batch_size / pass_,
        "training": batch_size / step if step else None,
        "latency_p50": percentiles[49],
        "latency_p99": percentiles[98],
    }
    eager = _detector(config, problem)  # compiled code hides its operations
    eager.load_state_dict(detector.state_dict())
    eager = cast(Detector, precision.convert_module(eager)).to(device).eval()
    flops, products = count(lambda: _forward(eager, batch, precision))
    figures |= {"flops_forward": flops / batch_size, "achieved_forward": flops / pass_}
    if learning and step:
        eager.enter(cast(Learn, _learning(eager, learning.name)))
        flops, _ = count(lambda: _fit(config, eager, StepTimer(0), _same(batch, 1)))
        figures |= {"flops_training": flops / batch_size, "achieved_training": flops / step}
    figures["ceiling"] = ceiling(
        products, dtype=_multiplied_in(detector, precision), device=device, seconds=seconds
    )
    if data is not None:
        standardize_inputs(detector.model, data.statistics())
        figures["loading"] = _loading(data, seconds)
    if data is not None and learning:
        detector.enter(learning)
        figures |= _epoch(config, detector, data, device, seconds)
    row = SpeedRow(
        label=f"{config.model} ({problem.modality})",
        model=config.model,
        net=config.net,
        problem=asdict(problem),
        batch_size=batch_size,
        stage=learning.name if learning else None,
        compiled=config.compile is not None,
        data=data.description if data else None,
        figures=figures,
    )
    return SpeedReport(conditions=conditions(device, str(engine.precision)), rows=[row])


def conditions_here(config: Config) -> dict[str, Any]:
    """Processor, threads and precision of `measure_speed` with this configuration."""
    engine = _engine(config, [])
    return conditions(engine.strategy.root_device, str(engine.precision))


def random_batch(problem: Problem, size: int) -> Batch:
    """`size` windows of noise: uint8 frames, and NOISE amperes of current."""
    draw = torch.Generator().manual_seed(0)
    reads, (height, width) = problem.modality, problem.image_size
    video = torch.randint(
        256, (size, 3, problem.frames, height, width), dtype=torch.uint8, generator=draw
    )
    current = torch.randn(size, problem.current_samples, problem.current_channels, generator=draw)
    current = NOISE[0] + NOISE[1] * current
    mask = torch.randint(2, (size, height, width), dtype=torch.uint8, generator=draw)
    return Batch(
        video=video if reads.has_video else None,
        current=current if reads.has_current else None,
        label=torch.randint(2, (size,), generator=draw),
        mask=mask if problem.dense else None,
        recording=torch.arange(size) // 4,
        second=900 * torch.arange(size),
    )


def standardize_noise(model: nn.Module, problem: Problem) -> None:
    """Let a model standardise the currents of `random_batch`; frames it divides by 255."""
    black, white = torch.zeros(3), torch.full((3,), 255.0)
    mean, deviation = (torch.full((problem.current_channels,), each) for each in NOISE)
    standardize_inputs(model, Statistics(black, white, mean, deviation))


def steps_of(config: Config, problem: Problem, batch: Batch, clock: StepTimer) -> None:
    """Train the last stage that learns by gradient on one batch until `clock` ends it."""
    detector = _detector(config, problem)
    learning = _learning(detector, None)
    assert learning is not None, config.model
    detector.enter(learning)
    _fit(config, detector, clock, _same(batch, ENDLESS))


def _go_through(
    config: Config, detector: Detector, learning: Learn | None, batch: Batch, clock: StepTimer
) -> int | None:
    """Run all stages, one step or solution each, as some models cannot predict before; time the
    steps of `learning` with `clock`. Returns the highest number of bytes in use in these."""
    top = None
    for stage in detector.stages:
        detector.enter(stage)
        if isinstance(stage, Solve):
            device = batch.label.device
            windows = _to(random_batch(detector.problem, SOLVED_ON), device)
            detector.to(device).eval()
            with torch.no_grad():
                found = stage.gather(windows)
                stage.solve({name: value.cpu() for name, value in found.items()})
        elif stage is learning:
            forget(batch.label.device)
            _fit(config, detector, clock, _same(batch, ENDLESS))
            top = highest(batch.label.device)
        else:
            _fit(config, detector, StepTimer(0), _same(batch, 1))
    return top


@torch.no_grad()
def _forward(detector: Detector, batch: Batch, precision: Precision) -> None:
    with precision.forward_context():
        detector(precision.convert_input(batch))


def _multiplied_in(detector: Detector, precision: Precision) -> torch.dtype:
    """The dtype of matrix products: that of the weights, or autocast's."""
    weight = next(detector.parameters(), torch.zeros(1))
    one = torch.ones(1, 1, device=weight.device, dtype=weight.dtype)
    with precision.forward_context():
        return (one @ one).dtype


def _loading(data: FurnaceData, seconds: float) -> float:
    """Windows a second without a model. All recordings are read before, since those that are
    simulated lazily are slow at first."""
    few = data.dataset("train").evenly(TOUCHED)
    for start in range(0, len(few), data.batch_size):
        few.__getitems__(range(start, min(start + data.batch_size, len(few))))
    batches = chain.from_iterable(repeat(data.train_dataloader()))
    taken = durations(lambda: next(batches), seconds=seconds)
    return data.batch_size / statistics.fmean(taken)


def _epoch(
    config: Config, detector: Detector, data: FurnaceData, device: torch.device, seconds: float
) -> Figures:
    """Windows a second of an epoch, and the share of its time that waits for data."""
    clock = StepTimer(2 * seconds, least=8)
    waits = Waits(device)
    _fit(config, detector, clock, data, waits)
    pauses, steps = clock.warm()
    whole = sum(pauses) + sum(steps)
    waited = sum(waits.taken[len(clock.steps) - len(steps) : len(clock.steps)])
    return {"epoch": data.batch_size * len(steps) / whole, "waiting": waited / whole}


def _detector(config: Config, problem: Problem) -> Detector:
    torch.manual_seed(config.seed)
    model = create_model(config.model, problem, **config.net)
    standardize_noise(model, problem)
    return Detector(
        model,
        problem=problem,
        loss=Loss(**config.loss),
        optim=Optim(**config.optim),
        clip=config.trainer.get("gradient_clip_val"),
    )


def _learning(detector: Detector, name: str | None) -> Learn | None:
    """The stage of that name, or the last one that learns by gradient; None without one."""
    known = {stage.name: stage for stage in detector.stages if isinstance(stage, Learn)}
    if name is None:
        return list(known.values())[-1] if known else None
    if name not in known:
        names = ", ".join(known) or "none"
        raise ValueError(f"no stage that learns is called {name!r}; this model's: {names}")
    return known[name]


def _engine(
    config: Config, callbacks: list[Callback], profiler: Profiler | None = None
) -> L.Trainer:
    chosen = {name: config.trainer[name] for name in FROM_TRAINER if name in config.trainer}
    with quiet():
        return L.Trainer(
            **with_precision(chosen),
            devices=1,
            max_epochs=1,
            limit_val_batches=0,
            num_sanity_val_steps=0,
            callbacks=callbacks,
            profiler=profiler,
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=False,
            use_distributed_sampler=False,
        )


def _fit(
    config: Config,
    detector: Detector,
    clock: StepTimer,
    batches: FurnaceData | DataLoader[Batch],
    waits: Waits | None = None,
) -> None:
    """Train the current stage with the steps of `fmbench fit`."""
    if not detector.automatic_optimization:  # the detector clips
        kept = {k: v for k, v in config.trainer.items() if not k.startswith("gradient_clip")}
        config = replace(config, trainer=kept)
    if isinstance(batches, FurnaceData):
        source: dict[str, Any] = {"datamodule": batches}
    else:
        source = {"train_dataloaders": batches, "val_dataloaders": []}
    with quiet(), interruptible():
        _engine(config, [clock], waits).fit(detector.train(), **source)


def _same(batch: Batch, times: int) -> DataLoader[Batch]:
    """The same batch again and again, without loading."""
    batches = cast(Dataset[Batch], [batch] * times)
    return DataLoader(batches, batch_size=None, collate_fn=already_collated)


def _to(batch: Batch, device: torch.device) -> Batch:
    return Batch(*(None if part is None else part.to(device) for part in batch))  # type: ignore[arg-type]

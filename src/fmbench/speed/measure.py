"""A configuration -> its figures on this machine."""

from __future__ import annotations

import statistics
from dataclasses import asdict, replace
from itertools import chain, repeat
from typing import Any, cast

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from fmbench.data import FurnaceData
from fmbench.data.dataset import as_it_is
from fmbench.lit import Detector, Loss, Optim
from fmbench.registry import create_model
from fmbench.run import Config, standardize
from fmbench.speed.clock import Clock, durations, forget, highest
from fmbench.speed.flops import ceiling, count
from fmbench.speed.report import Figures, Report, Row, conditions
from fmbench.stages import Learn, Solve
from fmbench.train import interruptible, quiet
from fmbench.types import Batch, Prediction, Problem

FROM_TRAINER = (
    "accelerator",
    "precision",
    "gradient_clip_val",
    "gradient_clip_algorithm",
    "accumulate_grad_batches",
    "deterministic",
    "benchmark",
)
"""Options of the Trainer that count here: measured is one device, for some seconds."""
MANY = 100_000
"""Batches of an endless epoch: the clock ends it."""
SOLVED_ON = 256
"""Windows on which a stage that solves finds a solution: of both classes, in many recordings."""


def measure(
    config: Config,
    problem: Problem,
    *,
    batch_size: int,
    data: FurnaceData | None = None,
    seconds: float = 1.0,
    stage: str | None = None,
    compiled: bool = False,
) -> Report:
    """What `fmbench speed` shows, as a report of one row.

    A process should measure once: memory is by how much the process grows.

    Args:
        config: model, its options, optimiser, loss; of the Trainer's options FROM_TRAINER.
        problem: what the model is built for; its inputs are drawn at random.
        batch_size: windows of a batch.
        data: to load from and to train an epoch on; without it these figures are None.
        seconds: of measuring, for each figure.
        stage: whose steps are timed, of a model that trains in several; by default the last that
            learns by gradient.
        compiled: whether the model's forward goes through `torch.compile`.

    Raises:
        ValueError: no such stage, or options that do not fit together.
    """
    engine = _engine(config, [])
    device, precision = engine.strategy.root_device, engine.precision_plugin
    batch = _to(random_batch(problem, batch_size), device)
    forget(device)
    bare = highest(device)
    detector = _detector(config, problem).to(device)
    learning = _learning(detector, stage)
    if compiled:
        detector.model.compile()

    @torch.no_grad()
    def forward(model: Detector, batch: Batch) -> Tensor:
        with precision.forward_context():
            prediction: Prediction = model(precision.convert_input(batch))
        return prediction.logits

    clock = Clock(seconds)
    top = None
    for each in detector.stages:  # some say nothing before they have gone through all
        detector.enter(each)
        if isinstance(each, Solve):
            _solve(detector, each, _to(random_batch(problem, SOLVED_ON), device))
        elif each is learning:
            forget(device)
            _fit(config, detector, clock, _same(batch, MANY))
            top = highest(device)
        else:
            _fit(config, detector, Clock(0), _same(batch, 1))
    detector = cast(Detector, precision.convert_module(detector)).to(device).eval()
    one = _to(random_batch(problem, 1), device)
    alone = durations(lambda: forward(detector, one), seconds=seconds, least=100, device=device)
    whole = durations(lambda: forward(detector, batch), seconds=seconds, device=device)
    percentiles = statistics.quantiles(alone, n=100, method="inclusive")
    pass_ = statistics.median(whole)
    top = top or highest(device)
    figures: Figures = {
        "parameters": sum(p.numel() for p in detector.model.parameters()),
        "memory": None if top is None or bare is None else top - bare,
        "forward": batch_size / pass_,
        "latency_p50": percentiles[49],
        "latency_p99": percentiles[98],
    }
    eager = _detector(config, problem)
    eager.load_state_dict(detector.state_dict())
    eager = cast(Detector, precision.convert_module(eager)).to(device).eval()
    flops, products = count(lambda: forward(eager, batch))
    figures |= {"flops_forward": flops / batch_size, "achieved_forward": flops / pass_}
    if learning:
        step = statistics.median(clock.warm()[1])
        eager.enter(cast(Learn, _learning(eager, learning.name)))
        flops, _ = count(lambda: _fit(config, eager, Clock(0), _same(batch, 1)))
        figures |= {
            "training": batch_size / step,
            "flops_training": flops / batch_size,
            "achieved_training": flops / step,
        }
    kind = next((p.dtype for p in detector.parameters()), torch.float32)
    with precision.forward_context():
        tiny = torch.ones(1, 1, device=device, dtype=kind)
        dtype = (tiny @ tiny).dtype  # autocast multiplies in another than the weights have
    figures["ceiling"] = ceiling(products, dtype=dtype, device=device, seconds=seconds)
    if data is not None:
        standardize(detector.model, data)  # reads every recording once, as a fit does
        figures["loading"] = _loading(data, seconds)
    if data is not None and learning:
        detector.enter(learning)
        clock = Clock(2 * seconds, least=8)
        _fit(config, detector, clock, data)
        waits, steps = (sum(times) for times in clock.warm())
        figures["epoch"] = data.batch_size * len(clock.warm()[1]) / (waits + steps)
        figures["waiting"] = waits / (waits + steps)
    row = Row(
        label=f"{config.model} ({problem.modality})",
        model=config.model,
        net=config.net,
        problem=asdict(problem),
        batch_size=batch_size,
        stage=learning.name if learning else None,
        compiled=compiled,
        data=data.description if data else None,
        figures=figures,
    )
    return Report(conditions=conditions(device, str(engine.precision)), rows=[row])


def random_batch(problem: Problem, size: int) -> Batch:
    """`size` windows of noise: uint8 frames, currents of deviation 1, for a model that has not
    measured its training part."""
    draw = torch.Generator().manual_seed(0)
    reads, (height, width) = problem.modality, problem.image_size
    video = torch.randint(
        256, (size, 3, problem.frames, height, width), dtype=torch.uint8, generator=draw
    )
    current = torch.randn(size, problem.current_samples, problem.current_channels, generator=draw)
    mask = torch.randint(2, (size, height, width), dtype=torch.uint8, generator=draw)
    return Batch(
        video=video if reads.has_video else None,
        current=current if reads.has_current else None,
        label=torch.randint(2, (size,), generator=draw),
        mask=mask if problem.dense else None,
        recording=torch.arange(size) // 4,
        second=900 * torch.arange(size),
    )


def steps_of(config: Config, problem: Problem, batch: Batch, clock: Clock) -> None:
    """Training steps on one batch, of a model's last stage that learns, until `clock` says so."""
    detector = _detector(config, problem)
    learning = _learning(detector, None)
    assert learning is not None, config.model
    detector.enter(learning)
    _fit(config, detector, clock, _same(batch, MANY))


def _loading(data: FurnaceData, seconds: float) -> float:
    """Windows a second, without a model."""
    batches = chain.from_iterable(repeat(data.train_dataloader()))
    taken = durations(lambda: next(batches), seconds=seconds)
    return data.batch_size / statistics.fmean(taken)


def _solve(detector: Detector, stage: Solve, batch: Batch) -> None:
    detector.eval()
    with torch.no_grad():
        stage.solve({name: value.cpu() for name, value in stage.gather(batch).items()})


def _detector(config: Config, problem: Problem) -> Detector:
    torch.manual_seed(config.seed)
    return Detector(
        create_model(config.model, problem, **config.net),
        problem=problem,
        loss=Loss(**config.loss),
        optim=Optim(**config.optim),
        clip=config.trainer.get("gradient_clip_val"),
    )


def _learning(detector: Detector, name: str | None) -> Learn | None:
    """The stage of that name, or the last one that learns by gradient, if there is one."""
    known = {stage.name: stage for stage in detector.stages if isinstance(stage, Learn)}
    if name is None:
        return list(known.values())[-1] if known else None
    if name not in known:
        names = ", ".join(known) or "none"
        raise ValueError(f"no stage that learns is called {name!r}; this model's: {names}")
    return known[name]


def _engine(config: Config, callbacks: list[Callback]) -> L.Trainer:
    chosen = {name: config.trainer[name] for name in FROM_TRAINER if name in config.trainer}
    with quiet():
        return L.Trainer(
            **chosen,
            devices=1,
            max_epochs=1,
            limit_val_batches=0,
            num_sanity_val_steps=0,
            callbacks=callbacks,
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=False,
            use_distributed_sampler=False,
        )


def _fit(
    config: Config, detector: Detector, clock: Clock, batches: FurnaceData | DataLoader[Batch]
) -> None:
    """Steps of the stage that was entered, as `fmbench fit` takes them."""
    if not detector.automatic_optimization:  # the detector clips
        kept = {k: v for k, v in config.trainer.items() if not k.startswith("gradient_clip")}
        config = replace(config, trainer=kept)
    if isinstance(batches, FurnaceData):
        source: dict[str, Any] = {"datamodule": batches}
    else:
        source = {"train_dataloaders": batches, "val_dataloaders": []}
    with quiet(), interruptible():
        _engine(config, [clock]).fit(detector.train(), **source)


def _same(batch: Batch, times: int) -> DataLoader[Batch]:
    """One batch again and again, without the work of loading it."""
    batches = cast(Dataset[Batch], [batch] * times)
    return DataLoader(batches, batch_size=None, collate_fn=as_it_is)


def _to(batch: Batch, device: torch.device) -> Batch:
    return Batch(*(None if part is None else part.to(device) for part in batch))  # type: ignore[arg-type]

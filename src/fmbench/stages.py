"""The stages of a method whose training is not one supervised pass.

A model without stages trains all its parameters with the joint loss (`fmbench.objective.Loss`) of
its forward. A model with a method `stages() -> Sequence[Stage]` trains in these stages, in order.
Each stage is a training of its own on the same training windows and starts with the weights of the
stage before it; validation chooses a checkpoint of the last stage only. A stage freezes the
parameters that it does not name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from fmbench.types import Batch

Losses = Callable[[Batch], Mapping[str, Tensor]]
Check = Callable[[Batch], tuple[Tensor, Tensor]]


@dataclass(frozen=True, kw_only=True)
class Turn:
    """Some parameters and the loss that they minimise: one optimizer step per batch.

    Attributes:
        parameters: to train, or groups of them as torch's optimizers take them. Beside AdamW's own
            options, a group may have "lr_scale", a factor of the run's learning rate. With Muon,
            its matrices take from these the learning rate and the weight decay alone.
        losses: takes a batch and returns weighted losses by name, each a scalar; the turn minimises
            their sum. If None, the joint loss of the model's prediction.
    """

    parameters: Sequence[nn.Parameter] | Sequence[Mapping[str, Any]]
    losses: Losses | None = None


@dataclass(frozen=True, kw_only=True)
class Learn:
    """A stage of gradient steps: one turn, or several that alternate (adversarial training).

    Attributes:
        name: of the stage in progress, logs and folders.
        turns: taken one after the other on every batch, each with its own optimizer.
        share: of the run's epochs, relative to the shares of the other stages.
        check: takes a validation batch and returns logits (n, K) and classes (n,) int64 of what the
            stage has learnt to tell apart. The stage then ends with a line that states its AUROC,
            and says so if that is chance. Not for the last stage, which is validated as a detector.
    """

    name: str
    turns: Sequence[Turn]
    share: float = 1
    check: Check | None = None


@dataclass(frozen=True, kw_only=True)
class Solve:
    """A stage without gradients: one pass over the training windows, then a solution.

    Attributes:
        name: of the stage in progress, logs and folders.
        gather: takes a batch and returns tensors by name, each (b, ...) with b from 0 to B. The
            model is in eval mode.
        solve: takes the gathered tensors of all windows, each (N, ...) on the CPU in no particular
            order, and writes the solution into the model's buffers. It draws random numbers only
            from its own seed, because every process of a distributed training solves separately.
            It returns lines to print, or None.
    """

    name: str
    gather: Callable[[Batch], Mapping[str, Tensor]]
    solve: Callable[[Mapping[str, Tensor]], str | None]


Stage = Learn | Solve


def stages_of(model: nn.Module) -> list[Stage]:
    """The stages that a model declares, or the one supervised pass.

    Raises:
        ValueError: no stage, two of the same name, or a `check` of the last.
    """
    declare = getattr(model, "stages", None)
    if declare is None:
        return [Learn(name="fit", turns=[Turn(parameters=trainable(model))])]
    stages = list(declare())
    names = [stage.name for stage in stages]
    if not names or len(set(names)) < len(names):
        raise ValueError(
            f"{type(model).__name__}.stages() must return one or more stages of different names"
        )
    if isinstance(stages[-1], Learn) and stages[-1].check:
        raise ValueError(
            f"{type(model).__name__}: stage {names[-1]} is the last, which validation measures by"
            " the model's prediction; its check has no effect"
        )
    return stages


def learnt_in(stage: Stage) -> set[nn.Parameter]:
    """The parameters that a stage trains by gradient."""
    learnt: set[nn.Parameter] = set()
    for turn in stage.turns if isinstance(stage, Learn) else ():
        for group in turn.parameters:
            learnt.update(group["params"] if isinstance(group, Mapping) else [group])
    return learnt


def trainable(*modules: nn.Module) -> list[nn.Parameter]:
    """The parameters of `modules` that are not frozen."""
    return [p for module in modules for p in module.parameters() if p.requires_grad]


def share_epochs(stages: Sequence[Stage], epochs: int) -> list[int]:
    """The number of epochs of each stage: at least 1, and exactly 1 for a `Solve`.

    The `Learn` stages share `epochs` in proportion to `share` by the largest remainder method.
    """
    shares = [stage.share if isinstance(stage, Learn) else 0.0 for stage in stages]
    whole = sum(shares) or 1.0
    exact = [epochs * share / whole for share in shares]
    counts = [int(value) for value in exact]
    left = epochs - sum(counts) if any(shares) else 0
    for k in sorted(range(len(stages)), key=lambda k: counts[k] - exact[k])[:left]:
        counts[k] += 1
    return [max(1, count) for count in counts]

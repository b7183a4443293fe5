"""How a method trains whose training is not one supervised pass.

A model without stages trains all its parameters with the joint loss (`fmbench.objective.Loss`) of
its forward. A model with a method `stages() -> Sequence[Stage]` goes through them in order. Each
stage is a training of its own on the same training windows and begins with the weights of the stage
before it; validation chooses a checkpoint of the last stage only. A stage freezes the parameters
that it does not name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from fmbench.types import Batch

Losses = Callable[[Batch], Mapping[str, Tensor]]


@dataclass(frozen=True, kw_only=True)
class Turn:
    """Some parameters and the loss that they descend, at every batch.

    Attributes:
        parameters: what learns, or groups of it as torch's optimizers take them. Beside AdamW's own
            options, a group may have "lr_scale", by which the run's learning rate is multiplied.
        losses: from a batch to weighted losses by name, each a scalar; they are added. The joint
            loss of the model's prediction if None.
    """

    parameters: Sequence[nn.Parameter] | Sequence[Mapping[str, Any]]
    losses: Losses | None = None


@dataclass(frozen=True, kw_only=True)
class Learn:
    """A stage of gradient steps: one turn, or several in alternation (adversaries).

    Attributes:
        name: in progress, logs and folders.
        turns: taken one after the other at every batch, each with an optimizer of its own.
        share: of the run's epochs, in proportion to the other stages'.
    """

    name: str
    turns: Sequence[Turn]
    share: float = 1


@dataclass(frozen=True, kw_only=True)
class Solve:
    """A stage without gradients: one pass over the training windows, then a solution.

    Attributes:
        name: in progress, logs and folders.
        gather: from a batch to what is kept of it, each (b, ...) with b from 0 to B. The model is
            in eval mode.
        solve: given everything kept, (N, ...) on the CPU, in no particular order, writes what it
            finds into the model's buffers. It must draw no random numbers but from a seed of its
            own: every process of a distributed training solves for itself.
    """

    name: str
    gather: Callable[[Batch], Mapping[str, Tensor]]
    solve: Callable[[Mapping[str, Tensor]], None]


Stage = Learn | Solve


def stages_of(model: nn.Module) -> list[Stage]:
    """The stages that a model declares, or the one supervised pass.

    Raises:
        ValueError: none, or two of one name.
    """
    declare = getattr(model, "stages", None)
    if declare is None:
        return [Learn(name="fit", turns=[Turn(parameters=trainable(model))])]
    stages = list(declare())
    names = [stage.name for stage in stages]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"{type(model).__name__}.stages() must give one or more, of unlike names")
    return stages


def learnt_in(stage: Stage) -> set[nn.Parameter]:
    """The parameters that take steps in a stage."""
    learnt: set[nn.Parameter] = set()
    for turn in stage.turns if isinstance(stage, Learn) else ():
        for group in turn.parameters:
            learnt.update(group["params"] if isinstance(group, Mapping) else [group])
    return learnt


def trainable(*modules: nn.Module) -> list[nn.Parameter]:
    """The parameters of some modules that are not frozen."""
    return [p for module in modules for p in module.parameters() if p.requires_grad]


def share_epochs(stages: Sequence[Stage], epochs: int) -> list[int]:
    """How many of a run's epochs each stage takes: at least one each, and one for a `Solve`.

    The stages that learn share `epochs` in proportion, by largest remainder.
    """
    shares = [stage.share if isinstance(stage, Learn) else 0.0 for stage in stages]
    whole = sum(shares) or 1.0
    exact = [epochs * share / whole for share in shares]
    counts = [int(value) for value in exact]
    left = epochs - sum(counts) if any(shares) else 0
    for k in sorted(range(len(stages)), key=lambda k: counts[k] - exact[k])[:left]:
        counts[k] += 1
    return [max(1, count) for count in counts]

"""Models by name, from all installed catalogues.

A catalogue is a `dict[str, type[nn.Module]]` that an entry point in `fmbench.models` names.
A model is `Model(problem, *, <its own hyperparameters>)` with `forward(batch) -> Prediction` and
two class attributes: `modalities`, which it reads, and `dense`, those for which it predicts a mask.
"""

from __future__ import annotations

import inspect
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Protocol, cast

from torch import nn

from fmbench.errors import nearest
from fmbench.types import Modality, Problem


class ModelClass(Protocol):
    """The type of a catalogue's entries.

    Attributes:
        modalities: that the model reads.
        dense: modalities for which it predicts a mask as well.
    """

    modalities: frozenset[Modality]
    dense: frozenset[Modality]

    def __call__(self, problem: Problem, **net: Any) -> nn.Module: ...


@cache
def catalogue() -> dict[str, ModelClass]:
    """Every installed model by name.

    Raises:
        ValueError: two catalogues give the same name.
    """
    found: dict[str, ModelClass] = {}
    for entry in sorted(entry_points(group="fmbench.models"), key=lambda entry: entry.name):
        for name, model in entry.load().items():
            if name in found and found[name] is not model:
                raise ValueError(
                    f"two models are called {name!r}: {_path(found[name])} and {_path(model)};"
                    " rename one in its catalogue"
                )
            found[name] = model
    return found


def entry_of(name: str) -> EntryPoint | None:
    """The entry point of the catalogue that has the model `name`."""
    entries = sorted(entry_points(group="fmbench.models"), key=lambda entry: entry.name)
    return next((entry for entry in entries if name in entry.load()), None)


def list_models(modality: Modality | str | None = None) -> list[str]:
    """Sorted names of the installed models, or of those that read `modality`.

    Raises:
        ValueError: no such modality.
    """
    models = catalogue()
    if modality is None:
        return sorted(models)
    wanted = _modality(modality)
    return sorted(name for name, model in models.items() if wanted in model.modalities)


def find_model(name: str, modality: Modality | str) -> ModelClass:
    """The class registered as `name`.

    Raises:
        ValueError: no such model or modality, or the model does not read it.
    """
    models = catalogue()
    if name not in models:
        raise ValueError(
            f"no model is called {name!r}{nearest(name, models)}\n"
            f"Known: {', '.join(sorted(models))}"
        )
    wanted = _modality(modality)
    model = models[name]
    if wanted not in model.modalities:
        reads = ", ".join(sorted(model.modalities))
        others = ", ".join(list_models(wanted))
        raise ValueError(f"{name} reads {reads}, not {wanted}. Models that read {wanted}: {others}")
    return model


def create_model(name: str, problem: Problem, **net: Any) -> nn.Module:
    """Build the model registered as `name`; its attribute `built_as` holds name and `net`.

    Args:
        name: registered name.
        problem: inputs and outputs of the model.
        net: its own hyperparameters.

    Raises:
        ValueError: no such model, a modality that it does not read, a mask that it cannot predict,
            or an unknown hyperparameter.
    """
    model = find_model(name, problem.modality)
    if problem.dense and problem.modality not in model.dense:
        raise ValueError(f"{name} draws no mask from {problem.modality} input; set dense to false")
    known = [key for key in inspect.signature(cast(Any, model)).parameters if key != "problem"]
    for key in net:
        if key not in known:
            raise ValueError(
                f"{name} has no option {key!r}{nearest(key, known)}\nKnown: {', '.join(known)}"
            )
    built = model(problem, **net)
    built.built_as = {"model": name, "net": dict(net)}  # type: ignore[assignment]
    return built


def _modality(value: Modality | str) -> Modality:
    try:
        return Modality(value)
    except ValueError:
        allowed = [str(modality) for modality in Modality]
        raise ValueError(
            f"no modality is called {value!r}{nearest(str(value), allowed)}\n"
            f"Allowed: {', '.join(allowed)}"
        ) from None


def _path(model: object) -> str:
    return f"{getattr(model, '__module__', '?')}.{getattr(model, '__qualname__', model)}"

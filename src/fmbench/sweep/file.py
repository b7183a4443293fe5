"""W&B's sweep files: https://docs.wandb.ai/models/sweeps/sweep-config-keys."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self, get_args

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from pydantic import AfterValidator, Field, PlainValidator, model_validator

from fmbench.config.profiles import shipped
from fmbench.errors import nearest
from fmbench.files.validated import Content, Listed, Text, one_of, validated
from fmbench.files.yaml_json import read_yaml

Distribution = CategoricalDistribution | FloatDistribution | IntDistribution
Method = Literal["grid", "random", "bayes"]
Goal = Literal["maximize", "minimize"]
MACROS = ("${env}", "${interpreter}")
SHAPES = (
    "value, values, min and max, or a distribution: uniform, int_uniform, q_uniform,"
    " log_uniform_values"
)


class Fixed(NamedTuple):
    """A parameter of one value."""

    value: Any


def _parameter(entry: Any) -> Fixed | Distribution:
    """W&B's description of a parameter -> Optuna's.

    Raises:
        ValueError: it lacks something, or Optuna has none like it.
    """
    if not isinstance(entry, Mapping) or "parameters" in entry:
        raise ValueError(f"give it {SHAPES}; nested names are written with dots")
    if "value" in entry:
        return Fixed(entry["value"])
    if "values" in entry and set(entry) <= {"values", "distribution"}:
        values = entry["values"]
        if not isinstance(values, list) or not values:
            raise ValueError(f"values is {values!r}; it must be a list")
        # A list or a mapping is kept as the text that it is on a command line.
        plain = [
            each if isinstance(each, bool | int | float | str) else str(each) for each in values
        ]
        return CategoricalDistribution(plain)
    low: Any
    high: Any
    low, high = entry.get("min"), entry.get("max")
    for name, end in (("min", low), ("max", high)):
        if not isinstance(end, int | float) or isinstance(end, bool):
            hint = "; YAML takes 1e-4 for text, write 1.0e-4" if isinstance(end, str) else ""
            raise ValueError(f"{name} is {end!r}; give it {SHAPES}{hint}")
    whole = isinstance(low, int) and isinstance(high, int)
    kind = entry.get("distribution", "int_uniform" if whole else "uniform")
    try:
        if kind == "int_uniform" and whole:
            return IntDistribution(low, high)
        if kind == "uniform":
            return FloatDistribution(low, high)
        if kind == "q_uniform":
            return FloatDistribution(low, high, step=entry.get("q", 1))
        if kind == "log_uniform_values":
            return FloatDistribution(low, high, log=True)
    except TypeError as error:
        raise ValueError(str(error)) from None
    raise ValueError(f"distribution {kind!r} cannot be followed here; give it {SHAPES}")


Parameter = Annotated[Fixed | Distribution, PlainValidator(_parameter)]


def _of_validation(name: str) -> str:
    if not name.startswith("val/"):
        raise ValueError(
            f"{name!r} is none of validation, such as val/acc; test data choose nothing"
        )
    return name


class SweepMetric(Content, extra="ignore"):
    """What trials are compared by; what is best decides on validation recordings."""

    name: Annotated[str, AfterValidator(_of_validation)]
    goal: Annotated[Goal, one_of(get_args(Goal))] = "minimize"


class Sweep(Content):
    """A sweep file.

    Attributes:
        name: the file's stem.
        method: how trials are chosen.
        metric: what they are compared by.
        parameters: by dotted name of a `fit` option.
        command: `fmbench fit` and flags of every trial.
        run_cap: how many trials at most; None if the file does not say.
    """

    name: Text = ""
    method: Annotated[Method, one_of(get_args(Method))]
    metric: SweepMetric = Field(description="name, one of validation such as val/acc, and goal")
    parameters: dict[Text, Parameter] = Field(min_length=1, description=SHAPES)
    command: Listed[Text] = ()
    run_cap: Annotated[int, Field(ge=1)] | None = None
    program: Text = ""
    early_terminate: None = Field(None, description="it needs W&B's server")
    # Keys of W&B's that say nothing of what is to be tried.
    description: Any = None
    project: Any = None
    entity: Any = None
    controller: Any = None
    apiVersion: Any = None  # noqa: N815
    kind: Any = None

    @model_validator(mode="after")
    def _can_be_run(self) -> Self:
        words = self._words()
        if words[:2] != ["fmbench", "fit"] or "${args}" not in words:
            raise ValueError(
                f"the command is {' '.join(words)!r}; here only a fit can be run:"
                " [${env}, fmbench, fit, …, ${args}]"
            )
        if not self.space:
            raise ValueError(f"every parameter has one value; give one {SHAPES}")
        if self.method == "grid":
            for name, each in self.space.items():
                _steps(name, each)
        return self

    def _words(self) -> list[str]:
        command = self.command or ("${program}", "${args}")
        words = [self.program if word == "${program}" else word for word in command]
        return [word for word in words if word not in MACROS]

    @property
    def fixed(self) -> list[str]:
        """Flags that every trial has: the command's, and parameters of a single value."""
        flags = [word for word in self._words()[2:] if word != "${args}"]
        fixed = {name: each for name, each in self.parameters.items() if isinstance(each, Fixed)}
        return [*flags, *(f"--{name}={each.value}" for name, each in fixed.items())]

    @property
    def space(self) -> dict[str, Distribution]:
        """The other parameters."""
        return {name: each for name, each in self.parameters.items() if not isinstance(each, Fixed)}

    def combinations(self) -> list[dict[str, Any]]:
        """Of a grid, every one, the last parameter changing fastest.

        Raises:
            ValueError: a range has no end of values.
        """
        choices = [_steps(name, each) for name, each in self.space.items()]
        return [dict(zip(self.space, each, strict=True)) for each in itertools.product(*choices)]


def known_sweeps() -> list[str]:
    """The sweeps that come with the code."""
    return sorted(path.stem for path in (shipped("configs") / "sweep").glob("*.yaml"))


def read_sweep(name: str) -> Sweep:
    """A sweep by name (`lr`) or by the path of a W&B sweep file.

    Raises:
        ValueError: no such file, a key or value that is not W&B's or cannot be followed without a
            server, a command that is not `fmbench fit`, or a metric not of validation.
    """
    path = Path(name)
    if not path.is_file():
        path = shipped("configs") / "sweep" / f"{name.removesuffix('.yaml')}.yaml"
    if not path.is_file():
        known = known_sweeps()
        raise ValueError(
            f"no sweep {name!r}{nearest(name, known)}\nSweeps: {', '.join(known)}; or the path of a"
            " W&B sweep file"
        )
    return validated(Sweep, read_yaml(path), path.name).model_copy(update={"name": path.stem})


def extremes(distribution: Distribution) -> list[Any]:
    """Every choice, or the extremes of a range."""
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    return [distribution.low, distribution.high]


def _steps(name: str, distribution: Distribution) -> list[Any]:
    """Every value that a grid takes.

    Raises:
        ValueError: it has no end of them.
    """
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    if isinstance(distribution, IntDistribution):
        return list(range(distribution.low, distribution.high + 1))
    if distribution.step is None:
        raise ValueError(f"parameters.{name}: a grid needs values; a range has no end of them")
    count = round((distribution.high - distribution.low) / distribution.step)
    return [distribution.low + k * distribution.step for k in range(count + 1)]

"""W&B's sweep files: https://docs.wandb.ai/models/sweeps/sweep-config-keys."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from fmbench.config.profiles import shipped
from fmbench.errors import nearest
from fmbench.files.yaml_json import read_yaml

Distribution = CategoricalDistribution | FloatDistribution | IntDistribution
METHODS = ("grid", "random", "bayes")
Goal = Literal["maximize", "minimize"]
GOALS = get_args(Goal)
LABELS = {  # keys of W&B's that say nothing of what is to be tried
    "name", "description", "project", "entity", "program", "controller", "apiVersion", "kind",
}  # fmt: skip
KEYS = {*LABELS, "method", "metric", "parameters", "command", "run_cap"}
MACROS = ("${env}", "${interpreter}")
SHAPES = (
    "value, values, min and max, or a distribution: uniform, int_uniform, q_uniform,"
    " log_uniform_values"
)


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """What a file asks for.

    Attributes:
        name: the file's stem.
        method: grid, random, bayes.
        metric: what to look at, on validation recordings: `val/…`.
        goal: maximize, minimize.
        fixed: flags that every trial has: the command's, and parameters of a single value.
        space: the other parameters, by dotted name of a `fit` option.
        run_cap: how many trials at most; None if the file does not say.
    """

    name: str
    method: str
    metric: str
    goal: Goal
    fixed: tuple[str, ...]
    space: Mapping[str, Distribution]
    run_cap: int | None

    def combinations(self) -> list[dict[str, Any]]:
        """Of a grid, every one, the last parameter changing fastest."""
        choices = [_steps(each) for each in self.space.values()]
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
    where, content = path.name, read_yaml(path)
    if not isinstance(content, Mapping):
        raise ValueError(f"{where} holds {content!r}; it must be a mapping")
    if "early_terminate" in content:
        raise ValueError(f"{where}: early_terminate needs W&B's server; take it out to run here")
    for key in content:
        if key not in KEYS:
            raise ValueError(f"{where}: there is no key {key!r}{nearest(str(key), sorted(KEYS))}")
    if content.get("method") not in METHODS:
        raise ValueError(
            f"{where}: method is {content.get('method')!r}; known: {', '.join(METHODS)}"
        )
    metric = content.get("metric") or {}
    if not isinstance(metric, Mapping) or not str(metric.get("name", "")).startswith("val/"):
        raise ValueError(
            f"{where}: metric.name must be one of validation, such as val/acc; test data choose"
            " nothing"
        )
    if metric.get("goal", "minimize") not in GOALS:
        raise ValueError(f"{where}: metric.goal is {metric['goal']!r}; known: {', '.join(GOALS)}")
    cap = content.get("run_cap")
    if cap is not None and (not isinstance(cap, int) or cap < 1):
        raise ValueError(f"{where}: run_cap is {cap!r}; it must be a whole number, at least 1")
    parameters = content.get("parameters")
    if not isinstance(parameters, Mapping) or not parameters:
        raise ValueError(f"{where}: parameters is missing")
    fixed = _command(content, where)
    space: dict[str, Distribution] = {}
    for key, entry in parameters.items():
        here = f"{where}: parameters.{key}"
        if not isinstance(entry, Mapping) or "parameters" in entry:
            raise ValueError(f"{here}: give it {SHAPES}; nested names are written with dots")
        if "value" in entry:
            fixed.append(f"--{key}={entry['value']}")
        else:
            space[str(key)] = _distribution(entry, here)
            if content["method"] == "grid":
                _steps(space[str(key)], here)
    if not space:
        raise ValueError(f"{where}: every parameter has one value; give one {SHAPES}")
    return Sweep(
        name=path.stem,
        method=str(content["method"]),
        metric=str(metric["name"]),
        goal=cast(Goal, metric.get("goal", "minimize")),
        fixed=tuple(fixed),
        space=space,
        run_cap=cap,
    )


def ends(distribution: Distribution) -> list[Any]:
    """Every choice, or the ends of a range."""
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    return [distribution.low, distribution.high]


def _steps(distribution: Distribution, here: str = "") -> list[Any]:
    """Every value that a grid takes.

    Raises:
        ValueError: it has no end of them.
    """
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    if isinstance(distribution, IntDistribution):
        return list(range(distribution.low, distribution.high + 1))
    if distribution.step is None:
        raise ValueError(f"{here}: a grid needs values; a range has no end of them")
    count = round((distribution.high - distribution.low) / distribution.step)
    return [distribution.low + k * distribution.step for k in range(count + 1)]


def _command(content: Mapping[str, Any], where: str) -> list[str]:
    """The flags in the file's command, which must be `fmbench fit`: nothing else is run because a
    file says so.

    Raises:
        ValueError: it is something else.
    """
    command = content.get("command") or ["${program}", "${args}"]
    if not isinstance(command, list):
        raise ValueError(f"{where}: command is {command!r}; it must be a list")
    program = str(content.get("program", ""))
    words = [program if word == "${program}" else str(word) for word in command]
    words = [word for word in words if word not in MACROS]
    if words[:2] != ["fmbench", "fit"] or "${args}" not in words:
        raise ValueError(
            f"{where}: the command is {' '.join(words)!r}; here only a fit can be run:"
            " [${env}, fmbench, fit, …, ${args}]"
        )
    return [word for word in words[2:] if word != "${args}"]


def _distribution(entry: Mapping[str, Any], here: str) -> Distribution:
    """W&B's description of a parameter -> Optuna's.

    Raises:
        ValueError: it lacks something, or Optuna has none like it.
    """
    if "values" in entry and set(entry) <= {"values", "distribution"}:
        values = entry["values"]
        if not isinstance(values, list) or not values:
            raise ValueError(f"{here}: values is {values!r}; it must be a list")
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
            raise ValueError(f"{here}: {name} is {end!r}; give it {SHAPES}{hint}")
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
    except (ValueError, TypeError) as error:
        raise ValueError(f"{here}: {error}") from None
    raise ValueError(f"{here}: distribution {kind!r} cannot be followed here; give it {SHAPES}")

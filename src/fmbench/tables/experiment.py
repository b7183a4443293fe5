"""An experiment file -> its rows, each with the configurations that it trains.

A file under `experiments/` holds plain values only: title, metrics, seeds, settings of every row
and the rows, each with the paper's printed values beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, cast, get_args

from fmbench.config.profiles import find_config, shipped
from fmbench.config.resolve import config_of
from fmbench.config.schema import Config
from fmbench.errors import nearest
from fmbench.files.yaml_json import read_yaml
from fmbench.registry import find_model
from fmbench.types import Modality

METRICS = ("acc", "f1", "fdr", "mdr", "miou", "auroc", "aupr")
LENGTHS = ("frames", "stride", "current_samples")
Draw = Literal["rows", "lengths", "cases"]
FOLDER = "experiments"
REFERENCES = "references"
KEYS = (
    "title",
    "metrics",
    "config",
    "rows",
    "equal_parameters",
    "note",
    "references",
    "draw",
    "cases",
    "against",
    "counts",
)


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of a table.

    Attributes:
        label: what the table calls it; rows of different modalities may share one.
        modality: current, visual, cross; how it is printed where `shown` is not given.
        model: registered name; None where `join` is given.
        config: settings of `fit` for this row, over those of the experiment and the profile.
        test: LENGTHS with which the trained model is tested, where they differ from its training's.
        join: labels of two rows whose class logits are added, without training (eq. 12, Table IV).
        paper: the paper's printed values by metric.
        shown: what the table prints as the modality.
        reference: whether it is one of the honest rows that learn next to nothing.
    """

    label: str
    modality: str
    model: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    test: Mapping[str, int] = field(default_factory=dict)
    join: tuple[str, ...] = ()
    paper: Mapping[str, float] = field(default_factory=dict)
    shown: str | None = None
    reference: bool = False

    @property
    def input(self) -> str:
        """What a table prints as the modality."""
        return self.shown or self.modality

    @property
    def name(self) -> str:
        """`FmFormer (cross)`; no other row of the experiment has it."""
        return f"{self.label} ({self.input})"


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """What one table shows.

    Attributes:
        name: the file's stem.
        title: heading of the table.
        metrics: columns, of METRICS.
        rows: lines, in order; those of `references.yaml` last.
        equal_parameters: labels of rows that must have equally many parameters.
        note: a line below the table.
        draw: the picture: each row with its interval (rows), rates over the lengths that rows are
            tested with (lengths), or what each row marks in a few frames (cases).
        cases: of `draw: cases`, the recording and the frames by name of the disturbance; empty to
            have them chosen by the simulator's tags.
        against: name of the row that the others are compared with; none if empty.
        counts: of Table I, what the paper counts, by part of the data and class; then nothing is
            trained.
    """

    name: str
    title: str
    metrics: tuple[str, ...]
    rows: tuple[Row, ...]
    equal_parameters: tuple[str, ...] = ()
    note: str = ""
    draw: Draw = "rows"
    cases: Mapping[str, tuple[str, tuple[int, ...]]] = field(default_factory=dict)
    against: str = ""
    counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def trained(self) -> list[Row]:
        """The rows that a model stands behind."""
        return [row for row in self.rows if row.model]

    def joined_in(self, row: Row) -> list[Row]:
        """The trained rows that a row joins; itself if it joins none."""
        named = {each.label: each for each in self.trained()}
        return [named[label] for label in row.join] or [row]


def known_experiments() -> list[str]:
    """Names of the tables that can be made."""
    return sorted(path.stem for path in shipped(FOLDER).glob("*.yaml") if path.stem != REFERENCES)


def read_experiment(name: str) -> Experiment:
    """An experiment by name (`table2`) or by the path of a file.

    Raises:
        ValueError: no such experiment, an unknown key, a value that is not allowed, or a row whose
            model does not read its modality.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else shipped(FOLDER) / f"{name}.yaml"
    if not path.is_file():
        known = known_experiments()
        raise ValueError(
            f"no experiment {name!r}{nearest(name, known)}\nExperiments: {', '.join(known)};"
            " or the path of a YAML file"
        )
    where = path.name
    content = _mapping(read_yaml(path), where)
    _only(content, KEYS, where)
    for needed in ("title", *(() if "counts" in content else ("rows",))):
        if not content.get(needed):
            raise ValueError(f"{where}: {needed} is missing")
    if "counts" in content:
        return _count(content, path.stem, where)
    shared = _mapping(content.get("config", {}), f"{where}: config")
    rows = [_row(entry, k, where, shared) for k, entry in enumerate(_list(content, "rows", where))]
    if content.get("references", True):
        file = shipped(FOLDER) / f"{REFERENCES}.yaml"
        listed = _list(_mapping(read_yaml(file), file.name), "rows", file.name)
        rows += [
            replace(_row(entry, k, file.name, shared), reference=True)
            for k, entry in enumerate(listed)
        ]
    metrics = tuple(map(str, _list(content, "metrics", where) or METRICS))
    for metric in metrics:
        _one_of(metric, METRICS, f"{where}: metrics")
    experiment = Experiment(
        name=path.stem,
        title=str(content["title"]),
        metrics=metrics,
        rows=tuple(rows),
        equal_parameters=tuple(map(str, _list(content, "equal_parameters", where))),
        note=str(content.get("note", "")),
        draw=cast(Draw, _one_of(content.get("draw", "rows"), get_args(Draw), f"{where}: draw")),
        cases=_cases(content.get("cases", {}), where),
        against=str(content.get("against", "")),
    )
    _check_labels(experiment, where)
    return experiment


def config_for(
    row: Row, *, profile: str, seed: int, changes: Mapping[str, Any] | None = None
) -> Config:
    """The resolved training of a row: defaults, then profile, experiment, row, `changes`.

    Raises:
        ValueError: an unknown option, or a value that it does not take.
    """
    chosen = {"model": row.model, "modality": row.modality, "seed": seed}
    layers = [
        (profile, read_yaml(find_config(profile))),
        (f"row {row.name!r}", dict(row.config)),
        ("the command line", dict(changes or {})),
        ("the row's model, modality and seed", chosen),
    ]
    return config_of(layers)


def _row(entry: Any, position: int, where: str, shared: Mapping[str, Any]) -> Row:
    here = f"{where}: row {position + 1}"
    content = _mapping(entry, here)
    if content.get("label"):
        here = f"{where}: row {content['label']!r}"
    _only(content, [each.name for each in fields(Row) if each.name != "reference"], here)
    for needed in ("label", "modality"):
        if not content.get(needed):
            raise ValueError(f"{here}: {needed} is missing")
    if bool(content.get("model")) == bool(content.get("join")):
        raise ValueError(f"{here}: give it either a model or two rows to join")
    modality = _one_of(str(content["modality"]), [*Modality], f"{here}: modality")
    if content.get("model"):
        try:
            find_model(str(content["model"]), modality)
        except ValueError as error:
            raise ValueError(f"{here}: {error}") from None
    paper = _mapping(content.get("paper", {}), f"{here}: paper")
    for metric, value in paper.items():
        _one_of(metric, METRICS, f"{here}: paper")
        if not isinstance(value, int | float):
            raise ValueError(f"{here}: paper.{metric} is {value!r}; it must be a number")
    config = _merged(shared, _mapping(content.get("config", {}), f"{here}: config"))
    for fixed in ("model", "modality", "seed"):
        if fixed in config:
            raise ValueError(f"{here}: config may not set {fixed}; it has its own place")
    test = _mapping(content.get("test", {}), f"{here}: test")
    for name, value in test.items():
        _one_of(name, LENGTHS, f"{here}: test")
        _whole(value, f"{here}: test.{name}")
    return Row(
        **{
            **content,
            "label": str(content["label"]),
            "config": config,
            "test": test,
            "paper": paper,
            "join": tuple(map(str, _list(content, "join", here))),
        }
    )


def _cases(value: Any, where: str) -> dict[str, tuple[str, tuple[int, ...]]]:
    found = {}
    for name, entry in _mapping(value, f"{where}: cases").items():
        here = f"{where}: cases.{name}"
        content = _mapping(entry, here)
        _only(content, ("recording", "frames"), here)
        frames = _list(content, "frames", here)
        if not content.get("recording") or not frames:
            raise ValueError(f"{here}: give it a recording and a list of frames")
        numbers = tuple(_whole(frame, f"{here}: frames", least=0) for frame in frames)
        found[name] = (str(content["recording"]), numbers)
    return found


def _count(content: Mapping[str, Any], name: str, where: str) -> Experiment:
    """Table I: what the paper counts."""
    _only(content, ("title", "note", "counts"), where)
    counts = {
        part: {
            kind: _whole(value, f"{where}: counts.{part}.{kind}")
            for kind, value in _mapping(of_part, f"{where}: counts.{part}").items()
        }
        for part, of_part in _mapping(content["counts"], f"{where}: counts").items()
    }
    title, note = str(content["title"]), str(content.get("note", ""))
    return Experiment(name=name, title=title, metrics=(), rows=(), note=note, counts=counts)


def _check_labels(experiment: Experiment, where: str) -> None:
    names = [row.name for row in experiment.rows]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{where}: two rows are {name}; label or modality must differ")
    if experiment.against:
        _one_of(experiment.against, names, f"{where}: against")
    trained = [row.label for row in experiment.trained()]
    for label in {*experiment.equal_parameters, *(x for row in experiment.rows for x in row.join)}:
        if trained.count(label) > 1:
            raise ValueError(f"{where}: {label!r} is meant, and two rows are labelled so")
    for row in experiment.rows:
        for label in row.join:
            _one_of(label, trained, f"{where}: row {row.label!r}: join")
        if row.join and len(row.join) != 2:
            raise ValueError(f"{where}: row {row.label!r} joins {len(row.join)} rows; it takes two")
    for label in experiment.equal_parameters:
        _one_of(label, trained, f"{where}: equal_parameters")


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{where} is {value!r}; it must be a mapping")
    return {str(key): item for key, item in value.items()}


def _whole(value: Any, where: str, least: int = 1) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{where} is {value!r}; it must be a whole number, at least {least}")
    return value


def _list(content: Mapping[str, Any], key: str, where: str) -> list[Any]:
    value = content.get(key) or []
    if not isinstance(value, list):
        raise ValueError(f"{where}: {key} is {value!r}; it must be a list")
    return value


def _only(content: Mapping[str, Any], allowed: Sequence[str], where: str) -> None:
    for key in content:
        _one_of(key, allowed, where, "there is no key ")


def _one_of(value: str, allowed: Sequence[str], where: str, what: str = "there is no ") -> str:
    if value not in allowed:
        known = [str(each) for each in allowed]
        raise ValueError(
            f"{where}: {what}{value!r}{nearest(value, known)}. Known: {', '.join(known)}"
        )
    return value


def _merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Both trees of settings; where they meet, `over` wins."""
    both = {**under, **over}
    for key in under.keys() & over.keys():
        if isinstance(under[key], Mapping) and isinstance(over[key], Mapping):
            both[key] = _merged(under[key], over[key])
    return both

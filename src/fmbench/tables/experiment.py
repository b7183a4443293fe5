"""An experiment file -> its rows, each with the configurations that it trains.

A file under `experiments/` holds plain values only: title, metrics, seeds, settings of every row
and the rows, each with the paper's printed values beside it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, Field

from fmbench.config.profiles import find_config, shipped
from fmbench.config.resolve import config_of
from fmbench.config.schema import Config
from fmbench.errors import nearest
from fmbench.files.validated import Content, Listed, Text, known, one_of, validated
from fmbench.files.yaml_json import read_yaml
from fmbench.metrics import names_of_rates
from fmbench.registry import find_model
from fmbench.types import Modality

METRICS = ("acc", "f1", "fdr", "mdr", "miou", "auroc", "aupr")
OF_CLASSES = ("recall_", "precision_")
"""Before a class's name: further metrics of data with more than two classes, beside macro_f1."""
LENGTHS = ("frames", "stride", "current_samples")
Draw = Literal["rows", "lengths", "cases", "windows", "grid"]
FOLDER = "experiments"
REFERENCES = "references"


def _settings(value: Mapping[str, Any]) -> Mapping[str, Any]:
    for fixed in ("model", "modality", "seed"):
        if fixed in value:
            raise ValueError(f"config may not set {fixed}; it has its own place")
    return value


def _metric(value: object, what: str = "there is no ") -> object:
    """A name of METRICS, or one that only data of more than two classes have (`check_metrics`)."""
    if isinstance(value, str) and (value == "macro_f1" or value.startswith(OF_CLASSES)):
        return value
    return known(value, METRICS, what)


MetricName = Annotated[str, BeforeValidator(lambda value: _metric(value))]
Settings = Annotated[Mapping[str, Any], AfterValidator(_settings)]
Whole = Annotated[int, Field(ge=1)]


class Row(Content):
    """A line of a table.

    Attributes:
        label: what the table calls it; rows of different modalities may share one.
        modality: current, visual, cross; how it is printed where `shown` is not given.
        model: registered name; None where `join` is given.
        config: settings of `fit` for this row, over those of the experiment and the profile.
        test: LENGTHS with which the trained model is tested, where they differ from its training's.
        join: labels of two rows whose class logits are added, without training (eq. 12, Table IV);
            the mask is the first one's.
        paper: the paper's printed values by metric.
        shown: what the table prints as the modality.
        reference: whether it is one of the honest rows that learn next to nothing.
    """

    label: Annotated[Text, Field(min_length=1)]
    modality: Annotated[str, one_of([*Modality])]
    model: Text | None = None
    config: Settings = Field(default_factory=dict)
    test: Mapping[Annotated[str, one_of(LENGTHS)], Whole] = {}
    join: Listed[Text] = ()
    paper: Mapping[MetricName, float] = {}
    shown: Text | None = None
    reference: bool = False

    @property
    def input(self) -> str:
        """What a table prints as the modality."""
        return self.shown or self.modality

    @property
    def name(self) -> str:
        """`FmFormer (cross)`; no other row of the experiment has it."""
        return f"{self.label} ({self.input})"


class CaseFrames(Content):
    """Frames of a recording."""

    recording: Text
    frames: Listed[Annotated[int, Field(ge=0)]] = Field(min_length=1)


class Axis(Content):
    """One direction of a grid of simulated furnaces.

    Attributes:
        title: of the axis.
        cells: knobs of the simulator by name of the cell.
    """

    title: Text
    cells: Mapping[Text, Mapping[Text, Any]] = Field(min_length=1)


class Grid(Content):
    """Simulated furnaces that differ in two ways; a cell has the knobs of its row and column."""

    rows: Axis
    columns: Axis


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A cell of a grid.

    Attributes:
        name: `row, column`.
        root: folder of its data set.
        knobs: of the simulator.
    """

    name: str
    root: Path
    knobs: Mapping[str, Any]

    def named(self, row: str) -> str:
        """The name that a row of the file has in this cell: `FmFormer, weak, clear (cross)`."""
        label, _, shown = row.rpartition(" (")
        return f"{self.label(label)} ({shown}"

    def label(self, label: str) -> str:
        """The label that a row of the file has in this cell."""
        return f"{label}, {self.name}"


class ExperimentFile(Content):
    """A file under `experiments/`.

    Attributes:
        title: heading of the table.
        metrics: columns, of METRICS; of data with more than two classes also macro_f1, and
            recall_NAME and precision_NAME of a class.
        config: settings of `fit` for every row.
        rows: lines, in order; those of `references.yaml` last.
        equal_parameters: labels of rows that must have equally many parameters.
        note: a line below the table.
        references: whether the rows of `references.yaml` follow.
        draw: the picture: each row with its interval (rows), rates over the lengths that rows are
            tested with (lengths), what each row marks in a few frames (cases), the first metric
            over the training windows of each model and modality (windows), or the `gains` over
            the `grid` (grid).
        cases: of `draw: cases`, the recording and the frames by name of the disturbance; empty to
            have them chosen by the simulator's tags.
        against: name of the row that the others are compared with; none if empty.
        grid: simulated furnaces; the rows are made for each of its cells.
        gains: of `draw: grid`, by title two names of rows: the accuracy of the first less that of
            the second.
        counts: of Table I, what the paper counts, by part of the data and class; then nothing is
            trained.
    """

    title: Annotated[Text, Field(min_length=1)]
    metrics: Listed[MetricName] = ()
    config: Settings = Field(default_factory=dict)
    rows: Listed[Row] = ()
    equal_parameters: Listed[Text] = ()
    note: Text = ""
    references: bool = True
    draw: Annotated[Draw, one_of(get_args(Draw))] = "rows"
    cases: Mapping[str, CaseFrames] = {}
    against: Text = ""
    grid: Grid | None = None
    gains: Mapping[Text, Annotated[Listed[Text], Field(min_length=2, max_length=2)]] = {}
    counts: Mapping[str, Mapping[str, Whole]] = {}


class Experiment(ExperimentFile):
    """What one table shows; `name` is the file's stem."""

    name: str

    def cells_by_row(self) -> list[list[Cell]]:
        """The cells of the grid, a list a row; none without a grid."""
        if self.grid is None:
            return []
        return [
            [
                Cell(
                    name=f"{row}, {column}",
                    root=Path("data") / self.name / f"{_slug(row)}-{_slug(column)}",
                    knobs={**of_row, **of_column},
                )
                for column, of_column in self.grid.columns.cells.items()
            ]
            for row, of_row in self.grid.rows.cells.items()
        ]

    def cells(self) -> list[Cell]:
        """The cells of the grid, row by row."""
        return [cell for row in self.cells_by_row() for cell in row]

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


def read_experiment(name: str, metrics: Sequence[str] | None = None) -> Experiment:
    """An experiment by name (`table2`) or by the path of a file.

    Args:
        name: of a shipped experiment, or a path.
        metrics: columns, of METRICS, instead of the file's.

    Raises:
        ValueError: no such experiment, an unknown key, a value that is not allowed, or a row whose
            model does not read its modality.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else shipped(FOLDER) / f"{name}.yaml"
    if not path.is_file():
        names = known_experiments()
        raise ValueError(
            f"no experiment {name!r}{nearest(name, names)}\nExperiments: {', '.join(names)};"
            " or the path of a YAML file"
        )
    file = validated(ExperimentFile, read_yaml(path), path.name)
    rows = [*file.rows]
    if file.references and not file.counts:
        shared = shipped(FOLDER) / f"{REFERENCES}.yaml"
        rows += validated(ExperimentFile, read_yaml(shared), shared.name).rows
    for metric in metrics or ():
        _metric(metric, "metrics: there is no ")
    merged = [row.model_copy(update={"config": _merged(file.config, row.config)}) for row in rows]
    changes = {"name": path.stem, "metrics": metrics or file.metrics or METRICS, "rows": merged}
    experiment = Experiment(**dict(file) | changes)
    if cells := experiment.cells():
        rows = [_in_cell(row, cell) for cell in cells for row in merged]
        experiment = experiment.model_copy(update={"rows": tuple(rows)})
    try:
        if file.counts:
            for key in sorted(file.model_fields_set):
                known(key, ("title", "note", "counts"), "beside counts there is no key ")
        elif not file.rows:
            raise ValueError("rows is missing")
        _check_rows(experiment)
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from None
    return experiment


def check_metrics(experiment: Experiment, classes: Sequence[str]) -> None:
    """Raises: ValueError: a column that data with these classes do not have; names the nearest."""
    of_classes = names_of_rates(classes) if len(classes) > 2 else []
    for metric in experiment.metrics:
        known(metric, [*METRICS, *of_classes], f"{experiment.name}: metrics: there is no ")


def config_for(
    row: Row,
    *,
    profile: str,
    seed: int,
    tuned: Mapping[str, Any] | None = None,
    changes: Mapping[str, Any] | None = None,
) -> Config:
    """The resolved training of a row: defaults, then profile, `tuned`, experiment, row, `changes`.

    Raises:
        ValueError: an unknown option, or a value that it does not take.
    """
    chosen = {"model": row.model, "modality": row.modality, "seed": seed}
    layers = [
        (profile, read_yaml(find_config(profile))),
        ("the tuned rates", dict(tuned or {})),
        (f"row {row.name!r}", dict(row.config)),
        ("the command line", dict(changes or {})),
        ("the row's model, modality and seed", chosen),
    ]
    return config_of(layers)


def _check_rows(experiment: Experiment) -> None:
    """Every row is trained or joined, and every label or name that is referred to means one row.

    Raises:
        ValueError: names the row, or the key.
    """
    names = [row.name for row in experiment.rows]
    trained = [row.label for row in experiment.trained()]
    for row in experiment.rows:
        here = f"row {row.label!r}"
        if names.count(row.name) > 1:
            raise ValueError(f"two rows are {row.name}; label or modality must differ")
        if bool(row.model) == bool(row.join):
            raise ValueError(f"{here}: give it either a model or two rows to join")
        if row.join and len(row.join) != 2:
            raise ValueError(f"{here} joins {len(row.join)} rows; it takes two")
        if row.model:
            try:
                find_model(row.model, row.modality)
            except ValueError as error:
                raise ValueError(f"{here}: {error}") from None
        for label in row.join:
            _one_row(label, trained, f"{here}: join: ")
    for label in experiment.equal_parameters:
        _one_row(label, trained, "equal_parameters: ")
    if experiment.draw == "grid" and not (experiment.grid and experiment.gains):
        raise ValueError("draw: grid needs grid and gains")
    for pair in experiment.gains.values():
        for name in pair:
            for cell in experiment.cells():
                known(cell.named(name), names, "gains: there is no ")
    if experiment.against:
        known(experiment.against, names, "against: there is no ")


def _one_row(label: str, trained: list[str], where: str) -> None:
    known(label, trained, f"{where}there is no ")
    if trained.count(label) > 1:
        raise ValueError(f"{where}{label!r} is meant, and two rows are labelled so")


def _in_cell(row: Row, cell: Cell) -> Row:
    """A row on the data set of a cell."""
    over = {"data": {"root": str(cell.root)}}
    return row.model_copy(
        update={
            "label": cell.label(row.label),
            "join": tuple(cell.label(label) for label in row.join),
            "config": _merged(row.config, over) if row.model else row.config,
        }
    )


def _slug(text: str) -> str:
    """A name for a folder."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Both trees of settings; where they meet, `over` wins."""
    both = {**under, **over}
    for key in under.keys() & over.keys():
        if isinstance(under[key], Mapping) and isinstance(over[key], Mapping):
            both[key] = _merged(under[key], over[key])
    return both

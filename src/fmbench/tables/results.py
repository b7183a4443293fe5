"""The result of a trained and tested row: its key and its file.

A result holds configuration, provenance and the prediction for every test window; tables, new
metrics and intervals need neither the model nor the data.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fmbench.config.defaults import contradictions, differing
from fmbench.config.schema import Config
from fmbench.data import FurnaceData
from fmbench.data.windows import IN_SECONDS
from fmbench.files.atomic import write_text
from fmbench.files.yaml_json import read_json
from fmbench.metrics import Counts
from fmbench.simulator import read_tags
from fmbench.tables.experiment import LENGTHS
from fmbench.training.logs import curve
from fmbench.training.provenance import code_of
from fmbench.types import BENCHMARK

PIXELS = tuple(f"pixel_{name}" for name in Counts._fields)


@dataclass(frozen=True, kw_only=True)
class Result:
    """The outcome of a run.

    Attributes:
        key: hash of what was set, and of the data (`key_of`).
        facts: metrics, config, parameters, data, versions and so on, as JSON values.
        windows: a row a test window: recording, frame, time, label, decision, log_odds and
            since_onset (seconds since the abnormal stretch began, NaN in a normal one); PIXELS if
            there are masks; tags (bits of `fmbench.simulator.Tag`) if the data are simulated.
    """

    key: str
    facts: Mapping[str, Any]
    windows: pd.DataFrame


@dataclass(frozen=True, kw_only=True)
class Job:
    """A training and its test.

    Attributes:
        label: the row's name and the seed, for messages.
        config: resolved configuration of the training.
        fingerprint: hash of the data.
        test: data options of the test that differ from the training's.
    """

    label: str
    config: Config
    fingerprint: str
    test: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Key of the result."""
        return key_of(self.config, self.fingerprint, self.test)

    @property
    def stem(self) -> str:
        """File name of the result, without its ending."""
        return stem_of(self.config, self.key)

    def run(self, code: Mapping[str, str | None]) -> str:
        """Folder name of the run with this code (`code_of`; empty if unknown); jobs that differ in
        the test alone share it."""
        name = stem_of(self.config, key_of(self.config, self.fingerprint))
        return f"{name}-{syntax[:6]}" if (syntax := code.get("syntax")) else name

    def tested(self, run: Path) -> Path:
        """The folder of the test's files for a run in the folder `run`."""
        return run / "tests" / self.key[:10] if self.test else run


def key_of(config: Config, fingerprint: str, test: Mapping[str, Any] = MappingProxyType({})) -> str:
    """SHA-256 of what differs from the defaults, of the data's fingerprint and the test's options.

    `fmbench.config.defaults.differing` says which options of the training enter the key.
    """
    text = json.dumps([differing(config), fingerprint, dict(test)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def stem_of(config: Config, key: str) -> str:
    """Name of a run or result: `fmformer-cross-0-1a2b3c4d5e`."""
    return f"{config.model}-{config.modality}-{config.seed}-{key[:10]}"


def gather(job: Job, run: Path, data: FurnaceData) -> Result:
    """Collect the result of a fitted and tested run.

    Args:
        job: the run's job.
        run: the run's folder.
        data: the test data.

    Raises:
        ValueError: a file of the run is missing or damaged, or was made with other data.
    """
    tested = job.tested(run)
    measured, val = read_json(tested / "test.json"), read_json(run / "val.json")
    if measured["data_fingerprint"] != data.fingerprint():
        where = tested / "test.json"
        raise ValueError(f"{where} was measured on other data; test again or delete it")
    if changed := contradictions(val["config"], job.config):
        raise ValueError(f"{run} was trained with other defaults ({changed[0]}); delete it")
    windows = pd.read_csv(tested / "test-predictions.csv").drop(columns="score")
    facts = {
        "config": asdict(job.config),
        **({"test": dict(job.test)} if job.test else {}),
        "metrics": measured["metrics"],
        "parameters": measured["parameters"],
        "data": measured["data"],
        "synthetic": measured["synthetic"],
        "data_fingerprint": measured["data_fingerprint"],
        **{name: val[name] for name in ("fit_seconds", "epochs", "steps")},
        **{name: val[name] for name in ("code", "precision") if name in val},
        **_window(job, data),
        "curve": curve(run, job.config.select),
        "git_commit": measured["git_commit"],
        "versions": measured["versions"],
    }
    return Result(key=job.key, facts=facts, windows=with_truth(windows, data))


def _window(job: Job, data: FurnaceData) -> dict[str, Any]:
    """The window of the test data, where the options and the benchmark's rates do not say it."""
    spec, options = data.spec, {**job.config.data, **job.test}
    in_seconds = any(options.get(name) is not None for name in IN_SECONDS)
    if spec.plant == BENCHMARK and not in_seconds:
        return {}
    lengths = {name: getattr(spec, name) for name in LENGTHS}
    rates = {name: getattr(spec.plant, name) for name in ("frame_rate", "current_rate")}
    return {"window": lengths | rates}


def code_changed(facts: Mapping[str, Any]) -> bool | None:
    """Whether the module of a result's model is not today's (`code_of`); None if unknown."""
    was = facts.get("code", {}).get("syntax")
    now = code_of(facts["config"]["model"])["syntax"] if was else None
    return None if now is None else was != now


def with_truth(windows: pd.DataFrame, data: FurnaceData) -> pd.DataFrame:
    """Windows with the columns `since_onset` and, for simulated recordings, `tags`."""
    since = np.full(len(windows), np.nan)
    tags = np.zeros(len(windows), np.int64)
    tagged = True
    named = {recording.name: recording for recording in data.opened.recordings}
    for name, rows in windows.groupby("recording", sort=False).indices.items():
        recording = named[str(name)]
        frame = windows["frame"].to_numpy()[rows]
        labels = recording.labels(np.arange(recording.num_frames))
        onset = onsets(labels)[frame]
        seconds = recording.seconds
        since[rows] = np.where(onset >= 0, seconds[frame] - seconds[onset], np.nan)
        found = read_tags(data.opened.folder, recording.name)
        tagged = tagged and found is not None
        if found is not None:
            tags[rows] = found[frame]
    out = windows.assign(since_onset=since)
    return out.assign(tags=tags) if tagged else out


def onsets(labels: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(N,) labels of consecutive frames -> (N,) first frame of the abnormal stretch of each, -1 for
    normal frames."""
    begins = labels & ~np.concatenate([[False], labels[:-1]])
    first = np.maximum.accumulate(np.where(begins, np.arange(len(labels)), -1))
    return np.where(labels, first, -1)


def write_result(result: Result, path: Path) -> None:
    """Write a result as JSON with a checksum, atomically."""
    columns = {name: result.windows[name].map(_short).tolist() for name in result.windows.columns}
    names = list(dict.fromkeys(columns.pop("recording")))
    place = {name: k for k, name in enumerate(names)}
    columns["recording"] = result.windows["recording"].map(place).tolist()
    content = {"key": result.key, **result.facts, "recordings": names, "windows": columns}
    content = {"sha256": _digest(content), **content}
    write_text(path, json.dumps(content) + "\n")


def read_result(path: Path) -> Result:
    """Read what `write_result` wrote.

    Raises:
        ValueError: the file is truncated, changed, or not a result.
    """
    content = read_json(path)
    if not isinstance(content, dict) or "sha256" not in content:
        raise ValueError(f"{path} is not a result of `fmbench table`")
    stated = content.pop("sha256")
    if _digest(content) != stated:
        raise ValueError(f"{path} is damaged: its content does not match its checksum")
    columns, names = content.pop("windows"), content.pop("recordings")
    recording = [names[k] for k in columns.pop("recording")]
    windows = pd.DataFrame({"recording": recording, **columns})
    windows["since_onset"] = windows["since_onset"].astype(float)
    return Result(key=content.pop("key"), facts=content, windows=windows)


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _short(value: Any) -> Any:
    """A cell for JSON: floats with six significant digits, None for NaN."""
    if isinstance(value, float):
        return None if np.isnan(value) else float(f"{value:.6g}")
    return value

"""The logs of a run: `log/version_N/metrics.csv`, and Weights & Biases where it is configured."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from lightning.pytorch.loggers import CSVLogger, Logger

from fmbench.config.dotted import flat
from fmbench.config.schema import Config
from fmbench.training.wandb_logger import open_wandb


def open_loggers(config: Config, run: Path) -> list[Logger]:
    """The loggers that `config` names, writing below the folder `run`."""
    loggers: list[Logger] = [CSVLogger(run, name="log")]
    if config.logger == "wandb":
        loggers.append(open_wandb(run, flat(config.to_plain())))  # a sweep uses dotted names
    return loggers


def curve(run: Path, metric: str) -> list[float]:
    """The logged values of a metric in the order of epochs, over all parts of a resumed run.

    An epoch without the metric is left out; one that a resumed run repeats has its latest value.
    """
    logs = sorted(run.glob("log/version_*/metrics.csv"), key=lambda path: int(path.parent.name[8:]))
    values: dict[int, float] = {}
    for path in logs:
        table = pd.read_csv(path)
        if metric in table:
            logged = table.dropna(subset=[metric])
            epochs = logged["epoch"].astype(int)
            values |= dict(zip(epochs, logged[metric].astype(float), strict=True))
    return [values[epoch] for epoch in sorted(values)]

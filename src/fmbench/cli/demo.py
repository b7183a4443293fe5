"""`fmbench demo`: simulate, train, test and draw in one command."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pandas as pd

from fmbench.cli.data import write
from fmbench.cli.train import train
from fmbench.config.hints import Folder
from fmbench.config.profiles import find_config
from fmbench.config.resolve import config_of
from fmbench.files.yaml_json import read_yaml
from fmbench.tabular import SIMULATED
from fmbench.training.measure import measure
from fmbench.training.predict import predict

RATES = {"acc": "Acc", "f1": "F1", "fdr": "FDR", "mdr": "MDR", "miou": "mIoU"}


def demo(*, dir: Folder = Path("runs/demo"), config: str = "demo") -> int:
    """Simulate, train FmFormer, test on held-out recordings and draw, in minutes.

    Args:
        dir: where everything goes.
        config: how long to train: a YAML file or a profile.
    """
    root, run = dir / "data", dir / f"fit-{datetime.now():%Y%m%d-%H%M%S}"

    print("1 of 4: simulated recordings", flush=True)
    if not root.is_dir():
        write(root, preset="wide", seed=0, lazy=True)
    print("2 of 4: training FmFormer on video and current", flush=True)
    chosen = {"model": "fmformer", "modality": "cross", "data": {"root": str(root)}}
    layers = [(config, read_yaml(find_config(config))), ("demo", chosen)]
    best = train(config_of(layers), run)
    print("3 of 4: testing on recordings that it has not seen", flush=True)
    rates = measure(best)
    print("4 of 4: drawing one of them", flush=True)
    recording = _most_mixed(run / "test-predictions.csv")
    written = predict(best, recording, out=run / "predictions", every=25)

    print()
    print(f"{'metric':<8}{'test':>8}")
    for key, name in RATES.items():
        print(f"{name:<8}{rates[key]:>8.4f}")
    print(f"{SIMULATED} Minutes of training: not to be compared with the paper.")
    print()
    for path in written:
        print(path)
    print(
        f"""
next:
  fmbench models
  fmbench fit --model fmformer --modality visual
  fmbench predict {recording} --checkpoint {best} --movie
  fmbench data check {root}"""
    )
    return 0


def _most_mixed(predictions: Path) -> str:
    """The tested recording whose share of abnormal windows is nearest to a half."""
    share = pd.read_csv(predictions).groupby("recording")["label"].mean()
    return str((share - 0.5).abs().idxmin())

"""`fmbench demo`: from nothing to a measured detector and a picture of what it sees."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pandas as pd

from fmbench.cli.data import write
from fmbench.cli.train import train
from fmbench.config.parser import Parser
from fmbench.config.resolve import resolve
from fmbench.tabular import SIMULATED
from fmbench.training.measure import measure
from fmbench.training.predict import predict

RATES = {"acc": "Acc", "f1": "F1", "fdr": "FDR", "mdr": "MDR", "miou": "mIoU"}


def demo(argv: list[str]) -> int:
    """Simulate, train cross-modal FmFormer, test on held-out recordings, draw, say what next."""
    parser = Parser("demo", "Simulate, train, test and draw: the whole way in minutes.")
    parser.option("dir", str, "runs/demo", "where everything goes", metavar="DIR")
    parser.option("config", str, "demo", "how long to train: a YAML file or a profile")
    values, _ = parser.values(argv)
    folder = Path(values["dir"])
    root, fitted = folder / "data", folder / f"fit-{datetime.now():%Y%m%d-%H%M%S}"

    print("1 of 4: simulated recordings", flush=True)
    if not root.is_dir():
        write(root, preset="wide", seed=0, lazy=True)
    print("2 of 4: training FmFormer on video and current", flush=True)
    asked = ["--model", "fmformer", "--modality", "cross", "--config", values["config"]]
    best = train(resolve([*asked, "--data.root", str(root), "--run", str(fitted)]))
    print("3 of 4: testing on recordings that it has not seen", flush=True)
    rates = measure(best)
    print("4 of 4: drawing one of them", flush=True)
    recording = _most_mixed(fitted / "test-predictions.csv")
    written = predict(best, recording, out=fitted / "predictions", every=25)

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
  fmbench predict {recording} --checkpoint {best} --video
  fmbench data check {root}"""
    )
    return 0


def _most_mixed(predictions: Path) -> str:
    """The tested recording whose share of abnormal windows is nearest to a half."""
    share = pd.read_csv(predictions).groupby("recording")["label"].mean()
    return str((share - 0.5).abs().idxmin())

"""W&B sweep files, run without a server: what W&B would tell its agents, Optuna suggests here."""

from fmbench.sweep.file import Sweep, known_sweeps, read_sweep
from fmbench.sweep.summary import write_summary
from fmbench.sweep.trials import run_sweep

__all__ = ["Sweep", "known_sweeps", "read_sweep", "run_sweep", "write_summary"]

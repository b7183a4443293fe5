"""Rows -> results: what is not there yet is trained and tested, some rows at a time.

A row is two commands of its own, `fmbench fit` and `fmbench test`. One that was broken off goes on
from its last checkpoint.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fmbench.config.schema import Config
from fmbench.data import FurnaceData
from fmbench.files.atomic import write_text
from fmbench.jobs import BusyError, Crew, Failed
from fmbench.tables.results import Job, Result, gather, read_result, write_result

NOT_YET = "not trained yet"


@dataclass(frozen=True, kw_only=True)
class Extra:
    """A further file that is wanted of each run.

    Attributes:
        ending: of its name, behind the result's.
        make: from the best checkpoint to the file.
    """

    ending: str
    make: Callable[[Path, Path], None]


def run_all(
    jobs: Sequence[Job],
    *,
    data: Callable[[Config], FurnaceData],
    results: Path,
    runs: Path,
    at_once: int,
    say: Callable[[str], None],
    train: bool = True,
    extra: Extra | None = None,
    patience: float = 60,
) -> dict[str, Result | Failed]:
    """Results by key. Those in `results` are taken from there; the others are made.

    Args:
        jobs: what is wanted; of equal keys one.
        data: the data that a configuration names.
        results: folder of the result files.
        runs: folder of the runs.
        at_once: how many rows train at the same time.
        say: where progress goes, line by line.
        train: whether to make what has no result yet.
        extra: a file to be made beside each result.
        patience: seconds between two lines while nothing ends.

    Raises:
        ValueError: a result file is damaged.
        KeyboardInterrupt: Ctrl-C; every row under way has written its checkpoint.
    """
    found: dict[str, Result | Failed] = {}
    todo: dict[str, Job] = {}
    for job in jobs:
        path = results / f"{job.stem}.json"
        if path.is_file():
            found[job.key] = _known(path, job.key)
        if not path.is_file() or (extra and not (results / f"{job.stem}{extra.ending}").is_file()):
            todo.setdefault(job.key, job)
    if found:
        say(f"{len(found)} of {len({*found, *todo})} results are there ({results})")
    if not train:
        return {key: Failed(reason=NOT_YET) for key in todo} | found
    crew = Crew(at_once, say, patience=patience)
    reading = threading.Lock()  # one thread at a time opens recordings

    queue, put_off = _Queue(todo.values()), set[str]()

    def make(job: Job) -> Result | Failed | BusyError:
        """Fit, test and keep a row; whatever is wrong with it is its own."""
        run = runs / job.run
        try:
            with crew.alone(job.label, run, seconds=30 if job.key in put_off else 0) as lock:
                return _made(job, crew, lock, reading, data, results, run, extra)
        except BusyError as busy:
            return busy
        except (ValueError, OSError) as error:
            return Failed(reason=str(error))

    for job, outcome in crew.work(queue, make):
        if isinstance(outcome, BusyError):  # other rows first; later it may be done
            put_off.add(job.key)
            queue.append(job)
            continue
        found[job.key] = outcome
        crew.say(f"{job.label}: {_words(outcome)}")
    return found


class _Queue(deque[Job]):
    """Jobs that leave it as they are taken; it may be filled again."""

    def __iter__(self) -> Iterator[Job]:
        return self

    def __next__(self) -> Job:
        if not self:
            raise StopIteration
        return self.popleft()


def _made(
    job: Job,
    crew: Crew,
    lock: int,
    reading: threading.Lock,
    data: Callable[[Config], FurnaceData],
    results: Path,
    run: Path,
    extra: Extra | None,
) -> Result | Failed:
    path, best = results / f"{job.stem}.json", run / "checkpoints" / "best.ckpt"
    beside = results / f"{job.stem}{extra.ending}" if extra else None
    wanted = [each for each in (path, beside) if each and not each.is_file()]
    if wanted and not (run / "val.json").is_file():
        asked = run / "asked.yaml"
        write_text(asked, job.config.to_yaml())
        words = ["fit", "--config", str(asked), "--run", str(run), "--resume", "auto"]
        if failed := crew.command(job.label, words, run, lock):
            return failed
    if path in wanted:
        tested = job.tested(run)
        if not (tested / "test.json").is_file():
            words = ["test", "--checkpoint", str(best), "--out", str(tested)]
            words += [
                f"--trainer.{name}={job.config.trainer[name]}"
                for name in ("accelerator", "precision")
                if name in job.config.trainer
            ]
            words += [f"--data.{name}={value}" for name, value in job.test.items()]
            if failed := crew.command(job.label, words, run, lock):
                return failed
        with reading:
            write_result(gather(job, run, data(job.config)), path)
    if extra and beside in wanted:
        with reading:
            extra.make(best, beside)
    return _known(path, job.key)


def _known(path: Path, key: str) -> Result:
    try:
        result = read_result(path)
        if result.key != key:
            raise ValueError(
                f"{path} was made with another configuration or other data than its name says"
            )
    except ValueError as error:
        remedy = "restore it, or delete it to have the row trained again"
        raise ValueError(f"{error}; {remedy}") from None
    return result


def _words(outcome: Result | Failed) -> str:
    if isinstance(outcome, Failed):
        return f"FAILED: {outcome.reason}"
    metrics = outcome.facts["metrics"]
    names = ("acc", "f1", "fdr", "mdr", "miou")
    return "  ".join(f"{name} {metrics[name]:.4f}" for name in names if name in metrics)

"""Jobs -> results: train and test those without a stored result, several at a time.

A job runs `fmbench fit` and `fmbench test` in processes of their own. An interrupted training
resumes from its last checkpoint.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fmbench.config.defaults import contradictions
from fmbench.config.schema import Config
from fmbench.data import FurnaceData
from fmbench.files.atomic import write_text
from fmbench.jobs import BusyError, Failed, JobRunner
from fmbench.tables.results import Job, Result, code_changed, gather, read_result, write_result
from fmbench.training.provenance import code_of

NOT_YET = "not trained yet"


@dataclass(frozen=True, kw_only=True)
class Extra:
    """A further file to make from each run.

    Attributes:
        ending: end of the file name, after the result's stem.
        make: writes the file; takes the best checkpoint and the file's path.
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
    retrain: bool = False,
    extra: Extra | None = None,
    patience: float = 60,
) -> dict[str, Result | Failed]:
    """Read the results that are stored, make the others; returns outcomes by key.

    Args:
        jobs: jobs; one of several with the same key is run.
        data: opens the data of a configuration.
        results: folder of the result files.
        runs: folder of the runs.
        at_once: number of jobs that run at the same time.
        say: receives progress, line by line.
        train: train and test jobs without a result; if false, they are reported as failed.
        retrain: train jobs again whose result is of other code than today's.
        extra: a further file to make beside each result.
        patience: seconds between two progress lines while no job ends.

    Raises:
        ValueError: a result file is damaged.
        KeyboardInterrupt: Ctrl-C, after every running job has written its checkpoint.
    """
    found: dict[str, Result | Failed] = {}
    todo: dict[str, Job] = {}
    stale = set[str]()
    for job in jobs:
        path = results / f"{job.stem}.json"
        if path.is_file():
            found[job.key] = result = _known(path, job)
            if retrain and code_changed(result.facts):
                stale.add(job.key)
        lacks = extra and not (results / f"{job.stem}{extra.ending}").is_file()
        if lacks or job.key in stale or not path.is_file():
            todo.setdefault(job.key, job)
    if found:
        say(f"{len(found)} of {len({*found, *todo})} results are there ({results})")
    if stale:
        say(f"{len(stale)} of them are of other code and are made again")
    if not train:
        return {key: Failed(reason=NOT_YET) for key in todo} | found
    runner = JobRunner(at_once, say, patience=patience)
    reading = threading.Lock()  # recordings are opened by one thread at a time

    queue, put_off = _Queue(todo.values()), set[str]()

    def make(job: Job) -> Result | Failed | BusyError:
        """Fit and test a job and store its result; an error fails this job only."""
        path = results / f"{job.stem}.json"
        run = runs / job.run(_code(job, path, retrain))
        try:
            with runner.alone(job.label, run, seconds=30 if job.key in put_off else 0) as lock:
                return _made(job, runner, lock, reading, data, results, run, extra, retrain)
        except BusyError as busy:
            return busy
        except (ValueError, OSError) as error:
            return Failed(reason=str(error))

    for job, outcome in runner.work(queue, make):
        if isinstance(outcome, BusyError):  # another process runs it: try again later
            put_off.add(job.key)
            queue.append(job)
            continue
        found[job.key] = outcome
        runner.log(f"{job.label}: {_words(outcome)}")
    return found


class _Queue(deque[Job]):
    """An iterator that removes each job it yields; jobs may be appended while it runs."""

    def __iter__(self) -> Iterator[Job]:
        return self

    def __next__(self) -> Job:
        if not self:
            raise StopIteration
        return self.popleft()


def _made(
    job: Job,
    runner: JobRunner,
    lock: int,
    reading: threading.Lock,
    data: Callable[[Config], FurnaceData],
    results: Path,
    run: Path,
    extra: Extra | None,
    retrain: bool,
) -> Result | Failed:
    path, best = results / f"{job.stem}.json", run / "checkpoints" / "best.ckpt"
    beside = results / f"{job.stem}{extra.ending}" if extra else None
    wanted = [each for each in (path, beside) if each and not each.is_file()]
    if _is_stale(path, retrain):
        wanted.append(path)
    if wanted and not (run / "val.json").is_file():
        if path not in wanted and code_changed(read_result(path).facts):
            return Failed(reason=f"{run} is gone, and the code has changed since: --stale retrain")
        settings = run / "asked.yaml"
        write_text(settings, job.config.to_yaml())
        words = ["fit", "--config", str(settings), "--run", str(run), "--resume", "auto"]
        if failed := runner.command(job.label, words, run, lock):
            return failed
    if path in wanted:
        tested = job.tested(run)
        if not (tested / "test.json").is_file():
            words = ["test", "--checkpoint", str(best), "--out", str(tested)]
            if "accelerator" in job.config.trainer:
                words += [f"--trainer.accelerator={job.config.trainer['accelerator']}"]
            words += [f"--data.{name}={value}" for name, value in job.test.items()]
            if failed := runner.command(job.label, words, run, lock):
                return failed
        with reading:
            write_result(gather(job, run, data(job.config)), path)
        for made_from_it in results.glob(f"{job.stem}-*"):  # from the result that it replaces
            made_from_it.unlink()
    if extra and beside in wanted:
        with reading:
            extra.make(best, beside)
    return _known(path, job)


def _is_stale(path: Path, retrain: bool) -> bool:
    """Whether a result is there, of other code than today's, and to be made again."""
    return retrain and path.is_file() and bool(code_changed(read_result(path).facts))


def _code(job: Job, path: Path, retrain: bool) -> Mapping[str, str | None]:
    """The code of the result that is there and kept, else today's."""
    if not path.is_file() or _is_stale(path, retrain):
        return code_of(job.config.model)
    code: Mapping[str, str | None] = read_result(path).facts.get("code", {})
    return code


def _known(path: Path, job: Job) -> Result:
    try:
        result = read_result(path)
        if result.key != job.key:
            raise ValueError(
                f"{path} was made with another configuration or other data than its name states"
            )
        if changed := contradictions(result.facts["config"], job.config):
            raise ValueError(f"{path} was made with other defaults ({changed[0]})")
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

"""Commands that run in parallel: each locks its folder, and all are stopped on an error."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from fmbench.jobs import BusyError, Failed, JobRunner
from recordings import write_root


def test_a_task_is_taken_only_when_a_thread_is_free() -> None:
    outcomes: list[int] = []

    def tasks() -> object:
        for k in range(6):
            assert len(outcomes) >= k - 1  # two threads: all but one task have ended
            yield k

    for task, outcome in JobRunner(2, print).work(tasks(), lambda k: k * k):  # type: ignore[arg-type]
        assert outcome == task * task
        outcomes.append(outcome)
    assert sorted(outcomes) == [0, 1, 4, 9, 16, 25]


def test_a_folder_in_which_another_process_works_is_busy(tmp_path: Path) -> None:
    one, other = JobRunner(1, print), JobRunner(1, print)
    with one.alone("a", tmp_path):
        with pytest.raises(BusyError), other.alone("b", tmp_path, seconds=0.3):
            pass
        assert list(other.status()) == []
    with other.alone("b", tmp_path, seconds=0):
        pass


def test_a_command_that_fails_gives_its_reason_in_one_line(tmp_path: Path) -> None:
    runner = JobRunner(1, print)
    with runner.alone("a", tmp_path) as lock:
        failed = runner.command("a", ["fit", "--model", "vitt"], tmp_path, lock)
        assert failed == Failed(reason="no model is called 'vitt'; did you mean 'vit'?")
        assert runner.command("a", ["models"], tmp_path, lock) is None
    assert "fmformer" in (tmp_path / "log.txt").read_text()


@pytest.mark.slow
def test_an_error_of_the_caller_stops_the_running_commands(tmp_path: Path) -> None:
    write_root(tmp_path / "data", recordings=1, seconds=60, size=(32, 32))
    run, said = tmp_path / "run", list[str]()
    words = f"fit --modality current --net.dim 12 --net.depth 1 --data.root {tmp_path / 'data'}"
    words += " --data.current_samples 12 --data.epoch_windows 16 --data.guard_seconds 5"
    words += f" --trainer.max_epochs 100000 --trainer.accelerator cpu --run {run}"
    runner = JobRunner(2, said.append)

    def do(task: str) -> object:
        if task == "short":
            while not (run / "checkpoints" / "last.ckpt").is_file():
                time.sleep(0.2)
            return task
        with runner.alone(task, run) as lock:
            return runner.command(task, words.split(), run, lock)

    def taken() -> None:
        for _ in runner.work(["long", "short"], do):
            raise ValueError("disk full")

    with pytest.raises(ValueError, match="disk full"):
        taken()
    assert said == ["stopping: the running commands write their checkpoints"]
    assert not list(runner.status())
    assert (run / "checkpoints" / "last.ckpt").is_file()

"""Damaged, foreign or hostile files give an error of a few lines; none runs code."""

from __future__ import annotations

import json
import os
import pickle
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
import yaml

import fmbench
from conftest import Fault
from fmbench.cli import main
from fmbench.training import checkpoint
from fmbench.training.run import fit
from recordings import write_root
from test_faults_resume import config, crash, differences, interrupted, result


@pytest.fixture(scope="module")
def whole(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "whole"
    fit(config(root, "itransformer", "current"), run=run)
    return run


def refusal(path: Path) -> str | None:
    """The error message if it breaks the promise, else ""; None if the file was read."""
    try:
        checkpoint.read_checkpoint(path)
    except ValueError as error:
        said = str(error)
        fits = str(path) in said and said.count("\n") < 4 and len(said.splitlines()) > 1
        return "" if fits else said
    return None


def test_a_damaged_checkpoint_is_refused_or_does_no_harm(
    whole: Path,
    tmp_path: Path,
    fault: Callable[..., Fault],
    trials: Callable[[int, int], int],
) -> None:
    """A flip in the padding between records changes no value."""
    draw, path = random.Random(0), tmp_path / "last.ckpt"
    content = (whole / "checkpoints" / "last.ckpt").read_bytes()
    path.write_bytes(content)
    true = checkpoint.read_checkpoint(path)
    cut = fault("truncated checkpoint", promise="an error of at most 4 lines: path, cause, remedy")
    lengths = [draw.randrange(len(content)) for _ in range(trials(10, 300))]
    for length in (5000, *lengths):  # torch raises OSError for 4,097 to about 70,000
        path.write_bytes(content[:length])
        cut.trial(refusal(path) == "", str(refusal(path)))
    flip = fault(
        "flipped bit in a checkpoint",
        promise="the same error, or equal values are read: no flip in a tensor passes",
    )
    for _ in range(trials(30, 1000)):
        at, bit = draw.randrange(len(content)), draw.randrange(8)
        flipped = bytearray(content)
        flipped[at] ^= 1 << bit
        path.write_bytes(flipped)
        said = refusal(path)
        same = said is None and not differences(true, checkpoint.read_checkpoint(path))
        flip.trial(said == "" or same, f"byte {at}, bit {bit}: {said}")
        flip.measured("refused", said == "")


def foreign(folder: Path) -> list[Path]:
    """Files that are not checkpoints."""
    contents: dict[str, Any] = {"empty": b"", "text": b"weights", "zip": b"PK\x05\x06" + bytes(18)}
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    with h5py.File(folder / "hdf5", "w") as file:
        file["data"] = np.zeros(3)
    np.savez(folder / "arrays.npz", a=np.zeros(3))
    torch.save([1, 2], folder / "list")
    torch.save({"weight": torch.zeros(2)}, folder / "state")
    torch.save({"weight": torch.zeros(2)}, folder / "old", _use_new_zipfile_serialization=False)
    torch.save({"fmbench": 3, "state_dict": {}}, folder / "number")
    return sorted(folder.iterdir())


def test_a_foreign_file_is_refused(
    tmp_path: Path, fault: Callable[..., Fault], capsys: pytest.CaptureFixture[str]
) -> None:
    line = fault(
        "a file that is not a checkpoint", promise="status 2, at most 4 lines, no traceback"
    )
    for path in foreign(tmp_path):
        capsys.readouterr()
        status = main(["test", "--checkpoint", str(path)])
        said = capsys.readouterr().err
        ok = status == 2 and str(path) in said and len(said.splitlines()) <= 4
        line.trial(ok and "Traceback" not in said, f"{path.name}: status {status}, {said}")


def test_a_run_whose_last_checkpoint_is_damaged_goes_on_from_the_one_before(
    root: Path,
    whole: Path,
    tmp_path: Path,
    fault: Callable[..., Fault],
    trials: Callable[[int, int], int],
) -> None:
    line = fault(
        "damaged last.ckpt, resumed",
        promise="--resume auto resumes from the previous checkpoint; the run is bit-equal",
    )
    asked = config(root, "itransformer", "current")
    broken = tmp_path / "broken"
    with interrupted("training_step", 10, crash), pytest.raises(RuntimeError):
        fit(asked, run=broken)
    draw = random.Random(0)
    for trial in range(trials(1, 10)):
        run = tmp_path / f"run-{trial}"
        shutil.copytree(broken, run)
        last = run / "checkpoints" / "last.ckpt"
        content = bytearray(last.read_bytes())
        last.write_bytes(content[: draw.randrange(len(content))])
        fit(asked, run=run, resume="auto")
        found = [{k: v for k, v in result(each).items() if "log" not in k} for each in (whole, run)]
        line.trial(not differences(*found), str(differences(*found)[:3]))


def test_other_data_or_options_are_refused_and_the_difference_is_shown(
    root: Path, whole: Path, tmp_path: Path, fault: Callable[..., Fault]
) -> None:
    line = fault(
        "resumed with different data or options",
        promise="an error that names each difference; --force resumes",
    )
    run, other = tmp_path / "run", tmp_path / "other"
    shutil.copytree(whole, run)
    write_root(other, recordings=2, seconds=60, seed=7, size=(32, 32))
    asked = yaml.safe_load((run / "config.yaml").read_text())
    changes: dict[str, tuple[str, Any]] = {
        "optim.lr": ("optim", {"lr": 0.1}),
        "data.batch_size": ("data", {"batch_size": 4}),
        "seed": ("seed", 9),
        "the recordings are": ("data", {"root": str(other)}),
    }
    for name, (group, value) in changes.items():
        new = dict(asked)
        new[group] = {**new[group], **value} if isinstance(value, dict) else value
        changed = fmbench.config.schema.Config(**new)
        said = ""
        try:
            fit(changed, run=run, resume="auto")
        except ValueError as error:
            said = str(error)
        line.trial(name in said and "--force" in said and said.count("\n") < 6, f"{name}: {said}")
        again = tmp_path / f"forced-{group}-{name[:3]}"
        shutil.copytree(whole, again)
        fit(changed, run=again, resume="auto", force=True)
    moved = tmp_path / "moved"
    shutil.copytree(root, moved)
    same = fmbench.config.schema.Config(**{**asked, "data": {**asked["data"], "root": str(moved)}})
    fit(same, run=run, resume="auto")  # the same recordings in another folder


class Runs:
    """Creates a file when unpickled, in place of a real attack."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.canary}",)


class Builds(Runs):
    """The same through `eval`."""

    def __reduce__(self) -> tuple[Any, ...]:
        return eval, (f"open({str(self.canary)!r}, 'w')",)


def hostile(folder: Path, root: Path, canary: Path) -> dict[str, list[str]]:
    """Command lines by the payload that they read."""
    good = {"fmbench": {"model": "fmformer", "net": {}}, "state_dict": {}}
    shell = f"touch {canary}"
    contents: dict[str, Any] = {
        "reduce": {**good, "x": Runs(canary)},
        "eval": {**good, "x": Builds(canary)},
        "in the weights": {**good, "state_dict": {"w": Runs(canary)}},
        "_instantiator": {
            **good,
            "hyper_parameters": {"_instantiator": "os.system", "command": shell},
            "hparams_name": "os.system",
        },
        "class path as model": {
            **good,
            "fmbench": {"model": "os.system", "net": {"command": shell}, "problem": {}},
        },
        "class path in net": {
            **good,
            "fmbench": {
                "model": "fmformer",
                "net": {"class_path": "subprocess.Popen", "init_args": {"args": shell}},
                "problem": {"modality": "cross"},
            },
        },
    }
    asked = {}
    for name, content in contents.items():
        path = folder / f"{name}.ckpt"
        torch.save(content, path)
        asked[f"checkpoint: {name}"] = ["test", "--checkpoint", str(path)]
    path = folder / "plain.ckpt"
    path.write_bytes(pickle.dumps(Runs(canary)))
    asked["checkpoint: bare pickle"] = ["predict", "--checkpoint", str(path), "furnace-0"]
    path = folder / "old.ckpt"
    torch.save(Runs(canary), path, _use_new_zipfile_serialization=False)
    asked["checkpoint: pickle of old torch"] = ["import-official", str(path), str(folder / "o")]
    run = ["fit", "--run", str(folder / "run"), "--data.root", str(root)]
    asked["checkpoint: resumed"] = [*run, "--resume", str(folder / "reduce.ckpt")]

    texts = {
        "tag of a call": f"seed: !!python/object/apply:os.system ['{shell}']",
        "tag of an object": f"net: !!python/object/new:os.system ['{shell}']",
        "tag of a module": "seed: !!python/module:antigravity",
        "class path": f"net: {{class_path: os.system, init_args: {{command: '{shell}'}}}}",
        "environment": f"model: ${{oc.env:HOME}}$({shell})",
    }
    for name, text in texts.items():
        path = folder / f"{name}.yaml"
        path.write_text(text)
        asked[f"YAML: {name}"] = [*run, "--config", str(path)]
    asked["option: YAML tag"] = [*run, f"--net=!!python/object/apply:os.system ['{shell}']"]
    for name in ("os.system", "../../evil", f"$({shell})", "fmbench.models:MODELS"):
        asked[f"model: {name}"] = [*run, "--model", name]

    for name, array in {
        "objects": np.array([Runs(canary)], dtype=object),
        "text": np.array([shell]),
    }.items():
        other = folder / f"root-{name}"
        shutil.copytree(root, other)
        path = other / "pixel-level" / "videos" / "furnace-0.mat"
        np.savez(path.with_suffix(""), array)
        path.with_suffix(".npz").replace(path)
        asked[f".npz as .mat: {name}"] = [*run[:3], "--data.root", str(other)]
    other = folder / "root-pickle"
    shutil.copytree(root, other)
    (other / "pixel-level" / "videos" / "furnace-0.mat").write_bytes(pickle.dumps(Runs(canary)))
    asked[".mat: pickle"] = [*run[:3], "--data.root", str(other)]
    other = folder / "root-link"
    shutil.copytree(root, other)
    path = other / "pixel-level" / "videos" / "furnace-0.mat"
    path.unlink()
    with h5py.File(path, "w") as file:
        file["data"] = h5py.ExternalLink("/etc/passwd", "/")
        file["label"] = np.frombuffer(pickle.dumps(Runs(canary)), np.uint8)
    asked[".mat: external link, pickle in it"] = [*run[:3], "--data.root", str(other)]
    other = folder / "root-escape"
    shutil.copytree(root, other)
    lists = other / "pixel-level" / "train.json"
    lists.write_text(json.dumps({"../../../../etc/passwd": [0]}))
    asked["list: path that leaves the root"] = [*run[:3], "--data.root", str(other)]
    asked["recording: path that leaves the root"] = [
        *("predict", "--checkpoint", str(folder / "plain.ckpt"), "../../../etc/passwd")
    ]
    return asked


def test_a_hostile_file_runs_no_code(
    root: Path, tmp_path: Path, fault: Callable[..., Fault], capsys: pytest.CaptureFixture[str]
) -> None:
    line = fault(
        "hostile checkpoint, YAML, .mat, .npz or name",
        promise="no code runs, nothing is written outside, status 2",
    )
    canary = tmp_path / "canary"
    (tmp_path / "files").mkdir()
    for name, words in hostile(tmp_path / "files", root, canary).items():
        capsys.readouterr()
        status = main(words)
        said = capsys.readouterr().err
        ran = canary.exists()
        canary.unlink(missing_ok=True)
        few = len(said.splitlines()) <= 7 and "Traceback" not in said
        line.trial(status == 2 and few and not ran, f"{name}: status {status}, ran: {ran}, {said}")
    assert os.system(f"touch {canary}") == 0  # the payload works when it runs
    assert canary.exists()

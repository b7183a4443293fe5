"""The way of docs/your-own-data.md, from raw files to a tested model, against the simulator."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from fmbench.cli import main
from fmbench.data import open_root
from fmbench.simulator.camera import FURNACE_BOX, Camera
from fmbench.simulator.process import Run, simulate
from fmbench.simulator.settings import SimConfig
from fmbench.simulator.sidecar import key_frames
from fmbench.simulator.video_writer import write_video

pytestmark = pytest.mark.slow

PLACES = {"morning": (6, 460), "noon": (7, 80), "evening": (4, 360)}  # each holds an event
SECONDS, START = 80, 8.0
SIZE = 216, 384


@dataclass
class Plant:
    """A furnace's raw files, and what happened."""

    folder: Path
    runs: dict[str, Run]

    def write(self) -> None:
        for name, (recording, start) in PLACES.items():
            run = self.runs[name] = simulate(SimConfig(seed=7), recording, SECONDS, start=start)
            write_video(self.folder / f"{name}.mp4", run, size=SIZE)
            times = [str(second).replace("T", " ") for second in run.seconds]
            write = european if name == "evening" else plain
            write(self.folder / f"{name}.csv", times, run.currents)
            stamps = zip(times, run.frame_counts.tolist(), strict=True)
            lines = "".join(f"{t}\n" * n for t, n in stamps)
            (self.folder / f"{name}-frames.csv").write_text("time\n" + lines)


def plain(path: Path, times: list[str], currents: np.ndarray) -> None:
    rows = zip(np.repeat(times, 2), currents.reshape(-1, 3), strict=True)
    text = "".join(f"{t},{a:.6g},{b:.6g},{c:.6g}\n" for t, (a, b, c) in rows)
    path.write_text("when,Ia,Ib,Ic\n" + text)


def european(path: Path, times: list[str], currents: np.ndarray) -> None:
    """The export in docs/your-own-data.md: nothing in it has to be named."""
    lines = ["Ofen 3 – Schmelzbetrieb", "Export vom 02.05.2030"]
    lines += ["Datum;Uhrzeit;Strom L1 [kA];Strom L2 [kA];Strom L3 [kA];Leistung [kW]"]
    for time, pair in zip(times, currents.reshape(-1, 2, 3), strict=True):
        day, clock = time.split(" ")
        for k, phases in enumerate(pair):
            cells = [f"{float(f'{each:.6g}') / 1000:.7g}" for each in phases]
            row = [".".join(day.split("-")[::-1]), f"{clock}.{5 * k}", *cells, "2874.5"]
            lines.append(";".join(row[:1] + [cell.replace(".", ",") for cell in row[1:]]))
    path.write_bytes("\r\n".join([*lines, ""]).encode("cp1252"))


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Plant:
    made = Plant(tmp_path_factory.mktemp("plant"), {})
    made.write()
    return made


def events_of(run: Run, source: np.ndarray) -> list[dict[str, object]]:
    """What an annotator would draw on the ingested frames: the simulator's key frames, each moved
    to the first ingested frame that shows it or a later one."""
    found = []
    for event in key_frames(Camera(run)):
        at = {
            frame: int(np.searchsorted(source, frame).clip(max=len(source) - 1))
            for frame in (event["onset"], event["apex"], event["offset"], *event["boxes"])
        }
        boxes = {at[int(frame)]: box for frame, box in event["boxes"].items()}
        ends = {mark: at[event[mark]] for mark in ("onset", "apex", "offset")}
        found.append({**ends, "boxes": boxes})
    return found


def test_raw_files_become_a_tested_model(
    plant: Plant, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "root"
    top, left, tall, wide = FURNACE_BOX
    height, width = SIZE
    roi = f"{left * width:.0f},{top * height:.0f},{wide * width:.0f},{tall * height:.0f}"

    def do(*words: str | Path) -> str:
        capsys.readouterr()
        status = main([str(word) for word in words])
        out, err = capsys.readouterr()
        assert status == 0, err
        return out

    for name in PLACES:
        raw = [plant.folder / f"{name}{ending}" for ending in (".mp4", ".csv", "-frames.csv")]
        log = [] if name == "evening" else ["--time", "when", "--phases", "Ia,Ib,Ic"]
        found = do("data", "ingest", "--video", raw[0], "--current", raw[1], "--timestamps",
                   raw[2], *log, "--roi", roi, "--gaps", "mask", "--out", root)  # fmt: skip
        if name == "evening":
            assert "semicolon, decimal comma, Windows-1252, header on line 3" in found
            assert "Strom L1 [kA], Strom L2 [kA], Strom L3 [kA]" in found

    sources = {
        name: pd.read_csv(root / "unlabelled/sources" / f"{name}.csv")["source_frame"].to_numpy()
        for name in PLACES
    }
    events = {name: events_of(plant.runs[name], source) for name, source in sources.items()}
    assert all(events.values())
    (tmp_path / "events.yaml").write_text(yaml.safe_dump({"recordings": events}))
    do("data", "annotate", "--events", tmp_path / "events.yaml", "--root", root,
       "--pictures", tmp_path / "pictures")  # fmt: skip
    assert len(list((tmp_path / "pictures").glob("*.png"))) == sum(map(len, events.values()))

    do("data", "select", root, "--by", "recording", "--shares", "0.34,0.33,0.33",
       "--guard_seconds", str(START))  # fmt: skip
    assert "no faults" in do("data", "check", root)

    _agrees_with_the_truth(plant, root, sources)

    run = tmp_path / "run"
    data = ["--data.root", root, "--data.frames", "2", "--data.current_samples", "12"]
    data += ["--data.epoch_windows", "64", "--data.val_windows", "32", "--data.batch_size", "8"]
    do("fit", "--model", "fmformer", "--modality", "cross", "--config", "smoke", "--run", run,
       "--net.depth", "1", "--net.dim", "24", *data)  # fmt: skip
    do("test", "--checkpoint", run / "checkpoints" / "best.ckpt", "--data.test_windows", "40")
    assert "acc" in json.loads((run / "test.json").read_text())["metrics"]

    raw = [plant.folder / f"noon{ending}" for ending in (".mp4", ".csv", "-frames.csv")]
    best = run / "checkpoints" / "best.ckpt"
    do("predict", raw[0], "--checkpoint", best, "--current", raw[1], "--timestamps", raw[2],
       "--time", "when", "--roi", roi, "--gaps", "mask", "--out", tmp_path / "raw")  # fmt: skip
    do("predict", "noon", "--checkpoint", best, "--out", tmp_path / "named")
    found, named = (pd.read_csv(tmp_path / each / "noon.csv") for each in ("raw", "named"))
    assert named.drop(columns="label").equals(found)


def _agrees_with_the_truth(plant: Plant, root: Path, sources: dict[str, np.ndarray]) -> None:
    both = either = 0
    for recording in open_root(root).recordings:
        run, source = plant.runs[recording.name], sources[recording.name]
        count = recording.num_frames
        masks = np.empty((count, 64, 64), np.uint8)
        recording.read_masks(np.arange(count), masks)
        truth = Camera(run).masks(source) > 0
        found = masks.transpose(0, 2, 1) > 0
        both += int((found & truth).sum())
        either += int((found | truth).sum())
        right = found.any((1, 2)) == truth.any((1, 2))
        assert right.mean() > 0.97  # the class of a frame, but at the ends of events
        values = recording.currents.values
        assert np.allclose(values, run.currents.reshape(-1, 3)[: len(values)], rtol=1e-5)
    assert both / either > 0.7  # .797

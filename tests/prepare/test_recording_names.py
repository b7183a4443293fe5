"""Names of recordings: what the writer accepts, every reader finds; the rest is refused."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fmbench.data import FurnaceData, open_root
from fmbench.format.columns import currents_file, timestamps_file
from fmbench.format.lists import list_file, read_list, write_list
from fmbench.format.mat import stem, video_file
from fmbench.format.names import LONGEST, name_from, valid_name
from fmbench.prepare.annotate import read_events
from fmbench.prepare.check import check_root
from fmbench.prepare.ingest import RawVideo, Region, ingest
from fmbench.prepare.ingest.sampling import Samples
from test_cli import Command, fmbench, refused
from test_ingest import plc, stamp, write_frames

__all__ = ["fmbench"]  # a fixture

NAMES = st.one_of(st.text(max_size=12), st.from_regex(r"[\w .-]{1,20}", fullmatch=True))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> RawVideo:
    return RawVideo(write_frames(tmp_path_factory.mktemp("v") / "v.avi", 30, "MJPG", (64, 48)))


def accepted(name: str) -> str | None:
    try:
        return valid_name(name)
    except ValueError:
        return None


@settings(max_examples=20, deadline=None)
@example("Ofen 3 – Süd".replace("–", "-"))
@example("Ofen 3 Su\u0308d")
@example("电熔镁炉")
@example("x" * LONGEST)
@example("CON")
@given(name=NAMES)
def test_every_reader_finds_a_recording_by_every_accepted_name(clip: RawVideo, name: str) -> None:
    if accepted(name) is None:
        return
    with TemporaryDirectory() as folder:
        root = Path(folder) / "root"
        log = Samples(1000 + np.arange(20), np.full((20, 2, 3), 9000.0))
        report = ingest(
            clip, 1002 + clip.shown, log, Region({0: (0, 0, 64, 48)}), root=root, name=name,
            currents=Path("plc.csv"), size=(8, 8),
        )  # fmt: skip
        assert [path.name for path in root.iterdir()] == ["unlabelled"]
        part = root / "unlabelled"
        (recording,) = open_root(root, "unlabelled").recordings
        assert recording.name == report.name == valid_name(name)
        assert len(recording.seconds) == 25
        assert len(recording.currents.seconds) == 2
        assert check_root(root) == []
        for typed in (name, *(unicodedata.normalize(form, name) for form in ("NFC", "NFD"))):
            data = FurnaceData(root=root, part="unlabelled", frames=1, current_samples=1)
            assert len(data.windows_of(typed, every=10)[1]) == 3
            write_list(list_file(part, "train"), {typed: np.arange(3)})
            lists = read_list(list_file(part, "train"), {recording.name: 25})
            assert list(lists) == [recording.name]
            list_file(part, "train").unlink()
        with pytest.raises(ValueError, match="is there already"):
            ingest(
                clip, 1002 + clip.shown, log, Region({0: (0, 0, 64, 48)}), root=root, name=name,
                currents=Path("plc.csv"),
            )  # fmt: skip


@given(st.text(max_size=300))
def test_the_name_made_from_a_file_name_is_accepted(text: str) -> None:
    made = name_from(text)
    assert valid_name(made) == made
    assert stem(f"{made}.mat") == made
    assert name_from(made) == made


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("../../evil", "'.' is not allowed"),
        ("/etc/x", "'/' is not allowed"),
        ("run.1", "'.' is not allowed"),
        ("a\\b", "is not allowed"),
        ("a:b", "':' is not allowed"),
        ("a*", "'*' is not allowed"),
        ("a\nb", "is not allowed"),
        ("a\0b", "is not allowed"),
        ("", "it is empty"),
        (" a", "it begins with - or a space"),
        ("-a", "it begins with - or a space"),
        ("x" * (LONGEST + 1), "it has 201 bytes"),
        ("镁" * 67, "it has 201 bytes"),
        ("\ud800", "is not allowed"),
    ],
)
def test_names_that_no_reader_would_find_are_refused(
    name: str, why: str, tmp_path: Path, fmbench: Command
) -> None:
    with pytest.raises(ValueError, match="is no name of a recording") as told:
        valid_name(name)
    assert why in str(told.value)
    if "\0" in name or "\ud800" in name:
        return  # no command line has such a word
    video = write_frames(tmp_path / "v.avi", 5, "MJPG", (64, 48))
    out = tmp_path / "root"
    done = fmbench("data", "ingest", "--video", video, "--out", out, f"--name={name}")
    refused(done, "is no name of a recording", "Allowed: letters, digits")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["v.avi"]


def test_files_with_dots_in_their_names_stay_apart(tmp_path: Path, fmbench: Command) -> None:
    log = plc(tmp_path, [f"{stamp(k / 2)},1,2,3" for k in range(10)])
    for day in ("01", "02"):
        video = write_frames(tmp_path / f"cam.2030.05.{day}.avi", 30, "MJPG", (64, 48))
        flags = ["data", "ingest", "--video", video, "--current", log, "--start", stamp(0)]
        done = fmbench(*flags, "--roi", "0,0,48,48", "--out", tmp_path / "root")
        assert done.status == 0, done.err
        said = f"note: the recording is named 'cam-2030-05-{day}'; --name gives another name"
        assert said in done.out
    names = [each.name for each in open_root(tmp_path / "root", "unlabelled").recordings]
    assert names == ["cam-2030-05-01", "cam-2030-05-02"]
    again = fmbench(*flags, "--roi", "0,0,48,48", "--out", tmp_path / "root")
    refused(again, "cam-2030-05-02.mat is there already; remove it, or give another --name")


def test_names_that_look_alike_are_one(tmp_path: Path, clip: RawVideo) -> None:
    log = Samples(1000 + np.arange(20), np.full((20, 2, 3), 9000.0))
    ingest(
        clip, 1002 + clip.shown, log, Region({0: (0, 0, 64, 48)}), root=tmp_path, name="Süd",
        currents=Path("plc.csv"), size=(8, 8),
    )  # fmt: skip
    part = tmp_path / "unlabelled"
    (recording,) = open_root(tmp_path, "unlabelled").recordings
    other = unicodedata.normalize("NFD", "Süd")
    (tmp_path / "events.yaml").write_text(
        f"recordings: {{{other}: [{{onset: 1, apex: 2, offset: 3,"
        " boxes: {1: [0, 0, 4, 4], 3: [0, 0, 4, 4]}}]}",
        encoding="utf-8",
    )
    assert list(read_events(tmp_path / "events.yaml", [recording])) == ["Süd"]
    for file in (video_file, timestamps_file, currents_file):
        file(part, other).write_bytes(file(part, "Süd").read_bytes())
    with pytest.raises(ValueError, match="two recordings are called"):
        open_root(tmp_path, "unlabelled")

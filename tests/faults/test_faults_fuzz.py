"""For generated files, every reader quickly gives a result or a short error."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from fmbench.cli import main
from fmbench.config.resolve import config_of
from fmbench.data import open_root
from fmbench.files.yaml_json import read_yaml
from fmbench.format.columns import read_currents, read_timestamps
from fmbench.prepare.annotate.events import read_events
from fmbench.prepare.check import check_root
from fmbench.prepare.ingest.plc import read_plc
from fmbench.prepare.ingest.sampling import to_samples
from recordings import write_root

PROMISE = "a result, or an error of a few lines that names the file; within 20 s, no traceback"
SECONDS = 20
"""Time limit for one small file, on a busy machine too."""
LONGEST = 2500
"""Limit of a message, in characters."""

NUMBERS = st.one_of(
    st.integers(-3, 900),
    st.sampled_from([0, -1, 10**19, 10**400, 0.5, 1e308, float("nan"), float("inf")]),
    st.floats(),
)
SCALARS = st.one_of(NUMBERS, st.none(), st.booleans(), st.text(max_size=6))
NAMES = st.sampled_from(["furnace-0", "furnace-0.mat", "furnace-7"])
WORDS = (
    "recordings onset apex offset boxes images annotations id image_id bbox track_id attributes "
    "file_name recording frame model modality net data optim trainer loss seed select logger dense "
    "depth dim lr root frames stride devices strategy max_epochs precision callbacks"
)
KEYS = st.one_of(NAMES, st.sampled_from(WORDS.split()), st.text(max_size=6))
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=25,
)
CELLS = st.one_of(
    st.sampled_from(
        [
            *("2023-05-10 21:33:27", "2023-05-10 21:33:28", "2023-05-10T21:33:28+01:00"),
            *("0001-01-01 00:00:00", "9999-12-31 23:59:59", "2023-02-30 00:00:00", "24:00"),
            *("", "nan", "inf", "-inf", "1e400", "1e39", "9" * 400, "0x10", "1_000", "true", "1,5"),
            *('"', '""', "'", ";", "\t", "\\", "\x00", "\ufeff", "é", "=1+1", "#", "1683754407"),
        ]
    ),
    st.floats().map(str),
    st.integers(0, 2 * 10**9).map(str),
    st.text(max_size=5),
)
TABLES = st.builds(
    lambda header, rows, comma, end: end.join(comma.join(row) for row in [header, *rows]).encode(
        "utf-8", "surrogatepass"
    ),
    st.lists(st.sampled_from(["time", "A", "B", "C", "", "A"]), max_size=4),
    st.lists(st.lists(CELLS, max_size=4), max_size=8),
    st.sampled_from([",", ";", "\t"]),
    st.sampled_from(["\n", "\r\n", "\r"]),
)
TEXTS = st.one_of(st.binary(max_size=200), st.text(max_size=100).map(lambda text: text.encode()))
FRAMES = st.integers(0, 9) | SCALARS
BOXES = st.lists(NUMBERS | st.integers(0, 8), min_size=4, max_size=4) | TREES


def written_json(tree: object) -> bytes:
    return json.dumps(tree).encode()


def written_yaml(tree: object) -> bytes:
    return yaml.safe_dump(tree, allow_unicode=True).encode("utf-8", "surrogatepass")


def mappings(**values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Some of these keys, each with a value."""
    return st.fixed_dictionaries({}, optional=values)


EVENT = mappings(
    onset=FRAMES, apex=FRAMES, offset=FRAMES, boxes=st.dictionaries(FRAMES, BOXES, max_size=4)
)
EVENTS = st.dictionaries(st.just("furnace-0") | KEYS, st.lists(EVENT, max_size=2) | TREES)
IMAGE = mappings(
    id=st.integers(0, 3) | TREES,
    file_name=st.sampled_from(["furnace-0/frame_0003.png", "furnace-0/9" + "9" * 5000 + ".png"]),
    recording=NAMES,
    frame=FRAMES | TREES,
)
ANNOTATION = mappings(
    image_id=st.integers(0, 3) | TREES, bbox=BOXES, track_id=SCALARS | TREES, attributes=TREES
)
COCO = mappings(
    images=st.lists(IMAGE, max_size=4) | TREES, annotations=st.lists(ANNOTATION, max_size=4) | TREES
)
LISTS = st.dictionaries(KEYS, st.lists(st.integers(0, 299) | SCALARS, max_size=5) | TREES)
CONFIGS = st.dictionaries(KEYS, st.dictionaries(KEYS, TREES, max_size=3) | SCALARS, max_size=4)

DEEP = b"[" * 100_000
LAUGHS = ["a0: &a0 [ha, ha, ha]", *(f"a{k}: &a{k} [{f'*a{k - 1}, ' * 9}]" for k in range(1, 10))]
MERGES = [
    "a0: &a0 {ha: ha}",
    *(f"a{k}: &a{k} {{<<: [{f'*a{k - 1}, ' * 9}]}}" for k in range(1, 10)),
]
BOMBS = [
    DEEP,
    "\n".join(LAUGHS).encode(),
    "\n".join(MERGES).encode(),
    b"recordings: &a {furnace-0: [*a], model: *a, net: *a}",
    *(f"model: {value}".encode() for value in ("!!bool x", "!!int ''", "2023-13-45", "9" * 5000)),
]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("root")
    write_root(folder, recordings=1, seconds=12, size=(8, 8))
    return folder


@pytest.fixture
def reads(
    tmp_path: Path, fault: Callable[..., Any], trials: Callable[[int, int], int]
) -> Callable[..., None]:
    """Run a reader on given, then on generated contents of a file."""

    def run(
        what: str,
        contents: st.SearchStrategy[bytes],
        read: Callable[[Path], object],
        path: Path,
        given_ones: Sequence[bytes] = (),
        names: str = "",
    ) -> None:
        row = fault(f"generated files: {what}", promise=PROMISE)

        @settings(
            max_examples=trials(40, 1500),
            derandomize=bool(trials(1, 0)),  # the full form draws new examples each time
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
            database=None,
        )
        @given(contents)
        def one(content: bytes) -> None:
            path.write_bytes(content)
            began = time.monotonic()
            try:
                read(path)
            except ValueError as error:
                text = str(error)
                assert str(path) in text or (names and names in text), text
            assert time.monotonic() - began < SECONDS
            row.trial(True)

        for content in given_ones:
            one = example(content)(one)
        one()

    return run


def test_times(reads: Callable[..., None], tmp_path: Path) -> None:
    reads("timestamps", TABLES | TEXTS, read_timestamps, tmp_path / "t.csv")


def test_currents(reads: Callable[..., None], tmp_path: Path) -> None:
    reads("currents", TABLES | TEXTS, read_currents, tmp_path / "c.csv")


def test_a_plcs_log(reads: Callable[..., None], tmp_path: Path) -> None:
    def read(path: Path) -> object:
        log = read_plc(path)
        return to_samples(log.seconds, log.values)

    found = [
        b"time;A\n0;1\n9000000000;2",  # half seconds over 285 years
        b"time;A\n-4e-190;1",  # so close to a whole second that the difference rounds to 0
        b"time;A\n2030-05-01 06:00:00;1\n2030-05-01T06:00:01+01:00;1",  # two zones
    ]
    reads("a PLC's log", TABLES | TEXTS, read, tmp_path / "plc.csv", found)


def test_events(reads: Callable[..., None], tmp_path: Path, root: Path) -> None:
    recordings = open_root(root).recordings
    trees = EVENTS.map(lambda events: {"recordings": events}) | TREES
    contents = trees.map(written_yaml) | TEXTS
    path = tmp_path / "events.yaml"
    reads("events", contents, lambda path: read_events(path, recordings), path, BOMBS)


def test_coco(reads: Callable[..., None], tmp_path: Path, root: Path) -> None:
    recordings = open_root(root).recordings
    contents = (COCO | TREES).map(written_json) | TEXTS
    path = tmp_path / "coco.json"
    reads("COCO annotations", contents, lambda path: read_events(path, recordings), path, [DEEP])


def test_lists(reads: Callable[..., None], root: Path) -> None:
    contents = (LISTS | TREES).map(written_json) | TEXTS
    path = root / "pixel-level" / "val.json"
    reads("split lists", contents, lambda path: open_root(root), path, [DEEP])
    path.unlink()


def test_manifest(reads: Callable[..., None], root: Path) -> None:
    contents = TREES.map(written_json) | TEXTS
    path = root / "manifest.json"
    reads("a manifest", contents, lambda path: open_root(root).fingerprint, path, [DEEP])
    path.unlink()


@pytest.mark.parametrize(
    ("file", "contents"),
    [
        ("timestamps/furnace-0.csv", TABLES | TEXTS),
        ("currents/furnace-0.csv", TABLES | TEXTS),
        ("test.json", (LISTS | TREES).map(written_json) | TEXTS),
        ("manifest.json", TREES.map(written_json) | TEXTS),
    ],
)
def test_checking(
    reads: Callable[..., None], root: Path, file: str, contents: st.SearchStrategy[bytes]
) -> None:
    path = root / "pixel-level" / file
    before = path.read_bytes() if path.is_file() else None
    reads("data check", contents, lambda path: [str(each) for each in check_root(root)], path)
    path.unlink()
    if before is not None:
        path.write_bytes(before)


def test_configurations(reads: Callable[..., None], tmp_path: Path) -> None:
    contents = (CONFIGS | TREES).map(written_yaml) | TEXTS
    path = tmp_path / "config.yaml"
    reads(
        "configurations",
        contents,
        lambda path: config_of([(str(path), read_yaml(path))]),
        path,
        BOMBS,
        names=" is called ",  # no model is called 'x'; known are: ...
    )


FLAGS = st.sampled_from(
    [f"--{name}" for name in WORDS.split()]
    + [f"--{group}.{name}" for group in ("net", "data", "trainer") for name in WORDS.split()]
    + ["--", "-", "--=", "--net", "--net.depth=", "--config", "--resume", "--data.", "--.root"]
)
VALUES = st.integers(1, 9).map(str) | CELLS | TREES.map(json.dumps)
PAIRS = st.lists(st.tuples(FLAGS, VALUES).map(list), max_size=3).map(
    lambda pairs: [*chain.from_iterable(pairs)]
)


def test_command_lines(
    fault: Callable[..., Any],
    trials: Callable[[int, int], int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    row = fault("generated command lines of `fit`", promise="status 0, or 2 with a few lines")

    @settings(
        max_examples=trials(30, 500),
        derandomize=bool(trials(1, 0)),
        deadline=None,
        database=None,
    )
    @given(PAIRS | st.lists(FLAGS | VALUES, max_size=5))
    @example(["--net=" + "[" * 100_000])
    @example(["--net.depth", "[" * 100_000])
    @example(["--net={a: &a [*a]}"])
    def one(words: list[str]) -> None:
        capsys.readouterr()
        began = time.monotonic()
        status = main(["fit", "--print_config", *words])
        told = capsys.readouterr().err
        assert status in (0, 2), told
        assert len(told.splitlines()) <= 6
        assert len(told) < LONGEST, told
        assert time.monotonic() - began < SECONDS
        row.trial(True)

    one()

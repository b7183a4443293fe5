"""`fmbench predict`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

from fmbench.cli.ingest import RawFiles, contact_sheet, in_words, write_raw
from fmbench.cli.train import existing
from fmbench.config.command import Reader
from fmbench.config.hints import File, Folder
from fmbench.config.parser import Parser
from fmbench.config.resolve import DataOptions
from fmbench.data.windows import parse_every, spacing_of
from fmbench.training.checkpoint import load
from fmbench.training.lit import Detector
from fmbench.training.predict import in_layout, write_plant_of
from fmbench.training.predict import predict as predict_recording


def _movie(parser: Parser, text: str, argv: Sequence[str]) -> Reader:
    """The flag --movie, which was called --video."""
    if any(
        word == "--video" and after.startswith("--")
        for word, after in zip(argv, [*argv[1:], "--"], strict=False)
    ):
        raise ValueError("--video takes files of a raw video; to write a movie, give --movie")
    parser.option("movie", bool, False, text, action="store_true")
    return lambda values, _: values["movie"]


def predict(
    recording: str | None = None,
    *,
    checkpoint: File,
    out: Folder = Path("predictions"),
    every: str = "25",
    movie: Annotated[bool, _movie] = False,
    alarms: File | None = None,
    raw: RawFiles,
    data: DataOptions,
) -> int:
    """Write scores (CSV) and a picture (PNG, MP4) of a recording.

    It is a recording of the data, or a raw video with its log, which are read as fmbench data
    ingest does.

    Args:
        recording: a name in the data root, the path of a .mat, or of a raw video.
        every: frames from one score to the next; or seconds, as 1s.
        alarms: alarms.yaml of the checkpoint: adds its alarms to the CSV and the picture.
        data: data (default: as in training).
    """
    parse_every(every)
    if recording is not None and Path(recording).is_file() and not in_layout(Path(recording)):
        if raw.video:
            raise ValueError(f"both {recording} and --video are given; give one of them")
        raw, recording = replace(raw, video=[recording]), None
    if recording is None and not raw.video:
        if raw.current:
            raise ValueError("a log alone has no frames to score; give the video as well")
        raise ValueError("recording is missing, a name or a file; see fmbench predict --help")
    if recording is not None:
        _check_named(Path(recording), raw)
    existing(checkpoint)
    alarm = None
    if alarms is not None:
        from fmbench.alarms.run import alarm_of  # needs pydantic, which a prediction does not

        alarm = alarm_of(alarms, checkpoint, every)
    if recording is not None:
        written = predict_recording(
            checkpoint, recording, out=out, data=data, every=every, movie=movie, alarm=alarm
        )
    else:
        detector = load(checkpoint)
        spacing_of(every, detector.problem.frame_rate)  # refused before the video is read
        _check_raw(raw, detector, data)
        source, name = raw.opened()
        if raw.roi is None:
            sheet = contact_sheet(source, out / f"{name}-contact-sheet.jpg")
            raise ValueError(f"--roi is missing\n{sheet}")
        _check_kept(raw, source.paths, out / name)
        out.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".ingest-", dir=out) as folder:
            write_plant_of(detector, Path(folder))
            report = write_raw(
                raw,
                source,
                name,
                out=Path(folder),
                phases=detector.problem.current_channels if _reads_current(detector) else None,
            )
            print(f"{report.name}: {in_words(report)}")
            where = {"root": folder, "part": raw.part}
            written = predict_recording(
                checkpoint,
                name,
                out=out,
                data={**data, **where},
                every=every,
                movie=movie,
                alarm=alarm,
            )
    print("\n".join(str(path) for path in written))
    return 0


def _check_named(recording: Path, raw: RawFiles) -> None:
    """Raises: ValueError: a path that is no file, or options that have no effect."""
    if (recording.suffix or len(recording.parts) > 1) and not recording.is_file():
        raise ValueError(f"{recording}: no such file; --video takes folders and patterns, too")
    if given := _given(raw):
        raise ValueError(
            f"{', '.join(given)} would have no effect: {recording} is a recording, not a raw video"
        )


def _check_raw(raw: RawFiles, detector: Detector, data: Mapping[str, Any]) -> None:
    """Raises: ValueError: the log is missing, or an option has no effect on raw files."""
    if raw.current is None and _reads_current(detector):
        raise ValueError(
            f"--current is missing; the checkpoint reads {detector.problem.modality} input: give"
            " the log of the PLC"
        )
    for name in ("root", "part"):
        if name in data:
            raise ValueError(f"--data.{name} has no effect on a raw video; leave it out")


def _check_kept(raw: RawFiles, videos: Sequence[Path], target: Path) -> None:
    """Raises: ValueError: `target`, with a suffix, would overwrite a raw file."""
    written = {target.with_name(target.name + end).resolve() for end in (".csv", ".png", ".mp4")}
    for path in (*videos, raw.current, raw.timestamps):
        if path is not None and path.resolve() in written:
            raise ValueError(f"{path} would be overwritten; give another folder by --out")


def _reads_current(detector: Detector) -> bool:
    return detector.problem.modality.has_current


def _given(raw: RawFiles) -> list[str]:
    """The options of raw files that differ from their defaults."""
    usual, now = ({**vars(each), **vars(each.log), "log": None} for each in (RawFiles(), raw))
    return [f"--{name}" for name in now if now[name] != usual[name]]

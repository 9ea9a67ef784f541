"""Runs as a folder: `results.json` with every series by column, and the frames that were kept as pictures beside it.

    runs: [{title, managed, temperature_source, ..., phases: {...}, frames: {time_s: [...], latency_s: [...]}, ...}]
    operating_points: {provenance: {...}, columns: {subnetwork: [...], latency_s: [...], ...}}
    limits: {switch_on, control, critical: °C, battery_thresholds: [0..1]}
    metric: what the accuracies mean
    sources: every quantity and where it comes from, in words
    machine: what was measured on, in words
    deadlines_explained: [[phase, seconds, how it was computed], ...]

Only `runs` must be there.  SI units, in the names of the columns; null: not known, not set.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from dynamic_perception.documents import read_json
from dynamic_perception.file_writing import write_atomically
from dynamic_perception.management.operating_points import COLUMNS, TEXT_COLUMNS, OperatingPointTable
from dynamic_perception.pictures import NoPicture, decode_picture
from dynamic_perception.report.recorded_run import (
    RECENT,
    Answer,
    Command,
    DeadlineChange,
    Frame,
    Limits,
    PhaseSpan,
    Picture,
    Reading,
    RecordedRun,
    Score,
    iou_series,
)

NAME = "results.json"
PICTURES = "pictures"
UNITS: Mapping[str, str] = {
    "time": "time_s",
    "latency": "latency_s",
    "inference": "inference_s",
    "energy": "energy_J",
    "start": "start_s",
    "switch_duration": "switch_duration_s",
    "deadline": "deadline_s",
    "end": "end_s",
    "power": "power_W",
    "cpu_frequency": "cpu_frequency_Hz",
    "gpu_frequency": "gpu_frequency_Hz",
    "latency_p95": "latency_p95_s",
    "latency_p99": "latency_p99_s",
}
SERIES = {"phases": PhaseSpan, "frames": Frame, "commands": Command, "answers": Answer, "deadlines": DeadlineChange}
READINGS = {"temperatures": "celsius", "charges": "charge", "powers": "power_W"}
SETTINGS = ("title", "managed", "temperature_source", "battery_source", "iou_source", "energy_source", "clock_source")


@dataclass(frozen=True, eq=False)
class Results:
    """Runs, and what is known about all of them.

    Attributes:
        name: of the results, for people: where they were read from.
        runs: at least one.
        table: the operating points that could be chosen; None: not known.
        limits: of temperature and battery; None: not known.
        metric: what accuracies mean.
        sources: every shown quantity and where it comes from.
        machine: what was measured on.
        deadlines: phases, seconds, and how each was computed.
        overlay: a PNG file with a frame and the answers of two subnetworks; None: there is none.
    """

    name: str
    runs: tuple[RecordedRun, ...]
    table: OperatingPointTable | None = None
    limits: Limits | None = None
    metric: str = "accuracy"
    sources: Mapping[str, str] = field(default_factory=dict)
    machine: Mapping[str, str] = field(default_factory=dict)
    deadlines: Sequence[tuple[str, float, str]] = ()
    overlay: bytes | None = None


def write_results(folder: Path, results: Results, more: Mapping[str, Any] | None = None) -> Path:
    """Write `results.json` and the pictures into `folder`, which is made; the file.

    Args:
        more: further keys of the file, as JSON can hold them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    content: dict[str, Any] = {
        "machine": dict(results.machine),
        "sources": dict(results.sources),
        "metric": results.metric,
        "deadlines_explained": [list(deadline) for deadline in results.deadlines],
        **(more or {}),
    }
    if results.table is not None:
        content["operating_points"] = _plain_table(results.table)
    if results.limits is not None:
        content["limits"] = dataclasses.asdict(results.limits)
    content["runs"] = [
        {**to_plain(run), "pictures": _write_pictures(folder, number, run)}
        for number, run in enumerate(results.runs, start=1)
    ]
    path = folder / NAME
    write_atomically(path, json.dumps(content, allow_nan=False))
    return path


def read_results(path: Path) -> Results:
    """Read what `write_results` wrote: the folder, or its `results.json`.

    Raises:
        ValueError: says which file, which key, and what was expected.
        OSError: the file cannot be read.
    """
    file = path / NAME if path.is_dir() else path
    content = read_json(file)
    if not isinstance(content, dict) or not isinstance(content.get("runs"), list) or not content["runs"]:
        raise ValueError(f"{file}: runs: expected a list of at least one run")
    overlay = file.parent / "overlay.png"
    try:
        return Results(
            name=file.parent.resolve().name,
            runs=tuple(_read_run(plain, file.parent) for plain in content["runs"]),
            table=_read_table(content["operating_points"]) if "operating_points" in content else None,
            limits=_read_limits(content["limits"]) if "limits" in content else None,
            metric=content.get("metric", "accuracy"),
            sources=content.get("sources", {}),
            machine=content.get("machine", {}),
            deadlines=[tuple(row) for row in content.get("deadlines_explained", ())],
            overlay=overlay.read_bytes() if overlay.exists() else None,
        )
    except KeyError as error:
        raise ValueError(f"{file}: expected the key {error.args[0]!r}") from error
    except (TypeError, ValueError) as error:
        raise ValueError(f"{file}: {error}") from error


def to_plain(run: RecordedRun) -> dict[str, Any]:
    """The run as JSON can hold it, but for its pictures: every series by column; NaN becomes None."""
    plain: dict[str, Any] = {name: getattr(run, name) for name in SETTINGS}
    for name, kind in SERIES.items():
        rows = getattr(run, name)
        plain[name] = {
            UNITS.get(field.name, field.name): [_plain(getattr(row, field.name)) for row in rows]
            for field in dataclasses.fields(kind)
        }
    for name, unit in READINGS.items():
        rows = getattr(run, name)
        plain[name] = {
            "time_s": [_plain(row.time) for row in rows],
            "zone": [row.zone for row in rows],
            unit: [_plain(row.value) for row in rows],
        }
    times, values = iou_series(run)
    plain["mean_iou"] = {"time_s": _plain_column(times), "window_s": RECENT, "mean_iou": _plain_column(values)}
    plain["scores"] = {
        "time_s": [_plain(score.time) for score in run.scores],
        "confusion": [score.confusion.ravel().tolist() for score in run.scores],
    }
    return plain


def _read_run(plain: Mapping[str, Any], folder: Path) -> RecordedRun:
    run = RecordedRun(
        **{name: plain[name] for name in SETTINGS if name in plain},
        phases=tuple(_read_rows(plain, "phases", PhaseSpan)),
    )
    if not run.phases:
        raise ValueError("phases: expected at least one")
    for name in ("frames", "commands", "answers", "deadlines"):
        setattr(run, name, _read_rows(plain, name, SERIES[name]))
    for name, unit in READINGS.items():
        columns = plain.get(name, {"time_s": [], "zone": [], unit: []})
        run.__dict__[name] = [
            Reading(time, zone, _number(value)) for time, zone, value in _zip(name, columns, ("time_s", "zone", unit))
        ]
    scores = plain.get("scores", {"time_s": [], "confusion": []})
    for time, counts in _zip("scores", scores, ("time_s", "confusion")):
        classes = math.isqrt(len(counts))
        run.scores.append(Score(time, np.array(counts).reshape(classes, classes)))
    if not run.scores:
        run.iou_source = ""  # a file of an older version holds no counts
    run.pictures = [_read_picture(picture, folder) for picture in plain.get("pictures", ())]
    return run


def _read_rows(plain: Mapping[str, Any], name: str, kind: type) -> list[Any]:
    """The rows of a series; columns that have a default may be missing."""
    columns = plain[name]
    if not columns:  # an older version wrote no columns for an empty series
        return []
    fields = [
        field
        for field in dataclasses.fields(kind)
        if UNITS.get(field.name, field.name) in columns or field.default is dataclasses.MISSING
    ]
    texts = [field.type == "str" for field in fields]
    rows = _zip(name, columns, [UNITS.get(field.name, field.name) for field in fields])
    return [
        kind(**{field.name: value if text else _number(value) for field, value, text in zip(fields, row, texts)})
        for row in rows
    ]


def _zip(name: str, columns: Mapping[str, Sequence[Any]], keys: Sequence[str]) -> list[tuple[Any, ...]]:
    for key in keys:
        if key not in columns:
            raise ValueError(f"{name}: expected the column {key}")
    lengths = {key: len(columns[key]) for key in keys}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"{name}: expected columns of one length, found {lengths}")
    return list(zip(*(columns[key] for key in keys)))


def _number(value: Any) -> Any:
    return math.nan if value is None else value


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return None if math.isnan(value) else round(value, 7)
    return value


def _plain_column(values: Sequence[float]) -> list[float | None]:
    return [_plain(float(value)) for value in values]


def _plain_table(table: OperatingPointTable) -> dict[str, Any]:
    columns = {
        name: list(getattr(table, name))
        if name in TEXT_COLUMNS
        else [None if math.isnan(value) else float(value) for value in getattr(table, name)]
        for name in COLUMNS
    }
    return {
        "provenance": dict(table.provenance),
        "columns": {UNITS.get(name, name): column for name, column in columns.items()},
    }


def _read_table(plain: Mapping[str, Any]) -> OperatingPointTable:
    columns = {name: plain["columns"][UNITS.get(name, name)] for name in COLUMNS}
    return OperatingPointTable(
        **{
            name: column if name in TEXT_COLUMNS else [_number(value) for value in column]
            for name, column in columns.items()
        },
        provenance=plain["provenance"],
    )


def _read_limits(plain: Mapping[str, Any]) -> Limits:
    return Limits(plain["switch_on"], plain["control"], plain["critical"], tuple(plain["battery_thresholds"]))


def _write_pictures(folder: Path, number: int, run: RecordedRun) -> list[dict[str, Any]]:
    rows = []
    for place, picture in enumerate(run.pictures, start=1):
        files = {}
        for name in ("image", "overlay", "truth"):
            pixels = getattr(picture, name)
            if pixels is not None:
                files[name] = f"{PICTURES}/run_{number}_{place:03d}_{name}.png"
                (folder / PICTURES).mkdir(exist_ok=True)
                write_atomically(folder / files[name], encode_png(pixels))
        rows.append(
            {
                "time_s": _plain(picture.time),
                "subnetwork": picture.subnetwork,
                "labels": list(picture.labels),
                "scores": _plain_column(picture.scores),
                "mean_iou": _plain(float(picture.mean_iou)),
                **files,
            }
        )
    return rows


def _read_picture(plain: Mapping[str, Any], folder: Path) -> Picture:
    pixels = {name: _decode(folder / plain[name]) for name in ("image", "overlay", "truth") if name in plain}
    return Picture(
        plain["time_s"],
        subnetwork=plain["subnetwork"],
        labels=tuple(plain["labels"]),
        scores=tuple(plain["scores"]),
        mean_iou=_number(plain["mean_iou"]),
        **pixels,
    )


def encode_png(pixels: np.ndarray) -> bytes:
    """A PNG file of pixels, uint8 RGB [H, W, 3] or grey [H, W].

    Raises:
        ValueError: they cannot be written so.
    """
    colours = np.ascontiguousarray(pixels)
    done, data = cv2.imencode(".png", cv2.cvtColor(colours, cv2.COLOR_RGB2BGR) if pixels.ndim == 3 else colours)
    if not done:
        raise ValueError(f"a frame of {pixels.shape} cannot be written as PNG")
    return data.tobytes()


def _decode(path: Path) -> np.ndarray:
    try:
        pixels = decode_picture(path.read_bytes(), cv2.IMREAD_UNCHANGED)
    except NoPicture as error:
        raise ValueError(f"{path}: expected a PNG file: {error}") from None
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB) if pixels.ndim == 3 else pixels

"""Runs for tests: ten seconds in two phases, with and without the manager."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from tables import board

from dynamic_perception.report.recorded_run import (
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
)
from dynamic_perception.report.results_file import Results
from dynamic_perception.report.shown_run import ShownRun, show_runs

LIMITS = Limits(switch_on=60.0, control=75.0, critical=90.0, battery_thresholds=(0.3, 0.15))
PHASES = (PhaseSpan("calm", "Nothing happens.", 0.0, 5.0), PhaseSpan("heat", "It is hot.", 5.0, 10.0))
SUBNETWORKS, ELEMENTS = ["25%", "50%", "75%", "100%"], ["cpu:1", "cpu:2"]


def make_frame(time: float, latency: float = 0.004, met: bool = True, skipped: int = 0) -> Frame:
    return Frame(time, latency, latency / 2, "100%", "cpu:2", met, skipped, 0.01, 0.85)


def make_run(managed: bool = True, commands: list[Command] | None = None) -> RecordedRun:
    title = "run 1 of 2: with the manager" if managed else "run 2 of 2: fixed"
    run = RecordedRun(title, managed, PHASES, "modelled", "measured")
    run.frames = [make_frame(0.1 * i, latency=0.003 + 0.001 * (i % 4), met=i % 4 < 3) for i in range(100)]
    run.deadlines = [DeadlineChange(0.0, 0.0333), DeadlineChange(5.0, 0.005)]
    run.commands = (
        []
        if not managed
        else commands
        or [
            Command(0.0, 1, "100%", "cpu:2", "startup", True, "start"),
            Command(6.0, 2, "25%", "cpu:1", "thermal", False, "soc <b>80 C</b>, 75 C wanted"),
        ]
    )
    run.answers = [Answer(c.time, c.sequence, "applied", "", 1e-4) for c in run.commands]
    run.temperatures = [Reading(0.2 * i, "soc", 50.0 + 0.7 * i) for i in range(50)]
    run.charges = [Reading(0.2 * i, "BAT0", 0.5 - 0.005 * i) for i in range(50)]
    red = np.full((480, 640, 3), (200, 10, 10), np.uint8)
    run.pictures = [Picture(3.0, red, "100%", ("ship", "truck"), (0.8, 0.1))]
    return run


def make_scored_run(managed: bool = True) -> RecordedRun:
    """Up to 5 s one of two pixels is answered rightly, from then on every one."""
    run = make_run(managed)
    run.iou_source = "measured against a known truth"
    half, all_right = np.array([[1, 1], [0, 0]]), np.array([[1, 0], [0, 1]])
    run.scores = [Score(0.1 * i, all_right if i >= 50 else half) for i in range(100)]
    return run


def make_clocked_run() -> RecordedRun:
    """Two clocks, the second one from 4 s on, and a power rail."""
    run = make_run()
    run.title = "with clocks"
    run.answers = [Answer(0.0, 1, "applied", "", math.nan, 1.4e9), Answer(4.0, 2, "partial", "busy", 0.01, 0.8e9)]
    run.powers = [Reading(0.5 * i, "VDD_CPU", 2.0 + 0.1 * i) for i in range(20)]
    return run


def make_emulated_run(managed: bool = True) -> RecordedRun:
    """At an emulated clock that nobody commands."""
    run = make_run(managed)
    run.clock_source = "emulated"
    run.frames = [replace(frame, cpu_frequency=1e9 if managed else 2e9) for frame in run.frames]
    return run


def make_results(*runs: RecordedRun, name: str = "demo") -> Results:
    """Of these runs, or of one with and one without the manager."""
    return Results(
        name,
        runs or (make_run(), make_run(managed=False)),
        table=board(),
        limits=LIMITS,
        metric="top-1",
        sources={"latency": "measured", "energy": "modelled"},
        machine={"CPU": "a <fast> one"},
        deadlines=[("tight", 0.005, "measured & computed")],
    )


def as_shown(*runs: RecordedRun) -> Sequence[ShownRun]:
    """Those runs as they are shown."""
    return show_runs([make_results(*runs)])

"""Simulated runs as results, so that `dynamic-perception report` shows them like those of a robot."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from dynamic_perception.report.recorded_run import Command, DeadlineChange, Frame, PhaseSpan, Reading, RecordedRun
from dynamic_perception.report.results_file import Results
from dynamic_perception.simulation.boards import Board
from dynamic_perception.simulation.virtual_machine import Run

READING_PERIOD = 0.2  # [s] of temperature and battery
MODELLED = "modelled"


def simulated_results(name: str, board: Board, runs: Sequence[Run]) -> Results:
    """All runs of one trace on one board, one per manager."""
    sources = {quantity: f"{source}, by the platform's table" for quantity, source in board.table.provenance.items()}
    return Results(
        name,
        tuple(_recorded(board, run) for run in runs),
        table=board.table,
        sources={**sources, "machine": "in virtual time", **dict(board.sources)},
        machine={"platform": board.name, "trace": f"{runs[0].trace.family}, seed {runs[0].trace.seed}"},
    )


def _recorded(board: Board, run: Run) -> RecordedRun:
    trace, table = run.trace, board.table
    record = RecordedRun(
        run.manager,
        bool(run.events),
        (PhaseSpan(trace.family, "", 0.0, float(trace.arrival[-1])),),
        temperature_source=MODELLED,
        battery_source=MODELLED,
        energy_source=table.provenance.get("energy", "unknown"),
        clock_source="simulated",
    )
    lost = 0
    for i in range(len(trace)):
        row = int(run.ran[i])
        if row < 0:  # a newer frame took its place
            lost += 1
            continue
        record.frames.append(
            Frame(
                float(trace.arrival[i]),
                float(run.latency[i]),
                float(run.inference[i]),
                table.subnetwork[row],
                table.compute_element[row],
                bool(run.met[i]),
                lost,
                float(run.energy[i]),
                float(run.accuracy[i]),
                float(table.cpu_frequency[row]),
            )
        )
        lost = 0
    changes = np.flatnonzero(np.diff(trace.deadline, prepend=math.nan))
    record.deadlines = [DeadlineChange(float(trace.arrival[i]), float(trace.deadline[i])) for i in changes]
    record.commands = [_command(board, run, number, time, text) for number, (time, text) in enumerate(run.events, 1)]
    kept = np.flatnonzero(np.diff(trace.arrival // READING_PERIOD, prepend=-1.0))
    record.temperatures = [
        Reading(float(trace.arrival[i]), board.name, float(run.temperature[i]))
        for i in kept
        if not math.isnan(run.temperature[i])
    ]
    record.charges = [
        Reading(float(trace.arrival[i]), "battery", float(run.charge[i])) for i in kept if not math.isnan(run.charge[i])
    ]
    return record


def _command(board: Board, run: Run, number: int, time: float, text: str) -> Command:
    """What was decided at `time`; the explanation begins with the kind of reason."""
    decided = np.flatnonzero((run.trace.arrival <= time + 1e-9) & (run.asked >= 0))
    point = board.table[int(run.asked[decided[-1]] if len(decided) else run.asked[run.asked >= 0][0])]
    reason, _, detail = text.partition(": ")
    return Command(
        time,
        number,
        point.subnetwork,
        point.compute_element,
        reason,
        True,
        detail,
        point.cpu_frequency,
        point.gpu_frequency,
    )

"""A run while it happens: a live table for people at a terminal, or one line per event for logs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from rich.console import Console
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from dynamic_perception.report.recorded_run import (
    RECENT,
    Command,
    Limits,
    PhaseSpan,
    RecordedRun,
    describe_point,
    list_changes,
    measure_iou,
)

LATE, KEPT = "bold red", "green"


@dataclass(frozen=True)
class Snapshot:
    """What is shown of a run at one moment; NaN or None: not known yet."""

    time: float  # [s]
    phase: PhaseSpan
    point: str
    deadline: float  # [s]
    latency: float  # [s] of the last frame
    latency_p95: float  # [s] of the last RECENT seconds
    frames: int
    misses: int  # since the start
    phase_misses: int  # since the phase's start
    temperature: float  # [°C] of the hottest zone
    charge: float  # [0..1]
    recent_iou: float  # [0..1] mean IoU of the last RECENT seconds
    phase_iou: float  # [0..1] since the phase's start
    iou: float  # [0..1] since the start
    command: Command | None


def take_snapshot(run: RecordedRun, time: float) -> Snapshot:
    """The state of `run` at `time` [s], which is now."""
    phase = run.phase_at(time)
    last = run.frames[-1] if run.frames else None
    recent = [frame.latency for frame in run.frames[-500:] if frame.time >= time - RECENT]
    missed = [(frame.time, frame.skipped + (not frame.met)) for frame in run.frames if frame.skipped or not frame.met]
    newest = {reading.zone: reading.value for reading in run.temperatures[-50:]}
    return Snapshot(
        time=time,
        phase=phase,
        point=describe_point(last.subnetwork, last.element, last.cpu_frequency) if last else "",
        deadline=run.deadlines[-1].deadline if run.deadlines else math.nan,
        latency=last.latency if last else math.nan,
        latency_p95=float(np.quantile(recent, 0.95)) if recent else math.nan,
        frames=len(run.frames) + sum(frame.skipped for frame in run.frames),
        misses=sum(count for _, count in missed),
        phase_misses=sum(count for at, count in missed if at >= phase.start),
        temperature=max(newest.values(), default=math.nan),
        charge=run.charges[-1].value if run.charges else math.nan,
        recent_iou=measure_iou(run, time - RECENT, math.inf),
        phase_iou=measure_iou(run, phase.start, math.inf),
        iou=measure_iou(run, 0.0, math.inf),
        command=changes[-1] if (changes := list_changes(run)) else None,
    )


class Display(Protocol):
    """Shows a run while it happens."""

    def __enter__(self) -> Display: ...

    def __exit__(self, *error: object) -> None: ...

    def say(self, text: str) -> None:
        """One sentence about what is done now."""

    def show(self, run: RecordedRun, time: float) -> None:
        """`run` as it is at `time` [s]."""


class LiveTable:
    """A table that is drawn over itself."""

    def __init__(self, console: Console, limits: Limits):
        self._console = console
        self._limits = limits
        # Without a thread of its own: whoever shows decides when.
        self._live = Live(console=console, auto_refresh=False, transient=False)

    def __enter__(self) -> LiveTable:
        self._live.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.__exit__(*error)

    def say(self, text: str) -> None:
        self._live.update(Panel(text, border_style="dim"), refresh=True)

    def show(self, run: RecordedRun, time: float) -> None:
        self._live.update(make_table(run, take_snapshot(run, time), self._limits), refresh=True)


class EventLog:
    """One line per phase and per change of the operating point."""

    def __init__(self, console: Console):
        self._console = console
        self._phase = ""
        self._changes = 0

    def __enter__(self) -> EventLog:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def say(self, text: str) -> None:
        self._print(text)

    def show(self, run: RecordedRun, time: float) -> None:
        now = take_snapshot(run, time)
        if now.phase.name != self._phase:
            self._phase = now.phase.name
            iou = f"mean IoU {percent(now.iou)}, {run.iou_source}; " if run.iou_source else ""
            self._print(
                f"{time:6.1f} s  phase {now.phase.name}: {now.phase.text} "
                f"Deadline {milliseconds(now.deadline)}; so far {now.misses} misses of {now.frames} frames; "
                f"{iou}temperature {celsius(now.temperature)} {run.temperature_source}, "
                f"battery {percent(now.charge)} {run.battery_source}"
            )
        changes = list_changes(run)
        for command in changes[self._changes :]:
            self._print(
                f"{command.time:6.1f} s  command {command.sequence} ({command.reason}): "
                f"{describe_point(command.subnetwork, command.element, command.cpu_frequency)}: "
                f"{command.detail}"
            )
        self._changes = len(changes)

    def _print(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


def make_table(run: RecordedRun, now: Snapshot, limits: Limits) -> Panel:
    """The live table."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    duration = run.phases[-1].end
    head = Table.grid(padding=(0, 2))
    head.add_row(
        Text(now.phase.name, style="bold"),
        ProgressBar(duration, now.time, width=24),
        f"{min(now.time, duration):.0f} of {duration:.0f} s",
    )
    table.add_row("phase", head)
    table.add_row("", Text(now.phase.text, style="dim"))
    table.add_row("operating point", Text(now.point or "none yet", style="bold cyan"))
    if run.clock_source:
        table.add_row("clock", run.clock_source)
    table.add_row("deadline", milliseconds(now.deadline))
    table.add_row(
        "latency",
        Text.assemble(
            "last ",
            _against(now.latency, now.deadline),
            f", p95 of {RECENT:.0f} s ",
            _against(now.latency_p95, now.deadline),
        ),
    )
    table.add_row("misses", f"{now.misses} of {now.frames} frames, {now.phase_misses} in this phase")
    if run.iou_source:
        table.add_row(
            "mean IoU, live",
            Text.assemble(
                (percent(now.recent_iou), "bold"),
                f" of {RECENT:.0f} s, {percent(now.phase_iou)} in this phase, "
                f"{percent(now.iou)} in this run; {run.iou_source}",
            ),
        )
    hot = now.temperature >= limits.control
    table.add_row(
        "temperature",
        Text.assemble(
            (celsius(now.temperature), LATE if hot else ""), f" {run.temperature_source}, limit {limits.control:.0f} °C"
        ),
    )
    low = now.charge < max(limits.battery_thresholds, default=0.0)
    table.add_row("battery", Text.assemble((percent(now.charge), LATE if low else ""), f" {run.battery_source}"))
    if run.managed:
        command = now.command
        table.add_row(
            "last command",
            "none yet"
            if command is None
            else Text.assemble((f"{command.reason}", "bold"), f" at {command.time:.1f} s: {command.detail}"),
        )
    else:
        table.add_row("last command", Text("none: there is no manager in this run", style="dim"))
    return Panel(table, title=run.title, title_align="left", border_style="blue" if run.managed else "dark_orange")


def _against(latency: float, deadline: float) -> tuple[str, str]:
    return milliseconds(latency), LATE if latency > deadline else KEPT


def milliseconds(seconds: float) -> str:
    """[ms] for people."""
    return "–" if math.isnan(seconds) else f"{1e3 * seconds:.1f} ms"


def celsius(temperature: float) -> str:
    """[°C] for people."""
    return "–" if math.isnan(temperature) else f"{temperature:.1f} °C"


def percent(share: float) -> str:
    """[%] of a share [0..1], for people; never broken between lines."""
    return "–" if math.isnan(share) else f"{100 * share:.0f}\N{NO-BREAK SPACE}%"

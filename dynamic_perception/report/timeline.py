"""One picture of two runs of the same scenario, with and without the manager, over time."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from dynamic_perception.report.recorded_run import (
    RECENT, Limits, PhaseSummary, Reading, RecordedRun, iou_series, list_changes, summarise)

# Okabe and Ito's palette, which colour-blind people can tell apart; the reasons have two darker colours more.
MANAGED, FIXED, LIMIT, INK, FAINT = "#0072B2", "#D55E00", "#000000", "#222222", "#6B6B6B"
BANDS = ("#F3F3F1", "#FFFFFF")
REASON_COLOURS = {"startup": "#999999", "deadline": "#CC79A7", "contention": "#009E73", "thermal": "#882255",
                  "battery": "#B07A00", "target": "#56B4E9", "stale input": "#999999", "manual": "#999999"}
WIDTH, HEIGHT, DPI = 10.0, 10.4, 200  # [inch], [inch], [pixel/inch]: sharp at 1000 pixels on any screen
ROWS = {"latency": 3.2, "subnetwork": 2.3, "element": 1.0, "temperature": 1.6, "battery": 1.3, "misses": 1.5}
IOU_ROW = {"iou": 1.5}  # where the truth is known
CLOCK_ROW = {"clock": 1.3}  # where it is set
ORDER = ("latency", "subnetwork", "element", "clock", "temperature", "battery", "misses", "iou")
CHARACTER = 0.078  # [inch] a little more than the mean width of a character of the names and reasons
LABEL = 0.62  # [inch] what an axis' label and its distance to the names take
LEFT = 0.105  # of the width, at the least
FONT = {"text": 9.5, "small": 8.5, "title": 13}


def draw_timeline(managed: RecordedRun, fixed: RecordedRun, limits: Limits, subnetworks: Sequence[str],
                  elements: Sequence[str], path: Path) -> None:
    """Draw `make_timeline` as a PNG to `path`."""
    make_timeline(managed, fixed, limits, subnetworks, elements).savefig(path)


def make_timeline(managed: RecordedRun, fixed: RecordedRun, limits: Limits, subnetworks: Sequence[str],
                  elements: Sequence[str]) -> Figure:
    """The picture of both runs.

    Args:
        managed, fixed: the same scenario with the manager, and at the fixed largest subnetwork.
        limits: of temperature and battery.
        subnetworks, elements: all of them, from small to large.
    """
    ratios = ROWS | (IOU_ROW if managed.iou_source else {}) | (CLOCK_ROW if managed.clock_source else {})
    ratios = {name: ratios[name] for name in ORDER if name in ratios}
    taller = sum(ratios.values()) / sum(ROWS.values())
    figure = Figure(figsize=(WIDTH, HEIGHT * taller), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    left = max(LEFT, (CHARACTER * max(map(len, (*subnetworks, *elements))) + LABEL) / WIDTH)
    grid = figure.add_gridspec(len(ratios), 1, height_ratios=list(ratios.values()), left=left, right=0.985,
                               top=1 - 0.1 / taller, bottom=0.05 / taller, hspace=0.16)
    rows = {name: figure.add_subplot(grid[number]) for number, name in enumerate(ratios)}
    for name, axes in rows.items():
        _prepare(axes, managed, last=name == list(ratios)[-1])
    _draw_latency(rows["latency"], managed, fixed)
    _draw_choice(rows["subnetwork"], managed, fixed, "subnetwork", subnetworks)
    _draw_reasons(rows["subnetwork"], managed, len(subnetworks))
    _draw_choice(rows["element"], managed, fixed, "element", elements)
    _draw_temperature(rows["temperature"], managed, fixed, limits)
    _draw_battery(rows["battery"], managed, fixed, limits)
    _draw_misses(rows["misses"], managed, summarise(managed), summarise(fixed))
    if managed.iou_source:
        _draw_iou(rows["iou"], managed, fixed)
    if managed.clock_source:
        _draw_clock(rows["clock"], managed, fixed)
    _draw_head(figure, rows["latency"], managed, taller)
    figure.align_ylabels(list(rows.values()))
    return figure


def _prepare(axes: Axes, run: RecordedRun, last: bool) -> None:
    """Phases as bands, light frame, time along the bottom of the last row."""
    for number, phase in enumerate(run.phases):
        axes.axvspan(phase.start, phase.end, color=BANDS[number % 2], zorder=0, linewidth=0)
    axes.set_xlim(0, run.phases[-1].end)
    axes.tick_params(labelsize=FONT["small"], colors=INK, length=3, labelbottom=last)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color("#AAAAAA")
    axes.grid(axis="y", color="#E2E2E0", linewidth=0.7, zorder=0.5)
    axes.set_axisbelow(True)
    if last:
        axes.set_xlabel("time since the start [s]", fontsize=FONT["text"], color=INK)


def _label(axes: Axes, text: str) -> None:
    axes.set_ylabel(text, fontsize=FONT["text"], color=INK)


def _draw_head(figure: Figure, top: Axes, run: RecordedRun, taller: float) -> None:
    figure.text(0.012, 1 - 0.017 / taller,
                "Perception under changing limits: with the manager, and at the fixed largest subnetwork",
                fontsize=FONT["title"], fontweight="bold", color=INK, va="top")
    for phase in run.phases:
        top.text((phase.start + phase.end) / 2, 1.03, phase.name, transform=top.get_xaxis_transform(), ha="center",
                 fontsize=FONT["text"], fontweight="bold", color=INK)
    handles = [
        top.plot([], [], color=MANAGED, marker="o", linewidth=2, markersize=5, label="with the manager")[0],
        top.plot([], [], color=FIXED, marker="o", linewidth=2, markersize=5, label="fixed largest subnetwork")[0],
        top.plot([], [], color=LIMIT, linewidth=1.4, label="deadline")[0],
        top.plot([], [], color=FAINT, linewidth=1, linestyle=(0, (4, 3)), label="limits that the manager keeps to")[0],
    ]
    figure.legend(handles=handles, loc="upper left", bbox_to_anchor=(0.006, 1 - 0.034 / taller), ncols=4, frameon=False,
                  fontsize=FONT["text"], columnspacing=1.8, handlelength=1.8)


def _draw_latency(axes: Axes, managed: RecordedRun, fixed: RecordedRun) -> None:
    for run, colour in ((fixed, FIXED), (managed, MANAGED)):
        axes.plot([f.time for f in run.frames], [1e3 * f.latency for f in run.frames], ".", color=colour,
                  markersize=3.2, alpha=0.55, markeredgewidth=0, zorder=2)
    ends = [change.time for change in managed.deadlines[1:]] + [managed.phases[-1].end]
    for change, end in zip(managed.deadlines, ends):
        axes.plot([change.time, end], 2 * [1e3 * change.deadline], color=LIMIT, linewidth=1.6, zorder=3)
    latencies = 1e3 * np.array([f.latency for run in (managed, fixed) for f in run.frames])
    deadlines = [1e3 * change.deadline for change in managed.deadlines]
    axes.set_yscale("log")
    axes.set_ylim(0.8 * min(latencies.min(), *deadlines), 1.3 * max(latencies.max(), *deadlines))
    axes.yaxis.set_major_locator(FixedLocator([1, 2, 5, 10, 20, 50, 100, 200, 500, 1000]))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    _label(axes, "latency of a frame\n[ms]")


def _draw_choice(axes: Axes, managed: RecordedRun, fixed: RecordedRun, attribute: str, names: Sequence[str]) -> None:
    """The subnetwork or the element of every frame as steps."""
    position = {name: number for number, name in enumerate(names)}
    for run, colour, style in ((fixed, FIXED, (0, (5, 2))), (managed, MANAGED, "solid")):
        times = [frame.time for frame in run.frames]
        levels = [position[getattr(frame, attribute)] for frame in run.frames]
        axes.step(times, levels, where="post", color=colour, linewidth=2.0 if run is managed else 1.4, linestyle=style,
                  zorder=3, solid_joinstyle="miter")
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(-0.45, len(names) - 0.55)
    _label(axes, "compute\nelement" if attribute == "element" else attribute)


def _draw_reasons(axes: Axes, run: RecordedRun, levels: int) -> None:
    """A line for every change of the point, and the reason beside the first of a series where there is room."""
    axes.set_ylim(-0.45, levels + 0.75)
    lanes = {levels + 0.35: -math.inf, levels - 0.3: -math.inf}  # height of a row of text -> [s] taken up to there
    per_inch = run.phases[-1].end / (WIDTH * axes.get_position().width)  # [s/inch]
    last = ("", "")
    for command in list_changes(run):
        colour = REASON_COLOURS[command.reason]
        axes.vlines(command.time, -0.45, levels - 0.65, color=colour, linewidth=0.9, alpha=0.8, zorder=1)
        width = CHARACTER * (len(command.reason) + 1) * per_inch
        start = min(command.time + 0.03 * per_inch, run.phases[-1].end - width)
        series = command.reason, run.phase_at(command.time).name
        lane = next((height for height, taken in lanes.items() if taken < start), None)
        if series != last and lane is not None:
            last = series
            axes.text(start, lane, command.reason, color=colour, fontsize=FONT["small"], fontweight="bold", va="center",
                      zorder=4)
            lanes[lane] = start + width


def _draw_temperature(axes: Axes, managed: RecordedRun, fixed: RecordedRun, limits: Limits) -> None:
    for run, colour in ((fixed, FIXED), (managed, MANAGED)):
        _draw_readings(axes, run.temperatures, colour, 1.0)
    for value, name in ((limits.control, "control"), (limits.critical, "critical")):
        _draw_limit(axes, value, f"{name} {value:g} °C", managed.phases[-1].end)
    low, high = axes.get_ylim()
    axes.set_ylim(low, max(high, limits.critical + 6))
    _label(axes, f"temperature\n{managed.temperature_source} [°C]")


def _draw_battery(axes: Axes, managed: RecordedRun, fixed: RecordedRun, limits: Limits) -> None:
    for run, colour in ((fixed, FIXED), (managed, MANAGED)):
        _draw_readings(axes, run.charges, colour, 100.0)
    for value in limits.battery_thresholds:
        _draw_limit(axes, 100 * value, f"below {100 * value:g} %", managed.phases[-1].end)
    axes.set_ylim(0, max(60.0, axes.get_ylim()[1]))
    _label(axes, f"battery\n{managed.battery_source} [%]")


def _draw_readings(axes: Axes, readings: Sequence[Reading], colour: str, scale: float) -> None:
    for zone in dict.fromkeys(reading.zone for reading in readings):
        mine = [reading for reading in readings if reading.zone == zone]
        axes.plot([r.time for r in mine], [scale * r.value for r in mine], color=colour, linewidth=1.8, zorder=3)


def _draw_limit(axes: Axes, value: float, text: str, end: float) -> None:
    axes.axhline(value, color=FAINT, linewidth=1, linestyle=(0, (4, 3)), zorder=2)
    axes.text(0.006 * end, value, text, fontsize=FONT["small"], color=FAINT, ha="left", va="bottom", zorder=4)


def _draw_misses(axes: Axes, run: RecordedRun, managed: Sequence[PhaseSummary], fixed: Sequence[PhaseSummary]) -> None:
    """Two bars for every phase."""
    width = 0.028 * run.phases[-1].end
    highest = 0.0
    for phase, with_manager, without in zip(run.phases, managed, fixed):
        middle = (phase.start + phase.end) / 2
        for summary, colour, side in ((with_manager, MANAGED, -0.62), (without, FIXED, 0.62)):
            if not summary.frames:
                continue
            value = 100 * summary.miss_rate
            highest = max(highest, value)
            at = middle + side * width * 1.35
            axes.bar(at, value, width, color=colour, zorder=3)
            text = f"{value:.0f} %" if value >= 9.95 or value == 0 else f"{value:.1f} %"
            axes.annotate(text, (at, value), (0, 2), textcoords="offset points", ha="center", color=colour,
                          fontsize=FONT["small"], fontweight="bold")
    axes.set_ylim(0, max(10.0, 1.3 * highest))
    _label(axes, "missed\ndeadlines [%]")


def _draw_iou(axes: Axes, managed: RecordedRun, fixed: RecordedRun) -> None:
    highest = 10.0
    for run, colour in ((fixed, FIXED), (managed, MANAGED)):
        times, values = iou_series(run)
        highest = max(100 * values.max(initial=0.0), highest)
        axes.plot(times, 100 * values, color=colour, linewidth=1.8, zorder=3)
    axes.set_ylim(0, 1.15 * highest)
    axes.text(0.006 * managed.phases[-1].end, 0.04 * highest, managed.iou_source, fontsize=FONT["small"], color=FAINT,
              ha="left", va="bottom", zorder=4)
    _label(axes, f"mean IoU\nof {RECENT:g} s [%]")


def _draw_clock(axes: Axes, managed: RecordedRun, fixed: RecordedRun) -> None:
    for run, colour, style in ((fixed, FIXED, (0, (5, 2))), (managed, MANAGED, "solid")):
        axes.step([frame.time for frame in run.frames], [1e-9 * frame.cpu_frequency for frame in run.frames],
                  where="post", color=colour, linewidth=2.0 if run is managed else 1.4, linestyle=style, zorder=3)
    highest = axes.get_ylim()[1]
    axes.set_ylim(0, 1.15 * highest)
    axes.text(0.006 * managed.phases[-1].end, 0.04 * highest, managed.clock_source, fontsize=FONT["small"], color=FAINT,
              ha="left", va="bottom", zorder=4)
    _label(axes, "CPU clock\n[GHz]")

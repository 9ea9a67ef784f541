"""One picture of runs over time, for papers and the README: the page has the same, to zoom into."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from dynamic_perception.report.picture_style import FAINT, FONT, INK, LIMIT, light_frame, new_figure
from dynamic_perception.report.recorded_run import RECENT, Reading, RecordedRun, iou_series, list_changes, summarise
from dynamic_perception.report.shown_run import ShownRun, list_elements, list_subnetworks

BANDS = ("#F3F3F1", "#FFFFFF")
REASON_COLOURS = {
    "startup": "#7A7A7A",
    "deadline": "#CC79A7",
    "contention": "#009E73",
    "thermal": "#882255",
    "battery": "#B07A00",
    "target": "#2B8CBE",
    "stale input": "#7A7A7A",
    "manual": "#7A7A7A",
}
LINES = {"solid": "solid", "dash": (0, (5, 2)), "dot": (0, (1, 1.5))}
WIDTH, HEIGHT = 10.0, 10.4  # [inch]
ROWS = {
    "latency": 3.2,
    "subnetwork": 2.3,
    "element": 1.0,
    "clock": 1.3,
    "temperature": 1.6,
    "battery": 1.3,
    "power": 1.3,
    "misses": 1.5,
    "iou": 1.5,
}
CHARACTER = 0.078  # [inch] a little more than the mean width of a character of the names and reasons
LABEL = 0.62  # [inch] what an axis' label and its distance to the names take
LEFT = 0.105  # of the width, at the least
# How these are known may differ between runs, and then each way has a row of its own: attributes of RecordedRun.
SOURCES = {"temperature": ("temperatures", "temperature_source"), "battery": ("charges", "battery_source")}


def draw_timeline(shown: Sequence[ShownRun], path: Path) -> None:
    """Draw `make_timeline` as a PNG to `path`."""
    make_timeline(shown).savefig(path)


def make_timeline(shown: Sequence[ShownRun]) -> Figure:
    """The picture of runs; phases, deadlines, limits and reasons are those of the first one, which lies on top."""
    first = shown[0]
    subnetworks, elements = list_subnetworks(shown), list_elements(shown)
    of_rows = _rows_of(shown)
    ratios = {row: ROWS[row[0]] for row in of_rows}
    ratios["subnetwork", ""] *= max(1.0, len(subnetworks) / 7)
    taller = sum(ratios.values()) / 10.9
    figure = new_figure(WIDTH, HEIGHT * taller)
    left = max(LEFT, (CHARACTER * max(map(len, (*subnetworks, *elements))) + LABEL) / WIDTH)
    grid = figure.add_gridspec(
        len(ratios),
        1,
        height_ratios=list(ratios.values()),
        left=left,
        right=0.985,
        top=1 - 0.1 / taller,
        bottom=0.05 / taller,
        hspace=0.16,
    )
    rows = {row: figure.add_subplot(grid[number]) for number, row in enumerate(ratios)}
    end = max(one.end for one in shown)
    for row, axes in rows.items():
        _prepare(axes, first.run, end, last=row == list(ratios)[-1])
    _draw_latency(rows["latency", ""], shown)
    _draw_choice(rows["subnetwork", ""], shown, "subnetwork", subnetworks)
    _draw_reasons(rows["subnetwork", ""], first.run, len(subnetworks))
    _draw_choice(rows["element", ""], shown, "element", elements)
    draw = {
        "clock": _draw_clock,
        "temperature": _draw_temperature,
        "battery": _draw_battery,
        "power": _draw_power,
        "misses": _draw_misses,
        "iou": _draw_iou,
    }
    for (name, source), axes in rows.items():
        if name in draw:
            draw[name](axes, of_rows[name, source])
    _draw_head(figure, rows["latency", ""], shown, taller)
    figure.align_ylabels(list(rows.values()))
    return figure


def _rows_of(shown: Sequence[ShownRun]) -> dict[tuple[str, str], Sequence[ShownRun]]:
    """The rows that something is known for, by name and source, and the runs that each is of.

    The source is empty where all runs' values are known in the same way.
    """
    known = {
        "clock": any(one.clocks for one in shown),
        "power": any(one.run.powers for one in shown),
        "iou": any(one.run.iou_source for one in shown),
    }
    rows: dict[tuple[str, str], Sequence[ShownRun]] = {}
    for name in ROWS:
        if name in SOURCES:
            readings, source = SOURCES[name]
            for one in shown:
                if getattr(one.run, readings):
                    rows.setdefault((name, getattr(one.run, source)), []).append(one)
        elif known.get(name, True):
            rows[name, ""] = shown
    return rows


def _prepare(axes: Axes, run: RecordedRun, end: float, last: bool) -> None:
    """Phases as bands, light frame, time along the bottom of the last row."""
    for number, phase in enumerate(run.phases):
        axes.axvspan(phase.start, phase.end, color=BANDS[number % 2], zorder=0, linewidth=0)
    axes.set_xlim(0, end)
    light_frame(axes, "y")
    axes.tick_params(labelbottom=last)
    if last:
        axes.set_xlabel("time since the start [s]", fontsize=FONT["text"], color=INK)


def _label(axes: Axes, text: str) -> None:
    axes.set_ylabel(text, fontsize=FONT["text"], color=INK)


def _draw_head(figure: Figure, top: Axes, shown: Sequence[ShownRun], taller: float) -> None:
    figure.text(
        0.012, 1 - 0.017 / taller, _title(shown), fontsize=FONT["title"], fontweight="bold", color=INK, va="top"
    )
    for phase in shown[0].run.phases if len(shown[0].run.phases) > 1 else ():
        top.text(
            (phase.start + phase.end) / 2,
            1.03,
            phase.name,
            transform=top.get_xaxis_transform(),
            ha="center",
            fontsize=FONT["text"],
            fontweight="bold",
            color=INK,
        )
    handles = [
        top.plot(
            [], [], color=one.colour, marker="o", linestyle=LINES[one.dash], linewidth=2, markersize=5, label=one.label
        )[0]
        for one in shown
    ]
    handles.append(top.plot([], [], color=LIMIT, linewidth=1.4, label="deadline")[0])
    if shown[0].results.limits is not None:
        handles.append(
            top.plot([], [], color=FAINT, linewidth=1, linestyle=(0, (4, 3)), label="limits that the manager keeps to")[
                0
            ]
        )
    needed = sum(CHARACTER * len(handle.get_label()) + 0.55 for handle in handles)  # [inch]
    columns = len(handles) if needed <= WIDTH else -(-len(handles) // 2)  # three rows find no room above the phases
    figure.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(0.006, 1 - 0.034 / taller),
        ncols=columns,
        frameon=False,
        fontsize=FONT["text"],
        columnspacing=1.8,
        handlelength=1.8,
    )


def _title(shown: Sequence[ShownRun]) -> str:
    names = " and ".join(dict.fromkeys(one.results.name for one in shown))
    if len(shown) == 2 and [one.run.managed for one in shown] == [True, False]:
        return "Perception under changing limits: with the manager, and at the fixed largest subnetwork"
    return f"Perception over time: {names}" if len(names) < 60 else f"Perception over time: {len(shown)} runs"


def _draw_latency(axes: Axes, shown: Sequence[ShownRun]) -> None:
    for one in reversed(shown):
        axes.plot(
            one.times,
            [1e3 * f.latency for f in one.run.frames],
            ".",
            color=one.colour,
            markersize=3.2,
            alpha=0.55,
            markeredgewidth=0,
            zorder=2,
        )
    first = shown[0]
    ends = [change.time for change in first.run.deadlines[1:]] + [first.end]
    for change, end in zip(first.run.deadlines, ends):
        axes.plot([change.time, end], 2 * [1e3 * change.deadline], color=LIMIT, linewidth=1.6, zorder=3)
    deadlines = [1e3 * change.deadline for change in first.run.deadlines if not math.isnan(change.deadline)]
    values = [1e3 * f.latency for one in shown for f in one.run.frames] + deadlines
    axes.set_yscale("log")
    if values:
        axes.set_ylim(0.8 * min(values), 1.3 * max(values))
    axes.yaxis.set_major_locator(FixedLocator([1, 2, 5, 10, 20, 50, 100, 200, 500, 1000]))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    _label(axes, "latency of a frame\n[ms]")


def _draw_choice(axes: Axes, shown: Sequence[ShownRun], attribute: str, names: Sequence[str]) -> None:
    """The subnetwork or the element of every frame as steps."""
    position = {name: number for number, name in enumerate(names)}
    for one in reversed(shown):
        levels = [position[getattr(frame, attribute)] for frame in one.run.frames]
        axes.step(
            one.times,
            levels,
            where="post",
            color=one.colour,
            linewidth=2.0 if one is shown[0] else 1.4,
            linestyle="solid" if one is shown[0] else LINES["dash"],
            zorder=3,
            solid_joinstyle="miter",
        )
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(-0.45, len(names) - 0.55)
    _label(axes, "compute\nelement" if attribute == "element" else attribute)


def _draw_reasons(axes: Axes, run: RecordedRun, levels: int) -> None:
    """A line for every change of the point, and the reason beside the first of a series where there is room."""
    line = 0.65 * max(1.0, levels / 7)  # as the text is high, in levels
    axes.set_ylim(-0.45, levels - 0.3 + 1.6 * line)
    lanes = {levels - 0.3 + line: -math.inf, levels - 0.3: -math.inf}  # height of a row of text -> [s] taken up to
    end = axes.get_xlim()[1]
    per_inch = end / (WIDTH * axes.get_position().width)  # [s/inch]
    last = ("", "")
    for command in list_changes(run):
        colour = REASON_COLOURS.get(command.reason, FAINT)
        axes.vlines(command.time, -0.45, levels - 0.65, color=colour, linewidth=0.9, alpha=0.8, zorder=1)
        width = CHARACTER * (len(command.reason) + 1) * per_inch
        start = min(command.time + 0.03 * per_inch, end - width)
        series = command.reason, run.phase_at(command.time).name
        lane = next((height for height, taken in lanes.items() if taken < start), None)
        if series != last and lane is not None:
            last = series
            axes.text(
                start,
                lane,
                command.reason,
                color=colour,
                fontsize=FONT["small"],
                fontweight="bold",
                va="center",
                zorder=4,
            )
            lanes[lane] = start + width


def _draw_clock(axes: Axes, shown: Sequence[ShownRun]) -> None:
    for one in reversed(shown):
        for kind, values in one.clocks.items():
            axes.step(
                one.times,
                values / 1e9,
                where="post",
                color=one.colour,
                linewidth=1.8,
                zorder=3,
                linestyle="solid" if kind == "cpu" else LINES["dot"],
            )
    highest = axes.get_ylim()[1]
    axes.set_ylim(0, 1.15 * highest)
    source = next((one.run.clock_source for one in shown if one.run.clock_source), "")
    axes.text(
        0.006 * axes.get_xlim()[1],
        0.04 * highest,
        source,
        fontsize=FONT["small"],
        color=FAINT,
        ha="left",
        va="bottom",
        zorder=4,
    )
    kinds = {kind for one in shown for kind in one.clocks}
    _label(axes, "CPU (dotted: GPU)\nclock [GHz]" if len(kinds) > 1 else f"{kinds.pop().upper()} clock\n[GHz]")


def _draw_temperature(axes: Axes, shown: Sequence[ShownRun]) -> None:
    _draw_readings(axes, shown, "temperatures", 1.0)
    limits = shown[0].results.limits
    if limits is not None:
        for value, name in ((limits.control, "control"), (limits.critical, "critical")):
            _draw_limit(axes, value, f"{name} {value:g} °C")
        low, high = axes.get_ylim()
        axes.set_ylim(low, max(high, limits.critical + 6))
    _label(axes, f"temperature\n{shown[0].run.temperature_source} [°C]")


def _draw_battery(axes: Axes, shown: Sequence[ShownRun]) -> None:
    _draw_readings(axes, shown, "charges", 100.0)
    limits = shown[0].results.limits
    for value in limits.battery_thresholds if limits is not None else ():
        _draw_limit(axes, 100 * value, f"below {100 * value:g} %")
    axes.set_ylim(0, max(60.0, axes.get_ylim()[1]))
    _label(axes, f"battery\n{shown[0].run.battery_source} [%]")


def _draw_power(axes: Axes, shown: Sequence[ShownRun]) -> None:
    _draw_readings(axes, shown, "powers", 1.0)
    axes.set_ylim(min(0.0, axes.get_ylim()[0]), 1.1 * axes.get_ylim()[1])
    _label(axes, "power\nmeasured [W]")


def _draw_readings(axes: Axes, shown: Sequence[ShownRun], name: str, scale: float) -> None:
    for one in reversed(shown):
        readings: Sequence[Reading] = getattr(one.run, name)
        for zone in dict.fromkeys(reading.zone for reading in readings):
            mine = [reading for reading in readings if reading.zone == zone]
            axes.plot(
                [r.time for r in mine],
                [scale * r.value for r in mine],
                color=one.colour,
                linewidth=1.8,
                linestyle=LINES[one.dash],
                zorder=3,
            )


def _draw_limit(axes: Axes, value: float, text: str) -> None:
    axes.axhline(value, color=FAINT, linewidth=1, linestyle=(0, (4, 3)), zorder=2)
    axes.text(
        0.006 * axes.get_xlim()[1], value, text, fontsize=FONT["small"], color=FAINT, ha="left", va="bottom", zorder=4
    )


def _draw_misses(axes: Axes, shown: Sequence[ShownRun]) -> None:
    """A bar per run for every phase of the first one."""
    spans = shown[0].run.phases
    slot = min(span.end - span.start for span in spans) / (1.9 * len(shown))
    width = min(slot * 0.8, 0.028 * axes.get_xlim()[1])
    step = min(slot * 1.6, 1.24 * 1.35 * width)
    highest = 0.0
    for place, one in enumerate(shown):
        of_phase = {summary.phase: summary for summary in summarise(one.run)[:-1]}
        for span in spans:
            summary = of_phase.get(span.name)
            if summary is None or not summary.frames:
                continue
            value = 100 * summary.miss_rate
            highest = max(highest, value)
            at = (span.start + span.end) / 2 + (place - (len(shown) - 1) / 2) * step
            axes.bar(at, value, width, color=one.colour, zorder=3)
            if len(shown) <= 2 or len(spans) == 1:
                text = f"{value:.0f} %" if value >= 9.95 or value == 0 else f"{value:.1f} %"
                axes.annotate(
                    text,
                    (at, value),
                    (0, 2),
                    textcoords="offset points",
                    ha="center",
                    color=one.colour,
                    fontsize=FONT["small"],
                    fontweight="bold",
                )
    axes.set_ylim(0, max(10.0, 1.3 * highest))
    _label(axes, "missed\ndeadlines [%]")


def _draw_iou(axes: Axes, shown: Sequence[ShownRun]) -> None:
    highest = 10.0
    for one in reversed(shown):
        times, values = iou_series(one.run)
        highest = max(100 * values.max(initial=0.0), highest)
        axes.plot(times, 100 * values, color=one.colour, linewidth=1.8, zorder=3)
    axes.set_ylim(0, 1.15 * highest)
    source = next(one.run.iou_source for one in shown if one.run.iou_source)
    axes.text(
        0.006 * axes.get_xlim()[1],
        0.04 * highest,
        source,
        fontsize=FONT["small"],
        color=FAINT,
        ha="left",
        va="bottom",
        zorder=4,
    )
    _label(axes, f"mean IoU\nof {RECENT:g} s [%]")

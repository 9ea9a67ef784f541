"""Pictures of simulated managers on one trace: what they did over time, energy against error, missed deadlines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dynamic_perception.report.picture_style import FAINT, FONT, INK, LIMIT, light_frame, new_figure, write_out
from dynamic_perception.report.timeline import REASON_COLOURS
from dynamic_perception.simulation.boards import Board
from dynamic_perception.simulation.summary import Summary, summarise
from dynamic_perception.simulation.trace import slow_downs
from dynamic_perception.simulation.virtual_machine import Run

# Okabe and Ito's colours; ours keeps the manager's of the other pictures, the oracle is black.
COLOURS = {
    "ours": "#0072B2",
    "oracle": "#000000",
    "ALERT": "#009E73",
    "network only": "#CC79A7",
    "schedutil": "#D55E00",
    "fixed largest": "#B07A00",
    "fixed smallest": "#7A7A7A",
    "performance": "#882255",
    "powersave": "#56B4E9",
    "ours, default settings": "#5B9BD0",
    "ALERT as published": "#66C2A5",
    "schedutil, best element": "#F0A070",
}
STYLES = {"oracle": (0, (1.2, 1.2))}
WIDTH = 11.0  # [inch]
TIMELINE_ROWS = {
    "latency": 2.6,
    "reasons": 0.9,
    "subnetwork": 1.7,
    "element": 1.7,
    "clock": 1.3,
    "energy": 1.6,
    "machine": 1.2,
    "temperature": 1.2,
}  # relative heights
MOST_IN_TIMELINE = 4  # managers: more lines than that hide each other
CHARACTER = 0.072  # [inch] of small text


def draw_all(board: Board, runs: Sequence[Run], objective: str, folder: Path) -> list[Path]:
    """Write `timeline.png`, `energy_error.png` (if energy is known) and `misses.png`; gives the files."""
    pictures = {"timeline.png": make_timeline(board, runs, objective), "misses.png": make_misses(board, runs)}
    if not np.isnan(board.table.energy).any():
        pictures["energy_error.png"] = make_energy_error(board, runs, objective)
    paths = []
    for name, figure in pictures.items():
        partial = folder / f".{name}.partial"
        figure.savefig(partial, format="png")
        partial.replace(folder / name)
        paths.append(folder / name)
    return paths


def colour_of(manager: str) -> str:
    return COLOURS.get(manager, FAINT)


def _prepare(axes: Axes, label: str, grid: str = "y") -> None:
    axes.set_ylabel(label, fontsize=FONT["text"], color=INK)
    light_frame(axes, grid)


def _title(figure: Figure, board: Board, run: Run, what: str) -> None:
    height = figure.get_figheight()
    trace = run.trace
    figure.text(0.012, 1 - 0.1 / height, what, fontsize=FONT["title"], fontweight="bold", color=INK, va="top")
    latency, energy = (board.table.provenance.get(name, "not known") for name in ("latency", "energy"))
    figure.text(
        0.012,
        1 - 0.36 / height,
        f"{board.name}, trace {trace.family} (seed {trace.seed}), {len(trace)} "
        f"frames; latency {latency}, energy {energy}, simulated",
        fontsize=FONT["text"],
        color=FAINT,
        va="top",
    )


# ---- over time


def make_timeline(board: Board, runs: Sequence[Run], objective: str) -> Figure:
    """Latency, subnetwork, element and clock, energy, slow-down of the machine and temperature over time."""
    shown = _shown(runs)
    ratios = dict(TIMELINE_ROWS)
    if not (board.clock > 0).any():
        del ratios["clock"]
    if np.isnan(board.table.energy).all():
        del ratios["energy"]
    figure = new_figure(WIDTH, 1.1 + 0.95 * sum(ratios.values()))
    height = figure.get_figheight()
    longest = max(map(len, (*board.table.subnetwork, *board.table.elements)))
    grid = figure.add_gridspec(
        len(ratios),
        1,
        height_ratios=list(ratios.values()),
        left=0.075 + 0.0035 * longest,
        right=0.985,
        top=1 - 0.98 / height,
        bottom=0.5 / height,
        hspace=0.16,
    )
    rows = {name: figure.add_subplot(grid[number]) for number, name in enumerate(ratios)}
    end = float(runs[0].trace.arrival[-1])
    for name, axes in rows.items():
        axes.set_xlim(0, end)
        axes.tick_params(labelbottom=name == list(ratios)[-1])
    _draw_latency(rows["latency"], shown)
    _draw_reasons(rows["reasons"], shown, end)
    names = [
        name for name, _ in sorted(dict(zip(board.table.subnetwork, board.table.accuracy)).items(), key=lambda e: e[1])
    ]
    _draw_steps(rows["subnetwork"], shown, names, board.table.subnetwork, "subnetwork")
    elements = list(board.table.elements)[::-1]
    _draw_steps(rows["element"], shown, elements, board.table.compute_element, "compute\nelement")
    if "clock" in rows:
        _draw_column(rows["clock"], shown, lambda run: _of_rows(run, board.clock / 1e6), "clock\n[MHz]", step=True)
    if "energy" in rows:
        _draw_column(rows["energy"], shown, lambda run: 1e3 * run.energy, "energy\n[mJ]")
        rows["energy"].set_yscale("log")
        write_out(rows["energy"].yaxis)
        if objective == "accuracy" and np.isfinite(runs[0].trace.max_energy).all():
            _draw_limit(rows["energy"], runs[0], 1e3 * runs[0].trace.max_energy)
    _draw_machine(rows["machine"], board, runs[0])
    _draw_column(rows["temperature"], shown, lambda run: run.temperature, "hottest\n[°C]")
    for trip in board.trips:
        _low, high = rows["temperature"].get_ylim()
        if trip.celsius < high + 8:
            rows["temperature"].axhline(trip.celsius, color=FAINT, linewidth=1, linestyle=(0, (4, 3)))
            rows["temperature"].text(
                0.004 * end,
                trip.celsius,
                f"throttles from {trip.celsius:g} °C",
                fontsize=FONT["small"] - 1,
                color=FAINT,
                va="bottom",
            )
    list(rows.values())[-1].set_xlabel("time [s]", fontsize=FONT["text"], color=INK)
    wanted = {"energy": "Least energy at a floor of accuracy", "accuracy": "Most accuracy within a budget of energy"}
    _title(figure, board, runs[0], f"{wanted[objective]}: what the managers did")
    _draw_legend(figure, rows["latency"], shown, height)
    figure.align_ylabels(list(rows.values()))
    return figure


def _shown(runs: Sequence[Run]) -> list[Run]:
    """Those of the timeline, ours drawn last."""
    order = [run for run in runs if run.manager == "ours"] + [run for run in runs if run.manager != "ours"]
    return order[:MOST_IN_TIMELINE][::-1]


def _draw_legend(figure: Figure, axes: Axes, shown: Sequence[Run], height: float) -> None:
    handles = [
        axes.plot(
            [],
            [],
            color=colour_of(run.manager),
            linewidth=2.2,
            linestyle=STYLES.get(run.manager, "solid"),
            label=run.manager,
        )[0]
        for run in shown[::-1]
    ]
    handles.append(axes.plot([], [], color=LIMIT, linewidth=1.6, label="deadline")[0])
    figure.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(0.006, 1 - 0.58 / height),
        ncols=len(handles),
        frameon=False,
        fontsize=FONT["text"],
        columnspacing=1.8,
        handlelength=1.8,
    )


def _draw_latency(axes: Axes, shown: Sequence[Run]) -> None:
    _prepare(axes, "latency of a\nframe [ms]")
    for run in shown:
        axes.plot(
            run.trace.arrival,
            1e3 * run.latency,
            ".",
            color=colour_of(run.manager),
            markersize=3.4,
            alpha=0.55,
            markeredgewidth=0,
        )
        late = run.answered & ~run.met
        axes.plot(
            run.trace.arrival[late],
            1e3 * run.latency[late],
            "x",
            color=colour_of(run.manager),
            markersize=4.5,
            markeredgewidth=1.0,
        )
    _draw_limit(axes, shown[0], 1e3 * shown[0].trace.deadline)
    axes.set_yscale("log")
    write_out(axes.yaxis)


def _draw_limit(axes: Axes, run: Run, values: np.ndarray) -> None:
    axes.step(run.trace.arrival, values, where="post", color=LIMIT, linewidth=1.6)


def _of_rows(run: Run, column: np.ndarray) -> np.ndarray:
    return np.where(run.answered, column[run.ran], np.nan)


def _draw_steps(axes: Axes, shown: Sequence[Run], names: Sequence[str], of_rows: Sequence[str], label: str) -> None:
    """One level per name; the managers a little beside each other, so that none hides another."""
    _prepare(axes, label)
    position = {name: number for number, name in enumerate(names)}
    levels = np.array([position[name] for name in of_rows], dtype=float)
    for number, run in enumerate(shown):
        shift = 0.13 * (number - (len(shown) - 1) / 2)
        axes.step(
            run.trace.arrival,
            _of_rows(run, levels) + shift,
            where="post",
            color=colour_of(run.manager),
            linewidth=1.5,
            linestyle=STYLES.get(run.manager, "solid"),
            solid_joinstyle="miter",
        )
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(-0.5, len(names) - 0.5)


def _draw_column(axes: Axes, shown: Sequence[Run], values, label: str, step: bool = False) -> None:
    _prepare(axes, label)
    for run in shown:
        style = {"color": colour_of(run.manager), "linewidth": 1.5, "linestyle": STYLES.get(run.manager, "solid")}
        if step:
            axes.step(run.trace.arrival, values(run), where="post", **style)
        else:
            axes.plot(run.trace.arrival, values(run), **style)


def _draw_machine(axes: Axes, board: Board, run: Run) -> None:
    """By how much the trace slows the fastest element, and other clusters where that differs."""
    _prepare(axes, "slowed\nby")
    factors = slow_downs(run.trace, board.clusters, board.element_cluster, board.threads, board.cores)
    colours = ("#444444", "#B0B0B0", "#888888")
    for number, _cluster in enumerate(board.clusters):
        widest = max(np.flatnonzero(board.element_cluster == number), key=lambda element: board.threads[element])
        axes.plot(
            run.trace.arrival,
            factors[:, widest],
            color=colours[number % 3],
            linewidth=1.1,
            label=board.table.elements[widest],
        )
    axes.legend(
        loc="upper left",
        ncols=len(board.clusters),
        fontsize=FONT["small"] - 1,
        frameon=False,
        borderaxespad=0.1,
        handlelength=1.2,
    )
    axes.set_ylim(0.8, 1.15 * max(1.3, float(np.quantile(factors, 0.999))))


def _draw_reasons(axes: Axes, shown: Sequence[Run], end: float) -> None:
    """When ours moved, and why: the reason of the manager, the first of a series in words."""
    axes.set_ylim(0, 3)
    axes.set_yticks([])
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(False)
    axes.tick_params(length=0)
    run = next((run for run in shown if run.manager.startswith("ours")), None)
    if run is None:
        axes.set_visible(False)
        return
    axes.set_ylabel("why ours\nmoved", fontsize=FONT["text"], color=INK)
    lanes, last = [-1e9, -1e9, -1e9], ""
    per_inch = end / (WIDTH * axes.get_position().width)
    for time, text in run.events:
        reason = text.partition(":")[0]
        colour = REASON_COLOURS.get(reason, FAINT)
        axes.vlines(time, 0, 0.35, color=colour, linewidth=1.3)
        words = _short(text)
        width = CHARACTER * (len(words) + 1) * per_inch
        start = min(time, end - width)
        lane = next((number for number in range(3) if lanes[number] < start), None)
        if words == last or lane is None:
            continue
        last, lanes[lane] = words, start + width
        axes.text(start, 0.55 + 0.8 * lane, words, fontsize=FONT["small"] - 1, color=colour, va="bottom", ha="left")


def _short(text: str) -> str:
    """The cause without what was done about it, as far as it fits beside others."""
    reason, _, rest = text.partition(": ")
    cause = rest.split("; ")[0].split(": ")[0]
    for long, short in (
        (" of its profiled latency", ""),
        (" by other work", ""),
        (" wanted", ""),
        (" around inference", ""),
    ):
        cause = cause.replace(long, short)
    return cause if reason not in ("startup",) else "start"


# ---- in a nutshell


def make_energy_error(board: Board, runs: Sequence[Run], objective: str) -> Figure:
    """Mean energy against mean error of every manager; who misses deadlines is drawn hollow."""
    figure = new_figure(WIDTH, 5.6)
    axes = figure.add_axes((0.085, 0.115, 0.885, 0.735))
    _prepare(axes, "mean energy of an inference [mJ]", "both")
    summaries = [summarise(run) for run in runs if run.answered.any()]
    for summary in summaries:
        hollow = summary.miss_rate > 0.05
        axes.plot(
            100 * (1 - summary.accuracy),
            1e3 * summary.energy,
            "o" if summary.manager != "oracle" else "*",
            color=colour_of(summary.manager),
            markersize=10 if summary.manager != "oracle" else 15,
            markerfacecolor="white" if hollow else colour_of(summary.manager),
            markeredgewidth=2,
        )
    axes.set_yscale("log")
    write_out(axes.yaxis)
    axes.margins(x=0.12, y=0.14)
    _label_points(axes, summaries)
    trace = runs[0].trace
    if objective == "accuracy" and np.isfinite(trace.max_energy).all():
        axes.axhline(1e3 * trace.max_energy.mean(), color=FAINT, linewidth=1, linestyle=(0, (4, 3)))
        axes.text(
            axes.get_xlim()[0],
            1e3 * trace.max_energy.mean(),
            " budget",
            fontsize=FONT["small"],
            color=FAINT,
            va="bottom",
        )
    if objective == "energy":
        axes.axvline(100 * (1 - trace.min_accuracy.mean()), color=FAINT, linewidth=1, linestyle=(0, (4, 3)))
        axes.text(
            100 * (1 - trace.min_accuracy.mean()),
            axes.get_ylim()[1],
            " floor",
            fontsize=FONT["small"],
            color=FAINT,
            va="top",
        )
    axes.set_xlabel("mean error, 100 % - accuracy [%]", fontsize=FONT["text"], color=INK)
    _title(
        figure,
        board,
        runs[0],
        "Energy against error (left and down is better; hollow: more than 5 % of deadlines missed)",
    )
    return figure


def _label_points(axes: Axes, summaries: Sequence[Summary]) -> None:
    """Names beside the points, moved up or down until none lies on another or on a point."""
    figure = axes.figure
    figure.canvas.draw()
    renderer, taken = figure.canvas.get_renderer(), []
    places = [axes.transData.transform((100 * (1 - s.accuracy), 1e3 * s.energy)) for s in summaries]
    for summary, (x, y) in sorted(zip(summaries, places), key=lambda entry: -entry[1][1]):
        text = axes.annotate(
            f"{summary.manager}  ({100 * summary.miss_rate:.1f} % missed)",
            (x, y),
            (11, 0),
            xycoords="figure pixels",
            textcoords="offset points",
            fontsize=FONT["text"],
            color=colour_of(summary.manager),
            va="center",
        )
        for offset, side in ((o, s) for o in (0, 11, -11, 22, -22, 33, -33) for s in ("left", "right")):
            text.set_position((11 if side == "left" else -11, offset))
            text.set_horizontalalignment(side)
            box = text.get_window_extent(renderer)
            inside = box.x1 < figure.bbox.x1 - 5 and box.x0 > axes.bbox.x0
            if (
                inside
                and not any(box.overlaps(other) for other in taken)
                and not any(
                    box.x0 - 14 < px < box.x1 + 14 and box.y0 - 8 < py < box.y1 + 8
                    for px, py in places
                    if (px, py) != (x, y)
                )
            ):
                break
        taken.append(text.get_window_extent(renderer))


def make_misses(board: Board, runs: Sequence[Run]) -> Figure:
    """Missed deadlines of every manager, late and never answered apart."""
    figure = new_figure(WIDTH, 1.6 + 0.42 * len(runs))
    height = figure.get_figheight()
    axes = figure.add_axes((0.2, 0.55 / height, 0.74, 1 - 1.35 / height))
    _prepare(axes, "", "x")
    longest = max(100 * float(1 - run.met.mean()) for run in runs)
    for number, run in enumerate(runs[::-1]):
        late, never = 100 * float((run.answered & ~run.met).mean()), 100 * float((~run.answered).mean())
        axes.barh(number, late, 0.62, color=colour_of(run.manager))
        axes.barh(
            number, never, 0.62, left=late, color=colour_of(run.manager), alpha=0.35, hatch="///", edgecolor="white"
        )
        split = f"  ({late:.1f} % late, {never:.1f} % not answered)" if never else ""
        axes.text(
            late + never + 0.006 * max(longest, 1.0),
            number,
            f"{late + never:.2f} %{split}",
            va="center",
            fontsize=FONT["small"],
            color=INK,
        )
    axes.set_yticks(range(len(runs)), [run.manager for run in runs[::-1]], fontsize=FONT["text"])
    axes.set_xlim(0, 1.5 * max(longest, 1.0))
    axes.set_xlabel("missed deadlines [% of all frames]", fontsize=FONT["text"], color=INK)
    _title(figure, board, runs[0], "Missed deadlines")
    return figure

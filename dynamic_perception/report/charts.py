"""Pictures of runs beside the timeline, for papers and the README: latencies by operating point, misses, energy."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from dynamic_perception.report.picture_style import FONT, INK, light_frame, new_figure, write_out
from dynamic_perception.report.plots import energy_sources, points_by_latency
from dynamic_perception.report.recorded_run import PhaseSummary, summarise
from dynamic_perception.report.shown_run import ShownRun

WIDTH = 10.0  # [inch]
ROOM = 0.86  # of a category, that its boxes or bars take


def draw_charts(shown: Sequence[ShownRun], folder: Path) -> list[Path]:
    """Draw `latency.png`, `misses.png` and one `energy_<source>.png` for every way in which energies are known."""
    figures = {
        "latency": latency_chart(shown),
        "misses": bar_chart(shown, "missed deadlines [%]", lambda summary: 100 * summary.miss_rate),
    }
    for source in energy_sources(shown):
        of_source = [one for one in shown if one.run.energy_source == source]
        figures[f"energy_{source}"] = bar_chart(
            of_source, f"energy per frame,\n{source} [mJ]", lambda summary: 1e3 * summary.energy
        )
    paths = []
    for name, figure in figures.items():
        paths.append(folder / f"{name}.png")
        figure.savefig(paths[-1])
    return paths


def latency_chart(shown: Sequence[ShownRun]) -> Figure:
    """Latencies of the operating points that frames ran at: box 25 to 75 %, line median, whiskers 5 to 95 %."""
    points = points_by_latency(shown)
    boxes = [
        (place, one, 1e3 * np.array(late))
        for place, point in enumerate(points)
        for one in shown
        if (late := [frame.latency for frame, where in zip(one.run.frames, one.points) if where == point])
    ]
    figure, axes = _figure(1.3 + 0.24 * len(boxes) + 0.12 * len(points), shown, "x")
    taken = 0.0
    ticks = []
    for place, _point in enumerate(points):
        mine = [(one, late) for number, one, late in boxes if number == place]
        ticks.append(taken + (len(mine) - 1) / 2)
        for number, (one, late) in enumerate(mine):
            low, q1, median, q3, high = np.quantile(late, (0.05, 0.25, 0.5, 0.75, 0.95))
            style = {"color": one.colour, "linewidth": 1.4}
            axes.bxp(
                [{"med": median, "q1": q1, "q3": q3, "whislo": low, "whishi": high}],
                [taken + number],
                orientation="horizontal",
                widths=0.66,
                showfliers=False,
                patch_artist=True,
                boxprops={"linewidth": 1.4, "facecolor": f"{one.colour}44", "edgecolor": one.colour},
                medianprops={**style, "linewidth": 2.2},
                whiskerprops=style,
                capprops=style,
            )
        taken += len(mine) + 0.5
    axes.set_yticks(ticks, points)
    axes.invert_yaxis()
    axes.set_xscale("log")
    write_out(axes.xaxis)
    axes.set_xlabel(
        "latency from stamp to answer [ms]; box: 25 to 75 %, line: median, whiskers: 5 to 95 %",
        fontsize=FONT["text"],
        color=INK,
    )
    return figure


def bar_chart(shown: Sequence[ShownRun], label: str, value_of: Callable[[PhaseSummary], float]) -> Figure:
    """One bar per run for every phase and for the whole run; `value_of`: from a summary to its number."""
    figure, axes = _figure(3.4, shown, "y")
    summaries: list[list[PhaseSummary]] = [
        of_run if len(of_run := summarise(one.run)) > 2 else of_run[-1:] for one in shown
    ]
    names = list(dict.fromkeys(summary.phase for of_run in summaries for summary in of_run))
    names.sort(key=lambda name: name == "whole run")
    width = ROOM / len(shown)
    for number, (one, of_run) in enumerate(zip(shown, summaries)):
        for summary in of_run:
            value = value_of(summary)
            if math.isnan(value):
                continue
            at = names.index(summary.phase) + (number - (len(shown) - 1) / 2) * width
            axes.bar(at, value, 0.92 * width, color=one.colour, zorder=3)
            if len(shown) * len(names) <= 24:
                axes.annotate(
                    f"{value:.3g}",
                    (at, value),
                    (0, 2),
                    textcoords="offset points",
                    ha="center",
                    fontsize=FONT["small"] - 1,
                    color=INK,
                )
    axes.set_xticks(range(len(names)), [name.replace(" ", "\n") for name in names])
    axes.set_ylim(0, 1.12 * axes.get_ylim()[1])
    axes.set_ylabel(label, fontsize=FONT["text"], color=INK)
    return figure


def _figure(height: float, shown: Sequence[ShownRun], grid: str) -> tuple[Figure, Axes]:
    """A figure with the runs named above its axes."""
    longest = max(len(one.label) for one in shown)
    columns = max(1, min(len(shown), int(WIDTH / (0.075 * longest + 0.7))))
    lines = -(-len(shown) // columns)
    figure = new_figure(WIDTH, height + 0.24 * lines, layout="constrained")
    axes = figure.add_subplot()
    light_frame(axes, grid)
    figure.legend(
        handles=[Patch(color=one.colour, label=one.label) for one in shown],
        loc="outside upper left",
        ncols=columns,
        frameon=False,
        fontsize=FONT["text"],
    )
    return figure, axes

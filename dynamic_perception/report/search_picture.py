"""One picture of a search: every subnetwork that was measured, the front, and what was chosen of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dynamic_perception.report.picture_style import FAINT, FINE, FONT, INK, light_frame, new_figure, write_out
from dynamic_perception.report.shown_run import COLOURS
from dynamic_perception.training.pareto import Limits, Point, front

WIDTH, HEIGHT = 8.0, 5.4  # [inch]
CLOUD = "#B4B4B0"


def draw_search(
    title: str,
    metric: str,
    points: Sequence[Point],
    again: Sequence[Point],
    chosen: Mapping[str, Point],
    limits: Limits,
    path: Path,
) -> None:
    """Draw `make_picture` as a PNG to `path`."""
    make_picture(title, metric, points, again, chosen, limits).savefig(path)


def make_picture(
    title: str,
    metric: str,
    points: Sequence[Point],
    again: Sequence[Point],
    chosen: Mapping[str, Point],
    limits: Limits,
) -> Figure:
    """Accuracy over latency.

    Args:
        title: of the picture.
        metric: what the accuracy is.
        points: all, as measured during the search.
        again: those of the front that were measured a second time.
        chosen: some of `again` by their names.
        limits: that the search kept to.
    """
    figure = new_figure(WIDTH, HEIGHT)
    axes = figure.add_axes((0.095, 0.105, 0.885, 0.755))
    light_frame(axes)
    axes.set_xscale("log")
    write_out(axes.xaxis, FINE)
    axes.margins(x=0.08, y=0.08)
    axes.set_xlabel("latency [ms], measured", fontsize=FONT["text"], color=INK)
    axes.set_ylabel(f"{metric} on held-out images", fontsize=FONT["text"], color=INK)
    axes.plot(
        *_places(points),
        "o",
        color=CLOUD,
        markersize=4,
        markeredgewidth=0,
        alpha=0.8,
        label=f"{len(points)} measured in the search",
    )
    axes.plot(
        *_places(again),
        "o",
        color="white",
        markersize=4.5,
        markeredgecolor=COLOURS[0],
        markeredgewidth=1,
        label="best of them, measured again",
    )
    axes.plot(
        *_places(front(again)), color=COLOURS[0], linewidth=1.6, zorder=1.9, drawstyle="steps-post", label="front"
    )
    axes.plot(*_places(chosen.values()), "o", color=COLOURS[1], markersize=7, label=f"{len(chosen)} chosen")
    for name, point in chosen.items():
        axes.annotate(
            name,
            (1e3 * point.latency, point.accuracy),
            xytext=(5, -5),
            textcoords="offset points",
            va="top",
            fontsize=FONT["small"],
            fontweight="bold",
            color=INK,
        )
    _draw_limits(axes, limits)
    figure.text(0.012, 0.975, title, fontsize=FONT["title"], fontweight="bold", color=INK, va="top")
    figure.legend(
        loc="upper left",
        bbox_to_anchor=(0.004, 0.93),
        ncols=4,
        frameon=False,
        fontsize=FONT["text"],
        columnspacing=1.6,
        handlelength=1.4,
    )
    return figure


def _places(points: Sequence[Point]) -> tuple[list[float], list[float]]:
    return [1e3 * point.latency for point in points], [point.accuracy for point in points]


def _draw_limits(axes: Axes, limits: Limits) -> None:
    style = {"color": FAINT, "linewidth": 1, "linestyle": (0, (4, 3))}
    words = {"fontsize": FONT["small"], "color": FAINT}
    if limits.max_latency < math.inf:
        axes.axvline(1e3 * limits.max_latency, **style)
        axes.text(1e3 * limits.max_latency, 0.01, " slowest allowed", transform=axes.get_xaxis_transform(), **words)
    if limits.min_accuracy > 0:
        axes.axhline(limits.min_accuracy, **style)
        axes.text(
            0.995,
            limits.min_accuracy,
            "least accurate allowed",
            transform=axes.get_yaxis_transform(),
            ha="right",
            va="bottom",
            **words,
        )

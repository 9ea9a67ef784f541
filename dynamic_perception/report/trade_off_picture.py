"""One picture of a plan: energy and accuracy over latency of every operating point, the limits, and what is chosen.

Subnetworks have a colour, compute elements a marker, and the clocks of both together are a line of points.
"""

from __future__ import annotations

import math
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dynamic_perception.management.operating_points import OperatingPoint, OperatingPointTable
from dynamic_perception.management.planning import Plan
from dynamic_perception.management.target import Target
from dynamic_perception.report.picture_style import FAINT, FINE, FONT, INK, light_frame, new_figure, write_out

WIDTH, HEIGHT = 10.0, 6.2  # [inch]
SHAPES = "osD^vPX<>*"  # of the elements of a cluster
LINE = 0.215  # [inch] of a legend
RED = "#B03A2E"
RING = {"markersize": 13, "markerfacecolor": "none", "markeredgecolor": RED, "markeredgewidth": 2}
LIMITS = {"color": RED, "linewidth": 1.2, "linestyle": (0, (5, 3))}
ALLOWED = "#EAF3E6"
FADED, CLEAR = 0.22, 0.95  # opacity of points that miss a limit, and of those that meet all


def draw_trade_off(title: str, table: OperatingPointTable, target: Target, plan: Plan, path: Path) -> None:
    """Draw `make_picture` as a PNG to `path`."""
    make_picture(title, table, target, plan).savefig(path, format="png")


def make_picture(title: str, table: OperatingPointTable, target: Target, plan: Plan) -> Figure:
    """Energy over latency, and below it accuracy over latency.

    Raises:
        ValueError: the table knows no energy.
    """
    if np.isnan(table.energy).all():
        raise ValueError("the table knows no energy, which the picture shows: profile again")
    entries = len(set(table.subnetwork)) + len(table.elements)
    figure = new_figure(WIDTH, HEIGHT + LINE * max(0, entries - 14))
    energy = figure.add_axes((0.075, 0.385, 0.695, 0.505))
    accuracy = figure.add_axes((0.075, 0.095, 0.695, 0.265), sharex=energy)
    panels = ((energy, 1e3 * table.energy), (accuracy, table.accuracy))
    meets = np.ones(len(table), dtype=bool)
    meets[list(plan.missing)] = False
    for axes, values in panels:
        light_frame(axes)
        axes.set_xscale("log")
        _draw_points(axes, table, values, meets)
    energy.set_yscale("log")
    write_out(energy.yaxis, FINE)
    write_out(accuracy.xaxis, FINE)
    energy.tick_params(labelbottom=False)
    accuracy.margins(y=0.12)
    energy.set_ylabel(f"energy per inference [mJ], {table.provenance['energy']}", fontsize=FONT["text"], color=INK)
    accuracy.set_ylabel(f"accuracy, {table.provenance['accuracy']}", fontsize=FONT["text"], color=INK)
    accuracy.set_xlabel(f"median latency [ms], {table.provenance['latency']}", fontsize=FONT["text"], color=INK)
    for axes, values, low, high in (
        (energy, panels[0][1], math.nan, 1e3 * target.max_energy),
        (accuracy, table.accuracy, target.min_accuracy, math.nan),
    ):
        _draw_limits(axes, 1e3 * target.max_latency, low, high)
        _draw_chosen(axes, (1e3 * table.latency[plan.index], values[plan.index]))
    figure.text(0.012, 0.978, title, fontsize=FONT["title"], fontweight="bold", color=INK, va="top")
    figure.text(
        0.012,
        0.935,
        f"{target}: {plan.met} of {len(table)} points meet every limit",
        fontsize=FONT["text"],
        color=FAINT,
        va="top",
    )
    _draw_legends(figure, table, plan)
    return figure


def _colours(table: OperatingPointTable) -> dict[str, tuple[float, ...]]:
    """From light to dark as the accuracy rises."""
    by_accuracy = dict(sorted(zip(table.subnetwork, table.accuracy), key=lambda item: item[1]))
    places = np.linspace(0.88, 0.08, len(by_accuracy)) if len(by_accuracy) > 1 else [0.3]
    return {name: matplotlib.colormaps["viridis"](place) for name, place in zip(by_accuracy, places)}


def _markers(table: OperatingPointTable) -> dict[str, tuple[str, bool]]:
    """Shape of every element, and whether it is filled: the first cluster's are, the others' are not."""
    clusters: dict[str, list[str]] = {}
    for element in table.elements:
        clusters.setdefault(element.partition(":")[0], []).append(element)
    return {
        element: (SHAPES[place % len(SHAPES)], number == 0)
        for number, elements in enumerate(clusters.values())
        for place, element in enumerate(elements)
    }


def _draw_points(axes: Axes, table: OperatingPointTable, values: np.ndarray, meets: np.ndarray) -> None:
    colours, markers = _colours(table), _markers(table)
    for element in table.elements:
        shape, filled = markers[element]
        for subnetwork, colour in colours.items():
            rows = table.matching(subnetwork, element)
            if not len(rows):
                continue
            rows = rows[np.argsort(table.latency[rows])]
            latency = 1e3 * table.latency[rows]
            clear = meets[rows]
            axes.plot(latency, values[rows], color=colour, linewidth=0.7, alpha=FADED)
            axes.plot(np.where(clear, latency, np.nan), values[rows], color=colour, linewidth=0.9, alpha=0.6)
            for which, opacity in ((~clear, FADED), (clear, CLEAR)):
                axes.plot(
                    latency[which],
                    values[rows][which],
                    shape,
                    color=colour,
                    alpha=opacity,
                    markersize=4.2,
                    markerfacecolor=colour if filled else "white",
                    markeredgewidth=0.9,
                )


def _draw_limits(axes: Axes, latency: float, low: float, high: float) -> None:
    """What may be, as an area, and its edges; NaN: no such limit."""
    left, right = axes.get_xlim()
    bottom, top = axes.get_ylim()
    if not (math.isnan(latency) and math.isnan(low) and math.isnan(high)):
        ends = [end if math.isnan(limit) else limit for limit, end in ((latency, right), (low, bottom), (high, top))]
        axes.fill_between([left, ends[0]], ends[1], ends[2], color=ALLOWED, zorder=0, linewidth=0)
    if not math.isnan(latency):
        axes.axvline(latency, **LIMITS)
    for limit in (low, high):
        if not math.isnan(limit):
            axes.axhline(limit, **LIMITS)
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)


def _draw_chosen(axes: Axes, place: tuple[float, float]) -> None:
    axes.plot(*place, "o", **RING)


def _draw_legends(figure: Figure, table: OperatingPointTable, plan: Plan) -> None:
    """Three beside the panels, one below the other."""
    accuracy = dict(zip(table.subnetwork, table.accuracy))
    networks = [
        Line2D([], [], color=colour, marker="o", linewidth=1.2, label=f"{name}  ({accuracy[name]:.3f})")
        for name, colour in reversed(_colours(table).items())
    ]
    elements = [
        Line2D([], [], color=INK, marker=shape, linewidth=0, markerfacecolor=INK if filled else "white", label=element)
        for element, (shape, filled) in _markers(table).items()
    ]
    point = table[plan.index]
    chosen = [
        Line2D(
            [],
            [],
            linewidth=0,
            marker="o",
            **RING,
            label="\n".join(
                (
                    f"{point.subnetwork} on {point.compute_element}",
                    *_clocks(point),
                    f"{1e3 * point.latency:.3g} ms",
                    f"{1e3 * point.energy:.3g} mJ, {point.power:.3g} W",
                )
            ),
        )
    ]
    line = LINE / figure.get_figheight()
    top = 0.90
    for title, handles, lines in (
        ("subnetwork (accuracy)", networks, len(networks)),
        ("compute element", elements, len(elements)),
        ("chosen", chosen, 4),
    ):
        figure.legend(
            handles=handles,
            title=title,
            loc="upper left",
            bbox_to_anchor=(0.785, top),
            frameon=False,
            fontsize=FONT["text"],
            alignment="left",
            title_fontproperties={"weight": "bold"},
        )
        top -= (lines + 1.7) * line
    figure.text(
        0.795,
        0.025,
        "A point per clock, those of one\nsubnetwork and element joined.\nPale: misses a limit.",
        fontsize=FONT["small"],
        color=FAINT,
        va="bottom",
    )


def _clocks(point: OperatingPoint) -> list[str]:
    return [
        f"{kind} at {frequency / 1e6:.0f} MHz"
        for kind, frequency in (("CPU", point.cpu_frequency), ("GPU", point.gpu_frequency))
        if frequency > 0
    ]

"""What all interactive plots have in common."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from dynamic_perception.report.picture_style import EDGE, GRID, INK

MARGIN = {"l": 64, "r": 16, "t": 60, "b": 60}  # [pixel]
BUTTONS, LEGEND_LINE = 30, 21  # [pixel] what plotly's buttons take at the top, and a line of the legend below them
ENTRY, CHARACTER = 52, 6.6  # [pixel] of an entry of the legend beside its name, and of a mean character
NARROWEST = 800  # [pixel] of a plot that the legend has room in
FONT = {"family": "system-ui, sans-serif", "size": 12, "color": INK}
SYMBOLS = ("circle", "diamond", "square", "triangle-up", "cross", "x", "star", "pentagon")


def base_layout(height: int) -> dict[str, Any]:
    return {
        "height": height,
        "margin": dict(MARGIN),
        "font": FONT,
        "paper_bgcolor": "white",
        "plot_bgcolor": "white",
        "hoverlabel": {"align": "left", "namelength": -1, "font": {"size": 12}},
        "showlegend": True,
        "legend": {
            "orientation": "h",
            "x": 0,
            "xanchor": "left",
            "y": 1.0,
            "yanchor": "bottom",
            "groupclick": "togglegroup",
        },
    }


def top_margin(names: Iterable[str]) -> int:
    """[pixel] for the buttons and below them a legend with these names; nothing lies on anything else."""
    width = sum(ENTRY + CHARACTER * len(name) for name in names)
    return BUTTONS + LEGEND_LINE * (1 + int(width / NARROWEST)) + 6


def base_axis() -> dict[str, Any]:
    return {
        "gridcolor": GRID,
        "linecolor": EDGE,
        "showline": True,
        "ticks": "outside",
        "ticklen": 3,
        "tickcolor": EDGE,
        "zeroline": False,
        "title": {"standoff": 6},
    }


def log_axis(traces: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> dict[str, Any]:
    """A logarithmic axis around the traces' values, with ticks at 1, 2 and 5 that are written out."""
    values = [
        np.array([np.nan if v is None else v for v in trace[key]], dtype=float)
        for trace in traces
        for key in keys
        if key in trace
    ]
    known = np.concatenate(values) if values else np.array([])
    known = known[np.isfinite(known) & (known > 0)]
    if not len(known):
        return {"type": "log"}
    low, high = 0.85 * known.min(), 1.18 * known.max()
    ticks = [factor * 10.0**power for power in range(-6, 8) for factor in (1, 2, 5)]
    return {
        "type": "log",
        "range": [math.log10(low), math.log10(high)],
        "tickmode": "array",
        "tickvals": ticks,
        "ticktext": [f"{tick:g}" for tick in ticks],
    }

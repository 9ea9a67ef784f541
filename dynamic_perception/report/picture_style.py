"""What all pictures (PNG) have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

LIMIT, INK, FAINT, GRID, EDGE = "#000000", "#222222", "#6B6B6B", "#E2E2E0", "#AAAAAA"
FONT = {"text": 9.5, "small": 8.5, "title": 13}
FINE = (1, 1.5, 2, 3, 5, 7)  # ticks in every power of ten of an axis that spans few of them
DPI = 200  # [pixel/inch]: sharp at 1000 pixels on any screen


def new_figure(width: float, height: float, **options: Any) -> Figure:
    """An empty white figure of that size [inch] that is drawn without a display."""
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white", **options)
    FigureCanvasAgg(figure)
    return figure


def light_frame(axes: Axes, grid: str | None = "both") -> None:
    """Lines at the left and at the bottom only, and a light grid ("x", "y", "both" or None) behind the data."""
    axes.tick_params(labelsize=FONT["small"], colors=INK, length=3)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(EDGE)
    if grid is not None:
        axes.grid(axis=grid, color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)


def write_out(axis: Axis, factors: Sequence[float] = (1, 2, 5)) -> None:
    """Ticks of a logarithmic axis at these factors of powers of ten, as plain numbers."""
    axis.set_major_locator(LogLocator(subs=factors))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())

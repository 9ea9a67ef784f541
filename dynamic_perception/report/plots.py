"""The interactive plots of the page beside the timeline: distributions, misses, energy, points."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from plotly.graph_objects import Figure

from dynamic_perception.management.operating_points import OperatingPointTable
from dynamic_perception.report.picture_style import FAINT
from dynamic_perception.report.plot_style import MARGIN, SYMBOLS, base_axis, base_layout, log_axis, top_margin
from dynamic_perception.report.recorded_run import summarise
from dynamic_perception.report.shown_run import ShownRun, used_rows


def latencies(shown: Sequence[ShownRun]) -> Figure:
    """How the latencies of every operating point are distributed, run by run."""
    points = points_by_latency(shown)
    traces, medians = [], []
    for one in shown:
        boxes = {
            point: 1e3 * np.array([frame.latency for frame, where in zip(one.run.frames, one.points) if where == point])
            for point in points
        }
        boxes = {point: values for point, values in boxes.items() if len(values)}
        if not boxes:
            continue
        low, q1, median, q3, high, p99 = np.array(
            [np.quantile(values, (0.05, 0.25, 0.5, 0.75, 0.95, 0.99)) for values in boxes.values()]
        ).T
        label = _wrapped(boxes)
        traces.append(
            {
                "type": "box",
                "orientation": "h",
                "name": one.label,
                "legendgroup": one.label,
                "y": label,
                "q1": q1,
                "median": median,
                "q3": q3,
                "lowerfence": low,
                "upperfence": high,
                "marker": {"color": one.colour},
                "line": {"width": 1.6},
                "hoverinfo": "skip",
            }
        )
        # The box has no hover of its own that names the percentiles: bars that cannot be seen have.
        medians.append(
            {
                "type": "bar",
                "orientation": "h",
                "y": label,
                "x": high,
                "name": one.label,
                "legendgroup": one.label,
                "showlegend": False,
                "marker": {"color": "rgba(0,0,0,0)", "line": {"width": 0}},
                "customdata": np.column_stack(
                    [low, q1, median, q3, high, p99, [len(values) for values in boxes.values()]]
                ),
                "hovertemplate": "%{y}<br>%{customdata[6]} frames<br>5 %%: %{customdata[0]:.2f} ms<br>25 %%: "
                "%{customdata[1]:.2f} ms<br>median: %{customdata[2]:.2f} ms<br>75 %%: %{customdata[3]:.2f} ms<br>"
                "95 %%: %{customdata[4]:.2f} ms<br>99 %%: %{customdata[5]:.2f} ms".replace("%%", "%"),
            }
        )
    top = top_margin(one.label for one in shown)
    height = top + 70 + len(points) * max(44, 24 * len(shown))
    layout = {
        **base_layout(height),
        "boxmode": "group",
        "barmode": "group",
        "boxgap": 0.25,
        "bargap": 0.25,
        "xaxis": {
            **base_axis(),
            **log_axis(traces, ("lowerfence", "upperfence")),
            "title": {"text": "latency from stamp to answer [ms]; box: 25 to 75 %, line: median, whiskers: 5 to 95 %"},
        },
        "yaxis": {
            **base_axis(),
            "automargin": True,
            "showgrid": False,
            "type": "category",
            "categoryorder": "array",
            "categoryarray": _wrapped(reversed(points)),
        },
    }
    layout["margin"] = {**MARGIN, "t": top}
    return Figure(data=[*traces, *medians], layout=layout)


def misses(shown: Sequence[ShownRun]) -> Figure:
    """The share of missed frames by phase, and their number as it grows."""
    bars, lines = [], []
    for one in shown:
        summaries = summarise(one.run)
        whole = summaries[-1]
        chosen = summaries if len(summaries) > 2 else [whole]
        bars.append(
            {
                "type": "bar",
                "name": one.label,
                "legendgroup": one.label,
                "marker": {"color": one.colour},
                "x": [s.phase for s in chosen],
                "y": [100 * s.miss_rate for s in chosen],
                "customdata": [[s.misses, s.frames] for s in chosen],
                "texttemplate": "%{y:.1f}",
                "textposition": "outside",
                "cliponaxis": False,
                "textfont": {"size": 10},
                "constraintext": "none",
                "textangle": 0,
                "hovertemplate": "%{x}: %{y:.2f} % missed<br>%{customdata[0]} of %{customdata[1]} frames",
            }
        )
        missed = np.cumsum([frame.skipped + (not frame.met) for frame in one.run.frames])
        lines.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": one.label,
                "legendgroup": one.label,
                "showlegend": False,
                "x": one.times,
                "y": missed,
                "xaxis": "x2",
                "yaxis": "y2",
                "customdata": one.points,
                "line": {"color": one.colour, "width": 2, "dash": one.dash, "shape": "hv"},
                "hovertemplate": "%{x:.2f} s: %{y} missed so far<br>%{customdata}",
            }
        )
    top = top_margin(one.label for one in shown)
    layout = {
        **base_layout(280 + top),
        "barmode": "group",
        "bargap": 0.25,
        "xaxis": {**base_axis(), "domain": [0, 0.53], "showgrid": False, "tickangle": 0, "automargin": True},
        "yaxis": {**base_axis(), "title": {"text": "missed deadlines [%]"}, "rangemode": "tozero"},
        "xaxis2": {**base_axis(), "domain": [0.63, 1], "anchor": "y2", "title": {"text": "time [s]"}},
        "yaxis2": {**base_axis(), "anchor": "x2", "title": {"text": "missed frames so far"}, "rangemode": "tozero"},
    }
    _break_words(bars, layout["xaxis"])
    layout["margin"] = {**MARGIN, "t": top}
    return Figure(data=[*bars, *lines], layout=layout)


def energy(shown: Sequence[ShownRun], source: str) -> Figure:
    """The energy of the runs whose energy is known in the same way, `source`: by phase, and as it adds up."""
    bars, lines = [], []
    for one in (one for one in shown if one.run.energy_source == source):
        summaries = summarise(one.run)
        chosen = summaries if len(summaries) > 2 else [summaries[-1]]
        bars.append(
            {
                "type": "bar",
                "name": one.label,
                "legendgroup": one.label,
                "marker": {"color": one.colour},
                "x": [s.phase for s in chosen],
                "y": [1e3 * s.energy for s in chosen],
                "texttemplate": "%{y:.3g}",
                "textposition": "outside",
                "cliponaxis": False,
                "textfont": {"size": 10},
                "constraintext": "none",
                "textangle": 0,
                "hovertemplate": f"%{{x}}: %{{y:.4g}} mJ per frame, {source}",
            }
        )
        total = np.cumsum(np.nan_to_num([frame.energy for frame in one.run.frames]))
        lines.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": one.label,
                "legendgroup": one.label,
                "showlegend": False,
                "x": one.times,
                "y": total,
                "xaxis": "x2",
                "yaxis": "y2",
                "customdata": one.points,
                "line": {"color": one.colour, "width": 2, "dash": one.dash},
                "hovertemplate": "%{x:.2f} s: %{y:.4g} J so far<br>%{customdata}",
            }
        )
    top = top_margin(one.label for one in shown)
    layout = {
        **base_layout(280 + top),
        "barmode": "group",
        "bargap": 0.25,
        "xaxis": {**base_axis(), "domain": [0, 0.53], "showgrid": False, "tickangle": 0, "automargin": True},
        "yaxis": {**base_axis(), "title": {"text": f"energy per frame, {source} [mJ]"}, "rangemode": "tozero"},
        "xaxis2": {**base_axis(), "domain": [0.63, 1], "anchor": "y2", "title": {"text": "time [s]"}},
        "yaxis2": {
            **base_axis(),
            "anchor": "x2",
            "title": {"text": f"energy so far, {source} [J]"},
            "rangemode": "tozero",
        },
    }
    _break_words(bars, layout["xaxis"])
    layout["margin"] = {**MARGIN, "t": top}
    return Figure(data=[*bars, *lines], layout=layout)


def energy_sources(shown: Sequence[ShownRun]) -> list[str]:
    """How energies of frames are known; without those of runs that know none."""
    return list(
        dict.fromkeys(
            one.run.energy_source for one in shown if any(not math.isnan(frame.energy) for frame in one.run.frames)
        )
    )


def points_used(shown: Sequence[ShownRun]) -> Figure | None:
    """Accuracy over latency of a table's points; those that frames ran at have a ring as large as their share.

    The table of the first run that has one; None: no run has.
    """
    first = next((one for one in shown if one.results.table is not None), None)
    if first is None:
        return None
    table = first.results.table
    words = [point_in_words(table, row) for row in range(len(table))]
    traces: list[dict[str, Any]] = [
        {
            "type": "scatter",
            "mode": "markers",
            "name": "in the table",
            "x": 1e3 * table.latency[rows],
            "y": 100 * table.accuracy[rows],
            "customdata": [words[row] for row in rows],
            "legendgroup": element,
            "showlegend": True,
            "marker": {"color": FAINT, "size": 6, "symbol": SYMBOLS[place % len(SYMBOLS)]},
            "hovertemplate": "%{customdata}<extra></extra>",
        }
        | {"name": element}
        for place, element in enumerate(table.elements)
        for rows in [np.flatnonzero(table.element_index == place)]
    ]
    for one in (one for one in shown if one.results is first.results):
        shares = used_rows(one)
        rows = list(shares)
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": one.label,
                "x": 1e3 * table.latency[rows],
                "y": 100 * table.accuracy[rows],
                "customdata": [words[row] for row in rows],
                "text": [f"{100 * share:.1f} %" for share in shares.values()],
                "marker": {
                    "color": "rgba(0,0,0,0)",
                    "size": [12 + 40 * math.sqrt(share) for share in shares.values()],
                    "line": {"color": one.colour, "width": 2.4},
                },
                "hovertemplate": f"%{{text}} of the frames<br>%{{customdata}}<extra>{one.label}</extra>",
            }
        )
    source = table.provenance
    top = top_margin([*table.elements, *(one.label for one in shown)])
    layout = {
        **base_layout(340 + top),
        "xaxis": {
            **base_axis(),
            **log_axis(traces, ("x",)),
            "title": {"text": f"latency of the network alone, {source['latency']} [ms]"},
        },
        "yaxis": {**base_axis(), "title": {"text": f"{first.results.metric}, {source['accuracy']} [%]"}},
    }
    layout["margin"] = {**MARGIN, "t": top}
    return Figure(data=traces, layout=layout)


def points_by_latency(shown: Sequence[ShownRun]) -> list[str]:
    """The points that frames ran at, the fastest first."""
    durations: dict[str, list[float]] = {}
    for one in shown:
        for frame, point in zip(one.run.frames, one.points):
            durations.setdefault(point, []).append(frame.latency)
    return sorted(durations, key=lambda point: float(np.median(durations[point])))


def _wrapped(points: Any) -> list[str]:
    """Names of points in two lines."""
    return [point.replace(" on ", "<br>on ", 1) for point in points]


def _break_words(bars: list[dict[str, Any]], axis: dict[str, Any]) -> None:
    """Phase names in one line per word, so that none has to be turned."""
    names = list(dict.fromkeys(name for bar in bars for name in bar["x"]))
    axis.update(
        tickmode="array",
        tickvals=names,
        ticktext=[name.replace(" ", "<br>") for name in names],
        categoryorder="array",
        categoryarray=names,
    )


def point_in_words(table: OperatingPointTable, row: int) -> str:
    point, source = table[row], table.provenance
    parts = [f"<b>{point}</b>", f"latency {1e3 * point.latency:.3g} ms, {source['latency']}"]
    for name, scale, unit in (("energy", 1e3, "mJ"), ("power", 1.0, "W")):
        value = getattr(point, name)
        parts.append(f"{name} not known" if math.isnan(value) else f"{name} {scale * value:.3g} {unit}, {source[name]}")
    parts.append(f"accuracy {100 * point.accuracy:.2f} %, {source['accuracy']}")
    return "<br>".join(parts)

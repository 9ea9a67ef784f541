"""Runs over time as an interactive plot: one row for every quantity, all with one axis of time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from plotly.graph_objects import Figure

from dynamic_perception.report.picture_style import FAINT, INK
from dynamic_perception.report.plot_style import CHARACTER, MARGIN, base_axis, base_layout, log_axis, top_margin
from dynamic_perception.report.recorded_run import RECENT, Answer, PhaseSpan, RecordedRun, iou_series, list_changes
from dynamic_perception.report.shown_run import ShownRun, list_elements, list_subnetworks
from dynamic_perception.report.timeline import BANDS, REASON_COLOURS

PLOT_WIDTH = 930  # [pixel] that the reasons are placed for
ORDER = ("latency", "subnetwork", "changes", "element", "clock", "temperature", "battery", "power", "iou")
ROW = {
    "latency": 210,
    "subnetwork": 130,
    "element": 64,
    "clock": 100,
    "temperature": 110,
    "battery": 100,
    "power": 100,
    "iou": 100,
}  # [pixel]
GAP = 16  # [pixel] between rows
PHASES = 20  # [pixel] for the names of the phases
LONGEST_NAME = 18  # [character] beside a row
MANY_POINTS = 20_000  # beyond it WebGL draws the frames: SVG takes seconds
READINGS = {
    "temperature": ("temperatures", 1.0, "°C"),
    "battery": ("charges", 100.0, "%"),
    "power": ("powers", 1.0, "W"),
}  # attribute of a run, what to multiply it by, and then its unit


def timeline(shown: Sequence[ShownRun]) -> Figure:
    """Everything over time, one row above the other, with one axis of time for all."""
    rows = [name for name in ORDER if _row_is_known(name, shown)]
    # A source for itself: what is measured and what is modelled is never in one row.
    panels = [(name, source) for name in rows for source in _sources_of(name, shown)]
    heights = {
        **ROW,
        "subnetwork": max(ROW["subnetwork"], 17 * len(list_subnetworks(shown))),
        "element": max(ROW["element"], 20 * len(list_elements(shown))),
        "changes": 30 + 26 * sum(bool(list_changes(one.run)) for one in shown),
    }
    margin = {**MARGIN, "t": top_margin([*(one.label for one in shown), "deadline", "missed frame"]) + PHASES}
    height = margin["t"] + margin["b"] + sum(heights[name] for name, _ in panels) + GAP * (len(panels) - 1)
    inner = height - margin["t"] - margin["b"]
    names = (*list_subnetworks(shown), *list_elements(shown), *map(_lane_name, shown))
    left = round(56 + CHARACTER * max(map(len, names)))
    layout: dict[str, Any] = {
        **base_layout(height),
        "hovermode": "closest",
        "annotations": [],
        "margin": {**margin, "l": left},
    }
    traces: list[dict[str, Any]] = []
    top = float(inner)
    for number, (name, source) in enumerate(panels, start=1):
        axis = f"y{number}" if number > 1 else "y"
        of_row, settings = _row(name, source, shown)
        for trace in of_row:
            traces.append({**trace, "xaxis": "x", "yaxis": axis})
        layout[axis.replace("y", "yaxis")] = {
            **base_axis(),
            "domain": [max(0.0, (top - heights[name]) / inner), top / inner],
            "anchor": "x",
            **settings,
            "title": None,
        }
        # Not the axis' own title, which would stand at another distance in every row.
        layout["annotations"].append(
            {
                "xref": "paper",
                "x": 0,
                "xanchor": "left",
                "xshift": 6 - left,
                "yref": "paper",
                "yanchor": "middle",
                "y": (top - heights[name] / 2) / inner,
                "text": settings["title"]["text"],
                "textangle": -90,
                "showarrow": False,
                "align": "center",
            }
        )
        top -= heights[name] + GAP
    ticks = f"y{len(panels)}" if len(panels) > 1 else "y"
    end = max(one.end for one in shown)
    layout["xaxis"] = {
        **base_axis(),
        "title": {"text": "time since the start [s]"},
        "anchor": ticks,
        "range": [0, end],
        "showspikes": True,
        "spikemode": "across",
        "spikethickness": 1,
        "spikecolor": FAINT,
        "spikedash": "dot",
        "spikesnap": "cursor",
        "showgrid": False,
    }
    _add_phases(layout, shown)
    _add_legend(traces, layout, shown)
    return Figure(data=traces, layout=layout)


def _row_is_known(name: str, shown: Sequence[ShownRun]) -> bool:
    runs = [one.run for one in shown]
    return {
        "changes": any(list_changes(run) for run in runs),
        "clock": any(one.clocks for one in shown),
        "temperature": any(run.temperatures for run in runs),
        "battery": any(run.charges for run in runs),
        "power": any(run.powers for run in runs),
        "iou": any(run.scores for run in runs),
    }.get(name, True)


def _source_of(name: str, run: RecordedRun) -> str:
    return {"temperature": run.temperature_source, "battery": run.battery_source}.get(name, "measured")


def _sources_of(name: str, shown: Sequence[ShownRun]) -> list[str]:
    if name not in READINGS:
        return [""]
    return list(dict.fromkeys(_source_of(name, one.run) for one in shown if getattr(one.run, READINGS[name][0])))


def _row(name: str, source: str, shown: Sequence[ShownRun]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Traces of a row, and the settings of its axis."""
    if name in READINGS:
        return _readings_row(name, source, shown)
    return {
        "latency": _latency_row,
        "subnetwork": _subnetwork_row,
        "changes": _changes_row,
        "element": _element_row,
        "clock": _clock_row,
        "iou": _iou_row,
    }[name](shown)


def _latency_row(shown: Sequence[ShownRun]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    traces = []
    fast = sum(len(one.run.frames) for one in shown) <= MANY_POINTS
    for one in reversed(shown):
        values, template = _frame_values(one)
        traces.append(
            {
                "type": "scatter" if fast else "scattergl",
                "mode": "markers",
                **_named(one),
                "x": one.times,
                "y": [1e3 * frame.latency for frame in one.run.frames],
                "customdata": values,
                "hovertemplate": template,
                "marker": {
                    "color": one.colour,
                    "size": 4,
                    "opacity": 0.6,
                    "symbol": ["circle" if frame.met else "x" for frame in one.run.frames],
                },
            }
        )
    for one in shown:
        times, values = _steps([(change.time, 1e3 * change.deadline) for change in one.run.deadlines], one.end)
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": "deadline",
                "legendgroup": "deadline",
                "x": times,
                "y": values,
                "line": {"color": INK, "width": 1.8, "shape": "hv"},
                "showlegend": False,
                "hovertemplate": f"deadline %{{y:.2f}} ms<extra>{one.label}</extra>",
            }
        )
    return traces, {**log_axis(traces, ("y",)), "title": {"text": "latency<br>[ms]"}}


def _frame_values(one: ShownRun) -> tuple[list[list[Any]], str]:
    """Everything that is known of each frame, and how to show it."""
    run, rows = one.run, len(one.run.frames)
    columns: list[tuple[str, Sequence[Any]]] = [
        ("%{x:.2f} s: <b>%{y:.2f} ms</b> of %{customdata[0]:.2f} ms", 1e3 * one.deadlines),
        ("%{customdata[1]}", ["met" if frame.met else "missed" for frame in run.frames]),
        ("%{customdata[2]}", one.points),
        ("inference %{customdata[3]:.2f} ms", [1e3 * frame.inference for frame in run.frames]),
        ("%{customdata[4]} skipped before it", [frame.skipped for frame in run.frames]),
        (f"energy %{{customdata[5]:.3g}} mJ, {run.energy_source}", [1e3 * frame.energy for frame in run.frames]),
        (f"{one.results.metric} of the subnetwork %{{customdata[6]:.1f}} %", [100 * f.accuracy for f in run.frames]),
    ]
    for name, (attribute, scale, unit) in READINGS.items():
        if readings := getattr(run, attribute):
            columns.append(
                (
                    f"{name} %{{customdata[{len(columns)}]:.3g}} {unit}, {_source_of(name, run)}",
                    scale * one.readings_at_frames(readings),
                )
            )
    values = [[_json(column[row]) for _, column in columns] for row in range(rows)]
    return values, "<br>".join(text for text, _ in columns) + f"<extra>{one.label}</extra>"


def _json(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value


def _subnetwork_row(shown: Sequence[ShownRun]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    return _choice_row(shown, "subnetwork", list_subnetworks(shown))


def _element_row(shown: Sequence[ShownRun]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    return _choice_row(shown, "element", list_elements(shown))


def _choice_row(
    shown: Sequence[ShownRun], attribute: str, names: Sequence[str]
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    traces = []
    spread = min(0.1, 0.5 / len(shown))  # so that runs at the same level are seen side by side
    for place, one in reversed(list(enumerate(shown))):
        levels = [getattr(frame, attribute) for frame in one.run.frames]
        changed = [
            number
            for number in range(len(levels))
            if number in (0, len(levels) - 1) or levels[number] != levels[number - 1]
        ]
        shift = (place - (len(shown) - 1) / 2) * spread
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                **_named(one),
                "x": one.times[changed] if changed else [],
                "y": [names.index(levels[number]) - shift for number in changed],
                "customdata": [levels[number] for number in changed],
                "line": {"color": one.colour, "width": 2.2, "dash": one.dash, "shape": "hv"},
                "hovertemplate": f"from %{{x:.2f}} s: %{{customdata}}<extra>{one.label}</extra>",
            }
        )
    return traces, {
        "title": {"text": attribute},
        "range": [-0.5, len(names) - 0.5],
        "tickmode": "array",
        "tickvals": list(range(len(names))),
        "ticktext": list(names),
    }


def _changes_row(shown: Sequence[ShownRun]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """A lane per run with a mark for every change; the reason stands beside the first of a series, if there is room."""
    managed = [one for one in shown if list_changes(one.run)]
    traces = []
    end = max(one.end for one in shown)
    per_pixel = end / PLOT_WIDTH
    for lane, one in enumerate(managed):
        changes = list_changes(one.run)
        answers = {answer.sequence: answer for answer in one.run.answers}
        texts, taken, last = [], -math.inf, ""
        for command in changes:
            width = CHARACTER * (len(command.reason) + 1) * per_pixel
            free = command.time >= taken and command.time + width <= end and command.reason != last
            texts.append(command.reason if free else "")
            taken, last = (command.time + width + 6 * per_pixel, command.reason) if free else (taken, last)
        traces.append(
            {
                "type": "scatter",
                "mode": "markers+text",
                **_named(one),
                "x": [command.time for command in changes],
                "y": [-lane] * len(changes),
                "text": texts,
                "textposition": "top right",
                "cliponaxis": False,
                "textfont": {"size": 11, "color": [REASON_COLOURS.get(c.reason, FAINT) for c in changes]},
                "marker": {
                    "size": 9,
                    "symbol": "line-ns",
                    "line": {"width": 2.4, "color": [REASON_COLOURS.get(c.reason, FAINT) for c in changes]},
                },
                "customdata": [
                    [
                        c.reason,
                        f"{c.subnetwork} on {c.element}",
                        _folded(c.detail),
                        "" if c.feasible else "<br>not every limit can be met",
                        _answer_in_words(answers.get(c.sequence)),
                    ]
                    for c in changes
                ],
                "hovertemplate": "%{x:.2f} s: <b>%{customdata[0]}</b>: %{customdata[1]}%{customdata[3]}<br>"
                f"%{{customdata[2]}}<br>%{{customdata[4]}}<extra>{one.label}</extra>",
            }
        )
    return traces, {
        "title": {"text": "reason"},
        "range": [0.4 - len(managed), 0.9],
        "showgrid": False,
        "tickmode": "array",
        "tickvals": [-lane for lane in range(len(managed))],
        "fixedrange": True,
        "ticktext": list(map(_lane_name, managed)),
    }


def _lane_name(one: ShownRun) -> str:
    """The label, or its beginning where it is long."""
    return one.label if len(one.label) <= LONGEST_NAME else f"{one.label[: LONGEST_NAME - 1]}…"


def _answer_in_words(answer: Answer | None) -> str:
    if answer is None:
        return "no answer"
    switch = "" if math.isnan(answer.switch_duration) else f", switched in {1e3 * answer.switch_duration:.2f} ms"
    return _folded(f"{answer.result}{switch}" + (f": {answer.message}" if answer.message else ""))


def _folded(text: str, width: int = 70) -> str:
    """Lines of at most `width` characters, as HTML."""
    lines = [""]
    for word in text.replace("&", "&amp;").replace("<", "&lt;").split():
        if lines[-1] and len(lines[-1]) + len(word) >= width:
            lines.append("")
        lines[-1] += (" " if lines[-1] else "") + word
    return "<br>".join(lines)


def _clock_row(shown: Sequence[ShownRun]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    traces = []
    for one in reversed(shown):
        for kind, clocks in one.clocks.items():
            changes = np.flatnonzero(np.diff(clocks, prepend=math.nan))
            times, values = _steps([(float(one.times[i]), float(clocks[i]) / 1e9) for i in changes], one.end)
            traces.append(
                {
                    "type": "scatter",
                    "mode": "lines",
                    **_named(one),
                    "x": times,
                    "y": values,
                    "line": {
                        "color": one.colour,
                        "width": 2,
                        "dash": one.dash if kind == "cpu" else "dot",
                        "shape": "hv",
                    },
                    "hovertemplate": f"{kind.upper()} at %{{y:.3f}} GHz from %{{x:.2f}} s<extra>{one.label}</extra>",
                }
            )
    both = len({kind for one in shown for kind in one.clocks}) > 1
    return traces, {
        "title": {"text": "clock [GHz]<br>GPU: dotted" if both else "clock<br>[GHz]"},
        "rangemode": "tozero",
    }


def _readings_row(name: str, source: str, shown: Sequence[ShownRun]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    attribute, scale, unit = READINGS[name]
    traces = []
    of_source = [one for one in shown if _source_of(name, one.run) == source]
    for one in reversed(of_source):
        readings = getattr(one.run, attribute)
        for zone in dict.fromkeys(reading.zone for reading in readings):
            mine = [reading for reading in readings if reading.zone == zone]
            traces.append(
                {
                    "type": "scatter",
                    "mode": "lines",
                    **_named(one),
                    "x": [reading.time for reading in mine],
                    "y": [scale * reading.value for reading in mine],
                    "line": {"color": one.colour, "width": 1.8, "dash": one.dash},
                    "hovertemplate": f"%{{x:.1f}} s: %{{y:.2f}} {unit}, {source}, {zone}<extra>{one.label}</extra>",
                }
            )
    limits = next((one.results.limits for one in of_source if one.results.limits is not None), None)
    if limits is not None and name != "power":
        levels = (
            [(limits.control, "control"), (limits.critical, "critical")]
            if name == "temperature"
            else [(100 * value, "threshold") for value in limits.battery_thresholds]
        )
        end = max(one.end for one in shown)
        traces += [
            {
                "type": "scatter",
                "mode": "lines",
                "x": [0, end],
                "y": [level, level],
                "showlegend": False,
                "line": {"color": FAINT, "width": 1, "dash": "dash"},
                "name": "limit",
                "hovertemplate": f"{word}: {level:g} {unit}<extra></extra>",
            }
            for level, word in levels
        ]
    return traces, {
        "title": {"text": f"{name}<br>{source}<br>[{unit}]"},
        **({"range": [0, 105]} if name == "battery" else {"rangemode": "tozero"} if name == "power" else {}),
    }


def _iou_row(shown: Sequence[ShownRun]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    traces = []
    for one in reversed(shown):
        times, values = iou_series(one.run)
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                **_named(one),
                "x": times,
                "y": 100 * values,
                "line": {"color": one.colour, "width": 1.8, "dash": one.dash},
                "hovertemplate": f"%{{x:.2f}} s: mean IoU %{{y:.1f}} % of {RECENT:g} s, {one.run.iou_source}"
                f"<extra>{one.label}</extra>",
            }
        )
    return traces, {"title": {"text": f"mean IoU<br>of {RECENT:g} s [%]"}, "rangemode": "tozero"}


def _steps(changes: Sequence[tuple[float, float]], end: float) -> tuple[list[float], list[float | None]]:
    """Times and values of a line that holds each value until the next, and the last until `end` [s]."""
    ordered = sorted(changes)
    times = [time for time, _ in ordered]
    values = [_json(value) for _, value in ordered]
    return ([*times, max(end, times[-1])], [*values, values[-1]]) if ordered else ([], [])


def _named(one: ShownRun) -> dict[str, Any]:
    return {"name": one.label, "legendgroup": one.label, "showlegend": False}


def _add_phases(layout: dict[str, Any], shown: Sequence[ShownRun]) -> None:
    """Bands and names, where all runs have the same phases and there is more than one."""
    phases: tuple[PhaseSpan, ...] = shown[0].run.phases
    if len(phases) < 2 or any(one.run.phases != phases for one in shown):
        return
    layout["shapes"] = [
        {
            "type": "rect",
            "xref": "x",
            "yref": "paper",
            "x0": phase.start,
            "x1": phase.end,
            "y0": 0,
            "y1": 1,
            "layer": "below",
            "line": {"width": 0},
            "fillcolor": BANDS[number % 2],
        }
        for number, phase in enumerate(phases)
    ]
    layout["annotations"] += [
        {
            "xref": "x",
            "yref": "paper",
            "x": (phase.start + phase.end) / 2,
            "y": 1.0,
            "yanchor": "bottom",
            "yshift": 2,
            "text": f"<b>{phase.name}</b>",
            "showarrow": False,
            "font": {"size": 12},
            "hovertext": _folded(phase.text),
        }
        for phase in phases
    ]


def _add_legend(traces: list[dict[str, Any]], layout: dict[str, Any], shown: Sequence[ShownRun]) -> None:
    """One entry per run, which hides and shows all of its rows, and one for the deadline."""
    for one in shown:
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "x": [None],
                "y": [None],
                "name": one.label,
                "legendgroup": one.label,
                "line": {"color": one.colour, "width": 3, "dash": one.dash},
            }
        )
    if any(one.run.deadlines for one in shown):
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "x": [None],
                "y": [None],
                "name": "deadline",
                "legendgroup": "deadline",
                "line": {"color": INK, "width": 1.8},
            }
        )
    traces.append(
        {
            "type": "scatter",
            "mode": "markers",
            "x": [None],
            "y": [None],
            "name": "missed frame",
            "legendgroup": "missed",
            "marker": {"color": FAINT, "symbol": "x", "size": 6},
        }
    )
    inner = layout["height"] - layout["margin"]["t"] - layout["margin"]["b"]
    layout["legend"] = {**layout["legend"], "y": 1 + (PHASES + 2) / inner}

"""The trade-off explorer: a page with sliders for the limits; the points of a table that meet them light up."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.colors
import numpy as np
from plotly.graph_objects import Figure

from dynamic_perception.management.operating_points import OperatingPointTable
from dynamic_perception.management.planning import assured_latencies
from dynamic_perception.management.settings import ManagerSettings
from dynamic_perception.management.target import Objective
from dynamic_perception.profiling.table_file import ProfileFile
from dynamic_perception.report.explorer_script import SCRIPT
from dynamic_perception.report.page import write_document
from dynamic_perception.report.picture_style import FAINT
from dynamic_perception.report.plot_style import SYMBOLS, base_axis, base_layout, log_axis
from dynamic_perception.report.plots import point_in_words

HEIGHT = 600  # [pixel] of all panels
PANELS = (("energy", 1e3, "energy [mJ]", 0.4), ("power", 1.0, "power [W]", 0.3), ("accuracy", 1.0, "accuracy", 0.3))
LIMITS = (
    ("deadline", "deadline", "ms"),
    ("energy", "energy per inference", "mJ"),
    ("power", "power", "W"),
    ("accuracy", "accuracy at least", "0..1"),
)
OBJECTIVES = {
    Objective.MAX_ACCURACY: "most accurate",
    Objective.MIN_ENERGY: "least energy",
    Objective.MIN_LATENCY: "fastest",
}
RING = {"size": 17, "color": "rgba(0,0,0,0)", "line": {"color": "#D55E00", "width": 3}}

STYLE = """
body { max-width: 1330px; padding: 1rem 1.5rem; } h1 { font-size: 1.35rem; }
.explorer { display: grid; grid-template-columns: 330px minmax(0, 1fr); gap: 1.2rem; align-items: start; }
fieldset { border: 0; padding: 0; margin: 0 0 .8rem; } legend { font-weight: 600; padding: 0; }
.limit { display: grid; grid-template-columns: 1fr 6.2rem; gap: .1rem .5rem; margin-bottom: .55rem; font-size: .92rem; }
.limit input[type=range] { grid-column: 1 / 3; width: 100%; margin: 0; accent-color: #0072B2; }
.limit input[type=number] { font: inherit; width: 100%; box-sizing: border-box; text-align: right; }
.objective label { display: inline-block; margin-right: .7rem; font-size: .92rem; }
#chosen { border-left: 5px solid #009E73; background: #f3f8f6; padding: .6rem .8rem; font-size: .92rem; }
#chosen.missed { border-color: #D55E00; background: #fdf4ee; } #chosen ul { margin: .4rem 0 0; padding-left: 1.1rem; }
#chosen-name { font-weight: 600; } code { font-size: .8rem; overflow-wrap: anywhere; }
.explorer .note { margin: .6rem 0; } @media (max-width: 900px) { .explorer { grid-template-columns: 1fr; } }
"""


def write_explorer(path: Path, file: ProfileFile, source: str, settings: ManagerSettings = ManagerSettings()) -> None:
    """Write the page about a table.

    Args:
        source: what `dynamic-perception plan` finds the table by.
        settings: the manager's: the probability of meeting the deadline, and the order of giving limits up.
    """
    table = file.table
    panels = [panel for panel in PANELS if not np.isnan(getattr(table, panel[0])).all()]
    data = {
        "columns": make_columns(table, settings),
        "relax": list(settings.relax),
        "source": shlex.quote(source),
        "panels": [{"name": name, "scale": scale} for name, scale, *_ in panels],
    }
    figure = _figure(table, panels)
    # As plotly does with its own JSON, so that no name in it can end the script.
    text = json.dumps(data, allow_nan=False).replace("<", "\\u003c").replace(">", "\\u003e")
    provenance = ", ".join(
        f"{name} {table.provenance[name]}"
        for name in ("latency", "energy", "power", "accuracy")
        if name in table.provenance
    )
    body = (
        f'<p class="note">{len(table)} operating points; {escape(provenance)}. The choice is that of the resource '
        "manager on an undisturbed machine: as it was profiled, with nothing around the inference, no heat and no "
        "battery that limits; the deadline is to be met with a probability of "
        f"{settings.deadline_probability:g}.</p>"
        f'<div class="explorer"><div>{_controls()}</div><div id="plot"></div></div>'
        f"<script>{{const data = {text};\nconst figure = {figure.to_json()};\n{SCRIPT}}}</script>"
    )
    machine = file.platform.get("cpu_model", "a machine")
    write_document(path, f"{file.model} on {machine}: operating points to choose from", body, STYLE)


def make_columns(table: OperatingPointTable, settings: ManagerSettings) -> dict[str, list[Any]]:
    """What the rule compares, by column: SI units, None: not known; `assured`: latency kept with the probability."""

    def plain(values: np.ndarray) -> list[float | None]:
        return [None if math.isnan(value) else float(value) for value in values]

    return {
        "name": [str(table[row]) for row in range(len(table))],
        "latency": plain(table.latency),
        "assured": plain(assured_latencies(table, settings)),
        "energy": plain(table.energy),
        "power": plain(table.power),
        "accuracy": plain(table.accuracy),
    }


def _figure(table: OperatingPointTable, panels: Sequence[tuple[str, float, str, float]]) -> Figure:
    """Energy, power and accuracy over latency: a colour per subnetwork, a shape per element; the rings come last."""
    layout: dict[str, Any] = {**base_layout(HEIGHT), "hovermode": "closest", "uirevision": "kept"}
    layout["margin"] = {"l": 64, "r": 12, "t": 34, "b": 44}
    layout["legend"] = {
        "orientation": "v",
        "x": 1.01,
        "xanchor": "left",
        "y": 1,
        "yanchor": "top",
        "itemclick": False,
        "itemdoubleclick": False,
    }
    by_accuracy = [
        str(name) for name in dict.fromkeys(np.array(table.subnetwork)[np.argsort(-table.accuracy, kind="stable")])
    ]
    colours = dict(zip(by_accuracy, _shades(len(by_accuracy))))
    shapes = {name: SYMBOLS[place % len(SYMBOLS)] for place, name in enumerate(table.elements)}
    words = [point_in_words(table, row) for row in range(len(table))]
    traces: list[dict[str, Any]] = [_entry(name, "square", colour) for name, colour in colours.items()]
    traces += [_entry(name, shape, FAINT) for name, shape in shapes.items()]
    total = sum(share for *_, share in panels)
    top = 1.0
    for number, (name, scale, label, share) in enumerate(panels, start=1):
        axis = f"y{number}" if number > 1 else "y"
        values = scale * getattr(table, name)
        for subnetwork, colour in colours.items():
            rows = [row for row in range(len(table)) if table.subnetwork[row] == subnetwork]
            traces.append(
                {
                    "type": "scatter",
                    "mode": "markers",
                    "x": 1e3 * table.latency[rows],
                    "y": values[rows],
                    "yaxis": axis,
                    "meta": {"rows": rows},
                    "name": subnetwork,
                    "showlegend": False,
                    "text": [words[row] for row in rows],
                    "hovertemplate": "%{text}<extra></extra>",
                    "marker": {
                        "color": colour,
                        "size": 7,
                        "symbol": [shapes[table.compute_element[row]] for row in rows],
                        "opacity": [0.95] * len(rows),
                    },
                }
            )
        low = max(0.0, top - share / total + 0.025)
        source = table.provenance[name]
        vertical = {} if name == "accuracy" else log_axis([{"y": values}], ("y",))
        layout[axis.replace("y", "yaxis")] = {
            **base_axis(),
            **vertical,
            "domain": [low, top],
            "anchor": "x",
            "title": {"text": f"{label},<br>{source}", "standoff": 4},
        }
        top = low - 0.025
    layout["xaxis"] = {
        **base_axis(),
        **log_axis([{"x": 1e3 * table.latency}], ("x",)),
        "anchor": axis,
        "title": {"text": f"latency of one inference, {table.provenance['latency']} [ms]"},
    }
    for number in range(1, len(panels) + 1):
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "x": [None],
                "y": [None],
                "hoverinfo": "skip",
                "yaxis": f"y{number}" if number > 1 else "y",
                "marker": RING,
                "name": "chosen",
                "showlegend": number == 1,
            }
        )
    return Figure(data=traces, layout=layout)


def _shades(count: int) -> list[str]:
    """From dark to light as the accuracy falls; the lightest of the colour map is too light on white."""
    places = np.linspace(0.05, 0.85, count) if count > 1 else [0.3]
    return [matplotlib.colors.to_hex(matplotlib.colormaps["viridis"](place)) for place in places]


def _entry(name: str, shape: str, colour: str) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [None],
        "y": [None],
        "name": name,
        "marker": {"color": colour, "size": 8, "symbol": shape},
    }


def _controls() -> str:
    limits = "".join(
        f'<div class="limit"><label><input type="checkbox" id="{name}-on"> {label} [{unit}]</label>'
        f'<input type="number" id="{name}-number" step="any" aria-label="{label} [{unit}]">'
        f'<input type="range" id="{name}-slider" min="0" max="1" step="any" aria-label="{label}"></div>'
        for name, label, unit in LIMITS
    )
    objectives = "".join(
        f'<label><input type="radio" name="objective" value="{objective.name.lower()}"'
        f"{' checked' if objective is Objective.MAX_ACCURACY else ''}> {words}</label>"
        for objective, words in OBJECTIVES.items()
    )
    return (
        f"<fieldset><legend>Limits</legend>{limits}</fieldset>"
        f'<fieldset class="objective"><legend>Among the points that meet them</legend>{objectives}</fieldset>'
        '<div id="chosen"><div id="chosen-name"></div><ul id="reason"></ul></div>'
        '<p class="note">The same at a terminal: <code id="command"></code></p>'
    )

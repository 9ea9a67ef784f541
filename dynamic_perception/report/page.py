"""The page about one run or several: one HTML file that needs nothing else, not even a network."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

import cv2
import numpy as np
from plotly.graph_objects import Figure
from plotly.offline import get_plotlyjs

from dynamic_perception.file_writing import write_atomically
from dynamic_perception.management.operating_points import OperatingPoint
from dynamic_perception.report import plots
from dynamic_perception.report.live_table import milliseconds, percent
from dynamic_perception.report.recorded_run import (
    PhaseSummary,
    Picture,
    RecordedRun,
    describe_point,
    list_changes,
    summarise,
)
from dynamic_perception.report.results_file import Results, encode_png
from dynamic_perception.report.shown_run import ShownRun, show_runs, used_rows
from dynamic_perception.report.timeline_plot import timeline

PICTURE_WIDTH = 320  # [pixel] of the frames that are shown; larger ones are scaled down
CONFIG = '{"displaylogo": false, "responsive": true, "modeBarButtonsToRemove": ["select2d", "lasso2d"]}'

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; background: #fff; }
body { margin: 0 auto; max-width: 1120px; padding: 1.5rem; }
h1 { font-size: 1.6rem; margin: 0 0 .4rem; } h2 { font-size: 1.15rem; margin: 2.4rem 0 .6rem; }
h3 { font-size: 1rem; margin: 1.4rem 0 .5rem; }
img { max-width: 100%; } .lead { font-size: 1.1rem; }
table { border-collapse: collapse; width: 100%; font-size: .88rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .32rem .6rem; border-bottom: 1px solid #e2e2e0; vertical-align: top; }
th { font-weight: 600; } td.n, th.n { text-align: right; } tr.whole td { border-top: 2px solid #888; font-weight: 600; }
tr.used td { background: #eef4f9; } .note { color: #5c5c5c; font-size: .88rem; }
.run { display: inline-block; width: .75em; height: .75em; border-radius: 50%; margin-right: .4em; }
.frames { display: grid; grid-template-columns: repeat(auto-fill, minmax(190px, 1fr)); gap: .8rem; }
figure { margin: 0; font-size: .82rem; line-height: 1.35; }
figure img { width: 100%; border-radius: 4px; display: block; }
img.small { image-rendering: pixelated; } .scroll { overflow-x: auto; }
td.run-name { white-space: nowrap; }
.words td:not(:last-child), .pairs th { white-space: nowrap; }
details summary { cursor: pointer; margin: .8rem 0; } .long { max-height: 26rem; overflow-y: auto; }
"""


def write_page(path: Path, all_results: Sequence[Results]) -> None:
    """Write the page about every run of `all_results` to `path`."""
    shown = show_runs(all_results)
    title = ", ".join(dict.fromkeys(results.name for results in all_results))
    sections = [
        ("Side by side", _side_by_side(shown)),
        ("Over time", _plot("timeline", timeline(shown)) + TIMELINE_NOTE),
        ("Missed deadlines", _plot("misses", plots.misses(shown)) + _phases(shown)),
        ("Latency by operating point", _plot("latencies", plots.latencies(shown)) + _points(shown)),
        ("Energy", _energy(shown)),
        ("The operating points", _operating_points(shown, all_results)),
        ("What was commanded, and why", _commands(shown)),
        ("Frames and their answers", _frames(shown) + "".join(map(_overlay, all_results))),
        ("How the deadlines were computed", _deadlines(all_results)),
        ("What was measured and what was modelled", _pairs(all_results, "sources")),
        ("The machine", _pairs(all_results, "machine")),
    ]
    body = "\n".join(f"<section><h2>{heading}</h2>{content}</section>" for heading, content in sections if content)
    lead = "<br>".join(map(escape, lead_sentences(shown)))
    write_document(path, f"Dynamic Perception: {title}", f'<p class="lead">{lead}</p>{body}')


def write_document(path: Path, title: str, body: str, style: str = "") -> None:
    """Write an HTML file with plotly.js in it, so that a reader sees the old file or the whole new one."""
    lines = [
        "<!doctype html>",
        '<html lang="en">',
        '<head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title><style>{STYLE}{style}</style>",
        f"<script>{get_plotlyjs()}</script></head>",
        f"<body><h1>{escape(title)}</h1>",
        body,
        "</body></html>",
        "",
    ]
    write_atomically(path, "\n".join(lines))


NOTE = (
    '<p class="note">A missed frame was answered after its deadline, or not at all because newer frames came first. '
    "The accuracy is that of the executed subnetworks on the test images of the model bundle, not on these frames.</p>"
)
TIMELINE_NOTE = (
    '<p class="note">Drag to zoom, double-click to see all again; the cursor on a frame or a change tells all that is '
    "known of it. A click in the legend hides a run and shows it again.</p>"
)


def headline(managed: RecordedRun, fixed: RecordedRun) -> str:
    """The comparison in a sentence."""
    a, b = summarise(managed)[-1], summarise(fixed)[-1]
    iou = (
        f" On the frames of these runs the mean IoU was {100 * a.mean_iou:.1f} % instead of "
        f"{100 * b.mean_iou:.1f} %, {managed.iou_source}."
        if managed.iou_source
        else ""
    )
    energy = (
        ""
        if managed.energy_source != fixed.energy_source or math.isnan(a.energy + b.energy)
        else (
            f", the {managed.energy_source} energy of a frame {1e3 * a.energy:.2f} mJ "
            f"instead of {1e3 * b.energy:.2f} mJ"
        )
    )
    return (
        f"With the manager {100 * a.miss_rate:.1f} % of the deadlines were missed, at the fixed largest subnetwork "
        f"{100 * b.miss_rate:.1f} %. The mean accuracy was {100 * a.accuracy:.1f} % instead of "
        f"{100 * b.accuracy:.1f} %{energy}.{iou}"
    )


def lead_sentences(shown: Sequence[ShownRun]) -> list[str]:
    """A sentence about a pair with and without the manager, or one about every run."""
    if len(shown) == 2 and [one.run.managed for one in shown] == [True, False]:
        return [headline(shown[0].run, shown[1].run)]
    sentences = []
    for one in shown:
        whole = summarise(one.run)[-1]
        sentences.append(
            f"{one.label}: {_number(100 * whole.miss_rate, 1)} % of {whole.frames} frames missed their "
            f"deadline, p95 latency {milliseconds(whole.latency_p95)}."
        )
    return sentences


def _name(one: ShownRun) -> str:
    return f'<span class="run" style="background:{one.colour}"></span>{escape(one.label)}'


def _plot(name: str, figure: Figure) -> str:
    # plotly writes JSON without < and >, so that no text in it can end the script.
    return (
        f'<div id="{name}" class="plot"></div><script>{{const figure = {figure.to_json()};\n'
        f'Plotly.newPlot("{name}", figure.data, figure.layout, {CONFIG});}}</script>'
    )


def _side_by_side(shown: Sequence[ShownRun]) -> str:
    """A column per run; what is known in different ways has a row for each way."""
    wholes = [summarise(one.run)[-1] for one in shown]
    rows: list[tuple[str, list[str]]] = []

    def add(heading: str, value: Callable[[ShownRun, PhaseSummary], float], digits: int) -> None:
        cells = [_number(value(one, whole), digits) for one, whole in zip(shown, wholes)]
        if any(cell != "–" for cell in cells):
            rows.append((heading, cells))

    add("duration [s]", lambda one, whole: one.end, 1)
    add("frames", lambda one, whole: whole.frames, 0)
    add("missed deadlines", lambda one, whole: whole.misses, 0)
    add("missed deadlines [%]", lambda one, whole: 100 * whole.miss_rate, 2)
    add("median latency [ms]", lambda one, whole: 1e3 * whole.latency_median, 2)
    add("p95 latency [ms]", lambda one, whole: 1e3 * whole.latency_p95, 2)
    add("p99 latency [ms]", lambda one, whole: 1e3 * whole.latency_p99, 2)
    for metric in dict.fromkeys(one.results.metric for one in shown):
        add(
            f"{metric} of the executed subnetworks, mean [%]",
            lambda one, whole, metric=metric: 100 * whole.accuracy if one.results.metric == metric else math.nan,
            2,
        )
    for source in dict.fromkeys(one.run.iou_source for one in shown if one.run.iou_source):
        add(
            f"mean IoU on these frames [%], {source}",
            lambda one, whole, source=source: 100 * whole.mean_iou if one.run.iou_source == source else math.nan,
            1,
        )
    for source in plots.energy_sources(shown):
        add(
            f"energy per frame, {source} [mJ]",
            lambda one, whole, source=source: 1e3 * whole.energy if one.run.energy_source == source else math.nan,
            2,
        )
    for source in dict.fromkeys(one.run.temperature_source for one in shown):
        add(
            f"hottest, {source} [°C]",
            lambda one, whole, source=source: whole.hottest if one.run.temperature_source == source else math.nan,
            1,
        )
    for source in dict.fromkeys(one.run.battery_source for one in shown):
        add(
            f"battery at the end, {source} [%]",
            lambda one, whole, source=source: 100 * whole.charge_end if one.run.battery_source == source else math.nan,
            1,
        )
    add("changes of the operating point", lambda one, whole: len(list_changes(one.run)), 0)
    add("median switch [ms]", lambda one, whole: 1e3 * _median_switch(one.run), 2)
    head = "".join(f'<th class="n">{_name(one)}</th>' for one in shown)
    body = "".join(
        f"<tr><td>{escape(heading)}</td>" + "".join(f'<td class="n">{cell}</td>' for cell in cells) + "</tr>"
        for heading, cells in rows
    )
    return f'<div class="scroll"><table><tr><th></th>{head}</tr>{body}</table></div>{NOTE}'


def _median_switch(run: RecordedRun) -> float:
    durations = [a.switch_duration for a in run.answers if a.switch_duration > 0]
    return float(np.median(durations)) if durations else math.nan


def _phases(shown: Sequence[ShownRun]) -> str:
    """A row per phase and run, where there are phases."""
    if all(len(one.run.phases) < 2 for one in shown):
        return ""
    heads = [
        "frames",
        "missed",
        "missed [%]",
        "median latency [ms]",
        "p95 latency [ms]",
        "mean accuracy [%]",
        "hottest [°C]",
        "battery at the end [%]",
    ]
    scored = any(one.run.iou_source for one in shown)
    if scored:
        heads.append("mean IoU on these frames [%]")
    rows = ["<tr><th>phase</th><th>run</th>" + "".join(f'<th class="n">{head}</th>' for head in heads) + "</tr>"]
    summaries = {one.label: {s.phase: s for s in summarise(one.run)} for one in shown}
    names = dict.fromkeys(name for of_run in summaries.values() for name in of_run)
    for name in sorted(names, key=lambda name: name == "whole run"):
        there = [one for one in shown if name in summaries[one.label]]
        for place, one in enumerate(there):
            first = f'<td rowspan="{len(there)}">{escape(name)}</td>' if place == 0 else ""
            style = ' class="whole"' if name == "whole run" and place == 0 else ""
            rows.append(
                f'<tr{style}>{first}<td class="run-name">{_name(one)}</td>'
                f"{_phase_cells(summaries[one.label][name], scored)}</tr>"
            )
    return f'<div class="scroll"><table>{"".join(rows)}</table></div>'


def _phase_cells(summary: PhaseSummary, scored: bool) -> str:
    numbers = [
        (summary.frames, 0),
        (summary.misses, 0),
        (100 * summary.miss_rate, 1),
        (1e3 * summary.latency_median, 2),
        (1e3 * summary.latency_p95, 2),
        (100 * summary.accuracy, 1),
        (summary.hottest, 1),
        (100 * summary.charge_end, 0),
    ]
    if scored:
        numbers.append((100 * summary.mean_iou, 1))
    return "".join(f'<td class="n">{_number(value, digits)}</td>' for value, digits in numbers)


def _number(value: float, digits: int) -> str:
    return "–" if math.isnan(value) else f"{value:.{digits}f}"


def _points(shown: Sequence[ShownRun]) -> str:
    """Latencies of the points that frames ran at."""
    heads = (
        "run",
        "operating point",
        "frames",
        "share [%]",
        "median [ms]",
        "p95 [ms]",
        "p99 [ms]",
        "largest [ms]",
        "missed [%]",
    )
    rows, order = [], plots.points_by_latency(shown)
    for one in shown:
        for point in (point for point in order if point in set(one.points)):
            frames = [frame for frame, where in zip(one.run.frames, one.points) if where == point]
            late = 1e3 * np.array([frame.latency for frame in frames])
            cells = (
                f"{len(frames)}",
                f"{100 * len(frames) / len(one.run.frames):.1f}",
                f"{np.median(late):.2f}",
                f"{np.quantile(late, 0.95):.2f}",
                f"{np.quantile(late, 0.99):.2f}",
                f"{late.max():.2f}",
                f"{100 * np.mean([not frame.met for frame in frames]):.1f}",
            )
            rows.append(
                f"<tr><td>{_name(one)}</td><td>{escape(point)}</td>"
                + "".join(f'<td class="n">{cell}</td>' for cell in cells)
                + "</tr>"
            )
    head = "".join(f"<th{'' if place < 2 else ' class=n'}>{text}</th>" for place, text in enumerate(heads))
    return f'<div class="scroll long"><table><tr>{head}</tr>{"".join(rows)}</table></div>'


def _energy(shown: Sequence[ShownRun]) -> str:
    sources = plots.energy_sources(shown)
    if not sources:
        return '<p class="note">No energy is known of these frames.</p>'
    parts = []
    for number, source in enumerate(sources):
        words = list(
            dict.fromkeys(
                text
                for one in shown
                if one.run.energy_source == source
                for name, text in one.results.sources.items()
                if name == "energy"
            )
        )
        parts.append(
            _plot(f"energy_{number}", plots.energy(shown, source))
            + "".join(f'<p class="note">{escape(text)}.</p>' for text in words)
        )
    return "".join(parts)


def _operating_points(shown: Sequence[ShownRun], all_results: Sequence[Results]) -> str:
    parts = []
    for number, results in enumerate(results for results in all_results if results.table is not None):
        of_results = [one for one in shown if one.results is results]
        name = f"<h3>{escape(results.name)}</h3>" if len(all_results) > 1 else ""
        parts.append(name + _plot(f"points_{number}", plots.points_used(of_results)) + _table_of_points(of_results))
    return "".join(parts)


def _table_of_points(of_results: Sequence[ShownRun]) -> str:
    """Every point of the table, and how many of the frames of each run ran at it; the used ones are marked."""
    table = of_results[0].results.table
    source = {name: table.provenance.get(name, "not known") for name in ("latency", "power", "energy", "accuracy")}
    clocks = any(value > 0 for value in (*table.cpu_frequency, *table.gpu_frequency))
    heads = [
        "subnetwork",
        "compute element",
        *(["clocks"] if clocks else []),
        f"latency, {source['latency']} [ms]",
        f"p95 of it, {source['latency']} [ms]",
        f"power, {source['power']} [W]",
        f"energy, {source['energy']} [mJ]",
        f"accuracy, {source['accuracy']} [%]",
    ]
    shares = [used_rows(one) for one in of_results]
    head = "".join(f"<th>{escape(text)}</th>" for text in heads)
    head += "".join(f'<th class="n">{_name(one)}: share of the frames [%]</th>' for one in of_results)
    rows = []
    for row in range(len(table)):
        cells = "".join(f"<td>{escape(cell)}</td>" for cell in _point_cells(table[row], clocks))
        used = "".join(
            f'<td class="n">{100 * share[row]:.1f}</td>' if row in share else "<td></td>" for share in shares
        )
        rows.append(f"<tr{' class=used' if any(row in share for share in shares) else ''}>{cells}{used}</tr>")
    return f'<div class="scroll long"><table><tr>{head}</tr>{"".join(rows)}</table></div>'


def _point_cells(point: OperatingPoint, clocks: bool) -> list[str]:
    frequencies = [
        f"{kind} {value / 1e6:.0f} MHz"
        for kind, value in (("cpu", point.cpu_frequency), ("gpu", point.gpu_frequency))
        if value > 0
    ]
    return [
        point.subnetwork,
        point.compute_element,
        *([", ".join(frequencies) or "governor"] if clocks else []),
        _number(1e3 * point.latency, 2),
        _number(1e3 * point.latency_p95, 2),
        _number(point.power, 3),
        _number(1e3 * point.energy, 2),
        _number(100 * point.accuracy, 1),
    ]


def _commands(shown: Sequence[ShownRun]) -> str:
    return "".join(
        f"<details{' open' if len(shown) <= 2 else ''}><summary>{_name(one)}</summary>{_commands_of(one.run)}</details>"
        for one in shown
        if one.run.commands
    )


def _commands_of(run: RecordedRun) -> str:
    answers = {answer.sequence: answer for answer in run.answers}
    changes = list_changes(run)
    rows = []
    for command in changes:
        answer = answers.get(command.sequence)
        known = answer is not None and not math.isnan(answer.switch_duration)
        switch = f", {1e3 * answer.switch_duration:.2f} ms" if known else ""
        rows.append(
            (
                f"{command.time:.1f} s",
                str(command.sequence),
                command.reason,
                describe_point(command.subnetwork, command.element, command.cpu_frequency),
                "yes" if command.feasible else "no",
                "none" if answer is None else f"{answer.result}{switch}",
                command.detail,
            )
        )
    heads = ("time", "number", "reason", "operating point", "all limits met", "answer, switch", "in words")
    note = (
        f'<p class="note">{len(run.commands)} commands in all, of which {len(changes)} changed the operating '
        "point; the others only told that a limit could be met again, or not any more.</p>"
    )
    return f'<div class="words">{_rows(heads, rows)}</div>{note}'


def _deadlines(all_results: Sequence[Results]) -> str:
    rows = [(name, milliseconds(value), how) for results in all_results for name, value, how in results.deadlines]
    return f'<div class="words">{_rows(("phase", "deadline", "computed from"), rows)}</div>' if rows else ""


def _pairs(all_results: Sequence[Results], name: str) -> str:
    """Names and texts of all results; each results' own where they differ."""
    pairs: dict[str, Mapping[str, str]] = {results.name: getattr(results, name) for results in all_results}
    if len({tuple(of_one.items()) for of_one in pairs.values()}) == 1:
        pairs = {"": next(iter(pairs.values()))}
    return "".join(
        (f"<h3>{escape(title)}</h3>" if title else "")
        + '<table class="pairs">'
        + "".join(f"<tr><th>{escape(key)}</th><td>{escape(text)}</td></tr>" for key, text in of_one.items())
        + "</table>"
        for title, of_one in pairs.items()
        if of_one
    )


def _rows(heads: Iterable[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(text)}</th>" for text in heads)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll long"><table><tr>{head}</tr>{body}</table></div>'


def _overlay(results: Results) -> str:
    if results.overlay is None:
        return ""
    return (
        "<h3>One frame, two subnetworks</h3>"
        f'<p><img alt="A frame and the answers of two subnetworks" src="{_embed(results.overlay)}"></p>'
        '<p class="note">A frame of these runs, answered once more after them by the largest and the smallest '
        "subnetwork that were used.</p>"
    )


def _frames(shown: Sequence[ShownRun]) -> str:
    return "".join(f"<h3>{_name(one)}</h3>{_pictures(one.run)}" for one in shown if one.run.pictures)


def _pictures(run: RecordedRun) -> str:
    figures = []
    for picture in sorted(run.pictures, key=lambda picture: picture.time):
        small = ' class="small"' if picture.image.shape[1] < PICTURE_WIDTH // 2 else ""
        scores = ", ".join(f"{escape(label)} {percent(score)}" for label, score in zip(picture.labels, picture.scores))
        if not math.isnan(picture.mean_iou):
            scores = f"mean IoU {percent(picture.mean_iou)}"
        figures.append(
            f'<figure><img{small} alt="frame" src="{_embed(_scaled(picture))}"><figcaption>'
            f"{escape(_when(run, picture))}<br><b>{scores}</b></figcaption></figure>"
        )
    return f'<div class="frames">{"".join(figures)}</div>'


def _when(run: RecordedRun, picture: Picture) -> str:
    """Time, phase and point of a frame, and how long after which change it was taken."""
    phase = f", {run.phase_at(picture.time).name}" if len(run.phases) > 1 else ""
    before = [command for command in list_changes(run) if command.time <= picture.time]
    change = f", {picture.time - before[-1].time:.1f} s after a change ({before[-1].reason})" if before else ""
    return f"{picture.time:.1f} s{phase}, {picture.subnetwork}{change}:"


def _scaled(picture: Picture) -> bytes:
    image = picture.image if picture.overlay is None else picture.overlay
    if image.shape[1] > PICTURE_WIDTH:
        height = max(1, round(image.shape[0] * PICTURE_WIDTH / image.shape[1]))
        image = cv2.resize(image, (PICTURE_WIDTH, height), interpolation=cv2.INTER_AREA)
    return encode_png(image)


def _embed(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"

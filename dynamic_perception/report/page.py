"""The page about two runs of the same scenario: one HTML file that needs nothing else, not even a network."""

from __future__ import annotations

import base64
import math
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Iterable, Mapping, Sequence

import cv2
import numpy as np

from dynamic_perception.management.operating_points import OperatingPointTable
from dynamic_perception.report.live_table import milliseconds, percent
from dynamic_perception.report.recorded_run import (
    PhaseSummary, Picture, RecordedRun, describe_point, list_changes, summarise)

PICTURE_WIDTH = 320  # [pixel] of the frames that are shown; larger ones are scaled down

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; background: #fff; }
body { margin: 0 auto; max-width: 1040px; padding: 1.5rem; }
h1 { font-size: 1.6rem; margin: 0 0 .4rem; } h2 { font-size: 1.15rem; margin: 2.4rem 0 .6rem; }
img { max-width: 100%; } .lead { font-size: 1.1rem; }
table { border-collapse: collapse; width: 100%; font-size: .88rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .32rem .6rem; border-bottom: 1px solid #e2e2e0; vertical-align: top; }
th { font-weight: 600; } td.n, th.n { text-align: right; } tr.whole td { border-top: 2px solid #888; font-weight: 600; }
.managed { color: #0072B2; } .fixed { color: #B34A00; } .note { color: #5c5c5c; font-size: .88rem; }
.frames { display: grid; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); gap: .8rem; }
figure { margin: 0; font-size: .82rem; line-height: 1.35; }
figure img { width: 100%; border-radius: 4px; display: block; }
img.small { image-rendering: pixelated; } .scroll { overflow-x: auto; }
td:not(:last-child), .pairs th { white-space: nowrap; }
"""


@dataclass(frozen=True, eq=False)
class PageContent:
    """What the page is made from.

    Attributes:
        managed, fixed: the same scenario with the manager, and at the fixed largest subnetwork.
        timeline: a PNG file.
        overlay: a PNG file with a frame and the answers of two subnetworks; None: the network gives no such answers.
        metric: what accuracies mean.
        table: the operating points that the manager chose among.
        deadlines: phases, seconds, and how each was computed.
        sources: every shown quantity and where it comes from.
        machine: what was measured on.
    """

    managed: RecordedRun
    fixed: RecordedRun
    timeline: bytes
    table: OperatingPointTable
    deadlines: Sequence[tuple[str, float, str]]
    sources: Mapping[str, str]
    machine: Mapping[str, str]
    overlay: bytes | None = None
    metric: str = "top-1"


def write_page(path: Path, content: PageContent) -> None:
    """Write the page to `path`."""
    managed, fixed = content.managed, content.fixed
    path.write_text("\n".join([
        "<!doctype html>", '<html lang="en">', '<head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>Dynamic Perception: demo</title><style>{STYLE}</style></head>", "<body>",
        "<h1>Dynamic Perception: one scenario, with and without the manager</h1>",
        f'<p class="lead">{escape(headline(managed, fixed))}</p>',
        f'<p><img alt="Timeline of both runs" src="{_embed(content.timeline, "png")}"></p>',
        "<h2>Phase by phase</h2>", _comparison(managed, fixed, content.metric),
        "<h2>How the deadlines were computed</h2>", _deadlines(content.deadlines),
        "<h2>What was measured and what was modelled</h2>", _pairs(content.sources),
        "<h2>What the manager commanded, and why</h2>", _commands(managed),
        *_overlay(content), "<h2>Frames and their answers</h2>",
        f'<h3 class="managed">With the manager</h3>{_pictures(managed)}<h3 class="fixed">Fixed largest subnetwork</h3>'
        f"{_pictures(fixed)}",
        "<h2>The operating points</h2>", _operating_points(content.table),
        "<h2>The machine</h2>", _pairs(content.machine),
        "</body></html>", ""]), encoding="utf-8")


def headline(managed: RecordedRun, fixed: RecordedRun) -> str:
    """The comparison in a sentence."""
    a, b = summarise(managed)[-1], summarise(fixed)[-1]
    iou = (f" On the frames of these runs the mean IoU was {100 * a.mean_iou:.1f} % instead of "
           f"{100 * b.mean_iou:.1f} %, {managed.iou_source}." if managed.iou_source else "")
    return (f"With the manager {100 * a.miss_rate:.1f} % of the deadlines were missed, at the fixed largest subnetwork "
            f"{100 * b.miss_rate:.1f} %. The mean accuracy was {100 * a.accuracy:.1f} % instead of "
            f"{100 * b.accuracy:.1f} %, the modelled energy of a frame {1e3 * a.energy:.2f} mJ instead of "
            f"{1e3 * b.energy:.2f} mJ.{iou}")


def _comparison(managed: RecordedRun, fixed: RecordedRun, metric: str) -> str:
    """Two rows per phase."""
    heads = ["frames", "missed", "missed [%]", "median latency [ms]", "p95 latency [ms]", "mean accuracy [%]",
             "energy per frame, modelled [mJ]", f"hottest, {managed.temperature_source} [°C]",
             f"battery at the end, {managed.battery_source} [%]"]
    scored = bool(managed.iou_source)
    if scored:
        heads.append("mean IoU on these frames, measured [%]")
    rows = ["<tr><th>phase</th><th>run</th>" + "".join(f'<th class="n">{head}</th>' for head in heads) + "</tr>"]
    for with_manager, without in zip(summarise(managed), summarise(fixed)):
        whole = with_manager.phase not in [phase.name for phase in managed.phases]
        rows.append(f'<tr{" class=whole" if whole else ""}><td rowspan="2">{escape(with_manager.phase)}</td>'
                    f'<td class="managed">with the manager</td>{_cells(with_manager, scored)}</tr>')
        rows.append(f'<tr><td class="fixed">fixed largest</td>{_cells(without, scored)}</tr>')
    iou = f" The mean IoU on these frames is {managed.iou_source}." if scored else ""
    note = ('<p class="note">A missed frame was answered after its deadline, or not at all because newer frames came '
            f"first. The accuracy ({metric}) is that of the executed subnetworks on the test images of the model "
            f"bundle, not on these frames.{escape(iou)}</p>")
    return f'<div class="scroll"><table>{"".join(rows)}</table></div>{note}'


def _cells(summary: PhaseSummary, scored: bool) -> str:
    numbers = [(summary.frames, 0), (summary.misses, 0), (100 * summary.miss_rate, 1),
               (1e3 * summary.latency_median, 2), (1e3 * summary.latency_p95, 2), (100 * summary.accuracy, 1),
               (1e3 * summary.energy, 2), (summary.hottest, 1), (100 * summary.charge_end, 0)]
    if scored:
        numbers.append((100 * summary.mean_iou, 1))
    return "".join(f'<td class="n">{_number(value, digits)}</td>' for value, digits in numbers)


def _number(value: float, digits: int) -> str:
    return "–" if math.isnan(value) else f"{value:.{digits}f}"


def _deadlines(deadlines: Iterable[tuple[str, float, str]]) -> str:
    rows = [(name, milliseconds(value), how) for name, value, how in deadlines]
    return _rows(("phase", "deadline", "computed from"), rows)


def _commands(run: RecordedRun) -> str:
    answers = {answer.sequence: answer for answer in run.answers}
    changes = list_changes(run)
    rows = []
    for command in changes:
        answer = answers.get(command.sequence)
        rows.append((f"{command.time:.1f} s", str(command.sequence), command.reason,
                     describe_point(command.subnetwork, command.element, command.cpu_frequency),
                     "yes" if command.feasible else "no",
                     "none" if answer is None else f"{answer.result}, {_number(1e3 * answer.switch_duration, 2)} ms",
                     command.detail))
    heads = ("time", "number", "reason", "operating point", "all limits met", "answer, switch", "in words")
    note = (f'<p class="note">{len(run.commands)} commands in all, of which {len(changes)} changed the operating '
            "point; the others only told that a limit could be met again, or not any more.</p>")
    return _rows(heads, rows) + note


def _operating_points(table: OperatingPointTable) -> str:
    source = table.provenance
    clocks = any(table.cpu_frequency > 0)
    heads = ("subnetwork", "compute element", *(["clock [MHz]"] if clocks else []),
             f"latency, {source['latency']} [ms]",
             f"p95 of it, {source['latency']} [ms]", f"power, {source['power']} [W]",
             f"energy, {source['energy']} [mJ]", f"accuracy, {source['accuracy']} [%]")
    return _rows(heads, [
        (p.subnetwork, p.compute_element, *([_number(p.cpu_frequency / 1e6, 0)] if clocks else []),
         f"{1e3 * p.latency:.2f}", f"{1e3 * p.latency_p95:.2f}", f"{p.power:.3g}",
         f"{1e3 * p.energy:.2f}", f"{100 * p.accuracy:.1f}") for p in (table[index] for index in range(len(table)))])


def _pairs(pairs: Mapping[str, str]) -> str:
    rows = "".join(f"<tr><th>{escape(name)}</th><td>{escape(text)}</td></tr>" for name, text in pairs.items())
    return f'<table class="pairs">{rows}</table>'


def _rows(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(text)}</th>" for text in heads)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><tr>{head}</tr>{body}</table></div>'


def _overlay(content: PageContent) -> list[str]:
    if content.overlay is None:
        return []
    return ["<h2>One frame, two subnetworks</h2>",
            f'<p><img alt="A frame and the answers of two subnetworks" src="{_embed(content.overlay, "png")}"></p>',
            '<p class="note">A frame of these runs, answered once more after them by the largest and the smallest '
            "subnetwork that were used. The file is overlay.png.</p>"]


def _pictures(run: RecordedRun) -> str:
    figures = []
    for picture in run.pictures:
        small = ' class="small"' if picture.image.shape[1] < PICTURE_WIDTH // 2 else ""
        scores = ", ".join(f"{escape(label)} {percent(score)}" for label, score in zip(picture.labels, picture.scores))
        if not math.isnan(picture.mean_iou):
            scores = f"mean IoU {percent(picture.mean_iou)}"
        caption = f"{picture.time:.1f} s, {run.phase_at(picture.time).name}, {picture.subnetwork}:"
        figures.append(f'<figure><img{small} alt="frame" src="{_encode(picture)}">'
                       f"<figcaption>{escape(caption)}<br><b>{scores}</b></figcaption></figure>")
    return f'<div class="frames">{"".join(figures)}</div>' if figures else '<p class="note">No frame was kept.</p>'


def _encode(picture: Picture) -> str:
    image = picture.image if picture.overlay is None else picture.overlay
    if image.shape[1] > PICTURE_WIDTH:
        height = max(1, round(image.shape[0] * PICTURE_WIDTH / image.shape[1]))
        image = cv2.resize(image, (PICTURE_WIDTH, height), interpolation=cv2.INTER_AREA)
    done, data = cv2.imencode(".png", cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2BGR))
    if not done:
        raise ValueError(f"a frame of {image.shape} cannot be written as PNG")
    return _embed(data.tobytes(), "png")


def _embed(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"

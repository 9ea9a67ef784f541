"""What the demo leaves behind: a verdict, the raw series, the picture, the page, and a summary on the terminal."""

from __future__ import annotations

import dataclasses
import os
import platform
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import onnxruntime
from rclpy.utilities import get_rmw_implementation_identifier
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from dynamic_perception.demo.overlay import draw_overlay
from dynamic_perception.demo.scenario import LARGEST_RISE, LARGEST_SHARE, ROOM, SLOWER, Deadlines
from dynamic_perception.demo.scenario_run import Plan
from dynamic_perception.hardware.compute_element import platform_fingerprint
from dynamic_perception.hardware.emulated_cpufreq import POWER_MODEL
from dynamic_perception.report.page import headline, write_page
from dynamic_perception.report.recorded_run import Limits, RecordedRun, summarise
from dynamic_perception.report.results_file import Results, write_results
from dynamic_perception.report.shown_run import show_runs
from dynamic_perception.report.timeline import draw_timeline

ANSWER_TIME = 1.0  # [s] at the end, in which a command may stay without an answer


@dataclass(frozen=True)
class ResultPaths:
    """The files of one demo."""

    page: Path
    timeline: Path
    series: Path
    overlay: Path | None  # None: it was not drawn


def check_run(run: RecordedRun) -> list[str]:
    """What went wrong in a run that came to its end, in sentences; empty: nothing."""
    faults = [
        f"{run.title}: no frame was answered in the phase '{phase.name}'"
        for phase in run.phases
        if not any(phase.start <= frame.time < phase.end for frame in run.frames)
    ]
    if run.iou_source and not run.scores:
        faults.append(f"{run.title}: no answer could be compared with the truth")
    if not run.managed:
        return faults
    answers = {answer.sequence: answer for answer in run.answers}
    if not any(answer.result in ("applied", "partial") for answer in run.answers):
        faults.append(f"{run.title}: no command was applied")
    heard = min(answers, default=0)  # a command that was replaced before perception was there reached nobody
    for command in run.commands:
        answer = answers.get(command.sequence)
        if answer is None and command.sequence > heard and command.time < run.phases[-1].end - ANSWER_TIME:
            faults.append(f"{run.title}: command {command.sequence} ({command.reason}) was never answered")
        elif answer is not None and answer.result == "rejected":
            faults.append(f"{run.title}: command {command.sequence} ({command.reason}) was rejected: {answer.message}")
    return faults


def write_demo(
    out: Path, managed: RecordedRun, fixed: RecordedRun, plan: Plan, deadlines: Deadlines, limits: Limits
) -> ResultPaths:
    """Write `index.html`, `timeline.png`, `results.json` with its pictures and, of a segmenter, `overlay.png`."""
    overlay = out / "overlay.png"
    drawn = draw_overlay(overlay, plan.bundle, (managed, fixed))
    results = Results(
        name=out.resolve().name,
        runs=(managed, fixed),
        table=plan.table,
        limits=limits,
        metric=plan.bundle.metric,
        sources=describe_sources(plan, managed),
        machine=describe_machine(),
        deadlines=explain_deadlines(deadlines, plan.scenario.frame_rate),
        overlay=overlay.read_bytes() if drawn else None,
    )
    series = write_results(
        out,
        results,
        {
            "model": plan.bundle.name,
            "weights_sha256": plan.bundle.weights_sha256,
            "deadlines": {
                f"{key}_s" if isinstance(value, float) else key: value
                for key, value in dataclasses.asdict(deadlines).items()
            },
            "summary": {
                "managed": [_plain_summary(s) for s in summarise(managed)],
                "fixed": [_plain_summary(s) for s in summarise(fixed)],
            },
        },
    )
    paths = ResultPaths(out / "index.html", out / "timeline.png", series, overlay if drawn else None)
    draw_timeline(show_runs([results]), paths.timeline)
    write_page(paths.page, [results])
    return paths


def _plain_summary(summary: object) -> dict[str, object]:
    return {key: None if value != value else value for key, value in dataclasses.asdict(summary).items()}


def describe_machine() -> dict[str, str]:
    """What the numbers were measured on."""
    fingerprint = platform_fingerprint(Path("/sys"))
    return {
        "CPU": f"{fingerprint['cpu_model']}, {fingerprint['architecture']}",
        "CPUs": f"{len(os.sched_getaffinity(0))} usable of {fingerprint['cpu_count']}",
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "middleware": f"{get_rmw_implementation_identifier()}, rclpy {version('rclpy')}",
        "engine": f"ONNX Runtime {onnxruntime.__version__}",
    }


def explain_deadlines(deadlines: Deadlines, frame_rate: float) -> list[tuple[str, float, str]]:
    """Phases, seconds, and how each was computed; `frame_rate` [Hz] of the camera."""
    smallest, largest, frugal, median, p90 = (
        f"{1e3 * seconds:.2f} ms"
        for seconds in (
            deadlines.smallest,
            deadlines.largest,
            deadlines.frugal,
            deadlines.overhead_median,
            deadlines.overhead_p90,
        )
    )
    slower = f"{deadlines.slow_down:.2f}"
    calm = f"one frame period at {frame_rate:g} Hz: the answer is there before the next frame"
    tight = (
        f"the overhead around the inference that 90 % of {deadlines.frames} frames of the calm phase kept, {p90} "
        f"(median {median}), plus the middle between the table's fastest smaller subnetwork, {smallest}, and the "
        f"largest at its fastest, {largest}, times the slow-down of the inference in the calm phase, {slower}: "
        "the largest does not fit, a smaller one does"
    )
    roomy = (
        f"{ROOM:g} times the sum of the same overhead and of {largest} times {slower}: on an idle machine the "
        "largest fits without trouble; at most one frame period"
    )
    economy = (
        f"the same overhead, plus the middle between the largest subnetwork at its fastest operating point, "
        f"{largest}, and at its most frugal, {frugal}, times {slower}: whoever must save power has to take a "
        "smaller one; at most one frame period"
    )
    if deadlines.frugal <= SLOWER * deadlines.largest:
        economy = (
            f"as calm, because on this machine the most frugal operating point of the largest subnetwork, "
            f"{frugal}, is about as fast as its fastest, {largest}"
        )
    return [
        ("calm, heat, recovery", deadlines.calm, calm),
        ("tight deadline", deadlines.tight, tight),
        ("CPU load", deadlines.roomy, roomy),
        ("battery", deadlines.economy, economy),
    ]


def describe_sources(plan: Plan, run: RecordedRun) -> dict[str, str]:
    """Every shown quantity and where it comes from."""
    board, power = plan.scenario.board, plan.scenario.reference_power
    temperature = "measured by this machine's sensors; nothing is heated in the phase 'heat'"
    if run.temperature_source == "modelled":
        temperature = (
            f"modelled: one thermal resistance of {board.thermal_resistance:.3g} K/W, so that the largest subnetwork "
            f"at {plan.scenario.frame_rate:g} Hz ({1e3 * power:.3g} mW) heats by {LARGEST_RISE:g} K, and a time "
            f"constant of {board.time_constant:.2g} s; driven by the energy of what perception executed"
        )
    battery = "measured by this machine's sensors; nothing is drained in the phase 'battery'"
    if run.battery_source == "modelled":
        battery = (
            f"modelled: {board.battery_capacity:.3g} J, so that the largest subnetwork takes "
            f"{100 * LARGEST_SHARE:.0f} % of it during a run; other consumers and a charger as in the scenario"
        )
    truth = {}
    if run.iou_source:
        truth["mean IoU"] = f"{run.iou_source}, at every fourth pixel of every fourth row of the answered frames"
    clock = {}
    if run.clock_source:
        clock = {
            "clock": f"{run.clock_source}: perception gets as much CPU time as the clock would leave it; power is "
            f"modelled: {POWER_MODEL}"
        }
    return {
        **clock,
        "latency, misses": "measured: from a frame's stamp to its published answer, by the perception node",
        "CPU load": f"real: {plan.load_processes} processes that take all of the CPU they can get",
        "accuracy": f"{plan.bundle.metric}, measured on the test images of the model bundle, per subnetwork; not on "
        "the frames of this run",
        **truth,
        "energy": f"{plan.table.provenance['energy']}: of a frame's operating point, as the table has it",
        "temperature": temperature,
        "battery": battery,
        "manager": f"as by default, but with a dwell of {plan.scenario.dwell:.2g} s, as the scenario is a time lapse",
    }


def print_summary(console: Console, managed: RecordedRun, fixed: RecordedRun, paths: ResultPaths) -> None:
    """The comparison per phase, and where the files are."""
    table = Table(
        title="with the manager / fixed largest subnetwork", title_justify="left", box=SIMPLE_HEAD, pad_edge=False
    )
    table.add_column("phase", no_wrap=True)
    accuracy = ("mean IoU,\nlive (%)", "mean_iou") if managed.iou_source else ("accuracy\n(%)", "accuracy")
    columns = (
        ("missed\n(%)", "miss_rate", 1e2, 1),
        ("p95 latency\n(ms)", "latency_p95", 1e3, 1),
        (*accuracy, 1e2, 1),
        ("modelled\nenergy (mJ)", "energy", 1e3, 1),
    )
    for name, *_ in columns:
        table.add_column(name, justify="right", no_wrap=True)
    for a, b in zip(summarise(managed), summarise(fixed)):
        table.add_row(
            a.phase,
            *(
                f"{scale * getattr(a, key):.{digits}f} / {scale * getattr(b, key):.{digits}f}"
                for _, key, scale, digits in columns
            ),
            end_section=a.phase == managed.phases[-1].name,
        )
    console.print(table)
    console.print(headline(managed, fixed), highlight=False)
    if managed.clock_source:
        console.print(f"clock: {managed.clock_source}", highlight=False)
    files = {"page": paths.page, "picture": paths.timeline, "series": paths.series, "overlay": paths.overlay}
    for name, path in files.items():
        if path is None:
            continue
        console.print(f"{name:8} {path}", highlight=False, markup=False, soft_wrap=True)

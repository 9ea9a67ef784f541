"""The closed loop for real: perception with the manager, at the fixed largest, and at the fixed smallest subnetwork.

    .venv/bin/python benchmarks/closed_loop.py [--repeats N] [--duration S] [--model NAME]

The demo's scenario (deadline, other work that really takes the cores, heat, battery) with real nodes over DDS, in
turns: the manager, the fixed largest, the fixed smallest; the clock is the emulated one where control groups can be
written, else the machine's own.  All runs have the deadlines of the first.

Definitions, so that nobody can misread them; each is the mean over the repeats:
    miss_rate_managed, miss_rate_largest, miss_rate_smallest
        frames that were answered after their deadline, or not at all, of all frames of a run
    accuracy_managed, accuracy_largest, accuracy_smallest
        mean over the answered frames of the executed subnetwork's accuracy on its test images (not on these frames)
    iou_managed, iou_largest, iou_smallest
        mean IoU of the answers on the frames of the run, against the synthetic camera's truth; null: not known
    clock
        "emulated" or "machine"
"""

from __future__ import annotations

import argparse
import json
import math
import os
import tempfile
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from dynamic_perception.demo.emulated_clock import start_clock
from dynamic_perception.demo.interruption import KILL_AFTER, Interruption
from dynamic_perception.demo.preparation import SYNTHETIC, read_model
from dynamic_perception.demo.processes import ProcessGroup
from dynamic_perception.demo.scenario_run import Plan, ScenarioRun
from dynamic_perception.demo.session import isolate, make_plan
from dynamic_perception.report.live_table import EventLog
from dynamic_perception.report.recorded_run import PhaseSummary, summarise

WAYS = ("managed", "largest", "smallest")


def main() -> None:
    """Measure, print a table for people, and one JSON object as the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--duration", type=float, default=24.0, metavar="S", help="of a run (default: %(default)s)")
    parser.add_argument("--model", default="segmenter_camvid", help="(default: %(default)s)")
    arguments = parser.parse_args()
    console, interruption = Console(), Interruption()
    with tempfile.TemporaryDirectory() as folder:
        logs = Path(folder)
        isolate(logs)
        clock = start_clock(console)
        interruption.before_leaving = clock.close if clock else lambda: None
        interruption.listen()
        try:
            plan = make_plan(arguments.duration, console, SYNTHETIC, read_model(arguments.model), clock)
            processes = interruption.processes = ProcessGroup(logs, os.environ)
            summaries = play(plan, arguments.repeats, processes, interruption, console)
        finally:
            if clock:
                clock.close()
    report(plan, summaries, arguments)


def play(
    plan: Plan, repeats: int, processes: ProcessGroup, interruption: Interruption, console: Console
) -> dict[str, list[PhaseSummary]]:
    """The summary of every whole run."""
    fixed = {"largest": plan.bundle.subnetworks[-1].name, "smallest": plan.bundle.subnetworks[0].name}
    summaries: dict[str, list[PhaseSummary]] = {way: [] for way in WAYS}
    deadlines = None
    try:
        for repeat in range(1, repeats + 1):
            for way in WAYS:
                title = f"{way}, {repeat} of {repeats}"
                with EventLog(console) as display, interruption.deferred():
                    run = ScenarioRun(
                        plan, title, way == "managed", processes, interruption, display, deadlines, fixed.get(way, "")
                    )
                    for fault in run.play():
                        raise SystemExit(f"error: {title}: {fault}")
                deadlines = run.deadlines
                summaries[way].append(summarise(run.record)[-1])
    finally:
        processes.stop_nodes(KILL_AFTER)
    return summaries


def report(plan: Plan, summaries: dict[str, list[PhaseSummary]], arguments: argparse.Namespace) -> None:
    """Print."""
    table = Table(
        title=f"{plan.bundle.name}, {arguments.repeats} runs of {arguments.duration:g} s each, "
        f"{plan.scenario.frame_rate:g} frames per second"
    )
    for heading in (
        "",
        "missed \\[%]",
        "each run",
        f"{plan.bundle.metric} on test images \\[%]",
        "mean IoU live \\[%]",
        "energy \\[mJ], " + plan.table.provenance["energy"],
    ):
        table.add_column(heading, justify="right" if heading else "left")
    result: dict[str, object] = {}
    for way, of_way in summaries.items():
        misses = [summary.misses / summary.frames for summary in of_way]
        accuracy, iou, energy = (
            float(np.mean([getattr(summary, name) for summary in of_way]))
            for name in ("accuracy", "mean_iou", "energy")
        )
        table.add_row(
            way,
            f"{100 * np.mean(misses):.1f}",
            " / ".join(f"{100 * miss:.1f}" for miss in misses),
            f"{100 * accuracy:.1f}",
            "-" if math.isnan(iou) else f"{100 * iou:.1f}",
            f"{1e3 * energy:.2f}",
        )
        result |= {
            f"miss_rate_{way}": float(np.mean(misses)),
            f"accuracy_{way}": accuracy,
            f"iou_{way}": None if math.isnan(iou) else iou,
        }
    Console(width=120).print(table)
    print(json.dumps({**result, "clock": "emulated" if plan.clock else "machine"}))


if __name__ == "__main__":
    main()

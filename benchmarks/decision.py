"""How long a decision takes: one report taken and one operating point chosen.

    .venv/bin/python benchmarks/decision.py [--decisions N]

Definitions, so that nobody can misread them:
    p50_us_1000, p99_us_1000    `ResourceManager.observe_report` + `decide` of one network whose table has 1,000 points, in
                                microseconds, over N decisions (median, 99th percentile)
    p99_us_100000               the same with 100,000 points

The machine is not kind: inferences vary by 3 %, other work slows the element in use 1.5 times in every fourth second, and
deadline, energy, power and accuracy are all limited, so that the point moves and limits are missed now and then; those
decisions count like any other.
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from dynamic_perception.management.manager import ResourceManager
from dynamic_perception.management.operating_points import OperatingPointTable
from dynamic_perception.management.target import Target

FRAME = 1 / 30           # [s] between two frames, in virtual time
WARM_UP = 100            # decisions that do not count
SHOWN = 500              # decisions between two looks at the progress bar
NOISE = 0.03             # of an inference
OTHER_WORK = 1.5         # slow-down
OTHER_WORK_PERIOD = 4.0  # [s] in whose last second there is other work
CLUSTERS = {"cpu0": (4, 0.4, 1.8), "cpu4": (4, 1.0, 2.4)}  # cores, speed, fastest clock [GHz]


def make_table(points: int, clocks: int = 10) -> OperatingPointTable:
    """A made-up board of two clusters with 1, 2 and 4 threads and `clocks` clocks, and as many subnetworks as it takes."""
    elements = [(name, threads, speed * threads ** 0.8, fastest) for name, (cores, speed, fastest) in CLUSTERS.items()
                for threads in (1, 2, 4) if threads <= cores]
    subnetworks = -(-points // (len(elements) * clocks))
    rows = [(size, element, clock) for size in range(subnetworks) for element in elements for clock in range(clocks)]
    size, speed, threads, clock = np.array([
        (size, element[2], element[1], element[3] * 1e9 * (0.3 + 0.7 * (clock + 1) / clocks))
        for size, element, clock in rows[:points]]).T
    share = (size + 1) / subnetworks
    latency = 40e-3 * (0.1 + 0.9 * share) / speed * (1e9 / clock)
    power = 0.3 + 0.5 * threads * (clock / 1e9) ** 2
    frequencies = np.round(clock / 1e6) * 1e6
    unknown = np.full(points, np.nan)
    return OperatingPointTable(
        subnetwork=tuple(f"{row[0]}" for row in rows[:points]), compute_element=tuple(
            f"{row[1][0]}:{row[1][1]}" for row in rows[:points]),
        cpu_frequency=frequencies, gpu_frequency=unknown, latency=latency, latency_p95=1.05 * latency, latency_p99=unknown,
        power=power, energy=power * latency, accuracy=0.5 + 0.4 * np.sqrt(share),
        provenance={"latency": "modelled", "power": "modelled", "energy": "modelled", "accuracy": "modelled"})


def measure_single(points: int, decisions: int, bar: Progress) -> dict[str, float]:
    """Durations [us] of one network's decisions, and how many of them moved the point or missed a limit."""
    table = make_table(points)
    manager = ResourceManager(table)
    manager.set_target(0.0, Target(max_latency=25e-3, max_energy=60e-3, max_power=6.0, min_accuracy=0.6))
    random = np.random.default_rng(1)
    decision = manager.decide(0.0)
    durations, moved, missed = [], 0, 0
    task = bar.add_task(f"{points:,} points", total=decisions + WARM_UP)
    for frame in range(decisions + WARM_UP):
        if frame % SHOWN == 0:
            bar.update(task, completed=frame, refresh=True)
        now, point = frame * FRAME, decision.point
        slow_down = OTHER_WORK if now % OTHER_WORK_PERIOD > OTHER_WORK_PERIOD - 1.0 else 1.0
        inference = point.latency * slow_down * (1.0 + NOISE * random.standard_normal())
        started = time.perf_counter()
        manager.observe_report(now, point.subnetwork, point.compute_element, inference, 2e-3)
        decision = manager.decide(now)
        if frame >= WARM_UP:
            durations.append(time.perf_counter() - started)
        moved += decision.changed
        missed += not decision.feasible
    return {"p50": 1e6 * float(np.quantile(durations, 0.5)), "p99": 1e6 * float(np.quantile(durations, 0.99)),
            "worst": 1e6 * max(durations), "moved": moved, "missed": missed}


def main() -> None:
    """Measure, print a table for people, and one JSON object as the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--decisions", type=int, default=5000, help="of each table (default: %(default)s)")
    arguments = parser.parse_args()
    table = Table(title="one report and one decision of one network")
    for heading in ("points", "p50 [us]", "p99 [us]", "worst [us]", "moved", "missed a limit"):
        table.add_column(heading, justify="right")
    results = {}
    # Without a thread that refreshes it: that would take the interpreter away from what is measured.
    with Progress(console=Console(stderr=True), auto_refresh=False, transient=True) as bar:
        for points in (1000, 100_000):
            result = results[points] = measure_single(points, arguments.decisions, bar)
            table.add_row(f"{points:,}", f"{result['p50']:.0f}", f"{result['p99']:.0f}", f"{result['worst']:.0f}",
                          str(result["moved"]), str(result["missed"]))
    Console(width=120).print(table)
    print(json.dumps({"p50_us_1000": results[1000]["p50"], "p99_us_1000": results[1000]["p99"],
                      "p99_us_100000": results[100_000]["p99"]}))


if __name__ == "__main__":
    main()

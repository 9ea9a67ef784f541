"""How long a decision takes: one report taken and one operating point chosen.

    .venv/bin/python benchmarks/decision.py [--decisions N]

Definitions, so that nobody can misread them:
    p50_us_1000, p99_us_1000    `ResourceManager.observe_report` + `decide` of one network whose table has 1,000
                                points, in microseconds, over N decisions (median, 99th percentile)
    p99_us_100000               the same with 100,000 points
    joint_4x200_p99_ms          `JointSelector.solve` of 4 networks with 200 points each, as `JointManager` calls it, in
                                milliseconds over 300 random situations (99th percentile) of targets, cap, slow-downs
    joint_over_exact_max        1 + (worth of the exact solution - worth of the one found) / |worth of the exact one|,
                                the greatest of the same situations

The machine is not kind: inferences vary by 3 %, other work slows the element in use 1.5 times in every fourth second,
and deadline, energy, power and accuracy are all limited, so that the point moves now and then; those decisions count
like any other.
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from dynamic_perception.management.joint import MOST_KNAPSACKS, TOLERANCE
from dynamic_perception.management.joint_selection import JointSelector, Network
from dynamic_perception.management.manager import ResourceManager
from dynamic_perception.management.operating_points import OperatingPointTable
from dynamic_perception.management.selection import Situation
from dynamic_perception.management.settings import ManagerSettings
from dynamic_perception.management.target import Target

FRAME = 1 / 30  # [s] between two frames, in virtual time
WARM_UP = 100  # decisions that do not count
SHOWN = 500  # decisions between two looks at the progress bar
NOISE = 0.03  # of an inference
OTHER_WORK = 1.5  # slow-down
OTHER_WORK_PERIOD = 4.0  # [s] in whose last second there is other work
CLUSTERS = {"cpu0": (4, 0.4, 1.8), "cpu4": (4, 1.0, 2.4)}  # cores, speed, fastest clock [GHz]


def make_table(points: int, clocks: int = 10) -> OperatingPointTable:
    """A made-up board: two clusters, 1, 2 and 4 threads, `clocks` clocks, and as many subnetworks as it takes."""
    elements = [
        (name, threads, speed * threads**0.8, fastest)
        for name, (cores, speed, fastest) in CLUSTERS.items()
        for threads in (1, 2, 4)
        if threads <= cores
    ]
    subnetworks = -(-points // (len(elements) * clocks))
    rows = [(size, element, clock) for size in range(subnetworks) for element in elements for clock in range(clocks)]
    size, speed, threads, clock = np.array(
        [
            (size, element[2], element[1], element[3] * 1e9 * (0.3 + 0.7 * (clock + 1) / clocks))
            for size, element, clock in rows[:points]
        ]
    ).T
    share = (size + 1) / subnetworks
    latency = 40e-3 * (0.1 + 0.9 * share) / speed * (1e9 / clock)
    power = 0.3 + 0.5 * threads * (clock / 1e9) ** 2
    frequencies = np.round(clock / 1e6) * 1e6
    unknown = np.full(points, np.nan)
    return OperatingPointTable(
        subnetwork=tuple(f"{row[0]}" for row in rows[:points]),
        compute_element=tuple(f"{row[1][0]}:{row[1][1]}" for row in rows[:points]),
        cpu_frequency=frequencies,
        gpu_frequency=unknown,
        latency=latency,
        latency_p95=1.05 * latency,
        latency_p99=unknown,
        power=power,
        energy=power * latency,
        accuracy=0.5 + 0.4 * np.sqrt(share),
        provenance={"latency": "modelled", "power": "modelled", "energy": "modelled", "accuracy": "modelled"},
    )


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
    return {
        "p50": 1e6 * float(np.quantile(durations, 0.5)),
        "p99": 1e6 * float(np.quantile(durations, 0.99)),
        "worst": 1e6 * max(durations),
        "moved": moved,
        "missed": missed,
    }


def measure_joint(situations: int, bar: Progress) -> dict[str, float]:
    """Durations [ms] of a joint choice, and how far it is from the exact one."""
    random = np.random.default_rng(2)
    tables = [make_table(200, clocks=5) for _ in range(4)]
    selector = JointSelector(
        [Network(table, ManagerSettings(), weight) for table, weight in zip(tables, (1.0, 2.0, 1.0, 1.5))],
        {"cpu0": 4, "cpu4": 4},
    )
    durations, ratios, task = [], [], bar.add_task("4 networks", total=situations)
    for turn in range(situations):
        if turn % 20 == 0:
            bar.update(task, completed=turn, refresh=True)
        asked = [random_situation(table, random) for table in tables]
        cap = random.choice([4.0, 8.0, 12.0, 20.0, 40.0])
        started = time.perf_counter()
        found = selector.solve(asked, cap, tolerance=TOLERANCE, most_knapsacks=MOST_KNAPSACKS)
        durations.append(time.perf_counter() - started)
        exact = selector.solve(asked, cap)
        ratios.append(1.0 + (exact.worth - found.worth) / abs(exact.worth))
    return {
        "p50": 1e3 * float(np.quantile(durations, 0.5)),
        "p99": 1e3 * float(np.quantile(durations, 0.99)),
        "worst": 1e3 * max(durations),
        "over_exact": max(ratios),
    }


def random_situation(table: OperatingPointTable, random: np.random.Generator) -> Situation:
    """A target that may be out of reach, on elements that other work slows."""
    target = Target(
        max_latency=random.choice([15e-3, 30e-3, 60e-3, 100e-3]),
        max_energy=random.choice([30e-3, 60e-3, np.nan]),
        min_accuracy=random.choice([0.6, 0.7, np.nan]),
        objective=int(random.integers(0, 3)),
    )
    count = len(table.elements)
    return Situation(
        target=target,
        deadline=target.max_latency,
        thermal_cap=np.inf,
        battery_cap=np.inf,
        battery_ignored=False,
        fallback=False,
        slow_down=(random.uniform(1.0, 1.5, count), np.full(count, NOISE**2)),
        overhead=(2e-3, 1e-7),
        available=np.ones(len(table), dtype=bool),
    )


def main() -> None:
    """Measure, print a table for people, and one JSON object as the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--decisions", type=int, default=5000, help="of each table (default: %(default)s)")
    arguments = parser.parse_args()
    table = Table(title="one report and one decision of one network")
    for heading in ("points", "p50 \\[us]", "p99 \\[us]", "worst \\[us]", "moved", "missed a limit"):
        table.add_column(heading, justify="right")
    results = {}
    # Without a thread that refreshes it: that would take the interpreter away from what is measured.
    with Progress(console=Console(stderr=True), auto_refresh=False, transient=True) as bar:
        for points in (1000, 100_000):
            result = results[points] = measure_single(points, arguments.decisions, bar)
            table.add_row(
                f"{points:,}",
                f"{result['p50']:.0f}",
                f"{result['p99']:.0f}",
                f"{result['worst']:.0f}",
                str(result["moved"]),
                str(result["missed"]),
            )
        joint = measure_joint(300, bar)
    joint_table = Table(title="one choice for 4 networks of 200 points")
    for heading in ("p50 \\[ms]", "p99 \\[ms]", "worst \\[ms]", "exact / found, at most"):
        joint_table.add_column(heading, justify="right")
    joint_table.add_row(*(f"{joint[key]:.2f}" for key in ("p50", "p99", "worst")), f"{joint['over_exact']:.4f}")
    Console(width=120).print(table, joint_table)
    print(
        json.dumps(
            {
                "p50_us_1000": results[1000]["p50"],
                "p99_us_1000": results[1000]["p99"],
                "p99_us_100000": results[100_000]["p99"],
                "joint_4x200_p99_ms": joint["p99"],
                "joint_over_exact_max": joint["over_exact"],
            }
        )
    )


if __name__ == "__main__":
    main()

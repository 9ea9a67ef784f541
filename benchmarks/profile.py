"""How well a profile repeats: one bundle is profiled twice, each time from the beginning, and the medians are compared.

    .venv/bin/python benchmarks/profile.py [BUNDLE] [--elements NAME ...] [--engine NAME] [--most-runs N]

Definitions, so that nobody can misread them:
    median_repeat_error_p95   |second median / first median - 1| of every point that is in both tables, of these the
                              95th percentile; at most 0.05 is the aim
    points                    operating points that are in both tables
    seconds                   that the two profiles took together, with the loading of the network

Other work on the machine is part of what is measured: leave it alone meanwhile.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from dynamic_perception.engines.selection import DEFAULT
from dynamic_perception.management.operating_points import OperatingPointTable
from dynamic_perception.networks.bundle import find_bundle, read_bundle
from dynamic_perception.profiling.commands import ProfileRequest, profile_to
from dynamic_perception.profiling.profiled_machine import NONE
from dynamic_perception.profiling.profiler import ProfileSettings


def main() -> None:
    """Measure twice, print a table for people, and one JSON object as the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", nargs="?", default="group_cnn_cifar10")
    parser.add_argument("--elements", nargs="+", default=[], metavar="NAME")
    parser.add_argument("--engine", default=DEFAULT, metavar="NAME")
    parser.add_argument("--most-runs", type=int, default=ProfileSettings.most_runs, metavar="N")
    arguments = parser.parse_args()
    bundle = read_bundle(find_bundle(arguments.bundle))
    request = ProfileRequest(
        ProfileSettings(most_runs=arguments.most_runs), arguments.engine, tuple(arguments.elements), power_sensor=NONE
    )
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        first, second = (
            profile_to(Path(folder) / f"{name}.yaml", bundle, request).table for name in ("first", "second")
        )
    seconds = time.perf_counter() - started
    pairs = matched(first, second)
    errors = np.array([abs(second.latency[b] / first.latency[a] - 1) for a, b in pairs])

    table = Table(title=f"{bundle.name}: medians of two profiles")
    for heading in ("subnetwork", "element", "first \\[ms]", "second \\[ms]", "error [%]"):
        table.add_column(heading, justify="right" if "[" in heading else "left")
    for (a, b), error in zip(pairs, errors):
        table.add_row(
            first.subnetwork[a],
            first.compute_element[a],
            f"{1e3 * first.latency[a]:.4g}",
            f"{1e3 * second.latency[b]:.4g}",
            f"{100 * error:.2f}",
        )
    Console().print(table)
    print(
        json.dumps(
            {
                "median_repeat_error_p95": round(float(np.quantile(errors, 0.95)), 4),
                "points": len(pairs),
                "seconds": round(seconds, 1),
            }
        )
    )


def matched(first: OperatingPointTable, second: OperatingPointTable) -> list[tuple[int, int]]:
    """Rows of the same point: one that was marked is in neither or only in one."""
    rows = ((a, second.find(first.subnetwork[a], first.compute_element[a])) for a in range(len(first)))
    return [(a, b) for a, b in rows if b is not None]


if __name__ == "__main__":
    main()

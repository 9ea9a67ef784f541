"""How long a switch between subnetworks takes, and what it costs the next inference.

    .venv/bin/python benchmarks/switching.py [BUNDLE] [--switches N]

Definitions, so that nobody can misread them:
    switch_p50_ms, switch_p99_ms      one `activate` of another operating point, in random order over all of them
    first_inference_over_steady_p95   every inference counts as a multiple of its point's steady median; the 95th percentile of
                                      the first inferences after a switch, over that of the ones that follow on the same
                                      point; the table has the same per point
    bytes_allocated_per_switch        the most that one `activate` holds at any moment on Python's heap, plus the mean
                                      growth of the C heap per switch
"""

from __future__ import annotations

import argparse
import ctypes
import json
import time
import tracemalloc

import numpy as np
from rich.console import Console
from rich.table import Table

from dynamic_perception.engines.onnx_runtime import OnnxRuntimeEngine
from dynamic_perception.hardware.compute_element import discover_elements
from dynamic_perception.networks.bundle import find_bundle, read_bundle
from dynamic_perception.report.progress import progress_bar

STEADY_RUNS = 5  # inferences after the first one on each point
WARM_UP_SWITCHES = 50


class HeapUse(ctypes.Structure):
    """`struct mallinfo2` of glibc; `in_use` is `uordblks`, bytes handed out by malloc."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "in_use",
            "fordblks",
            "keepcost",
        )
    ]


def c_heap_bytes() -> int:
    """Bytes in use on the C heap, large blocks included."""
    libc = ctypes.CDLL(None)
    libc.mallinfo2.restype = HeapUse
    use = libc.mallinfo2()
    return use.in_use + use.hblkhd


def main() -> None:
    """Measure, print a table for people, and one JSON object as the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "bundle", nargs="?", default="group_cnn_cifar10", help="name of a shipped bundle, or its folder"
    )
    parser.add_argument("--switches", type=int, default=2000)
    arguments = parser.parse_args()

    bundle = read_bundle(find_bundle(arguments.bundle))
    elements = discover_elements()
    engine = OnnxRuntimeEngine(bundle)
    engine.prepare([s.name for s in bundle.subnetworks], elements, warm_up_runs=10)
    points = [(s.name, element) for element in elements for s in bundle.subnetworks]
    random = np.random.default_rng(1)
    images = {s.name: random.integers(0, 256, (*s.input_size, 3), np.uint8) for s in bundle.subnetworks}
    switches, first, steady = [], [[] for _ in points], [[] for _ in points]

    current = 0
    engine.activate(*points[current])
    with progress_bar() as bar:
        for turn in bar.track(range(arguments.switches + WARM_UP_SWITCHES), description="switching"):
            current = (current + random.integers(1, len(points))) % len(points)
            image = images[points[current][0]]
            started = time.perf_counter()
            engine.activate(*points[current])
            switched = time.perf_counter()
            engine.run(image)
            durations = [time.perf_counter() - switched]
            for _ in range(STEADY_RUNS):
                started_run = time.perf_counter()
                engine.run(image)
                durations.append(time.perf_counter() - started_run)
            if turn >= WARM_UP_SWITCHES:
                switches.append(switched - started)
                first[current].append(durations[0])
                steady[current] += durations[1:]

    table = Table(title=f"{bundle.name}: {arguments.switches} switches in random order, {engine.name} {engine.version}")
    for heading in (
        "point",
        "steady p50 [ms]",
        "steady p95 [ms]",
        "first p50 [ms]",
        "first p95 [ms]",
        "first / steady, p95",
    ):
        table.add_column(heading, justify="left" if heading == "point" else "right")
    for (name, element), first_runs, steady_runs in zip(points, first, steady):
        ratio = np.quantile(first_runs, 0.95) / np.quantile(steady_runs, 0.95)
        milliseconds = [1e3 * np.quantile(runs, q) for runs in (steady_runs, first_runs) for q in (0.5, 0.95)]
        table.add_row(f"{name} on {element.name}", *(f"{value:.3f}" for value in milliseconds), f"{ratio:.2f}")
    Console().print(table)
    medians = [np.median(runs) for runs in steady]
    print(
        json.dumps(
            {
                "switch_p50_ms": 1e3 * float(np.quantile(switches, 0.5)),
                "switch_p99_ms": 1e3 * float(np.quantile(switches, 0.99)),
                "first_inference_over_steady_p95": pooled_p95(first, medians) / pooled_p95(steady, medians),
                "bytes_allocated_per_switch": bytes_per_switch(engine, points),
            }
        )
    )


def pooled_p95(runs: list[list[float]], medians: list[float]) -> float:
    """95th percentile of all points' durations, each as a multiple of its point's steady median."""
    return float(np.quantile(np.concatenate([np.array(r) / m for r, m in zip(runs, medians)]), 0.95))


def bytes_per_switch(engine: OnnxRuntimeEngine, points: list) -> float:
    """Peak of Python's heap in the worst of 100 switches, plus growth of the C heap per switch over 10,000."""
    before = c_heap_bytes()
    for turn in range(10_000):
        engine.activate(*points[turn % len(points)])
    growth = max(0, c_heap_bytes() - before) / 10_000
    tracemalloc.start()
    worst = 0
    for turn in range(100):
        tracemalloc.reset_peak()
        held, _ = tracemalloc.get_traced_memory()
        engine.activate(*points[turn % len(points)])
        worst = max(worst, tracemalloc.get_traced_memory()[1] - held)
    tracemalloc.stop()
    return worst + growth


if __name__ == "__main__":
    main()

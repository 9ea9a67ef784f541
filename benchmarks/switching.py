"""How long a switch between subnetworks takes, and what it costs the next inference.

    .venv/bin/python benchmarks/switching.py [BUNDLE ...] [--engines NAME ...] [--switches N]

Before every inference there is a pause, as between the frames of a camera, in which an engine's threads fall asleep.
After a switch the engine may use it to `refresh` the new point's weights, as the perception node lets it.

Definitions, so that nobody can misread them; of several bundles and engines each number is the greatest:
    switch_p50_ms, switch_p99_ms      one `activate` of another operating point, in random order over all of them
    first_inference_over_steady_p95   every inference counts as a multiple of its point's steady median; the 95th
                                      percentile of the first inferences after a switch, over that of the ones that
                                      follow on the same point
    bytes_allocated_per_switch        the most that one `activate` holds at any moment on Python's heap, plus the mean
                                      growth of the C heap per switch
"""

from __future__ import annotations

import sys

sys.path.pop(0)  # this folder, whose profile.py would hide the standard library's from torch

import argparse
import ctypes
import json
import time
import tracemalloc

import numpy as np
from rich.console import Console
from rich.table import Table

from dynamic_perception.engines.engine import Engine
from dynamic_perception.engines.selection import ENGINES, installed_engines, open_engine
from dynamic_perception.hardware.compute_element import discover_elements
from dynamic_perception.installation import share_folder
from dynamic_perception.networks.bundle import MODEL_FILE, find_bundle, read_bundle
from dynamic_perception.report.progress import progress_bar

STEADY_RUNS = 3  # inferences after the first one on each point
PAUSE = 5e-3  # [s]
WARM_UP_SWITCHES = 50
UNLIMITED = 2**62  # [byte] every point is ready


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
    shipped = sorted(path.parent.name for path in (share_folder() / "models").glob(f"*/{MODEL_FILE}"))
    parser.add_argument("bundles", nargs="*", default=shipped, metavar="BUNDLE", help="default: the shipped ones")
    parser.add_argument("--engines", nargs="+", choices=tuple(ENGINES), default=installed_engines())
    parser.add_argument("--switches", type=int, default=1000, help="of each bundle and engine (default: %(default)s)")
    arguments = parser.parse_args()
    if arguments.switches < 1:
        parser.error(f"--switches is {arguments.switches}: expected at least 1")

    table = Table(title=f"{arguments.switches} switches in random order between all subnetworks and thread counts")
    for heading in (
        "bundle",
        "engine",
        "switch p50 \\[ms]",
        "switch p99 \\[ms]",
        "first / steady, p95",
        "worst point's",
        "bytes per switch",
    ):
        table.add_column(heading, justify="left" if heading in ("bundle", "engine") else "right")
    results = []
    for bundle in map(read_bundle, map(find_bundle, arguments.bundles)):
        for name in arguments.engines:
            results.append(measure(open_engine(name, bundle, UNLIMITED), arguments.switches))
            result = results[-1]
            table.add_row(
                bundle.name,
                name,
                f"{result['switch_p50_ms']:.3f}",
                f"{result['switch_p99_ms']:.3f}",
                f"{result['first_inference_over_steady_p95']:.2f}",
                f"{result['worst_point']:.2f}",
                f"{result['bytes_allocated_per_switch']:.0f}",
            )
    Console(width=120).print(table)
    keys = ("switch_p50_ms", "switch_p99_ms", "first_inference_over_steady_p95", "bytes_allocated_per_switch")
    print(json.dumps({key: max(result[key] for result in results) for key in keys}))


def measure(engine: Engine, switches: int) -> dict[str, float]:
    """What the definitions say, of one engine and its bundle, and the ratio of the worst single point."""
    elements, subnetworks = discover_elements(), engine.subnetworks
    engine.prepare([s.name for s in subnetworks], elements, warm_up_runs=10)
    points = [(s.name, element) for element in elements for s in subnetworks]
    random = np.random.default_rng(1)
    images = {s.name: random.integers(0, 256, (*s.input_size, 3), np.uint8) for s in subnetworks}
    durations, first, steady = [], [[] for _ in points], [[] for _ in points]
    current = 0
    engine.activate(*points[current])
    with progress_bar() as bar:
        for turn in bar.track(range(switches + WARM_UP_SWITCHES), description=f"{engine.bundle.name}, {engine.name}"):
            current = (current + random.integers(1, len(points))) % len(points)
            image = images[points[current][0]]
            started = time.perf_counter()
            engine.activate(*points[current])
            switched = time.perf_counter()
            engine.refresh()
            runs = []
            for _ in range(1 + STEADY_RUNS):
                time.sleep(PAUSE)
                started_run = time.perf_counter()
                engine.run(image)
                runs.append(time.perf_counter() - started_run)
            if turn >= WARM_UP_SWITCHES:
                durations.append(switched - started)
                first[current].append(runs[0])
                steady[current] += runs[1:]
    # Of few switches, some points are never the target.
    first, steady = [runs for runs in first if runs], [runs for runs in steady if runs]
    medians = [np.median(runs) for runs in steady]
    result = {
        "switch_p50_ms": 1e3 * float(np.quantile(durations, 0.5)),
        "switch_p99_ms": 1e3 * float(np.quantile(durations, 0.99)),
        "first_inference_over_steady_p95": pooled_p95(first, medians) / pooled_p95(steady, medians),
        "worst_point": max(float(np.quantile(f, 0.95) / np.quantile(s, 0.95)) for f, s in zip(first, steady)),
        "bytes_allocated_per_switch": bytes_per_switch(engine, points),
    }
    engine.close()
    return result


def pooled_p95(runs: list[list[float]], medians: list[float]) -> float:
    """95th percentile of all points' durations, each as a multiple of its point's steady median."""
    return float(np.quantile(np.concatenate([np.array(r) / m for r, m in zip(runs, medians)]), 0.95))


def bytes_per_switch(engine: Engine, points: list) -> float:
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

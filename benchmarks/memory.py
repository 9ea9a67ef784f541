"""What it takes to have every subnetwork of a bundle ready, against the largest alone.

    .venv/bin/python benchmarks/memory.py [BUNDLE ...] [--engine NAME] [--switches N]

Every number is the resident memory (VmRSS) of a fresh process that did just this, so that nothing is shared between
measurements.

Definitions, so that nobody can misread them:
    all_over_largest
        resident memory with every subnetwork ready on the element with the most threads and run once, less that of a
        process that has only the runtime loaded, over the same with only the largest subnetwork; the greatest of the
        bundles
    rss_growth_after_10000_switches_bytes
        growth of resident memory from the first to the last of 10,000 switches in random order, with an inference
        after every hundredth; the greatest of the bundles
"""

from __future__ import annotations

import sys

sys.path.pop(0)  # this folder, whose profile.py would hide the standard library's from torch

import argparse
import json
import multiprocessing
from collections.abc import Callable
from functools import partial

import numpy as np
from rich.console import Console
from rich.table import Table

from dynamic_perception.engines.selection import DEFAULT, ENGINES, open_engine
from dynamic_perception.hardware.compute_element import discover_elements
from dynamic_perception.installation import share_folder
from dynamic_perception.networks.bundle import MODEL_FILE, ModelBundle, find_bundle, read_bundle
from dynamic_perception.networks.graph_files import read_graph
from dynamic_perception.report.progress import progress_bar

MEGABYTE = 2**20
SETTLING_SWITCHES = 200


def main() -> None:
    """Measure, print a table for people, and one JSON object as the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shipped = sorted(path.parent.name for path in (share_folder() / "models").glob(f"*/{MODEL_FILE}"))
    parser.add_argument("bundles", nargs="*", default=shipped, metavar="BUNDLE", help="default: the shipped ones")
    parser.add_argument("--engine", choices=tuple(ENGINES), default=DEFAULT)
    parser.add_argument("--switches", type=int, default=10_000)
    arguments = parser.parse_args()
    table = Table(title=f"resident memory, {arguments.engine}")
    for heading in (
        "bundle",
        "subnetworks",
        "runtime [MB]",
        "largest [MB]",
        "all [MB]",
        "all / largest",
        "growth by switching [MB]",
    ):
        table.add_column(heading, justify="left" if heading == "bundle" else "right")
    ratios, growths = [], []
    with progress_bar() as bar:
        for name in bar.track(arguments.bundles, description="measuring"):
            bundle = read_bundle(find_bundle(name))
            for subnetwork in bundle.subnetworks:
                read_graph(bundle, subnetwork.name)  # made now, so that no process below loads what it takes to make it
            runtime = in_fresh_process(partial(resident_with, name, arguments.engine, 0))
            largest = in_fresh_process(partial(resident_with, name, arguments.engine, 1)) - runtime
            everything = (
                in_fresh_process(partial(resident_with, name, arguments.engine, len(bundle.subnetworks))) - runtime
            )
            ratios.append(everything / largest)
            growths.append(in_fresh_process(partial(growth, name, arguments.engine, arguments.switches)))
            table.add_row(
                name,
                str(len(bundle.subnetworks)),
                *(f"{value / MEGABYTE:.1f}" for value in (runtime, largest, everything)),
                f"{ratios[-1]:.2f}",
                f"{growths[-1] / MEGABYTE:.2f}",
            )
    Console(width=110).print(table)
    print(json.dumps({"all_over_largest": max(ratios), "rss_growth_after_10000_switches_bytes": max(growths)}))


def in_fresh_process(work: Callable[[], int]) -> int:
    """What `work` returns in a process that did nothing else."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(work)


def resident_with(name: str, engine_name: str, count: int) -> int:
    """Resident bytes of this process with the `count` largest subnetworks ready."""
    bundle, element = read_bundle(find_bundle(name)), discover_elements()[-1]
    engine = open_engine(engine_name, bundle)
    if count:
        chosen = [s.name for s in bundle.subnetworks[-count:]]
        engine.prepare(chosen, [element])
        run_all(engine, bundle, chosen)
    return resident()


def run_all(engine, bundle: ModelBundle, names: list[str]) -> None:
    """One inference of each."""
    element = discover_elements()[-1]
    for name in names:
        engine.activate(name, element)
        engine.run(np.zeros((*bundle.input_size(name), 3), np.uint8))


def growth(name: str, engine_name: str, switches: int) -> int:
    """By how many bytes this process grows."""
    bundle, element = read_bundle(find_bundle(name)), discover_elements()[-1]
    engine = open_engine(engine_name, bundle)
    names = [s.name for s in bundle.subnetworks]
    images = {n: np.zeros((*bundle.input_size(n), 3), np.uint8) for n in names}
    engine.prepare(names, [element])
    random, before = np.random.default_rng(1), 0
    for turn in range(SETTLING_SWITCHES + switches):
        chosen = names[random.integers(len(names))]
        engine.activate(chosen, element)
        if turn % 100 == 0 or turn < SETTLING_SWITCHES:
            engine.run(images[chosen])
        if turn == SETTLING_SWITCHES:
            before = resident()
    return resident() - before


def resident() -> int:
    """VmRSS of this process [byte]."""
    with open("/proc/self/status") as file:
        return next(1024 * int(line.split()[1]) for line in file if line.startswith("VmRSS"))


if __name__ == "__main__":
    main()

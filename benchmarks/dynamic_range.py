"""How far apart the operating points of one dynamic network are: modelled, and measured here.

    .venv/bin/python benchmarks/dynamic_range.py [--most-runs N] [--without-measurement]

Definitions, so that nobody can misread them; the bundle is group_cnn_cifar10:
    energy_range, time_range    greatest over least energy and latency of all points of the modelled table: every
                                subnetwork, thread count of both clusters, and clock.  Modelled, not measured; 10.6 and
                                41.6 are published of the authors' network on this board (MLCAD 2019, arXiv 2105.03600)
    energy_range_dnn_only, time_range_dnn_only
                                the same of the subnetworks alone, at one element and clock: the greatest such ratio
    measured_time_range         greatest over least median latency of all points that this machine has (subnetworks x
                                thread counts, at the clocks that its governor sets), measured now through the engine
    measured_time_range_dnn_only    the same of the subnetworks alone on one element: the greatest such ratio
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from dynamic_perception.management.operating_points import OperatingPointTable
from dynamic_perception.networks.bundle import find_bundle, read_bundle
from dynamic_perception.profiling.commands import ProfileRequest, profile_to
from dynamic_perception.profiling.profiled_machine import NONE
from dynamic_perception.profiling.profiler import ProfileSettings
from dynamic_perception.simulation.boards import find_board

BUNDLE = "group_cnn_cifar10"


def range_of(values: np.ndarray) -> float:
    """Greatest over least."""
    return float(values.max() / values.min())


def network_range(table: OperatingPointTable, column: str) -> float:
    """The greatest range of the subnetworks at one element and clock."""
    places: dict[tuple, list[int]] = {}
    for row in range(len(table)):
        place = table.compute_element[row], table.cpu_frequency[row].tobytes(), table.gpu_frequency[row].tobytes()
        places.setdefault(place, []).append(row)
    return max(range_of(getattr(table, column)[rows]) for rows in places.values())


def measure(most_runs: int) -> OperatingPointTable:
    """A short profile of this machine, which is not kept."""
    request = ProfileRequest(ProfileSettings(most_runs=most_runs), power_sensor=NONE)
    with tempfile.TemporaryDirectory() as folder:
        return profile_to(Path(folder) / "profile.yaml", read_bundle(find_bundle(BUNDLE)), request).table


def main() -> None:
    """Compute, measure, print a table for people, and one JSON object as the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--most-runs", type=int, default=200, metavar="N", help="of every point (default: %(default)s)")
    parser.add_argument("--without-measurement", action="store_true", help="the modelled board alone")
    arguments = parser.parse_args()
    board = find_board("odroid_xu3").table
    result = {
        "energy_range": range_of(board.energy),
        "time_range": range_of(board.latency),
        "energy_range_dnn_only": network_range(board, "energy"),
        "time_range_dnn_only": network_range(board, "latency"),
    }
    shown = Table(title=f"greatest over least, {BUNDLE}")
    for heading in ("machine", "points", "energy", "time", "energy, network only", "time, network only"):
        shown.add_column(heading, justify="left" if heading == "machine" else "right")
    shown.add_row("Odroid XU3, modelled", str(len(board)), *(f"{value:.3g}" for value in result.values()))
    if not arguments.without_measurement:
        here = measure(arguments.most_runs)
        result |= {
            "measured_time_range": range_of(here.latency),
            "measured_time_range_dnn_only": network_range(here, "latency"),
        }
        shown.add_row(
            "this machine, measured",
            str(len(here)),
            "",
            f"{result['measured_time_range']:.3g}",
            "",
            f"{result['measured_time_range_dnn_only']:.3g}",
        )
    Console(width=120).print(shown)
    print(json.dumps({name: round(value, 2) for name, value in result.items()}))


if __name__ == "__main__":
    main()

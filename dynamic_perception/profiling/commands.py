"""`dynamic-perception profile`: the operating-point table of a bundle on this machine."""

from __future__ import annotations

import argparse
import dataclasses
from datetime import datetime, timezone
from pathlib import Path

from rich.console import Console
from rich.table import Table

from dynamic_perception.hardware.compute_element import discover_elements, platform_fingerprint
from dynamic_perception.engines.selection import AUTO, CHOICES, candidates, compare_engines, open_engine
from dynamic_perception.networks.bundle import ModelBundle, find_bundle, read_bundle
from dynamic_perception.profiling.profiler import PROVENANCE, ProfileSettings, profile
from dynamic_perception.profiling.table_file import ProfileFile, default_profile, write_table
from dynamic_perception.report.progress import progress_bar
UNLIMITED = 2**62  # [byte] all points are measured in turns


def add_profile(commands: argparse._SubParsersAction) -> None:
    """Add the `profile` command."""
    parser = commands.add_parser(
        "profile",
        help="measure the operating points of a bundle on this machine",
        description="Measure how long every subnetwork takes on every compute element of this machine, and write the "
        "operating-point table that the resource manager decides over. Leave the machine alone meanwhile.",
    )
    parser.add_argument(
        "bundle", nargs="?", default="group_cnn_cifar10", help="name of a shipped bundle, or its folder"
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="table to write (default: this machine's table of the model)"
    )
    parser.add_argument("--engine", choices=CHOICES, default=AUTO,
                        help="what runs the network; auto: the fastest of those that are installed (default: auto)")
    parser.add_argument(
        "--core-power",
        type=float,
        default=ProfileSettings.core_power,
        metavar="W",
        help="power of one busy core above idle, for the modelled energy (default: %(default)s)",
    )
    parser.add_argument(
        "--most-runs",
        type=int,
        default=ProfileSettings.most_runs,
        metavar="N",
        help="inferences per point at the most (default: %(default)s)",
    )
    parser.set_defaults(run_command=run_profile)


def run_profile(arguments: argparse.Namespace) -> int:
    """Measure, write the table, and print it."""
    bundle = read_bundle(find_bundle(arguments.bundle))
    settings = ProfileSettings(core_power=arguments.core_power, most_runs=arguments.most_runs)
    path = arguments.out or default_profile(bundle.name)
    print_table(profile_to(path, bundle, settings, arguments.engine))
    Console().print(f"wrote {path}")
    return 0


def profile_to(path: Path, bundle: ModelBundle, settings: ProfileSettings = ProfileSettings(),
               engine_name: str = AUTO) -> ProfileFile:
    """Measure the operating points of `bundle` on this machine, with a progress bar, and write them to `path`."""
    elements = discover_elements()
    with progress_bar() as bar:
        compared = {}
        if engine_name == AUTO:
            engine_name = candidates()[0]
            if len(candidates()) > 1:
                bar.add_task(f"comparing engines for {bundle.name}", total=None)
                compared = compare_engines(bundle, elements[0], candidates())
                engine_name = next(iter(compared))
        engine = open_engine(engine_name, bundle, memory_budget=UNLIMITED)
        task = bar.add_task(f"profiling {bundle.name}", total=100)
        table = profile(
            bundle, engine, elements, settings, lambda done: bar.update(task, completed=100 * done)
        )
        bar.update(task, completed=100)
    engine.close()
    file = ProfileFile(
        table=table,
        model=bundle.name,
        weights_sha256=bundle.weights_sha256,
        platform=platform_fingerprint(Path("/sys")),
        engine=engine.name,
        engine_version=engine.version,
        conditions={
            "measured_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "clocks": "left to the governor",
            # [s] of one inference of every subnetwork on the first element, by the engines that were compared
            **({"engines": {name: float(f"{seconds:.4g}") for name, seconds in compared.items()}} if compared else {}),
            **dataclasses.asdict(settings),
        },
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_table(path, file)
    return file


def print_table(file: ProfileFile) -> None:
    """Print an operating-point table, each column with its provenance."""
    table = Table(
        title=f"{file.model} on {file.platform.get('cpu_model', 'this machine')}, {file.engine} {file.engine_version}"
    )
    columns = (
        ("latency", "ms", 1e3),
        ("latency_p95", "ms", 1e3),
        ("latency_p99", "ms", 1e3),
        ("power", "W", 1),
        ("energy", "mJ", 1e3),
        ("accuracy", "", 1),
    )
    table.add_column("subnetwork")
    table.add_column("element")
    for name, unit, _ in columns:
        provenance = PROVENANCE.get(name, PROVENANCE["latency"])
        table.add_column(f"{name}{f' [{unit}]' if unit else ''}\n{provenance}", justify="right")
    for point in (file.table[i] for i in range(len(file.table))):
        table.add_row(
            point.subnetwork,
            point.compute_element,
            *(f"{getattr(point, name) * scale:.4g}" for name, _, scale in columns),
        )
    Console().print(table)

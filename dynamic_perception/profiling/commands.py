"""`dynamic-perception profile`: the operating-point table of a bundle on this machine."""

from __future__ import annotations

import argparse
import dataclasses
import math
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from dynamic_perception.engines.engine import Engine
from dynamic_perception.engines.selection import (
    AUTO,
    ENGINES,
    candidates,
    compare_engines,
    open_engine,
    runs_on_gpus,
    subnetworks_for,
)
from dynamic_perception.hardware.clocks import ClockControl
from dynamic_perception.hardware.compute_element import (
    ComputeElement,
    discover_elements,
    find_element,
    platform_fingerprint,
)
from dynamic_perception.hardware.emulated_cpufreq import EMULATION, POWER_MODEL, is_emulated
from dynamic_perception.hardware.gpus import SYSFS
from dynamic_perception.hardware.power import PowerSensor
from dynamic_perception.networks.bundle import ModelBundle, find_bundle, read_bundle
from dynamic_perception.profiling import profiled_machine
from dynamic_perception.profiling.profiled_machine import ProfiledMachine, choose_sensor, clocks_of, find_sensor
from dynamic_perception.profiling.profiler import Planned, ProfileSettings, make_table, measure
from dynamic_perception.profiling.statistics import Summary, precision
from dynamic_perception.profiling.table_file import ProfileFile, default_profile, emulated_profile, write_table
from dynamic_perception.profiling.turn_log import TurnLog
from dynamic_perception.report.progress import progress_bar

UNLIMITED = 2**62  # [byte] all points are measured in turns
GOVERNOR = "left to the governor"
HELD = "held at cpu_frequency, and read back around every turn"


@dataclass(frozen=True)
class ProfileRequest:
    """What to measure, and with what.

    Attributes:
        settings: how.
        engine: name, or "auto".
        elements: names of compute elements; empty: all.
        clocks: [Hz] to hold the CPUs at; empty: every one that there is; None: left to the governor.
        power_sensor: name, "auto" or "none".
        restart: throw away the turns of an interrupted profile.
        sysfs_root: where the kernel's view of the hardware is mounted.
    """

    settings: ProfileSettings = ProfileSettings()
    engine: str = AUTO
    elements: tuple[str, ...] = ()
    clocks: tuple[float, ...] | None = None
    power_sensor: str = profiled_machine.AUTO
    restart: bool = False
    sysfs_root: Path = SYSFS


def add_profile(commands: argparse._SubParsersAction) -> None:
    """Add the `profile` command."""
    parser = commands.add_parser(
        "profile",
        help="measure the operating points of a bundle on this machine",
        description="Measure how long every subnetwork takes on every compute element of this machine, and write the "
        "operating-point table that the resource manager decides over. Leave the machine alone meanwhile. Interrupted "
        "with Ctrl-C, the same command goes on where it was. Where there is a power sensor, power and energy are "
        "measured, above what the machine takes at rest; elsewhere they are modelled, and the table says so.",
    )
    parser.add_argument(
        "bundle", nargs="?", default="group_cnn_cifar10", help="name of a shipped bundle, or its folder"
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="table to write (default: this machine's table of the model)"
    )
    parser.add_argument(
        "--elements",
        nargs="+",
        default=[],
        metavar="NAME",
        help="compute elements to measure, as <cluster>:<threads> (default: all)",
    )
    parser.add_argument(
        "--clocks",
        nargs="*",
        type=float,
        metavar="MHZ",
        help="hold the CPUs at each of these clocks, without a value at every one they have; needs "
        "the right to set clocks, and puts them back at the end (default: left to the governor)",
    )
    parser.add_argument(
        "--engine",
        default=AUTO,
        metavar="NAME",
        help=f"what runs the network: {', '.join(ENGINES)}, or one that another package adds; auto: "
        "the fastest of this package's that are installed (default: auto)",
    )
    parser.add_argument(
        "--power-sensor",
        default=profiled_machine.AUTO,
        metavar="NAME",
        help="sensor to measure power with; auto: the best that there is; none: model power (default: auto)",
    )
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
    parser.add_argument(
        "--sysfs-root",
        type=Path,
        default=SYSFS,
        metavar="DIR",
        help="the kernel's view of the hardware, or the tree of `emulate-cpufreq`; in that command's "
        "group only, and to a table of its own (default: %(default)s)",
    )
    parser.add_argument("--restart", action="store_true", help="throw away what an interrupted profile has measured")
    parser.set_defaults(run_command=run_profile)


def run_profile(arguments: argparse.Namespace) -> int:
    """Measure, write the table, and print it."""
    bundle = read_bundle(find_bundle(arguments.bundle))
    request = ProfileRequest(
        settings=ProfileSettings(core_power=arguments.core_power, most_runs=arguments.most_runs),
        engine=arguments.engine,
        elements=tuple(arguments.elements),
        clocks=None if arguments.clocks is None else tuple(1e6 * clock for clock in arguments.clocks),
        power_sensor=arguments.power_sensor,
        restart=arguments.restart,
        sysfs_root=arguments.sysfs_root,
    )
    kept = emulated_profile if is_emulated(request.sysfs_root) else default_profile
    path = arguments.out or kept(bundle.name)
    print_table(profile_to(path, bundle, request))
    Console().print(f"wrote {path}", soft_wrap=True)
    return 0


def profile_to(path: Path, bundle: ModelBundle, request: ProfileRequest = ProfileRequest()) -> ProfileFile:
    """Measure the operating points of `bundle` on this machine, with a progress bar, and write them to `path`.

    What was measured before an interruption is kept beside `path`, and used the next time.

    Raises:
        AnotherRun: what is kept there is of another machine, bundle, or request.
        ValueError, OSError: the request asks for what is not there; a clock cannot be set; the file cannot be written.
    """
    emulated = is_emulated(request.sysfs_root)
    fingerprint = platform_fingerprint(SYSFS if emulated else request.sysfs_root)  # the clock's tree shows no machine
    elements = _elements(request)
    with _held_clocks(request) as control, progress_bar() as bar:
        points = _points(bundle, elements, control, request)
        log = TurnLog(
            path.with_name(f"{path.name}.turns.partial"),
            {
                "model": bundle.name,
                "weights_sha256": bundle.weights_sha256,
                "platform": fingerprint,
                "engine_asked": request.engine,
                "power_sensor_asked": request.power_sensor,
                "settings": dataclasses.asdict(request.settings),
                "points": [[point.subnetwork, point.element.name, point.clock] for point in points],
            },
            request.restart,
        )
        engine, sensor = _begin(log, bundle, elements, request, bar)
        here = ProfiledMachine(request.sysfs_root, control, sensor, log.header["idle_power"])
        try:
            summaries = _measure(bundle, engine, points, request.settings, here, log, bar)
        except KeyboardInterrupt:
            bar.stop()
            print(f"{log.path} keeps what was measured: the same command goes on from there", file=sys.stderr)
            raise
        finally:
            log.close()
            engine.close()
    try:
        table = make_table(bundle, points, summaries, request.settings, sensor is not None, emulated)
    except ValueError:
        log.remove()  # going on would not make them better
        raise
    file = ProfileFile(
        table=table,
        model=bundle.name,
        weights_sha256=bundle.weights_sha256,
        platform=fingerprint,
        engine=engine.name,
        engine_version=engine.version,
        conditions=_conditions(log, points, summaries, request),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_table(path, file)
    log.remove()
    return file


@contextmanager
def _held_clocks(request: ProfileRequest) -> Iterator[ClockControl | None]:
    """The clocks, if they are to be held, put back in the end whatever happens."""
    if request.clocks is None:
        yield None
        return
    control = ClockControl(request.sysfs_root)
    control.open()
    try:
        yield control
    finally:
        for fault in control.restore():
            print(f"clocks: {fault}", file=sys.stderr)


def _elements(request: ProfileRequest) -> list[ComputeElement]:
    found = discover_elements(request.sysfs_root, gpus=runs_on_gpus())
    return [find_element(found, name) for name in dict.fromkeys(request.elements)] or list(found)


def _points(
    bundle: ModelBundle, elements: Sequence[ComputeElement], control: ClockControl | None, request: ProfileRequest
) -> list[Planned]:
    return [
        Planned(subnetwork.name, element, clock)
        for element in elements
        for clock in (clocks_of(control, element, request.clocks) if control else [0.0])
        for subnetwork in subnetworks_for(request.engine, bundle)
    ]


def _begin(
    log: TurnLog, bundle: ModelBundle, elements: Sequence[ComputeElement], request: ProfileRequest, bar: Progress
) -> tuple[Engine, PowerSensor | None]:
    """Find out once what all turns have in common, or say that an interrupted profile goes on."""
    if log.resumed:
        bar.console.print(
            f"going on with the profile of {log.header['measured_at']}: {len(log.turns)} turns are kept in {log.path}",
            markup=False,
            highlight=False,
        )
        engine = open_engine(log.header["engine"], bundle, memory_budget=UNLIMITED)
        log.require("engine_version", engine.version)
        log.begin({})
        name = log.header["power_sensor"]
        return engine, find_sensor(name, request.sysfs_root) if name != profiled_machine.NONE else None
    compared, name = _compare_engines(bundle, elements[0], request.engine, bar)
    engine = open_engine(name, bundle, memory_budget=UNLIMITED)
    at_rest = bar.add_task("power at rest", total=None)
    sensor, idle_power = choose_sensor(request.power_sensor, request.sysfs_root)
    bar.remove_task(at_rest)
    log.begin(
        {
            "measured_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "engine": engine.name,
            "engine_version": engine.version,
            "compared": compared,
            "power_sensor": sensor.name if sensor else profiled_machine.NONE,
            "idle_power": idle_power,
            "load_average": os.getloadavg()[0],
        }
    )
    return engine, sensor


def _compare_engines(
    bundle: ModelBundle, element: ComputeElement, asked: str, bar: Progress
) -> tuple[dict[str, float], str]:
    """[s] of one inference of every subnetwork, by the engines that were compared, and the engine to take."""
    if asked != AUTO:
        return {}, asked
    if len(candidates()) == 1:
        return {}, candidates()[0]
    task = bar.add_task(f"comparing engines for {bundle.name}", total=None)
    compared = compare_engines(bundle, element, candidates())
    bar.remove_task(task)
    return compared, next(iter(compared))


def _measure(
    bundle: ModelBundle,
    engine: Engine,
    points: Sequence[Planned],
    settings: ProfileSettings,
    here: ProfiledMachine,
    log: TurnLog,
    bar: Progress,
) -> list[Summary]:
    task = bar.add_task(f"profiling {bundle.name}", total=100)
    summaries = measure(
        bundle,
        engine,
        points,
        settings,
        lambda share: bar.update(task, completed=math.floor(100 * share)),
        here,
        log.turns,
        log.add,
    )
    bar.update(task, completed=100)
    return summaries


def _conditions(
    log: TurnLog, points: Sequence[Planned], summaries: Sequence[Summary], request: ProfileRequest
) -> dict[str, Any]:
    header, good = log.header, [summary for summary in summaries if not summary.mark]
    compared = {name: float(f"{seconds:.4g}") for name, seconds in header["compared"].items()}
    temperatures = [value for summary in summaries for value in summary.temperatures if not math.isnan(value)]
    measured = header["power_sensor"] != profiled_machine.NONE
    clocks, settings = GOVERNOR if request.clocks is None else HELD, dataclasses.asdict(request.settings)
    if is_emulated(request.sysfs_root):
        clocks = f"{EMULATION}; {clocks}"
        settings["core_power"] = POWER_MODEL
    return {
        "measured_at": header["measured_at"],
        "clocks": clocks,
        # [s] of one inference of every subnetwork on the first element, by the engines that were compared
        **({"engines": compared} if compared else {}),
        "load_average": header["load_average"],
        "power_sensor": header["power_sensor"],
        **({"idle_power": float(f"{header['idle_power']:.4g}")} if measured else {}),  # [W], subtracted
        **({"temperature": {"lowest": min(temperatures), "highest": max(temperatures)}} if temperatures else {}),
        # Half-widths of the 95 % confidence intervals, relative, of the worst point; .inf: beyond the largest
        "reached": {
            name: float(f"{max(precision(s.durations, quantile) for s in good):.3g}")
            for name, quantile in (("latency", 0.5), ("latency_p95", 0.95), ("latency_p99", 0.99))
        },
        **_marked(points, summaries),
        **settings,
    }


def _marked(points: Sequence[Planned], summaries: Sequence[Summary]) -> dict[str, Any]:
    """Points that are not in the table, and why; points of which turns were left out."""
    marked = [
        {
            "subnetwork": point.subnetwork,
            "compute_element": point.element.name,
            "cpu_frequency": point.clock,
            "latency": float(f"{np.median(summary.durations):.4g}"),
            "why": summary.mark,
        }
        for point, summary in zip(points, summaries)
        if summary.mark
    ]
    left_out = sum(summary.left_out for summary in summaries if not summary.mark)
    return {**({"marked": marked} if marked else {}), **({"turns_left_out": left_out} if left_out else {})}


def print_table(file: ProfileFile) -> None:
    """Print an operating-point table, each column with its provenance, and the points that are not in it."""
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
    held = bool(np.nansum(file.table.cpu_frequency))
    if held:
        table.add_column("clock [MHz]", justify="right")
    for name, unit, _ in columns:
        provenance = file.table.provenance.get(name, file.table.provenance["latency"])
        table.add_column(f"{name}{f' [{unit}]' if unit else ''}\n{provenance}", justify="right")
    for point in (file.table[i] for i in range(len(file.table))):
        table.add_row(
            point.subnetwork,
            point.compute_element,
            *([f"{point.cpu_frequency / 1e6:.0f}"] if held else []),
            *(f"{getattr(point, name) * scale:.4g}" for name, _, scale in columns),
        )
    console = Console()
    console.print(table)
    for mark in file.conditions.get("marked", ()):
        clock = f" at {mark['cpu_frequency'] / 1e6:.0f} MHz" if mark["cpu_frequency"] else ""
        console.print(
            f"not in the table: {mark['subnetwork']} on {mark['compute_element']}{clock}, {mark['why']}",
            markup=False,
            highlight=False,
        )

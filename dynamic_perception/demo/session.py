"""The demo from its options to its exit code: prepare, play with and without the manager, report."""

from __future__ import annotations

import os
import random
import sys
import uuid
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from rclpy.utilities import get_rmw_implementation_identifier
from rich.console import Console

from dynamic_perception.demo.emulated_clock import EmulatedClock, open_emulated_table, start_clock
from dynamic_perception.demo.interruption import KILL_AFTER, Interruption
from dynamic_perception.demo.preparation import (
    choose_camera,
    describe_truth,
    open_table,
    read_limits,
    read_model,
    read_source,
)
from dynamic_perception.demo.processes import ProcessFault, ProcessGroup
from dynamic_perception.demo.results import check_run, print_summary, write_demo
from dynamic_perception.demo.scenario import Scenario, choose_frame_rate, reference_power
from dynamic_perception.demo.scenario_run import Plan, ScenarioRun
from dynamic_perception.engines.selection import AUTO
from dynamic_perception.hardware.sensors import read_battery
from dynamic_perception.hardware.temperature_choice import read_processor_temperatures
from dynamic_perception.management.operating_points import OperatingPointTable
from dynamic_perception.networks.bundle import ModelBundle
from dynamic_perception.report.live_table import EventLog, LiveTable

LOAD_PROCESSES_PER_CORE = 2
DOMAINS = range(1, 101)  # with ports below those that Linux gives to everybody
FIRST_PORT, PORTS_PER_DOMAIN = 7400, 250  # DDSI-RTPS 2.5, section 9.6.2.3
SHARED_PORT = "fastdds_port"


@dataclass(frozen=True)
class DemoOptions:
    """The options of the `demo` command; None: not given."""

    duration: float  # [s] of a run
    images: Path | None
    video: Path | None
    headless: bool
    machine_clock: bool
    model: str
    out: Path | None


def run_session(options: DemoOptions, interruption: Interruption) -> int:
    """Run the whole demo; its exit code.

    Raises:
        ValueError, OSError: an option is wrong; nothing was started.
    """
    source = read_source(options.images, options.video)
    bundle = read_model(options.model)
    out = options.out or Path("demo_results") / datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    logs = out / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    isolate(logs)
    console = Console()
    clock = None if options.machine_clock else start_clock(console)
    if clock is None:
        return _play(options, interruption, console, source, bundle, out, None)
    interruption.before_leaving = clock.close
    try:
        return _play(options, interruption, console, source, bundle, out, clock)
    finally:
        clock.close()


def _play(
    options: DemoOptions,
    interruption: Interruption,
    console: Console,
    source: str,
    bundle: ModelBundle,
    out: Path,
    clock: EmulatedClock | None,
) -> int:
    """Both runs and the report; the exit code."""
    plan, limits = make_plan(options.duration, console, source, bundle, clock), read_limits()
    processes = interruption.processes = ProcessGroup(out / "logs", os.environ)
    runs, faults, deadlines = [], [], None
    try:
        for title, managed in (("run 1 of 2: with the manager", True), ("run 2 of 2: fixed largest subnetwork", False)):
            headless = options.headless or not console.is_terminal
            with EventLog(console) if headless else LiveTable(console, limits) as display, interruption.deferred():
                run = ScenarioRun(plan, title, managed, processes, interruption, display, deadlines)
                faults += run.play()
            deadlines = run.deadlines
            runs.append(run.record)
            faults += check_run(run.record)
    except ProcessFault as fault:
        print(f"error: {fault}", file=sys.stderr)
        return 1
    finally:
        processes.stop_nodes(KILL_AFTER)
    console.print("drawing the report", style="dim")
    paths = write_demo(out, runs[0], runs[1], plan, deadlines, limits)
    print_summary(console, runs[0], runs[1], paths)
    for fault in faults:
        print(f"error: {fault}", file=sys.stderr)
    return 1 if faults else 0


def make_plan(duration: float, console: Console, source: str, bundle: ModelBundle, clock: EmulatedClock | None) -> Plan:
    """What all runs of `duration` s have in common; measures the operating points if that was not done before."""
    profile, table, engine, clock = _open_points(bundle, clock, console)
    largest = bundle.subnetworks[-1].name
    frame_rate = choose_frame_rate(table, largest)
    return Plan(
        bundle=bundle,
        table=table,
        profile=profile,
        camera=choose_camera(source, bundle),
        iou_source=describe_truth(source, bundle),
        scenario=Scenario(duration, frame_rate, reference_power(table, largest, frame_rate)),
        load_processes=LOAD_PROCESSES_PER_CORE * len(os.sched_getaffinity(0)),
        temperature_modelled=not read_processor_temperatures(),
        battery_modelled=read_battery() is None,
        namespace=f"/demo_{uuid.uuid4().hex[:8]}",
        engine=engine,
        clock=clock,
    )


def _open_points(
    bundle: ModelBundle,
    clock: EmulatedClock | None,
    console: Console,
) -> tuple[Path, OperatingPointTable, str, EmulatedClock | None]:
    """The table and its file, the engine, and the clock, if there are operating points with it."""
    if clock is not None:
        try:
            path, file = open_emulated_table(bundle, clock, console)
            return path, file.table, file.engine, clock
        except OSError as error:
            console.print(f"clock: left to the machine, because {error}", markup=False, highlight=False, soft_wrap=True)
    return *open_table(bundle, console), AUTO, None


def isolate(logs: Path) -> None:
    """Keep two demos at once, or a robot nearby, from meeting; the nodes inherit it.

    Shared memory alone never leaves this machine.  It also has to be larger than by default: the parts of a 640x480
    frame that find no room are sent again 10 ms later, at the end of Fast DDS's heartbeat and response delays (median
    age of a frame 13.7 ms by default, 2.2 ms so).  With the discovery range LOCALHOST the setting would be ignored.
    """
    os.environ.setdefault("ROS_DOMAIN_ID", str(find_free_domain()))
    if get_rmw_implementation_identifier() == "rmw_fastrtps_cpp":
        os.environ["FASTDDS_BUILTIN_TRANSPORTS"] = "SHM?max_msg_size=2MB&sockets_size=8MB"
        os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "SUBNET"
    else:
        os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    os.environ["ROS_LOG_DIR"] = str((logs / "ros").resolve())


def find_free_domain(shared_memory: Path = Path("/dev/shm")) -> int:
    """A ROS domain 1..100 without a port in shared memory, which others use or a killed process left; else any."""
    ports = (path.name.removeprefix(SHARED_PORT) for path in shared_memory.glob(f"{SHARED_PORT}*"))
    taken = {(int(port) - FIRST_PORT) // PORTS_PER_DOMAIN for port in ports if port.isdecimal()}
    return random.choice([domain for domain in DOMAINS if domain not in taken] or DOMAINS)

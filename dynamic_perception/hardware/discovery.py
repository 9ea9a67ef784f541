"""The machine as a whole: everything that sysfs and the GPUs' driver tell, and what a platform file says about it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from dynamic_perception.hardware.compute_element import fitting, platform_fingerprint, thread_counts
from dynamic_perception.hardware.cpu_clusters import CPUS, find_cpu_clusters
from dynamic_perception.hardware.cpufreq import CpuPolicy, find_policies
from dynamic_perception.hardware.gpus import SYSFS, GpuDevice, find_gpus, is_this_machine
from dynamic_perception.hardware.platform_file import Found, Platform, read_platform, within
from dynamic_perception.hardware.power import PowerSensor, find_power_sensors
from dynamic_perception.hardware.sensors import BatteryReading, read_batteries
from dynamic_perception.hardware.sysfs import read_integer, text_or
from dynamic_perception.hardware.thermal_zones import ThermalZone, find_thermal_zones


@dataclass(frozen=True)
class MachineElement:
    """A CPU cluster or a GPU.

    Attributes:
        name: as a platform file calls it, else `found_as`.
        found_as: the machine's name, as in `discover_elements` without a platform file.
        cpus: every online CPU of the cluster, rising, also those that this process may not use; none for a GPU.
        threads: counts to offer, rising; 1 for a GPU.
        capacity: of the fastest CPU of the cluster, 1024 for the fastest of the machine; 0: not told.
        driver: of the clock, for example "intel_pstate", "amd-pstate" or "cpufreq-dt"; of a GPU "devfreq" or "nvml";
            empty: the clock cannot be seen.
        governor: that chooses the clock, of several all; empty: not told.
        frequencies: [Hz] rising: the steps, or the two ends of the range, inside the limits of the platform file;
            empty: not known.
        stepped: whether it can run at these frequencies only.
        power_rail: the name of the rail that feeds it; empty: not known.
    """

    name: str
    found_as: str
    cpus: tuple[int, ...]
    threads: tuple[int, ...]
    capacity: int
    driver: str
    governor: str
    frequencies: tuple[float, ...]
    stepped: bool
    power_rail: str


@dataclass(frozen=True)
class Rail:
    """A power sensor without its readings: see `PowerSensor`."""

    name: str
    source: str
    energy_counter: bool


@dataclass(frozen=True)
class Machine:
    """What there is; nothing in it changes while the machine runs, but governors and batteries.

    Attributes:
        board: the model of the board or of the CPU; "unknown".
        elements: CPU clusters, fastest first, then GPUs.
        zones: every temperature sensor.
        rails: every power sensor.
        batteries: those of the machine itself.
        platform: what a platform file says.
    """

    board: str
    elements: tuple[MachineElement, ...]
    zones: tuple[ThermalZone, ...]
    rails: tuple[Rail, ...]
    batteries: tuple[BatteryReading, ...]
    platform: Platform


def discover_machine(sysfs_root: Path = SYSFS, platform_file: Path | None = None) -> Machine:
    """Look at everything once.

    Args:
        sysfs_root: where the kernel's view of the hardware is mounted.
        platform_file: names, thread counts, clock ranges and rails to use in place of what the machine tells.

    Raises:
        OSError: the platform file cannot be read.
        ValueError: it says what cannot be; names file, line, key, value and what is allowed.
    """
    root = Path(sysfs_root)
    sensors = find_power_sensors(root)
    cpuinfo = Path("/proc/cpuinfo") if is_this_machine(root) else Path(os.devnull)
    board = str(platform_fingerprint(root, cpuinfo)["cpu_model"])
    gpus = tuple(_gpu(gpu, sensors) for gpu in find_gpus(root))
    zones = find_thermal_zones(root)
    clusters, platform = _clusters(root, sensors, Platform()), Platform()
    if platform_file:
        platform = read_platform(platform_file, _found(board, (*clusters, *gpus), sensors, zones))
        clusters = _clusters(root, sensors, platform)
    rails = tuple(Rail(sensor.name, sensor.source, sensor.energy_counter) for sensor in sensors)
    elements = tuple(_as_said(element, platform) for element in (*clusters, *gpus))
    return Machine(board, elements, zones, rails, read_batteries(root), platform)


def load_platform(platform_file: Path, sysfs_root: Path = SYSFS) -> Platform:
    """Read a platform file, checked against this machine.

    Raises:
        OSError, ValueError: as `discover_machine`.
    """
    machine = discover_machine(sysfs_root)
    return read_platform(platform_file, _found(machine.board, machine.elements, machine.rails, machine.zones))


def _found(
    board: str,
    elements: Iterable[MachineElement],
    rails: Iterable[Rail | PowerSensor],
    zones: Iterable[ThermalZone],
) -> Found:
    by_name = {element.found_as: element for element in elements}
    return Found(
        board,
        {name: len(element.cpus) for name, element in by_name.items()},
        {name: element.frequencies for name, element in by_name.items()},
        frozenset(name for name, element in by_name.items() if element.stepped),
        tuple(rail.name for rail in rails),
        frozenset(cpu for element in by_name.values() for cpu in element.cpus),
        tuple(zone.name for zone in zones),
    )


def _as_said(element: MachineElement, platform: Platform) -> MachineElement:
    said = platform.of(element.found_as)
    threads = element.threads if said.threads is None else fitting(said.threads, max(1, len(element.cpus)))
    return MachineElement(
        said.name,
        element.found_as,
        element.cpus,
        tuple(threads),
        element.capacity,
        element.driver,
        element.governor,
        within(element.frequencies, said.frequency_range, element.stepped),
        element.stepped,
        said.power_rail or element.power_rail,
    )


def _clusters(root: Path, sensors: tuple[PowerSensor, ...], platform: Platform) -> list[MachineElement]:
    clusters = find_cpu_clusters(root)
    if not clusters and is_this_machine(root):
        clusters = {"cpu": frozenset(os.sched_getaffinity(0))}
    clusters = platform.clusters(clusters)
    packages = [s.name for s in sensors if s.source == "rapl" and s.name.startswith("package-") and "_" not in s.name]
    rail = packages[0] if len(packages) == 1 == len(clusters) else ""  # else part of a package, or several of them
    policies = find_policies(root)
    return [
        _cluster(root, name, cpus, [policy for policy in policies if policy.cpus & cpus], rail)
        for name, cpus in clusters.items()
    ]


def _cluster(root: Path, name: str, cpus: frozenset[int], policies: list[CpuPolicy], rail: str) -> MachineElement:
    capacity = max((read_integer(root / CPUS / f"cpu{cpu}" / "cpu_capacity") or 0 for cpu in cpus), default=0)
    stepped = any(text_or(policy.path / "scaling_available_frequencies", "") for policy in policies)
    return MachineElement(
        name,
        name,
        tuple(sorted(cpus)),
        tuple(thread_counts(len(cpus))),
        max(0, capacity),
        _joined(policies, "scaling_driver", "cpufreq"),
        _joined(policies, "scaling_governor", ""),
        _common_frequencies(policies, stepped),
        stepped,
        rail,
    )


def _common_frequencies(policies: list[CpuPolicy], stepped: bool) -> tuple[float, ...]:
    """[Hz] what all of them can run at."""
    offers = [policy.frequencies() for policy in policies]
    if not offers or not all(offers):
        return ()
    if stepped:
        return tuple(1000.0 * step for step in sorted(set.intersection(*map(set, offers))))
    low, high = max(offer[0] for offer in offers), min(offer[-1] for offer in offers)
    return tuple(1000.0 * end for end in sorted({low, high})) if low <= high else ()


def _joined(policies: list[CpuPolicy], file: str, otherwise: str) -> str:
    return ", ".join(sorted({text_or(policy.path / file, otherwise) for policy in policies} - {""}))


def _gpu(gpu: GpuDevice, sensors: tuple[PowerSensor, ...]) -> MachineElement:
    own = [sensor.name for sensor in sensors if sensor.source == gpu.kind == "nvml" and sensor.name == gpu.name]
    governor = text_or(gpu.path / "governor", "") if gpu.path else ""
    return MachineElement(
        gpu.name, gpu.name, (), (1,), 0, gpu.kind, governor, gpu.frequencies, gpu.stepped, own[0] if own else ""
    )

"""The clusters of this machine: sets of online CPUs that are of one kind, so that a network runs alike on any of them.

What the files mean: https://docs.kernel.org/admin-guide/abi-testing.html (sysfs-devices-system-cpu, and
sysfs-bus-event_source-devices for the counters of one kind of core, such as `cpu_core` and `cpu_atom`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from dynamic_perception.hardware.cpufreq import find_policies
from dynamic_perception.hardware.sysfs import numbered_entries, read_cpu_list, read_integer

CPUS = Path("devices/system/cpu")
DEVICES = Path("devices")
CORE_KIND = re.compile(r"cpu_\w+|armv\d\w*")  # counters that the CPUs of one kind have: cpu_core, armv8_cortex_a53
SAME_CAPACITY = 0.8  # of the fastest CPU's: favoured cores of one kind differ by a few %, kinds by a third or more
# Of the next faster CPU's highest clock.  Favoured cores differ by 9 % at most from core to core (Ryzen 9 7900X3D),
# kinds by 12 % at least (Core Ultra 5 225H).
SAME_CLOCK = 0.88


def find_cpu_clusters(sysfs_root: Path = Path("/sys")) -> dict[str, frozenset[int]]:
    """Name to online CPUs of every cluster, fastest first; none where sysfs shows no CPU.

    CPUs that share a clock are a cluster.  CPUs with a clock of their own (most x86 machines and servers), or none
    that the kernel tells of, are gathered by their kind: by the kernel's counters, their capacity, and their highest
    clock.  A name does not change when some CPUs of a shared clock go offline.
    """
    policies, online = find_policies(sysfs_root), find_online_cpus(sysfs_root)
    shared = [policy.cpus for policy in policies if len(policy.cpus) > 1]
    highest = {cpu: (policy.frequencies() or (0,))[-1] for policy in policies for cpu in policy.cpus}
    capacity = {cpu: read_integer(sysfs_root / CPUS / f"cpu{cpu}" / "cpu_capacity") or 0 for cpu in online}
    kinds = _kinds_by_counters(sysfs_root)

    def kind_of(cpu: int) -> tuple[str, ...]:
        return tuple(sorted(name for name, cpus in kinds.items() if cpu in cpus))

    by_counters: dict[tuple[str, ...], list[int]] = {}
    for cpu in sorted(online.difference(*shared)):
        by_counters.setdefault(kind_of(cpu), []).append(cpu)
    clusters = [
        frozenset(alike)
        for cpus in by_counters.values()
        for equal in _split(cpus, lambda cpu: capacity[cpu], SAME_CAPACITY, of_the_first=True)
        for alike in _split(equal, lambda cpu: highest.get(cpu, 0), SAME_CLOCK, of_the_first=False)
    ]
    clusters += shared

    def slowness(cluster: frozenset[int]) -> tuple[int, int, int]:
        return (
            -max((capacity.get(cpu, 0) for cpu in cluster), default=0),
            -max((highest.get(cpu, 0) for cpu in cluster), default=0),
            min(cluster),
        )

    names = {
        "cpu" if len(clusters) == 1 else f"cpu{min(cluster)}": cluster for cluster in sorted(clusters, key=slowness)
    }
    return {name: cluster & online for name, cluster in names.items() if cluster & online}


def find_online_cpus(sysfs_root: Path = Path("/sys")) -> frozenset[int]:
    """The CPUs that can run something now; none where sysfs shows no CPU."""
    present = find_present_cpus(sysfs_root)
    online = read_cpu_list(sysfs_root / CPUS / "online")
    if online is None:  # a kernel, or a copy of its files, without the list
        offline = read_cpu_list(sysfs_root / CPUS / "offline") or frozenset()
        online = present - offline
    switched_off = {cpu for cpu in online if read_integer(sysfs_root / CPUS / f"cpu{cpu}" / "online") == 0}
    return frozenset(online - switched_off) if present else frozenset()


def find_present_cpus(sysfs_root: Path = Path("/sys")) -> frozenset[int]:
    """The CPUs that are there, online or not; not those for which there is only a socket."""
    listed = (int(path.name.removeprefix("cpu")) for path in numbered_entries(sysfs_root / CPUS, "cpu"))
    return frozenset(listed).union(*(policy.cpus for policy in find_policies(sysfs_root)))


def _split(cpus: list[int], speed: Callable[[int], int], same: float, of_the_first: bool) -> list[list[int]]:
    """CPUs in groups of the same speed, fastest first; a speed of 0 or less is not told, and taken for the highest.

    A CPU belongs to a group while its speed is at least `same` of that of the group's first CPU, or of its last one.
    """
    told = {cpu: speed(cpu) for cpu in cpus}
    speeds = {cpu: value if value > 0 else max(told.values()) for cpu, value in told.items()}
    groups: list[list[int]] = []
    for cpu in sorted(cpus, key=lambda cpu: (-speeds[cpu], cpu)):
        if not groups or speeds[cpu] < same * speeds[groups[-1][0 if of_the_first else -1]]:
            groups.append([])
        groups[-1].append(cpu)
    return groups


def _kinds_by_counters(sysfs_root: Path) -> dict[str, frozenset[int]]:
    """Name of the counters to the CPUs that have them, where the machine has more than one kind of core."""
    kinds = {}
    try:
        folders = sorted(path for path in (sysfs_root / DEVICES).iterdir() if CORE_KIND.fullmatch(path.name))
    except OSError:
        return {}
    for folder in folders:
        cpus = read_cpu_list(folder / "cpus")
        if cpus:
            kinds[folder.name] = cpus
    return kinds if len(kinds) > 1 else {}

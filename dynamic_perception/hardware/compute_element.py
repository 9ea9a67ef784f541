"""Where a network can run: CPU clusters with every thread count, GPUs, and the machine's name."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from dynamic_perception.hardware.cpufreq import CpuPolicy, find_policies
from dynamic_perception.hardware.gpus import find_gpus
from dynamic_perception.hardware.platform_file import Platform
from dynamic_perception.hardware.sysfs import numbered_entries, read_integer, read_text

CPUS = Path("devices/system/cpu")
SAME_KIND = 0.8  # of the fastest CPU's capacity: favoured cores of one kind differ by a few %, kinds by a third or more


@dataclass(frozen=True)
class ComputeElement:
    """A CPU cluster with a number of threads, or a GPU.

    Attributes:
        name: "<cluster>:<threads>".
        cluster: "cpu" where the machine has one cluster, else "cpu<number of its first CPU>"; likewise "gpu", "gpu0".
            A platform file may call it otherwise, but the names of GPUs, and of nothing else, begin with "gpu".
        cpus: every CPU of the cluster that this process may use, rising; of a GPU those of the first cluster, from
            which it is fed.
        threads: at most as many as `cpus`; 1 for a GPU.
    """

    name: str
    cluster: str
    cpus: tuple[int, ...]
    threads: int


def discover_elements(
    sysfs_root: Path = Path("/sys"),
    allowed_cpus: Iterable[int] | None = None,
    gpus: bool = False,
    said: Platform = Platform(),
) -> tuple[ComputeElement, ...]:
    """Every compute element of this machine, the cluster with the fastest CPUs first, then threads rising, then GPUs.

    A cluster's name comes from the machine, not from `allowed_cpus`, so that a table measured on it keeps its names.

    Args:
        sysfs_root: where the kernel's view of the hardware is mounted.
        allowed_cpus: the CPUs to use; None: those that this process may run on.
        gpus: also the GPUs.  Most engines run on CPUs only, so this has to be asked for.
        said: names and thread counts to use in place of the machine's, from a platform file.

    Raises:
        ValueError: none of the machine's CPUs is allowed.
    """
    allowed = frozenset(os.sched_getaffinity(0) if allowed_cpus is None else allowed_cpus)
    clusters = find_cpu_clusters(sysfs_root) or {"cpu": allowed}
    elements = []
    for found_as, cluster in clusters.items():
        own = said.of(found_as)
        cpus = tuple(sorted(cluster & allowed))
        counts = thread_counts(len(cpus)) if own.threads is None else fitting(own.threads, len(cpus))
        elements += [ComputeElement(f"{own.name}:{threads}", own.name, cpus, threads) for threads in counts]
    if not elements:
        raise ValueError(
            f"allowed_cpus is {sorted(allowed)}: expected some of "
            f"{sorted(frozenset().union(*clusters.values()))}, the CPUs of {sysfs_root}"
        )
    names = [said.of(gpu.name).name for gpu in (find_gpus(sysfs_root) if gpus else ())]
    return (*elements, *(ComputeElement(f"{name}:1", name, elements[0].cpus, 1) for name in names))


def find_cpu_clusters(sysfs_root: Path = Path("/sys")) -> dict[str, frozenset[int]]:
    """Name to CPUs of every cluster, fastest first; none where sysfs shows no CPU.

    CPUs that share a clock are a cluster.  CPUs with a clock of their own (most x86 machines and servers), or none
    that the kernel tells of, are gathered by their capacity.
    """
    clusters = _find_clusters(sysfs_root)
    return {"cpu" if len(clusters) == 1 else f"cpu{min(cluster)}": cluster for cluster in clusters}


def thread_counts(cpus: int) -> list[int]:
    """The powers of two up to the number of CPUs, and that number."""
    powers = [2**exponent for exponent in range(cpus.bit_length())]
    return sorted({count for count in (*powers, cpus) if 0 < count <= cpus})


def fitting(counts: Iterable[int], cpus: int) -> list[int]:
    """These thread counts, those that are too high made as high as the number of CPUs allows."""
    return sorted({min(count, cpus) for count in counts} - {0})


def find_element(elements: Iterable[ComputeElement], name: str) -> ComputeElement:
    """The element of that name.

    Raises:
        ValueError: there is none; names the value and what is allowed.
    """
    by_name = {element.name: element for element in elements}
    if name not in by_name:
        raise ValueError(f"compute element '{name}' does not exist here: expected one of {', '.join(by_name)}")
    return by_name[name]


def platform_fingerprint(
    sysfs_root: Path = Path("/sys"), cpuinfo: Path = Path("/proc/cpuinfo")
) -> dict[str, str | int]:
    """What makes measurements of two machines comparable: `architecture`, `cpu_model` and `cpu_count`.

    The model is the board's of the device tree where there is one, else the CPU's name, else "unknown".  Nothing
    here changes with the kernel, the load, or the CPUs that this process may use.
    """
    return {
        "architecture": platform.machine(),
        "cpu_model": _board_model(sysfs_root) or _cpu_model(cpuinfo) or "unknown",
        "cpu_count": len(_machine_cpus(sysfs_root, find_policies(sysfs_root))) or os.cpu_count() or 1,
    }


def platform_name(fingerprint: dict[str, str | int]) -> str:
    """A short name for a fingerprint that can name a folder, for example "intel_core_i5_8250u_8cpu_x86_64"."""
    model = re.sub(r"\(.*?\)|@.*|\b(cpu|processor|\d+-core)\b", " ", str(fingerprint["cpu_model"]).lower())
    model = re.sub(r"[^a-z0-9]+", "_", model).strip("_")[:40].strip("_") or "unknown"
    architecture = re.sub(r"[^a-z0-9]+", "_", str(fingerprint["architecture"]).lower()).strip("_")
    return f"{model}_{int(fingerprint['cpu_count'])}cpu_{architecture}"


def _find_clusters(sysfs_root: Path) -> list[frozenset[int]]:
    policies = find_policies(sysfs_root)
    clusters = [policy.cpus for policy in policies if len(policy.cpus) > 1]
    single = _machine_cpus(sysfs_root, policies).difference(*clusters)
    capacity = {cpu: read_integer(sysfs_root / CPUS / f"cpu{cpu}" / "cpu_capacity") or 0 for cpu in single}
    gathered: list[list[int]] = []
    for cpu in sorted(single, key=lambda cpu: (-capacity[cpu], cpu)):
        if not gathered or capacity[cpu] < SAME_KIND * capacity[gathered[-1][0]]:
            gathered.append([])
        gathered[-1].append(cpu)
    clusters += [frozenset(cpus) for cpus in gathered]
    highest = {cpu: policy.frequencies()[-1:] or (0,) for policy in policies for cpu in policy.cpus}

    def slowness(cluster: frozenset[int]) -> tuple[int, int, int]:
        first = min(cluster)
        speed = read_integer(sysfs_root / CPUS / f"cpu{first}" / "cpu_capacity") or 0
        return -speed, -highest.get(first, (0,))[0], first

    return sorted(clusters, key=slowness)


def _machine_cpus(sysfs_root: Path, policies: tuple[CpuPolicy, ...]) -> frozenset[int]:
    listed = (int(path.name.removeprefix("cpu")) for path in numbered_entries(sysfs_root / CPUS, "cpu"))
    return frozenset(listed).union(*(policy.cpus for policy in policies))


def _board_model(sysfs_root: Path) -> str:
    try:
        return read_text(sysfs_root / "firmware" / "devicetree" / "base" / "model").rstrip("\0")
    except OSError:
        return ""


def _cpu_model(cpuinfo: Path) -> str:
    try:
        lines = read_text(cpuinfo).splitlines()
    except OSError:
        return ""
    values = {key.strip().lower(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    return values.get("model name") or values.get("hardware") or ""

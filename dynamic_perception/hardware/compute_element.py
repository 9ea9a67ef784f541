"""Where a network can run: CPU clusters with every thread count, GPUs, and the machine's name."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from dynamic_perception.hardware.cpu_clusters import find_cpu_clusters, find_present_cpus
from dynamic_perception.hardware.gpus import find_gpus
from dynamic_perception.hardware.platform_file import Platform
from dynamic_perception.hardware.sysfs import read_text

NOTHING_SAID = Platform()


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
    said: Platform = NOTHING_SAID,
) -> tuple[ComputeElement, ...]:
    """Every compute element of this machine, the cluster with the fastest CPUs first, then threads rising, then GPUs.

    A cluster's name comes from the machine, not from `allowed_cpus`, so that a table measured on it keeps its names.

    Args:
        sysfs_root: where the kernel's view of the hardware is mounted.
        allowed_cpus: the CPUs to use; None: those that this process may run on.
        gpus: also the GPUs.  Most engines run on CPUs only, so this has to be asked for.
        said: names, CPUs and thread counts to use in place of the machine's, from a platform file.

    Raises:
        ValueError: none of the machine's CPUs is allowed.
    """
    allowed = frozenset(os.sched_getaffinity(0) if allowed_cpus is None else allowed_cpus)
    clusters = said.clusters(find_cpu_clusters(sysfs_root) or {"cpu": allowed})
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
    here changes with the kernel, the load, the CPUs that are online, or those that this process may use.
    """
    return {
        "architecture": platform.machine(),
        "cpu_model": _board_model(sysfs_root) or _cpu_model(cpuinfo) or "unknown",
        "cpu_count": len(find_present_cpus(sysfs_root)) or os.cpu_count() or 1,
    }


def platform_name(fingerprint: dict[str, str | int]) -> str:
    """A short name for a fingerprint that can name a folder, for example "intel_core_i5_8250u_8cpu_x86_64"."""
    model = re.sub(r"\(.*?\)|@.*|\b(cpu|processor|\d+-core)\b", " ", str(fingerprint["cpu_model"]).lower())
    model = re.sub(r"[^a-z0-9]+", "_", model).strip("_")[:40].strip("_") or "unknown"
    architecture = re.sub(r"[^a-z0-9]+", "_", str(fingerprint["architecture"]).lower()).strip("_")
    return f"{model}_{int(fingerprint['cpu_count'])}cpu_{architecture}"


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

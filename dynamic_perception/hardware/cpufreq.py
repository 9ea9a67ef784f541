"""The kernel's CPU frequency policies: sets of CPUs that share one clock, as files in kHz.

What the files mean: https://docs.kernel.org/admin-guide/pm/cpufreq.html.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

from dynamic_perception.hardware.clock_files import ClockFiles
from dynamic_perception.hardware.sysfs import numbered_entries, read_cpu_list, read_integer

CPUFREQ = Path("devices/system/cpu/cpufreq")


@dataclass(frozen=True)
class CpuPolicy(ClockFiles):
    """One policy; frequencies in kHz.

    Attributes:
        path: its folder, named `policy<number>`; of older kernels `cpu<number>/cpufreq`.
        cpus: every CPU that it clocks, also those that are offline.
    """

    cpus: frozenset[int] = frozenset()

    kind = "cpufreq"
    unit = 1e3
    GOVERNOR, MINIMUM, MAXIMUM = "scaling_governor", "scaling_min_freq", "scaling_max_freq"
    SPEED, CURRENT, STEPS = "scaling_setspeed", "scaling_cur_freq", "scaling_available_frequencies"

    @property
    def name(self) -> str:
        """ "policy0"; of older kernels "cpu0", after the first CPU."""
        return self.path.parent.name if self.path.name == CPUFREQ.name else self.path.name

    @classmethod
    def find(cls, sysfs_root: Path, name: str) -> CpuPolicy:
        """The policy of that name, as `name` tells it; its CPUs are not read."""
        return cls(
            sysfs_root / (CPUFREQ / name if name.startswith("policy") else CPUFREQ.with_name(name) / CPUFREQ.name)
        )

    @classmethod
    def is_name(cls, name: str) -> bool:
        """Whether a policy can be called so."""
        return re.fullmatch(r"(policy|cpu)[0-9]+", name) is not None

    def frequencies(self) -> tuple[int, ...]:
        """[kHz] rising: the steps that the hardware lists, or the two ends of its range where it lists none.

        Empty where the kernel tells neither.  Boost steps are left out: they are not sustainable.
        """
        low, high = read_integer(self.path / "cpuinfo_min_freq"), read_integer(self.path / "cpuinfo_max_freq")
        steps = super().frequencies()
        if steps:
            return tuple(step for step in steps if (low is None or step >= low) and (high is None or step <= high))
        return () if low is None or high is None else tuple(sorted({low, high}))

    def nearest(self, frequency: float, lowest: float, highest: float) -> int | None:
        """[kHz] As in `ClockFiles`; where the hardware lists no steps, anything between the ends of its range."""
        ends = self.frequencies()
        if not ends or super().frequencies():
            return super().nearest(frequency, lowest, highest)
        low, high = math.ceil(max(ends[0], lowest)), math.floor(min(ends[-1], highest))
        return None if low > high else round(min(max(frequency, low), high))


def find_policies(sysfs_root: Path) -> tuple[CpuPolicy, ...]:
    """Every policy, in the order of their numbers; none in most containers and virtual machines.

    Kernels before 4.3 have no folder of policies, but one in every online CPU's, the same for all that share a clock.
    """
    policies = []
    for path in numbered_entries(sysfs_root / CPUFREQ, "policy"):
        cpus = read_cpu_list(path / "related_cpus") or read_cpu_list(path / "affected_cpus")
        if cpus:  # a policy whose CPUs are not known cannot be asked for
            policies.append(CpuPolicy(path, cpus))
    if policies:
        return tuple(policies)
    clocked: set[int] = set()
    for folder in numbered_entries(sysfs_root / CPUFREQ.parent, "cpu"):
        path = folder / CPUFREQ.name
        # Old drivers name relatives whose clocks they coordinate in hardware, but only the affected ones share it.
        cpus = read_cpu_list(path / "affected_cpus") or read_cpu_list(path / "related_cpus")
        if cpus and not cpus & clocked:
            policies.append(CpuPolicy(path, cpus))
            clocked |= cpus
    return tuple(policies)

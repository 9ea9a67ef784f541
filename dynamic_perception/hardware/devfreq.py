"""The kernel's devfreq devices, among them the GPUs of most boards: one clock each, as files in Hz.

What the files mean: https://docs.kernel.org/admin-guide/abi-testing.html (sysfs-class-devfreq).  `userspace/set_freq`
is there only while the governor is userspace, and holds "undefined" until it was written for the first time.
"""

from __future__ import annotations

import re
from pathlib import Path

from dynamic_perception.hardware.clock_files import ClockFiles

DEVFREQ = Path("class/devfreq")
KGSL = Path("class/kgsl")


class DevfreqClock(ClockFiles):
    """One device, given by its folder below `class/devfreq`; frequencies in Hz.

    Only steps that the driver lists are set: unlike cpufreq, devfreq does not tell the hardware's own range.
    """

    kind = "devfreq"
    unit = 1.0
    GOVERNOR, MINIMUM, MAXIMUM = "governor", "min_freq", "max_freq"
    SPEED, CURRENT, STEPS = "userspace/set_freq", "cur_freq", "available_frequencies"

    @property
    def name(self) -> str:
        return self.path.parent.name if self.path.name == "devfreq" else self.path.name

    @classmethod
    def find(cls, sysfs_root: Path, name: str) -> DevfreqClock:
        """The device of that name, also where Qualcomm's driver shows an Adreno: below its own class only."""
        adreno = sysfs_root / KGSL / name / "devfreq"
        return cls(adreno if adreno.is_dir() else sysfs_root / DEVFREQ / name)

    @classmethod
    def is_name(cls, name: str) -> bool:
        """Whether a device can be called so, which no path that leads elsewhere can."""
        return re.fullmatch(r"\w[\w.:@,-]*", name) is not None


def find_devices(sysfs_root: Path) -> tuple[DevfreqClock, ...]:
    """Every devfreq device by name: GPUs, but also memory controllers and buses."""
    try:
        return tuple(DevfreqClock(path) for path in sorted((sysfs_root / DEVFREQ).iterdir()))
    except OSError:
        return ()

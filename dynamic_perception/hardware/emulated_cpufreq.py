"""A cpufreq policy that is not there: files like the kernel's, whose clock really slows processes down.

For machines without cpufreq, such as virtual ones.  Whoever sets a clock writes the same files in the same way as on a
board; a thread reads them every few milliseconds, and gives the processes in its control group `threads` x f / f_max of
the CPU time (`CpuBandwidth`).  What it cannot show: a process with fewer busy threads than `threads` has more room
below the limit than on a real board, work much shorter than the kernel's period of 5 ms is not slowed evenly, and
memory is as fast as ever.

Power and temperature are modelled on the four Cortex-A15 of an Odroid XU3: P = c f V^2 for every busy core, with the
board's supply voltages and c = 1.85 / 4 W/(GHz V^2), and 7.0 K/W over 45.5 °C (measured there, PRiME project log 2017;
P within 9 %).  The thermal time constant is chosen, not measured.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

from dynamic_perception.hardware.cpu_bandwidth import CpuBandwidth
from dynamic_perception.hardware.cpufreq import CPUFREQ, CpuPolicy, find_policies
from dynamic_perception.hardware.sysfs import read_integer, read_text, text_or
from dynamic_perception.simulation.platform_model import PlatformModel, PlatformSettings, Surroundings

VOLTAGES = {
    400_000: 0.91375,
    600_000: 0.91375,
    800_000: 0.91375,
    1_000_000: 0.95,
    1_200_000: 1.0,
    1_400_000: 1.0375,
    1_600_000: 1.09375,
    1_800_000: 1.17,
    2_000_000: 1.2975,
}  # [kHz] to [V]
CAPACITANCE = 1.85 / 4  # [W/(GHz V^2)] of one busy core
IDLE_POWER = 0.1  # [W] of the policy's cores at rest; chosen
SURROUNDINGS = Surroundings(ambient=45.5, other_load=2.0, charger=0.0)
PLATFORM = PlatformSettings(thermal_resistance=7.0, time_constant=15.0, battery_capacity=36e3)
BATTERY_VOLTAGE = 11_100_000  # [uV]
MICROWATT_HOUR = 3600e-6  # [J]
POLL_PERIOD = 0.004  # [s] of looking at the files
MODEL_PERIOD = 0.2  # [s] of power and temperature; CPU times are counted in ticks of 10 ms
EMULATION = "emulated by a CPU bandwidth quota"  # for people
DRIVER = "emulated"  # what the tree says in place of a driver
POWER_MODEL = "c f V^2 of each busy thread, c and V as measured on the Cortex-A15 of an Odroid XU3"
LONGEST_STEP = 1.0  # [s] that the thread can need for one look
GOVERNORS = "conservative ondemand userspace powersave performance schedutil"


class EmulatedCpufreq:
    """One policy in a sysfs tree, from its construction to `close`.

    Files that are there already keep their content, so that a tree survives whoever emulated it before, as clocks
    survive the processes that set them.

    Args:
        root: the tree, for `sysfs_root`.
        cpus: that the policy clocks; None: all that this process may use.
        threads: how many busy threads the processes in the group have; None: one for each CPU.

    Raises:
        OSError: the tree cannot be written, or CPU time cannot be limited; says what is needed.
        ValueError: a number is wrong.
    """

    def __init__(self, root: Path, cpus: frozenset[int] | None = None, threads: int | None = None):
        self.root = Path(root)
        self._cpus = sorted(os.sched_getaffinity(0) if cpus is None else cpus)
        self._threads = len(self._cpus) if threads is None else threads
        if not self._cpus or not 1 <= self._threads <= len(self._cpus):
            raise ValueError(f"threads is {self._threads}: expected 1 to {len(self._cpus)}, the number of CPUs")
        self.policy = CpuPolicy(self.root / CPUFREQ / f"policy{self._cpus[0]}", frozenset(self._cpus))
        self._platform = PlatformModel(PLATFORM, SURROUNDINGS.ambient, charge=0.8)
        self._clock = max(VOLTAGES)  # [kHz] in force
        self._busy = _BusyTimes()
        self._make_tree()
        self._group = CpuBandwidth(threads=self._threads)
        self._stopping = False
        self._thread = threading.Thread(target=self._follow, name="emulated cpufreq", daemon=True)
        self._thread.start()

    def add(self, pid: int) -> None:
        """Let a process, with all that it starts from now on, feel the clock."""
        self._group.add(pid)

    def command(self, command: list[str]) -> list[str]:
        """The same command, which begins by joining the group."""
        return ["/bin/sh", "-c", 'echo $$ > "$0" && exec "$@"', str(self._group.members), *command]

    def close(self) -> None:
        """Let the processes run freely and remove the control group; the tree stays.

        Again is harmless, also while it is under way: from a signal handler, say.
        """
        self._stopping = True
        self._thread.join(LONGEST_STEP)
        self._group.close()

    def __enter__(self) -> EmulatedCpufreq:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _make_tree(self) -> None:
        steps, cpus = sorted(VOLTAGES), " ".join(map(str, self._cpus))
        _keep_or_write(
            self.policy.path,
            {
                "related_cpus": cpus,
                "affected_cpus": cpus,
                "cpuinfo_min_freq": steps[0],
                "cpuinfo_max_freq": steps[-1],
                "scaling_available_frequencies": " ".join(map(str, steps)),
                "scaling_available_governors": GOVERNORS,
                "scaling_driver": DRIVER,
                "scaling_governor": "schedutil",
                "scaling_min_freq": steps[0],
                "scaling_max_freq": steps[-1],
                "scaling_cur_freq": steps[-1],
                "scaling_setspeed": "<unsupported>",
            },
        )
        for cpu in self._cpus:
            _keep_or_write(self.root / f"devices/system/cpu/cpu{cpu}", {"online": 1, "cpu_capacity": 1024})
        _keep_or_write(self.root / "class/thermal/thermal_zone0", {"type": "cpu-thermal"})
        _keep_or_write(self.root / "class/hwmon/hwmon0", {"name": "emulated", "power1_label": "cpu"})
        _keep_or_write(
            self.root / "class/power_supply/BAT0",
            {
                "type": "Battery",
                "present": 1,
                "status": "Discharging",
                "voltage_now": BATTERY_VOLTAGE,
                "voltage_min_design": BATTERY_VOLTAGE,
                "energy_full": round(PLATFORM.battery_capacity / MICROWATT_HOUR),
            },
        )
        self._show(IDLE_POWER)

    def _follow(self) -> None:
        """The thread: clock files to CPU time, CPU time to power, power to temperature."""
        modelled = time.monotonic()
        while not self._stopping:
            time.sleep(POLL_PERIOD)
            clock = self._commanded()
            if clock != self._clock:
                self._group.set_limit(clock / max(VOLTAGES), self._threads)
                self._clock = clock
                _replace(self.policy.path / "scaling_cur_freq", clock)
            now = time.monotonic()
            if now - modelled >= MODEL_PERIOD:
                busy = self._busy.advance(self._group.pids()) / (now - modelled)
                power = core_power(clock, busy / (clock / max(VOLTAGES)), self._threads)
                self._platform.advance(now - modelled, power, SURROUNDINGS)
                self._show(power)
                modelled = now

    def _commanded(self) -> int:
        """[kHz] The clock that a kernel would set with these files; what cannot be read now changes nothing."""
        low, high = (read_integer(self.policy.path / name) for name in ("scaling_min_freq", "scaling_max_freq"))
        speed = read_integer(self.policy.path / "scaling_setspeed")
        try:
            governor = read_text(self.policy.path / "scaling_governor")
        except OSError:
            governor = ""
        if low is None or high is None:
            return self._clock
        wanted = {"userspace": speed or high, "powersave": low}.get(governor, high)  # others rise to it under load
        return self.policy.nearest(min(max(wanted, low), high), 0, max(VOLTAGES))

    def _show(self, power: float) -> None:
        _replace(self.root / "class/hwmon/hwmon0/power1_input", round(1e6 * power))
        _replace(self.root / "class/thermal/thermal_zone0/temp", round(1e3 * self._platform.temperature))
        battery = self.root / "class/power_supply/BAT0"
        _replace(battery / "capacity", round(100 * self._platform.charge))
        _replace(battery / "energy_now", round(self._platform.charge * PLATFORM.battery_capacity / MICROWATT_HOUR))
        _replace(battery / "power_now", round(1e6 * (power + SURROUNDINGS.other_load)))


class _BusyTimes:
    """CPU time of processes that come and go."""

    def __init__(self):
        self._ticks: dict[int, int] = {}

    def advance(self, pids: list[int]) -> float:
        """[s] that they have used since the last call, without those that have ended meanwhile."""
        ticks = {pid: count for pid in pids if (count := _ticks_of(pid)) is not None}
        used = sum(count - self._ticks.get(pid, count) for pid, count in ticks.items())
        self._ticks = ticks
        return used / os.sysconf("SC_CLK_TCK")


def core_power(kilohertz: int, busy_cores: float, cores: int) -> float:
    """[W] The model's, of so many busy ones of `cores` cores at a step of the policy."""
    return IDLE_POWER + CAPACITANCE * (kilohertz / 1e6) * VOLTAGES[kilohertz] ** 2 * min(busy_cores, cores)


def busy_power(hertz: float, threads: int) -> float:
    """[W] The model's, of so many busy cores above rest, at a step of the policy; 0 Hz: at the highest."""
    kilohertz = round(hertz / 1e3) or max(VOLTAGES)
    return core_power(kilohertz, threads, threads) - IDLE_POWER


def is_emulated(sysfs_root: Path) -> bool:
    """Whether the clocks of this tree are emulated, and its power and temperature modelled therefore."""
    return any(text_or(policy.path / "scaling_driver", "") == DRIVER for policy in find_policies(sysfs_root))


def _ticks_of(pid: int) -> int | None:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return int(fields[11]) + int(fields[12])


def _keep_or_write(folder: Path, contents: dict[str, object]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        if not (folder / name).exists():
            _replace(folder / name, content)


def _replace(path: Path, content: object) -> None:
    """So that a reader never sees half of it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(f"{content}\n")
    temporary.replace(path)

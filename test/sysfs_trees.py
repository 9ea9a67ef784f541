"""Machines as sysfs trees in a temporary folder, modelled on real ones.  Plain files: every write succeeds."""

from __future__ import annotations

from pathlib import Path

XU3_LITTLE = [
    200_000,
    300_000,
    400_000,
    500_000,
    600_000,
    700_000,
    800_000,
    900_000,
    1_000_000,
    1_100_000,
    1_200_000,
    1_300_000,
    1_400_000,
]  # [kHz] Cortex-A7
XU3_BIG = [*XU3_LITTLE, 1_500_000, 1_600_000, 1_700_000, 1_800_000, 1_900_000, 2_000_000]  # [kHz] Cortex-A15
XU3_GPU = [177_000_000, 266_000_000, 350_000_000, 420_000_000, 480_000_000, 543_000_000, 600_000_000]  # [Hz] Mali-T628
CARMEL = [115_200, 192_000, 268_800, 345_600, 1_190_400, 1_420_800, 1_907_200]  # [kHz] some of those of Xavier NX
A78AE = [115_200, 192_000, 729_600, 1_497_600, 1_984_000]  # [kHz] some of those of Orin NX
RAPL_RANGE = 262_143_328_850  # [µJ]
CPUFREQ = "devices/system/cpu/cpufreq"


def write_files(folder: Path, contents: dict[str, object]) -> Path:
    """Write files with the line end that the kernel gives them."""
    for name, content in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")
    return folder


def policy_files(root: Path) -> dict[str, bytes]:
    """Every cpufreq file to its bytes."""
    return {str(path.relative_to(root)): path.read_bytes() for path in (root / CPUFREQ).rglob("*") if path.is_file()}


def link(root: Path, name: str, target: str) -> None:
    """A link, as the entries of `class/` are, to a folder of the tree."""
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).symlink_to(root / target)


def i2c_monitor(root: Path, number: int, address: str, contents: dict[str, object]) -> Path:
    """A hardware monitor chip on an I2C bus."""
    device = f"devices/i2c-{address.partition('-')[0]}/{address}"
    write_files(root / device / f"hwmon/hwmon{number}", contents)
    link(root, f"class/hwmon/hwmon{number}", f"{device}/hwmon/hwmon{number}")
    link(root, f"{device}/hwmon/hwmon{number}/device", device)
    return root / f"class/hwmon/hwmon{number}"


def trip_points(zone: Path, *trips: tuple[str, int, int]) -> None:
    """(kind, temperature, hysteresis), both in thousandths of a degree."""
    for number, (kind, temperature, hysteresis) in enumerate(trips):
        write_files(
            zone,
            {
                f"trip_point_{number}_type": kind,
                f"trip_point_{number}_temp": temperature,
                f"trip_point_{number}_hyst": hysteresis,
            },
        )


def devfreq(root: Path, name: str, steps: list[int]) -> Path:
    """A node with a list of steps [Hz], at the second of them."""
    write_files(
        root / "class/devfreq" / name,
        {
            "available_frequencies": " ".join(map(str, steps)),
            "cur_freq": steps[1],
            "min_freq": steps[0],
            "max_freq": steps[-1],
            "governor": "simple_ondemand",
        },
    )
    return root / "class/devfreq" / name


def stepped_policy(root: Path, first: int, count: int, steps: list[int], driver: str, governor: str) -> None:
    """CPUs that share a clock with a list of steps [kHz]."""
    cpus = " ".join(map(str, range(first, first + count)))
    write_files(
        root / CPUFREQ / f"policy{first}",
        {
            "related_cpus": cpus,
            "affected_cpus": cpus,
            "scaling_driver": driver,
            "scaling_governor": governor,
            "scaling_available_frequencies": " ".join(map(str, steps)) + " ",
            "cpuinfo_min_freq": steps[0],
            "cpuinfo_max_freq": steps[-1],
            "scaling_min_freq": steps[0],
            "scaling_max_freq": steps[-1],
            "scaling_cur_freq": steps[1],
            "scaling_setspeed": "<unsupported>",
        },
    )
    for cpu in range(first, first + count):
        write_files(root / f"devices/system/cpu/cpu{cpu}", {"cpu_capacity": 1024})


def board(root: Path, model: str) -> None:
    """The device tree's name of the board."""
    device_tree = root / "firmware/devicetree/base"
    device_tree.mkdir(parents=True)
    (device_tree / "model").write_bytes(model.encode() + b"\0")


def odroid_xu3(root: Path) -> Path:
    """Two clusters with a list of steps: A7 under the userspace governor, A15 under ondemand; five thermal zones; a
    Mali GPU beside a memory bus."""
    for first, steps, capacity, governor in ((0, XU3_LITTLE, 448, "userspace"), (4, XU3_BIG, 1024, "ondemand")):
        cpus = range(first, first + 4)
        write_files(
            root / CPUFREQ / f"policy{first}",
            {
                "related_cpus": " ".join(map(str, cpus)),
                "affected_cpus": " ".join(map(str, cpus)),
                "scaling_available_frequencies": " ".join(map(str, steps)) + " ",
                "scaling_available_governors": "conservative ondemand userspace performance schedutil ",
                "cpuinfo_min_freq": steps[0],
                "cpuinfo_max_freq": steps[-1],
                "scaling_governor": governor,
                "scaling_min_freq": steps[0],
                "scaling_max_freq": steps[-1],
                "scaling_cur_freq": 600_000,
                "scaling_setspeed": 600_000 if governor == "userspace" else "<unsupported>",
            },
        )
        for cpu in cpus:
            write_files(root / f"devices/system/cpu/cpu{cpu}", {"cpu_capacity": capacity})
    for number, temperature in enumerate((51_000, 55_000, 53_000, 49_000)):
        zone = write_files(
            root / f"class/thermal/thermal_zone{number}", {"type": f"cpu{number}-thermal", "temp": temperature}
        )
        trip_points(zone, ("passive", 70_000, 10_000), ("passive", 85_000, 10_000), ("critical", 120_000, 10_000))
    write_files(root / "class/thermal/thermal_zone4", {"type": "gpu-thermal", "temp": 47_000})
    devfreq(root, "11800000.gpu", XU3_GPU)
    devfreq(root, "soc:bus-wcore", [88_700_000, 532_000_000])
    board(root, "Hardkernel Odroid XU3")
    return root


def odroid_xu3_rails(root: Path) -> Path:
    """The board's INA231, which have no labels: A15, memory, GPU, A7."""
    rails = {"40": 2_450_000, "41": 120_000, "44": 90_000, "45": 60_000}  # [µW]
    for number, (address, microwatts) in enumerate(rails.items()):
        i2c_monitor(
            root,
            number,
            f"0-00{address}",
            {
                "name": "ina231",
                "in0_input": 10,
                "in1_input": 912,
                "curr1_input": microwatts // 912,
                "power1_input": microwatts,
                "shunt_resistor": 10_000,
            },
        )
    return root


def jetson_xavier_nx(root: Path) -> Path:
    """Three clusters of two, a Volta GPU, one INA3221, a power management chip that always says 100 °C."""
    for first in (0, 2, 4):
        stepped_policy(root, first, 2, CARMEL, "tegra194", "schedutil")
    devfreq(root, "17000000.gv11b", [114_750_000, 204_000_000, 1_109_250_000])
    devfreq(root, "15340000.vic", [115_200_000, 601_600_000])
    ina3221(root, {"VDD_IN": (5_032, 1_240), "VDD_CPU_GPU_CV": (5_024, 320), "VDD_SOC": (5_024, 280)})
    for number, (kind, temperature) in enumerate(
        {"CPU-therm": 41_000, "GPU-therm": 39_500, "AUX-therm": 40_000, "PMIC-Die": 100_000}.items()
    ):
        write_files(root / f"class/thermal/thermal_zone{number}", {"type": kind, "temp": temperature})
    trip_points(
        root / "class/thermal/thermal_zone0", ("critical", 96_000, 0), ("hot", 93_500, 0), ("passive", 90_500, 1_000)
    )
    board(root, "NVIDIA Jetson Xavier NX Developer Kit")
    return root


def jetson_orin_nx(root: Path) -> Path:
    """Two clusters of four, an Ampere GPU beside video engines, one INA3221."""
    for first in (0, 4):
        stepped_policy(root, first, 4, A78AE, "tegra194", "schedutil")
    devfreq(root, "17000000.gpu", [306_000_000, 510_000_000, 918_000_000])
    devfreq(root, "15340000.vic", [115_200_000, 729_600_000])
    ina3221(root, {"VDD_IN": (5_040, 1_504), "VDD_CPU_GPU_CV": (5_032, 440), "VDD_SOC": (5_032, 512)})
    write_files(root / "class/thermal/thermal_zone0", {"type": "cpu-thermal", "temp": 48_031})
    write_files(root / "class/thermal/thermal_zone1", {"type": "gpu-thermal", "temp": 46_500})
    write_files(root / "class/thermal/thermal_zone8", {"type": "tj-thermal", "temp": 48_031})
    board(root, "NVIDIA Jetson Orin NX Engineering Reference Developer Kit")
    return root


def jetson_agx_orin(root: Path) -> Path:
    """Three clusters of four, an Ampere GPU, two INA3221 with unused channels."""
    for first in (0, 4, 8):
        stepped_policy(root, first, 4, [*A78AE, 2_201_600], "tegra194", "schedutil")
    devfreq(root, "17000000.gpu", [306_000_000, 816_000_000, 1_300_500_000])
    ina3221(root, {"VDD_GPU_SOC": (19_720, 180), "VDD_CPU_CV": (19_720, 60), "VIN_SYS_5V0": (5_016, 640)})
    ina3221(root, {"NC": (0, 0), "VDDQ_VDD2_1V8AO": (5_016, 160)}, number=2, address="1-0041")
    board(root, "NVIDIA Jetson AGX Orin Developer Kit")
    return root


def ina3221(root: Path, rails: dict[str, tuple[int, int]], number: int = 1, address: str = "1-0040") -> Path:
    """Up to three rails [mV, mA] with their shunt voltages (in4 to in7), and the sum of the currents (curr4)."""
    contents: dict[str, object] = {
        "name": "ina3221",
        "in7_label": "sum of shunt voltages",
        "in7_input": 9,
        "curr4_input": sum(current for _, current in rails.values()),
    }
    for channel, (label, (voltage, current)) in enumerate(rails.items(), start=1):
        contents |= {
            f"in{channel}_label": label,
            f"in{channel}_input": voltage,
            f"in{channel}_enable": 1,
            f"curr{channel}_input": current,
            f"in{channel + 3}_input": 5 * current // 1000,
        }
    return i2c_monitor(root, number, address, contents)


def raspberry_pi_5(root: Path) -> Path:
    """One cluster, no GPU clock, no power sensor; the fan is a cooling device, the supply only has an alarm."""
    stepped_policy(root, 0, 4, [1_500_000, 1_600_000, 1_700_000, 2_400_000], "cpufreq-dt", "ondemand")
    zone = write_files(root / "class/thermal/thermal_zone0", {"type": "cpu-thermal", "temp": 52_650})
    trip_points(zone, ("critical", 110_000, 0), ("active", 50_000, 5_000), ("active", 60_000, 5_000))
    write_files(root / "class/hwmon/hwmon0", {"name": "cpu_thermal", "temp1_input": 52_650})
    write_files(root / "class/hwmon/hwmon1", {"name": "rp1_adc", "in1_input": 1_480, "temp1_input": 51_000})
    write_files(root / "class/hwmon/hwmon2", {"name": "rpi_volt", "in0_lcrit_alarm": 0})
    board(root, "Raspberry Pi 5 Model B Rev 1.0")
    return root


def laptop(root: Path) -> Path:
    """Eight CPUs under intel_pstate: a policy for each, no list of steps; a battery, a mouse, two zones of one type."""
    for cpu in range(8):
        write_files(
            root / CPUFREQ / f"policy{cpu}",
            {
                "related_cpus": cpu,
                "affected_cpus": cpu,
                "cpuinfo_min_freq": 400_000,
                "cpuinfo_max_freq": 3_400_000,
                "scaling_governor": "powersave",
                "scaling_available_governors": "performance powersave",
                "scaling_min_freq": 400_000,
                "scaling_max_freq": 3_400_000,
                "scaling_cur_freq": 1_799_998,
                "scaling_setspeed": "<unsupported>",
                "scaling_driver": "intel_pstate",
            },
        )
        write_files(root / f"devices/system/cpu/cpu{cpu}", {"online": 1})
    write_files(root / "class/thermal/thermal_zone0", {"type": "acpitz", "temp": 27_800})
    write_files(root / "class/thermal/thermal_zone1", {"type": "acpitz", "temp": 48_000})
    write_files(root / "class/thermal/thermal_zone2", {"type": "x86_pkg_temp", "temp": 61_500})
    write_files(root / "class/power_supply/AC", {"type": "Mains", "online": 0})
    write_files(
        root / "class/power_supply/BAT0",
        {
            "type": "Battery",
            "present": 1,
            "status": "Discharging",
            "capacity": 73,
            "voltage_now": 11_400_000,
            "voltage_min_design": 11_100_000,
            "power_now": 9_120_000,
            "energy_now": 33_300_000,
            "energy_full": 45_600_000,
        },
    )
    write_files(
        root / "class/power_supply/hidpp_battery_0",
        {"type": "Battery", "scope": "Device", "present": 1, "status": "Discharging", "capacity": 5},
    )
    return root


def laptop_rails(root: Path) -> Path:
    """What a laptop shows of its power: a package with cores and graphics, twice, and its battery as a monitor too."""
    for zone, name in {
        "intel-rapl:0": "package-0",
        "intel-rapl:0:0": "core",
        "intel-rapl:0:1": "uncore",
        "intel-rapl-mmio:0": "package-0",
    }.items():
        write_files(
            root / "class/powercap" / zone, {"name": name, "energy_uj": 100_000_000, "max_energy_range_uj": RAPL_RANGE}
        )
    write_files(root / "class/powercap/intel-rapl", {"enabled": 1})
    write_files(
        root / "class/hwmon/hwmon3",
        {"name": "BAT0", "in0_input": 11_400, "curr1_input": 800, "power1_input": 9_120_000},
    )
    return root


def container(root: Path) -> Path:
    """Nothing that can be read or set."""
    root.mkdir(parents=True, exist_ok=True)
    return root


def own_policies(root: Path, highest: list[int], driver: str = "intel_pstate") -> Path:
    """CPUs with a policy each, given by their highest clocks [kHz]."""
    for cpu, clock in enumerate(highest):
        write_files(
            root / CPUFREQ / f"policy{cpu}",
            {
                "related_cpus": cpu,
                "affected_cpus": cpu,
                "cpuinfo_min_freq": 400_000,
                "cpuinfo_max_freq": clock,
                "scaling_governor": "powersave",
                "scaling_driver": driver,
            },
        )
        write_files(root / f"devices/system/cpu/cpu{cpu}", {"online": 1})
    return root


def old_big_little(root: Path) -> Path:
    """Two clusters of four of a kernel without policies: every CPU has the folder of its clock."""
    for cpu in range(8):
        first, highest = (0, 1_400_000) if cpu < 4 else (4, 2_000_000)
        cpus = " ".join(map(str, range(first, first + 4)))
        write_files(
            root / f"devices/system/cpu/cpu{cpu}/cpufreq",
            {
                "related_cpus": cpus,
                "affected_cpus": cpus,
                "cpuinfo_min_freq": 200_000,
                "cpuinfo_max_freq": highest,
                "scaling_min_freq": 200_000,
                "scaling_max_freq": highest,
                "scaling_cur_freq": 600_000,
                "scaling_setspeed": "<unsupported>",
                "scaling_governor": "powersave",
                "scaling_driver": "cpufreq-dt",
            },
        )
    return root


def monitor(root: Path, number: int, chip: str, temperatures: dict[str, int]) -> Path:
    """A hardware monitor with labelled temperatures [thousandths of a degree]."""
    contents: dict[str, object] = {"name": chip}
    for channel, (label, temperature) in enumerate(temperatures.items(), start=1):
        contents |= {f"temp{channel}_input": temperature, f"temp{channel}_label": label}
    return write_files(root / f"class/hwmon/hwmon{number}", contents)


def zones(root: Path, temperatures: dict[str, int]) -> Path:
    """Thermal zones by type [thousandths of a degree]."""
    for number, (kind, temperature) in enumerate(temperatures.items()):
        write_files(root / f"class/thermal/thermal_zone{number}", {"type": kind, "temp": temperature})
    return root


def battery(root: Path, name: str, **files: object) -> Path:
    """A battery with those files."""
    write_files(root / "class/power_supply" / name, {"type": "Battery", **files})
    return root

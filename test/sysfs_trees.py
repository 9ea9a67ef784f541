"""Machines as sysfs trees in a temporary folder, modelled on real ones.  Plain files: every write succeeds."""

from __future__ import annotations

from pathlib import Path

XU3_LITTLE = [200_000, 300_000, 400_000, 500_000, 600_000, 700_000, 800_000, 900_000, 1_000_000, 1_100_000, 1_200_000,
              1_300_000, 1_400_000]  # [kHz] Cortex-A7
XU3_BIG = [*XU3_LITTLE, 1_500_000, 1_600_000, 1_700_000, 1_800_000, 1_900_000, 2_000_000]  # [kHz] Cortex-A15
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


def odroid_xu3(root: Path) -> Path:
    """Two clusters with a list of steps: A7 under the userspace governor, A15 under ondemand; five thermal zones."""
    for first, steps, capacity, governor in ((0, XU3_LITTLE, 448, "userspace"), (4, XU3_BIG, 1024, "ondemand")):
        cpus = range(first, first + 4)
        write_files(root / CPUFREQ / f"policy{first}", {
            "related_cpus": " ".join(map(str, cpus)), "affected_cpus": " ".join(map(str, cpus)),
            "scaling_available_frequencies": " ".join(map(str, steps)) + " ",
            "scaling_available_governors": "conservative ondemand userspace performance schedutil ",
            "cpuinfo_min_freq": steps[0], "cpuinfo_max_freq": steps[-1], "scaling_governor": governor,
            "scaling_min_freq": steps[0], "scaling_max_freq": steps[-1], "scaling_cur_freq": 600_000,
            "scaling_setspeed": 600_000 if governor == "userspace" else "<unsupported>"})
        for cpu in cpus:
            write_files(root / f"devices/system/cpu/cpu{cpu}", {"cpu_capacity": capacity})
    for number, temperature in enumerate((51_000, 55_000, 53_000, 49_000)):
        write_files(root / f"class/thermal/thermal_zone{number}", {"type": f"cpu{number}-thermal", "temp": temperature})
    write_files(root / "class/thermal/thermal_zone4", {"type": "gpu-thermal", "temp": 47_000})
    device_tree = root / "firmware/devicetree/base"
    device_tree.mkdir(parents=True)
    (device_tree / "model").write_bytes(b"Hardkernel Odroid XU3\0")
    return root


def laptop(root: Path) -> Path:
    """Eight CPUs under intel_pstate: a policy for each, no list of steps; a battery, a mouse, two zones of one type."""
    for cpu in range(8):
        write_files(root / CPUFREQ / f"policy{cpu}", {
            "related_cpus": cpu, "affected_cpus": cpu, "cpuinfo_min_freq": 400_000, "cpuinfo_max_freq": 3_400_000,
            "scaling_governor": "powersave", "scaling_available_governors": "performance powersave",
            "scaling_min_freq": 400_000, "scaling_max_freq": 3_400_000, "scaling_cur_freq": 1_799_998,
            "scaling_setspeed": "<unsupported>", "scaling_driver": "intel_pstate"})
        write_files(root / f"devices/system/cpu/cpu{cpu}", {"online": 1})
    write_files(root / "class/thermal/thermal_zone0", {"type": "acpitz", "temp": 27_800})
    write_files(root / "class/thermal/thermal_zone1", {"type": "acpitz", "temp": 48_000})
    write_files(root / "class/thermal/thermal_zone2", {"type": "x86_pkg_temp", "temp": 61_500})
    write_files(root / "class/power_supply/AC", {"type": "Mains", "online": 0})
    write_files(root / "class/power_supply/BAT0", {
        "type": "Battery", "present": 1, "status": "Discharging", "capacity": 73, "voltage_now": 11_400_000,
        "voltage_min_design": 11_100_000, "power_now": 9_120_000, "energy_now": 33_300_000, "energy_full": 45_600_000})
    write_files(root / "class/power_supply/hidpp_battery_0", {
        "type": "Battery", "scope": "Device", "present": 1, "status": "Discharging", "capacity": 5})
    return root


def container(root: Path) -> Path:
    """Nothing that can be read or set."""
    root.mkdir(parents=True, exist_ok=True)
    return root

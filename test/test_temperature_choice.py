"""Which temperature sensors count as the processor's, on sysfs trees of real machines."""

import pytest
from sysfs_trees import (
    container,
    jetson_orin_nx,
    jetson_xavier_nx,
    link,
    monitor,
    odroid_xu3,
    raspberry_pi_5,
    write_files,
    zones,
)

from dynamic_perception.cli import main
from dynamic_perception.hardware.discovery import discover_machine
from dynamic_perception.hardware.floating_inputs import MOVED, STILL, FloatingInputs
from dynamic_perception.hardware.sensors import read_temperatures, scan_temperatures
from dynamic_perception.hardware.temperature_choice import TemperatureChoice, judge, read_processor_temperatures
from dynamic_perception.hardware.zone_kinds import LONGEST, counts_as_processor

PROCESSORS = """
    x86_pkg_temp x86_pkg_temp_1 coretemp_Package_id_0 coretemp_Core_12 k10temp_Tctl k10temp_Tccd1 zenpower_Tdie TCPU
    B0D4 via_cputemp_temp1 amdgpu_edge cpu-0-0-usr cpu0-0-top-thermal cpuss-0 gpuss-0-usr tsens_tz_sensor0 CPU-therm
    GPU-therm AUX-therm BCPU-therm Tdiode_tegra tj-thermal cv0-thermal soc0-thermal soc-thermal bigcore0-thermal
    littlecore-thermal center-thermal npu-thermal cpu_thermal_temp1 bcm2835_thermal imx_thermal_zone mtktscpu
    dell_smm_CPU thinkpad_CPU nct6798_PECI_Agent_0 CPU gpu package SoC
""".split()  # noqa: SIM905  (one name a line would be long)
OTHERS = """
    iwlwifi_1 iwlwifi_1_temp1 mt7921_phy0_temp1 ath11k_hwmon_temp1 wlan0 modem-lte-sub6-pa1 mdm-0-0 nvme_Composite
    drivetemp_temp1 ssd BAT0_temp1 battery bq27500-0 charger usb-therm pch_cannonlake INT3400_Thermal rp1_adc_temp1
    PMIC-Die pm8998 pm8998_tz pmk8350-thermal mtktspmic spd5118_temp1 ddr-usr dell_smm_SODIMM amdgpu_mem r8169_0_200
    nct6775_SYSTIN ambient skin-therm quiet-therm Tboard_tegra thermal-fan-est motor_left camera
    vbat_lvl0 case-therm-adc rtw88 bluetooth0
""".split()  # noqa: SIM905  (one name a line would be long)
UNKNOWN = ["", "acpitz", "SEN1", "base_link", "temp1", "thermal_zone0", "foo", "aoss0-usr", "_" * 100_000, "\0"]


def used(root, **choice):
    """[°C] What counts, by name."""
    readings = scan_temperatures(root)
    judged = judge(readings, TemperatureChoice(**choice))
    return {reading.zone: reading.celsius for reading in readings if judged[reading.zone].used}


def reason(root, zone):
    return judge(scan_temperatures(root))[zone].reason


# Names ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PROCESSORS)
def test_a_name_of_a_processors_sensor_counts(name):
    assert counts_as_processor(name) is True


@pytest.mark.parametrize("name", [*OTHERS, "INT3400 Thermal"])
def test_a_name_of_another_part_does_not_count(name):
    assert counts_as_processor(name) is False


@pytest.mark.parametrize("name", UNKNOWN, ids=lambda name: repr(name[:20]))
def test_a_name_that_says_nothing_is_unknown(name):
    assert counts_as_processor(name) is None


def test_only_the_beginning_of_a_name_is_looked_at():
    assert counts_as_processor("x" * LONGEST + "-cpu") is None


# Machines ------------------------------------------------------------------------------------------------------------


def test_the_processors_monitor_counts_beside_a_constant_of_the_firmware_and_a_disk(tmp_path):
    zones(tmp_path, {"acpitz": 16_800})
    write_files(tmp_path / "class/hwmon/hwmon0", {"name": "acpitz", "temp1_input": 16_800})
    monitor(tmp_path, 1, "k10temp", {"Tctl": 88_500})
    monitor(tmp_path, 2, "nvme", {"Composite": 45_850})
    assert used(tmp_path) == read_processor_temperatures(tmp_path) == {"k10temp_Tctl": 88.5}
    assert read_temperatures(tmp_path) == {"acpitz": 16.8, "k10temp_Tctl": 88.5, "nvme_Composite": 45.85}


def test_the_package_counts_beside_wireless_chipset_and_firmware(tmp_path):
    temperatures = {"INT3400 Thermal": 20_000, "acpitz": 27_800, "x86_pkg_temp": 61_000, "iwlwifi_1": 92_000}
    assert used(zones(tmp_path, {**temperatures, "pch_cannonlake": 77_000})) == {"x86_pkg_temp": 61.0}


def test_an_amd_laptop_counts_its_processor_and_its_graphics(tmp_path):
    zones(tmp_path, {"acpitz": 20_000})
    monitor(tmp_path, 0, "nvme", {"Composite": 40_000, "Sensor 1": 52_000})
    monitor(tmp_path, 1, "k10temp", {"Tctl": 71_000, "Tdie": 61_000, "Tccd1": 60_000})
    monitor(tmp_path, 2, "amdgpu", {"junction": 66_000, "edge": 58_000, "mem": 70_000})
    monitor(tmp_path, 3, "iwlwifi_1", {"temp1": 44_000})
    assert used(tmp_path) == {"k10temp_Tdie": 61.0, "amdgpu_edge": 58.0}
    assert "k10temp_Tdie measures the same" in reason(tmp_path, "k10temp_Tctl")


def test_a_package_that_is_told_twice_or_thrice_counts_once(tmp_path):
    zones(tmp_path, {"acpitz": 25_000, "B0D4": 62_000, "TCPU": 62_000, "x86_pkg_temp": 62_000})
    monitor(tmp_path, 4, "coretemp", {"Package id 0": 62_000, "Core 0": 60_000, "Core 4": 62_000})
    assert used(tmp_path) == {"x86_pkg_temp": 62.0}


def test_a_package_counts_by_its_monitor_where_its_zone_is_dead(tmp_path):
    zones(tmp_path, {"acpitz": 25_000, "x86_pkg_temp": 0})
    monitor(tmp_path, 4, "coretemp", {"Package id 0": 62_000, "Core 0": 60_000})
    assert used(tmp_path) == {"coretemp_Package_id_0": 62.0}


def test_every_package_of_a_server_counts(tmp_path):
    for number in (0, 1):
        monitor(tmp_path, number, "coretemp", {f"Package id {number}": 60_000 + number, "Core 0": 50_000})
    assert used(tmp_path) == {"coretemp_Package_id_0": 60.0, "coretemp_Package_id_1": 60.001}


def test_cores_count_where_an_old_processor_does_not_tell_its_package(tmp_path):
    monitor(tmp_path, 0, "coretemp", {"Core 0": 50_000, "Core 1": 53_000})
    assert used(tmp_path) == {"coretemp_Core_0": 50.0, "coretemp_Core_1": 53.0}


def test_a_zone_that_a_monitor_shows_once_more_is_listed_once(tmp_path):
    zones(tmp_path, {"cpu-thermal": 52_000, "gpu0-thermal": 50_000})
    write_files(tmp_path / "class/hwmon/hwmon0", {"name": "cpu_thermal", "temp1_input": 52_000})
    write_files(tmp_path / "class/hwmon/hwmon1", {"name": "renamed", "temp1_input": 50_000})
    link(tmp_path, "class/hwmon/hwmon1/device", "class/thermal/thermal_zone1")
    assert list(read_temperatures(tmp_path)) == ["cpu-thermal", "gpu0-thermal"]


@pytest.mark.parametrize(
    "tree, expected",
    [
        (raspberry_pi_5, {"cpu-thermal"}),
        (jetson_orin_nx, {"cpu-thermal", "gpu-thermal", "tj-thermal"}),
        (jetson_xavier_nx, {"CPU-therm", "GPU-therm", "AUX-therm"}),
        (odroid_xu3, {"cpu0-thermal", "cpu1-thermal", "cpu2-thermal", "cpu3-thermal", "gpu-thermal"}),
        (container, set()),
    ],
)
def test_a_board_counts_its_dies(tmp_path, tree, expected):
    assert set(used(tree(tmp_path))) == expected


def test_a_phones_processor_is_found_among_thirty_zones(tmp_path):
    names = [f"cpu-{cluster}-{core}-usr" for cluster in (0, 1) for core in range(4)]
    names += ["cpuss-0", "cpuss-1", "gpuss-0-usr"]
    rest = ["pm8998", "pmi8998", "battery", "xo-therm", "quiet-therm", "mdm-0-usr", "wlan-usr", "ddr-usr", "aoss0-usr"]
    rest += [f"modem-pa{number}" for number in range(8)] + ["camera-usr", "ufs-therm"]
    zones(tmp_path, dict.fromkeys((*rest, *names), 40000))
    assert set(used(tmp_path)) == set(names)


def test_a_rockchip_counts_every_part_of_its_die(tmp_path):
    names = [
        "soc-thermal",
        "bigcore0-thermal",
        "bigcore1-thermal",
        "littlecore-thermal",
        "center-thermal",
        "npu-thermal",
    ]
    assert set(used(zones(tmp_path, dict.fromkeys([*names, "battery"], 45_000)))) == set(names)


# The best that there is ----------------------------------------------------------------------------------------------


def test_what_the_firmware_says_counts_where_there_is_nothing_better(tmp_path):
    assert used(zones(tmp_path, {"acpitz": 47_000, "iwlwifi_1": 60_000})) == {"acpitz": 47.0}


def test_a_name_that_says_nothing_counts_before_what_the_firmware_says(tmp_path):
    assert used(zones(tmp_path, {"acpitz": 27_800, "wkup-thermal": 50_000})) == {"wkup-thermal": 50.0}


def test_a_boards_monitor_counts_only_where_the_die_does_not_tell(tmp_path):
    monitor(tmp_path, 0, "nct6798", {"CPUTIN": 41_000, "SYSTIN": 35_000})
    assert used(tmp_path) == {"nct6798_CPUTIN": 41.0}
    monitor(tmp_path, 1, "k10temp", {"Tctl": 60_000})
    assert used(tmp_path) == {"k10temp_Tctl": 60.0}


def test_what_no_running_processor_can_have_is_named_and_the_next_best_counts(tmp_path):
    monitor(tmp_path, 0, "nct6798", {"CPUTIN": 127_500})
    zones(tmp_path, {"acpitz": 40_000})
    assert used(tmp_path) == {"acpitz": 40.0}
    assert reason(tmp_path, "nct6798_CPUTIN").endswith("no running processor has 127.5 °C: its input seems to float")


def test_a_dead_sensor_of_another_part_is_no_fault(tmp_path):
    judged = judge(scan_temperatures(zones(tmp_path, {"iwlwifi_1": "N/A", "cpu-thermal": 0})))
    assert (judged["iwlwifi_1"].at_fault, judged["cpu-thermal"].at_fault) == (False, True)


# What a person says --------------------------------------------------------------------------------------------------


def test_sensors_are_included_and_excluded_by_name(tmp_path):
    zones(tmp_path, {"SEN1": 70_000, "cpu-thermal": 50_000, "gpu-thermal": 60_000, "iwlwifi_1": 40_000})
    assert set(used(tmp_path, include=("SEN?", "iwl*"), exclude=("gpu*", "iwlwifi_1"))) == {"SEN1", "cpu-thermal"}


def test_a_name_that_fits_nothing_is_known():
    assert TemperatureChoice(("SEN*", "cpu"), ("gpu?",)).unknown(["SEN1", "gpu"]) == ("cpu", "gpu?")


def test_a_platform_file_says_which_sensors_count(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    root, file = zones(tmp_path / "sys", {"SEN1": 70_000, "cpu-thermal": 50_000}), tmp_path / "robot.yaml"
    file.write_text("schema: 1\ntemperatures:\n  include: [SEN1]\n  exclude: ['cpu*']\n")
    assert main(["hardware", "--sysfs-root", str(root), "--platform", str(file)]) == 0
    rows = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines() if line.strip()}
    assert rows["SEN1"][:2] == ["70", "yes"] and rows["cpu-thermal"][:2] == ["50", "no"]
    assert " ".join(rows["cpu-thermal"]).endswith("not used: excluded by name")
    assert main(["hardware", "--sysfs-root", str(root), "--platform", str(file), "--yaml"]) == 0
    printed = capsys.readouterr().out
    file.write_text(printed)
    assert discover_machine(root, file).platform.temperatures == TemperatureChoice(("SEN1",), ("cpu*",))


@pytest.mark.parametrize(
    "text, complaint",
    [
        ("{exclude: [gpu]}", "temperatures.exclude is 'gpu': expected one of cpu-thermal"),
        ("{include: cpu-thermal}", "temperatures.include is 'cpu-thermal': expected a list of names"),
        ("{include: [1]}", "expected a list of names"),
        ("{only: []}", "temperatures.only is not known here: expected one of include, exclude"),
        ("[]", "temperatures is []: expected a mapping of include, exclude"),
    ],
)
def test_a_choice_that_cannot_be_is_refused_with_what_is_allowed(tmp_path, text, complaint):
    (tmp_path / "robot.yaml").write_text(f"schema: 1\ntemperatures: {text}\n")
    with pytest.raises(ValueError) as refused:
        discover_machine(zones(tmp_path / "sys", {"cpu-thermal": 50_000}), tmp_path / "robot.yaml")
    assert complaint in str(refused.value) and ":2: " in str(refused.value)


# Inputs that float ---------------------------------------------------------------------------------------------------


def told(inputs, history):
    """What the last of (seconds, {zone: °C}) readings tells."""
    return [inputs.update(celsius, now) for now, celsius in history][-1]


def test_a_sensor_that_stands_still_while_another_moves_is_named_until_it_moves():
    inputs = FloatingInputs()
    warming = [(second, {"cpu": 40.0 + MOVED * second / STILL, "soc": 30.0}) for second in range(int(STILL) + 1)]
    assert told(inputs, warming[:-1]) == {}
    assert told(inputs, warming[-1:]) == {"soc": "it says 30 °C all the time while others change by 15 °C"}
    assert told(inputs, [(STILL + 1.0, {"cpu": 55.0, "soc": 30.0})])
    assert told(inputs, [(STILL + 2.0, {"cpu": 55.0, "soc": 30.1})]) == {}


def test_nothing_floats_on_a_machine_that_rests():
    assert told(FloatingInputs(), [(second, {"cpu": 40.0, "soc": 41.0}) for second in range(500)]) == {}


def test_a_sensor_that_came_later_or_is_alone_is_not_named():
    warming = [(s, {"cpu": 40.0 + s, **({"soc": 30.0} if s > 60 else {})}) for s in range(130)]
    assert told(FloatingInputs(), warming) == {}
    assert told(FloatingInputs(), [(second, {"acpitz": 16.8}) for second in range(500)]) == {}


def test_a_floating_sensor_is_left_out_with_its_path_and_another_of_its_die_takes_its_place(tmp_path):
    monitor(tmp_path, 0, "k10temp", {"Tdie": 30_000, "Tctl": 70_000})
    readings = scan_temperatures(tmp_path)
    judged = judge(readings, floating={"k10temp_Tdie": "it says 30 °C all the time"})
    assert judged["k10temp_Tctl"].used and judged["k10temp_Tdie"].at_fault
    assert judged["k10temp_Tdie"].reason.startswith(f"{tmp_path / 'class/hwmon/hwmon0/temp1_input'}: it says 30 °C")

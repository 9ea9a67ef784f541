"""A machine as a whole, and the command that shows it, on sysfs trees of real machines."""

import os

import pytest
import yaml
from sysfs_trees import (
    CPUFREQ,
    container,
    jetson_agx_orin,
    jetson_orin_nx,
    jetson_xavier_nx,
    laptop,
    laptop_rails,
    odroid_xu3,
    odroid_xu3_rails,
    raspberry_pi_5,
    write_files,
)

from dynamic_perception.cli import main
from dynamic_perception.hardware.compute_element import discover_elements
from dynamic_perception.hardware.discovery import discover_machine


def elements_of(root):
    """Every element of the machine by its name."""
    return {element.name: element for element in discover_machine(root).elements}


def run(capsys, *arguments):
    """Exit code, what was printed, and the complaint."""
    code = main(["hardware", *map(str, arguments)])
    return (code, *capsys.readouterr())


# The machine ---------------------------------------------------------------------------------------------------------


def test_clusters_have_their_clocks_capacity_and_governor_and_the_gpu_its_own(tmp_path):
    elements = elements_of(odroid_xu3(tmp_path))
    big, little, gpu = elements["cpu4"], elements["cpu0"], elements["gpu"]
    assert list(elements) == ["cpu4", "cpu0", "gpu"]
    assert (big.cpus, big.capacity, big.governor, big.threads) == ((4, 5, 6, 7), 1024, "ondemand", (1, 2, 4))
    assert (big.frequencies[0], big.frequencies[-1], len(big.frequencies), big.stepped) == (200e6, 2e9, 19, True)
    assert (little.capacity, little.governor) == (448, "userspace")
    assert (gpu.cpus, gpu.threads, gpu.driver, gpu.governor) == ((), (1,), "devfreq", "simple_ondemand")


@pytest.mark.parametrize(
    "tree, board, elements",
    [
        (jetson_xavier_nx, "NVIDIA Jetson Xavier NX Developer Kit", ["cpu0", "cpu2", "cpu4", "gpu"]),
        (jetson_orin_nx, "NVIDIA Jetson Orin NX Engineering Reference Developer Kit", ["cpu0", "cpu4", "gpu"]),
        (jetson_agx_orin, "NVIDIA Jetson AGX Orin Developer Kit", ["cpu0", "cpu4", "cpu8", "gpu"]),
        (raspberry_pi_5, "Raspberry Pi 5 Model B Rev 1.0", ["cpu"]),
        (container, "unknown", []),
    ],
)
def test_a_board_has_its_elements(tmp_path, tree, board, elements):
    machine = discover_machine(tree(tmp_path))
    assert machine.board == board and [element.name for element in machine.elements] == elements


def test_intel_pstate_without_a_list_gives_the_ends_of_a_range_and_the_package_as_the_rail(tmp_path):
    (cpu,) = discover_machine(laptop_rails(laptop(tmp_path))).elements
    assert (cpu.driver, cpu.governor, cpu.frequencies, cpu.stepped) == (
        "intel_pstate",
        "powersave",
        (400e6, 3.4e9),
        False,
    )
    assert cpu.power_rail == "package-0"


def test_amd_pstate_gives_what_all_its_cpus_can_run_at(tmp_path):
    laptop(tmp_path)
    for cpu in range(8):
        write_files(
            tmp_path / CPUFREQ / f"policy{cpu}",
            {
                "scaling_driver": "amd-pstate-epp",
                "cpuinfo_min_freq": 545_000,
                "cpuinfo_max_freq": 5_700_000 if cpu == 0 else 5_500_000,
            },
        )  # the first is a favoured core
    (cpu,) = discover_machine(tmp_path).elements
    assert (cpu.driver, cpu.frequencies) == ("amd-pstate-epp", (545e6, 5.5e9))


def test_two_packages_are_not_taken_for_the_rail_of_one_cluster(tmp_path):
    write_files(laptop_rails(laptop(tmp_path)) / "class/powercap/intel-rapl:1", {"name": "package-1", "energy_uj": 1})
    (cpu,) = discover_machine(tmp_path).elements
    assert cpu.power_rail == ""


def test_rails_zones_and_batteries_are_part_of_the_machine(tmp_path):
    machine = discover_machine(laptop_rails(laptop(tmp_path)))
    assert [rail.name for rail in machine.rails] == ["package-0", "package-0_core", "package-0_uncore", "BAT0"]
    assert [zone.name for zone in machine.zones] == ["acpitz_0", "acpitz_1", "x86_pkg_temp"]
    assert [battery.name for battery in machine.batteries] == ["BAT0"]


def test_the_elements_of_a_machine_are_those_that_a_network_can_run_on(tmp_path):
    found = discover_elements(jetson_xavier_nx(tmp_path), range(6), gpus=True)
    assert {(element.cluster, element.threads) for element in found} == {
        (element.name, threads) for element in discover_machine(tmp_path).elements for threads in element.threads
    }


def test_this_machine_has_a_cpu():
    assert discover_machine().elements[0].cpus


# The command ---------------------------------------------------------------------------------------------------------


def test_the_command_shows_everything_that_was_found(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    code, shown, _ = run(capsys, "--sysfs-root", odroid_xu3_rails(odroid_xu3(tmp_path)))
    assert code == 0
    for text in (
        "Hardkernel Odroid XU3",
        "cpu4     4-7   1024",
        "200-2000, 19 steps",
        "ina231_power1_0-0040",
        "2.45",
        "passive 70, passive 85, critical 120",
        "Batteries\n  none found",
    ):
        assert text in shown


def test_the_command_shows_why_a_sensor_cannot_be_believed(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    write_files(odroid_xu3(tmp_path) / "class/thermal/thermal_zone0", {"temp": -256_000})
    assert f"{tmp_path / 'class/thermal/thermal_zone0/temp'} says -256 °C" in run(capsys, "--sysfs-root", tmp_path)[1]


def test_a_container_is_shown_as_having_nothing(tmp_path, capsys):
    code, shown, _ = run(capsys, "--sysfs-root", container(tmp_path))
    assert code == 0 and shown.count("none found") == 4


def test_this_machine_can_be_shown(capsys):
    assert run(capsys)[0] == 0


@pytest.mark.parametrize("tree", [odroid_xu3, jetson_xavier_nx, jetson_orin_nx, raspberry_pi_5, laptop, container])
def test_the_yaml_of_a_machine_is_a_platform_file_that_changes_nothing(tmp_path, capsys, tree):
    root = tree(tmp_path / "sys")
    printed = run(capsys, "--sysfs-root", root, "--yaml")[1]
    file = tmp_path / "platform.yaml"
    file.write_text(printed)
    assert run(capsys, "--sysfs-root", root, "--yaml", "--platform", file)[:2] == (0, printed)


def test_the_yaml_tells_the_facts_for_other_programs(tmp_path, capsys):
    found = yaml.safe_load(run(capsys, "--sysfs-root", jetson_xavier_nx(tmp_path), "--yaml")[1])["found"]
    assert found["elements"]["gpu"]["frequencies"] == [114_750_000, 204_000_000, 1_109_250_000]
    assert found["power_rails"]["VDD_IN"] == {"source": "hwmon", "energy_counter": False}
    assert found["thermal_zones"]["CPU-therm"][1] == {"kind": "hot", "celsius": 93.5, "hysteresis": 0.0}


def test_a_shipped_platform_file_is_chosen_by_name(tmp_path, capsys):
    code, printed, _ = run(capsys, "--sysfs-root", odroid_xu3(tmp_path), "--platform", "odroid_xu3", "--yaml")
    assert code == 0 and yaml.safe_load(printed)["elements"]["cpu4"]["frequency_range"] == [200e6, 1.8e9]


def test_a_platform_file_that_is_not_there_is_refused_with_those_that_are(tmp_path, capsys):
    code, _, complaint = run(capsys, "--sysfs-root", odroid_xu3(tmp_path), "--platform", "nano")
    assert code == 2 and "platform file 'nano' does not exist" in complaint and "odroid_xu3" in complaint


def test_a_folder_that_is_not_there_is_refused(tmp_path, capsys):
    code, _, complaint = run(capsys, "--sysfs-root", tmp_path / os.pardir / "nowhere")
    assert code == 2 and "nowhere: expected a folder" in complaint

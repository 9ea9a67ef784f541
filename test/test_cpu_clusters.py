"""Unequal, offline and old-fashioned CPUs, and CPUs that a platform file names, on sysfs trees of real machines."""

import pytest
from sysfs_trees import CPUFREQ, jetson_agx_orin, laptop, odroid_xu3, old_big_little, own_policies, write_files

from dynamic_perception.hardware.clock_state import SavedClock, clock_of_state
from dynamic_perception.hardware.clocks import ClockControl
from dynamic_perception.hardware.compute_element import discover_elements, platform_fingerprint
from dynamic_perception.hardware.cpu_clusters import find_cpu_clusters
from dynamic_perception.hardware.cpufreq import find_policies
from dynamic_perception.hardware.discovery import discover_machine

CPUS = "devices/system/cpu"


def clusters(root):
    """Name to CPUs, in order."""
    return {name: sorted(cpus) for name, cpus in find_cpu_clusters(root).items()}


def counters(root, **kinds):
    """The kernel's counters of every kind of core."""
    for name, cpus in kinds.items():
        write_files(root / "devices" / name, {"cpus": cpus})
    return root


# Unequal cores -------------------------------------------------------------------------------------------------------


def test_performance_and_efficiency_cores_are_elements_with_their_own_clocks_and_threads(tmp_path):
    counters(own_policies(tmp_path, [4_700_000] * 2 + [3_600_000] * 4), cpu_core="0-1", cpu_atom="2-5")
    elements = {element.name: element for element in discover_machine(tmp_path).elements}
    assert {name: (element.cpus, element.threads) for name, element in elements.items()} == {
        "cpu0": ((0, 1), (1, 2)),
        "cpu2": ((2, 3, 4, 5), (1, 2, 4)),
    }
    assert elements["cpu0"].frequencies == (400e6, 4.7e9) and elements["cpu2"].frequencies == (400e6, 3.6e9)


@pytest.mark.parametrize(
    "highest, expected",
    [
        ([4_700_000] * 2 + [3_600_000] * 4, [[0, 1], [2, 3, 4, 5]]),  # i7-1260P
        ([5_700_000, 5_500_000, 4_600_000, 4_600_000], [[0, 1], [2, 3]]),  # Core Ultra 9 285K, one core favoured
        ([2_000_000, 2_000_000, 3_300_000], [[2], [0, 1]]),  # numbered the other way round
        ([4_900_000, 4_900_000, 3_800_000, 3_800_000, 2_500_000], [[0, 1], [2, 3], [4]]),  # Core Ultra 7 155H
        ([5_083_000, 4_950_000, 4_800_000, 4_550_000], [[0, 1, 2, 3]]),  # Ryzen 9 5950X, every core rated by itself
        ([5_700_000, 5_200_000], [[0, 1]]),  # Ryzen 9 7900X3D
        ([3_400_000] * 3, [[0, 1, 2]]),
        ([3_400_000, "", 3_400_000, ""], [[0, 1, 2, 3]]),  # two that cannot be read
    ],
)
def test_the_highest_clock_tells_kinds_of_cores_and_not_favoured_ones(tmp_path, highest, expected):
    assert list(clusters(own_policies(tmp_path, highest)).values()) == expected


def test_counters_tell_kinds_whose_clocks_are_nearly_the_same(tmp_path):
    own_policies(tmp_path, [4_900_000] * 2 + [4_600_000] * 2)
    assert clusters(tmp_path) == {"cpu": [0, 1, 2, 3]}
    assert clusters(counters(tmp_path, cpu_core="0-1", cpu_atom="2,3")) == {"cpu0": [0, 1], "cpu2": [2, 3]}


def test_low_power_cores_are_told_from_efficiency_cores_of_the_same_counters(tmp_path):
    own_policies(tmp_path, [5_000_000, 4_800_000, *[3_800_000] * 3, 2_500_000, 2_500_000])
    counters(tmp_path, cpu_core="0-1", cpu_atom="2-6")
    assert clusters(tmp_path) == {"cpu0": [0, 1], "cpu2": [2, 3, 4], "cpu5": [5, 6]}


def test_counters_tell_kinds_without_any_clock(tmp_path):
    for cpu in range(4):
        write_files(tmp_path / CPUS / f"cpu{cpu}", {"online": 1})
    assert clusters(counters(tmp_path, cpu_core="0-1", cpu_atom="2-3")) == {"cpu0": [0, 1], "cpu2": [2, 3]}


def test_other_counters_of_the_machine_are_no_kind_of_core(tmp_path):
    own_policies(tmp_path, [3_400_000] * 4)
    assert clusters(counters(tmp_path, cpu="0-3", power="0", uncore_imc="0-1", cpu_core="0-3")) == {"cpu": [0, 1, 2, 3]}


# Kernels without policies --------------------------------------------------------------------------------------------


def test_clocks_of_older_kernels_make_clusters_and_elements(tmp_path):
    elements = {element.name: element for element in discover_machine(old_big_little(tmp_path)).elements}
    assert {name: element.cpus for name, element in elements.items()} == {"cpu4": (4, 5, 6, 7), "cpu0": (0, 1, 2, 3)}
    assert elements["cpu4"].frequencies == (200e6, 2e9) and elements["cpu0"].frequencies == (200e6, 1.4e9)
    assert elements["cpu0"].governor == "powersave"


def test_clocks_of_older_kernels_that_are_only_related_do_not_share_one(tmp_path):
    for cpu in range(4):
        write_files(tmp_path / CPUS / f"cpu{cpu}/cpufreq", {"related_cpus": "0 1 2 3", "affected_cpus": cpu})
    assert [policy.cpus for policy in find_policies(tmp_path)] == [{0}, {1}, {2}, {3}]
    assert clusters(tmp_path) == {"cpu": [0, 1, 2, 3]}


def test_clocks_of_older_kernels_are_set_saved_and_put_back(tmp_path):
    root, state = old_big_little(tmp_path / "sys"), tmp_path / "state"
    folder = root / CPUS / "cpu4/cpufreq"
    found = {path.name: path.read_bytes() for path in folder.iterdir()}
    control = ClockControl(root, state)
    control.open()
    assert control.set_cpu_frequency([5], 1.2e9).actual == 1.2e9
    (file,) = state.glob("*cpu4*.json")
    clock = clock_of_state(file, root)
    assert clock.path == folder and SavedClock.read(file, clock).name == clock.name
    assert control.restore() == ()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == found


# Offline CPUs --------------------------------------------------------------------------------------------------------


def test_offline_cpus_are_not_counted(tmp_path):
    own_policies(tmp_path, [2_000_000] * 4)
    write_files(tmp_path / CPUS, {"online": "0-1", "offline": "2-3", "present": "0-3", "possible": "0-63"})
    (cpu,) = discover_machine(tmp_path).elements
    assert (cpu.cpus, cpu.threads) == ((0, 1), (1, 2))
    assert [element.threads for element in discover_elements(tmp_path, range(4))] == [1, 2]


def test_a_cpu_that_alone_says_that_it_is_offline_is_not_counted(tmp_path):
    write_files(own_policies(tmp_path, [2_000_000] * 4) / CPUS / "cpu3", {"online": 0})
    assert clusters(tmp_path) == {"cpu": [0, 1, 2]}


def test_a_list_of_offline_cpus_is_enough(tmp_path):
    write_files(own_policies(tmp_path, [2_000_000] * 16) / CPUS, {"offline": "1,3,5,7,9,11,13,15"})
    assert clusters(tmp_path) == {"cpu": [0, 2, 4, 6, 8, 10, 12, 14]}


def test_a_cluster_keeps_its_name_and_the_machine_its_own_while_cpus_are_offline(tmp_path):
    write_files(jetson_agx_orin(tmp_path) / CPUS, {"online": "0-3,6-7"})
    assert clusters(tmp_path) == {"cpu0": [0, 1, 2, 3], "cpu4": [6, 7]}
    assert platform_fingerprint(tmp_path)["cpu_count"] == 12


def test_an_offline_kind_of_core_whose_clock_cannot_be_read_is_left_out(tmp_path):
    own_policies(tmp_path, [4_700_000] * 2 + [3_600_000] * 2)
    write_files(tmp_path / CPUS, {"online": "0-1"})
    for cpu in (2, 3):
        (tmp_path / CPUFREQ / f"policy{cpu}/cpuinfo_max_freq").unlink()
    assert clusters(tmp_path) == {"cpu": [0, 1]}


# CPUs of a platform file ---------------------------------------------------------------------------------------------


@pytest.fixture
def said(tmp_path):
    """What a platform file makes of the laptop's eight equal CPUs."""

    def machine(text):
        (tmp_path / "robot.yaml").write_text(f"schema: 1\nelements:\n{text}")
        found = discover_machine(laptop(tmp_path / "sys"), tmp_path / "robot.yaml")
        return found, {element.name: (element.cpus, element.threads) for element in found.elements}

    return machine


def test_a_file_gives_an_element_fewer_cpus(said):
    assert said("  cpu: {cpus: [1, 0, 2]}\n")[1] == {"cpu": ((0, 1, 2), (1, 2, 3))}


def test_a_file_makes_one_more_element_of_cpus_that_others_lose(said, tmp_path):
    machine, elements = said("  little: {cpus: [6, 7], threads: [2], frequency_range: [4.0e8, 2.0e9]}\n")
    assert elements == {"cpu": ((0, 1, 2, 3, 4, 5), (1, 2, 4, 6)), "little": ((6, 7), (2,))}
    assert machine.elements[1].frequencies == (400e6, 2e9)
    found = discover_elements(tmp_path / "sys", range(8), said=machine.platform)
    assert [element.name for element in found] == ["cpu:1", "cpu:2", "cpu:4", "cpu:6", "little:2"]


@pytest.mark.parametrize(
    "text, complaint",
    [
        ("  cpu: {cpus: [0, 8]}", "elements.cpu.cpus is [0, 8]: expected a list of different CPUs of 0 1 2 3 4 5 6 7"),
        ("  cpu: {cpus: []}", "expected a list of different CPUs"),
        ("  cpu: {cpus: [1, 1]}", "expected a list of different CPUs"),
        ("  cpu: {cpus: [true]}", "expected a list of different CPUs"),
        ("  a: {cpus: [1]}\n  b: {cpus: [2, 1]}", "elements.b.cpus is [1, 2]: expected no CPU of a, as 1 is"),
        ("  a: {cpus: [1, 2], threads: [3]}", "a list of different numbers from 1 to 2"),
        ("  a: {threads: [1]}", "elements.a is not known here: expected one of cpu"),
        ("  gpu7: {cpus: [1]}", "elements.gpu7 is not known here"),
    ],
)
def test_cpus_that_cannot_be_are_refused_with_what_is_allowed(said, text, complaint):
    with pytest.raises(ValueError) as refused:
        said(f"{text}\n")
    assert complaint in str(refused.value)


def test_a_gpu_has_no_cpus_to_give(tmp_path):
    (tmp_path / "robot.yaml").write_text("schema: 1\nelements:\n  gpu: {cpus: [1]}\n")
    with pytest.raises(ValueError, match="expected nothing, as a GPU has no CPUs"):
        discover_machine(odroid_xu3(tmp_path / "sys"), tmp_path / "robot.yaml")

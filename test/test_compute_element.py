"""Compute elements and the machine's name, on sysfs trees of real machines."""

import os

import pytest
from sysfs_trees import container, laptop, odroid_xu3, write_files

from dynamic_perception.hardware.compute_element import (
    ComputeElement,
    discover_elements,
    find_element,
    platform_fingerprint,
    platform_name,
)


def names(elements):
    return [element.name for element in elements]


def test_two_clusters_come_fastest_first_with_powers_of_two(tmp_path):
    elements = discover_elements(odroid_xu3(tmp_path), range(8))
    assert names(elements) == ["cpu4:1", "cpu4:2", "cpu4:4", "cpu0:1", "cpu0:2", "cpu0:4"]
    assert elements[0] == ComputeElement("cpu4:1", "cpu4", (4, 5, 6, 7), 1)


def test_clusters_without_capacities_are_ordered_by_their_highest_clock(tmp_path):
    odroid_xu3(tmp_path)
    for file in tmp_path.glob("devices/system/cpu/cpu*/cpu_capacity"):
        file.unlink()
    assert discover_elements(tmp_path, range(8))[0].cluster == "cpu4"


def test_cpus_that_each_have_a_policy_are_one_cluster(tmp_path):
    assert names(discover_elements(laptop(tmp_path), range(8))) == ["cpu:1", "cpu:2", "cpu:4", "cpu:8"]


def test_cores_of_two_kinds_that_each_have_a_policy_are_two_clusters(tmp_path):
    laptop(tmp_path)
    capacities = [1024, 1024, 1009, 1009, 620, 620, 620, 620]  # the first two are favoured cores of the fast kind
    for cpu, capacity in enumerate(capacities):
        write_files(tmp_path / f"devices/system/cpu/cpu{cpu}", {"cpu_capacity": capacity})
    elements = discover_elements(tmp_path, range(8))
    assert {element.cluster: element.cpus for element in elements} == {"cpu0": (0, 1, 2, 3), "cpu4": (4, 5, 6, 7)}


def test_capacities_make_clusters_where_there_is_no_clock_control(tmp_path):
    for cpu, capacity in enumerate([400, 400, 1024]):
        write_files(tmp_path / f"devices/system/cpu/cpu{cpu}", {"cpu_capacity": capacity})
    assert names(discover_elements(tmp_path, range(3))) == ["cpu2:1", "cpu0:1", "cpu0:2"]


def test_a_container_offers_all_its_cpus_as_one_cluster(tmp_path):
    assert names(discover_elements(container(tmp_path), [3, 5, 6])) == ["cpu:1", "cpu:2", "cpu:3"]


def test_the_number_of_all_cpus_is_offered_when_it_is_no_power_of_two(tmp_path):
    assert [e.threads for e in discover_elements(container(tmp_path), range(6))] == [1, 2, 4, 6]


def test_cpus_that_are_not_allowed_are_not_offered_and_do_not_change_names(tmp_path):
    elements = discover_elements(odroid_xu3(tmp_path), [4, 6])
    assert names(elements) == ["cpu4:1", "cpu4:2"]
    assert elements[1].cpus == (4, 6)


def test_the_cpus_of_this_process_are_the_default(tmp_path):
    assert discover_elements(container(tmp_path))[-1].cpus == tuple(sorted(os.sched_getaffinity(0)))


def test_no_allowed_cpu_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"allowed_cpus is \[64\]: expected some of \[0, 1, 2, 3, 4, 5, 6, 7\]"):
        discover_elements(odroid_xu3(tmp_path), [64])


def test_gpus_are_left_out_until_they_are_asked_for(tmp_path):
    odroid_xu3(tmp_path)
    assert not any(element.cluster.startswith("gpu") for element in discover_elements(tmp_path, range(8)))
    gpu = discover_elements(tmp_path, range(8), gpus=True)[-1]
    assert gpu == ComputeElement("gpu:1", "gpu", (4, 5, 6, 7), 1)  # fed from the fastest cluster


def test_a_machine_without_a_gpu_has_none_to_ask_for(tmp_path):
    laptop(tmp_path)
    assert discover_elements(tmp_path, range(8), gpus=True) == discover_elements(tmp_path, range(8))


def test_this_machine_has_elements():
    assert discover_elements()


def test_an_element_is_found_by_name(tmp_path):
    assert find_element(discover_elements(odroid_xu3(tmp_path), range(8)), "cpu0:2").cpus == (0, 1, 2, 3)


def test_an_unknown_element_is_refused_with_what_is_allowed(tmp_path):
    elements = discover_elements(container(tmp_path), [0, 1])
    with pytest.raises(ValueError, match="'gpu' does not exist here: expected one of cpu:1, cpu:2"):
        find_element(elements, "gpu")


def test_a_board_is_known_by_its_device_tree(tmp_path):
    fingerprint = platform_fingerprint(odroid_xu3(tmp_path))
    assert (fingerprint["cpu_model"], fingerprint["cpu_count"]) == ("Hardkernel Odroid XU3", 8)


def test_a_computer_is_known_by_its_cpu(tmp_path):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(
        "processor\t: 0\nmodel name\t: AMD EPYC\ncpu MHz\t\t: 2596.128\n\nprocessor\t: 1\n"
        "model name\t: AMD EPYC\ncpu MHz\t\t: 800.000\n"
    )
    fingerprint = platform_fingerprint(laptop(tmp_path / "sys"), cpuinfo)
    assert fingerprint == {"architecture": os.uname().machine, "cpu_model": "AMD EPYC", "cpu_count": 8}


def test_a_machine_that_tells_nothing_still_has_a_fingerprint(tmp_path):
    fingerprint = platform_fingerprint(container(tmp_path), tmp_path / "missing")
    assert (fingerprint["cpu_model"], fingerprint["cpu_count"]) == ("unknown", os.cpu_count())


@pytest.mark.parametrize(
    "model, name",
    [
        ("Intel(R) Core(TM) i5-8250U CPU @ 1.60GHz", "intel_core_i5_8250u_4cpu_x86_64"),
        ("AMD Ryzen 7 5800X 8-Core Processor", "amd_ryzen_7_5800x_4cpu_x86_64"),
        ("NVIDIA Jetson AGX Orin Developer Kit with 64 GB", "nvidia_jetson_agx_orin_developer_kit_wit_4cpu_x86_64"),
        ("../..//", "unknown_4cpu_x86_64"),
    ],
)
def test_a_platform_name_can_name_a_folder(model, name):
    assert platform_name({"architecture": "x86_64", "cpu_model": model, "cpu_count": 4}) == name

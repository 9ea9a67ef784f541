"""The boards that are modelled: what is known of them holds in their tables."""

from __future__ import annotations

import math

import numpy as np
import pytest

from dynamic_perception.installation import share_folder
from dynamic_perception.management.operating_points import OperatingPointTable
from dynamic_perception.management.planning import make_plan
from dynamic_perception.management.target import Target
from dynamic_perception.networks.bundle import find_bundle, read_bundle
from dynamic_perception.profiling import jetson_xavier_nx, modelled_tables, odroid_xu3
from dynamic_perception.profiling.table_file import read_table

PROFILES = share_folder() / "config" / "profiles"


@pytest.fixture(scope="module")
def xu3() -> OperatingPointTable:
    return odroid_xu3.modelled_table(read_bundle(find_bundle("group_cnn_cifar10")).of_precision("float32"))


@pytest.fixture(scope="module")
def gpu() -> OperatingPointTable:
    return jetson_xavier_nx.modelled_table()


def rows(table: OperatingPointTable, subnetwork: str, element: str) -> np.ndarray:
    """Indices of the rows of both, the clock rising."""
    return table.matching(subnetwork, element)


def test_the_shipped_files_are_what_the_package_makes(tmp_path):
    for made in modelled_tables.write_all(tmp_path):
        assert made.read_text() == (PROFILES / made.relative_to(tmp_path)).read_text()


def test_a_modelled_table_calls_nothing_measured_but_the_accuracy_of_the_bundle():
    provenance = read_table(PROFILES / "odroid_xu3" / "group_cnn_cifar10.yaml").table.provenance
    assert dict(provenance) == {**dict.fromkeys(("latency", "power", "energy"), "modelled"), "accuracy": "measured"}


def test_every_thread_count_of_both_clusters_is_there_at_every_clock(xu3):
    assert xu3.elements == tuple(f"{cluster}:{threads}" for cluster in ("a15", "a7") for threads in (1, 2, 3, 4))
    assert len(xu3) == 4 * 4 * (19 + 13)
    assert xu3.cpu_frequency[rows(xu3, "25%", "a7:2")].tolist() == [1e8 * step for step in range(2, 15)]


@pytest.mark.parametrize(
    "clock, watts",
    [(200e6, 0.4666), (600e6, 0.9927), (1000e6, 1.7879), (1400e6, 2.938), (1800e6, 5.159), (2000e6, 6.467)],
)
def test_the_power_of_four_busy_a15_is_that_of_the_log(xu3, clock, watts):
    """All rails of the log, the A7 at 200 MHz."""
    point = xu3[xu3.find("100%", "a15:4", clock)]
    assert point.power == pytest.approx(watts, rel=0.1)


def test_the_power_of_one_core_depends_on_the_clock_and_not_on_the_subnetwork(xu3):
    for element in ("a15:1", "a7:1"):
        power = [xu3.power[rows(xu3, subnetwork, element)] for subnetwork in ("25%", "50%", "75%", "100%")]
        assert all((other == power[0]).all() for other in power)
        assert (np.diff(power[0]) > 0).all()


def test_the_power_of_a_gpu_depends_on_the_clock_and_on_the_subnetwork(gpu):
    smallest, largest = (gpu.power[rows(gpu, name, "gpu:1")] for name in ("235M", "731M"))
    assert (np.diff(largest) > 0).all()
    assert (largest > smallest).all()


@pytest.mark.parametrize("element", ["a15:1", "a15:4", "a7:1", "a7:4"])
def test_the_clock_of_least_energy_is_neither_the_lowest_nor_the_highest(xu3, element):
    energy = xu3.energy[rows(xu3, "100%", element)]
    assert 0 < np.argmin(energy) < len(energy) - 1


def test_heat_makes_2000_mhz_no_faster_than_1800_mhz_and_dearer(xu3):
    fast, throttled = (xu3[xu3.find("100%", "a15:4", clock)] for clock in (1.8e9, 2.0e9))
    assert throttled.latency >= fast.latency
    assert throttled.energy > 1.2 * fast.energy


def test_one_core_at_2000_mhz_stays_cool_and_is_faster(xu3):
    assert xu3.latency[xu3.find("100%", "a15:1", 2.0e9)] < xu3.latency[xu3.find("100%", "a15:1", 1.8e9)]


def test_the_talks_two_budgets_lead_to_different_points(xu3):
    """100 mJ and 400 ms; 200 mJ and 200 ms."""
    frugal, fast = (
        make_plan(xu3, Target(max_latency=seconds, max_energy=joules)) for joules, seconds in ((0.1, 0.4), (0.2, 0.2))
    )
    assert frugal.feasible and fast.feasible
    frugal, fast = xu3[frugal.index], xu3[fast.index]
    assert (frugal.subnetwork, frugal.compute_element) != (fast.subnetwork, fast.compute_element)
    assert frugal.energy <= 0.1 < fast.energy <= 0.2
    assert frugal.latency <= 0.4 and fast.latency <= 0.2


def test_the_published_latencies_are_at_the_highest_clock(gpu):
    highest = gpu.gpu_frequency == gpu.gpu_frequency.max()
    np.testing.assert_allclose(1e3 * gpu.latency[highest], [s.latency for s in jetson_xavier_nx.PUBLISHED])
    assert math.isnan(gpu.cpu_frequency[0])

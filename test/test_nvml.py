"""NVIDIA's cards, through a management library that gives the answers of one."""

import math

import pytest
from sysfs_trees import devfreq, laptop

from dynamic_perception.hardware import gpus
from dynamic_perception.hardware.gpus import find_gpus
from dynamic_perception.hardware.nvml import nvml_gpus
from dynamic_perception.hardware.power import find_power_sensors

pynvml = pytest.importorskip("pynvml", reason="needs the package nvidia-ml-py")
STEPS = [300_000_000, 600_000_000]


class Library:
    """Answers as `pynvml` gives them on a machine with cards of these names; `refused` functions are not supported."""

    NVMLError = pynvml.NVMLError
    NVML_CLOCK_GRAPHICS = pynvml.NVML_CLOCK_GRAPHICS

    def __init__(self, *names, refused=()):
        self._names, self._refused = names, refused
        self.millijoules, self.milliwatts = 5_000_000, 68_250

    def __getattribute__(self, name):
        if name.startswith("nvml") and name in self._refused:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return super().__getattribute__(name)

    def nvmlDeviceGetCount(self):
        return len(self._names)

    def nvmlDeviceGetHandleByIndex(self, index):
        if self._names[index] == "lost":
            raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)
        return index

    def nvmlDeviceGetUUID(self, handle):
        return f"GPU-{handle}"

    def nvmlDeviceGetName(self, handle):
        return self._names[handle]

    def nvmlDeviceGetSupportedMemoryClocks(self, handle):
        return [2619, 1593]

    def nvmlDeviceGetSupportedGraphicsClocks(self, handle, memory):
        return [1980, 1965, 345] if memory == 2619 else [345]

    def nvmlDeviceGetClockInfo(self, handle, kind):
        return 1965

    def nvmlDeviceGetTotalEnergyConsumption(self, handle):
        return self.millijoules

    def nvmlDeviceGetPowerUsage(self, handle):
        return self.milliwatts


@pytest.fixture
def machine_with_cards(tmp_path, monkeypatch):
    """A tree that counts as this machine's own, with the cards of a library."""

    def make(library):
        monkeypatch.setattr(gpus, "SYSFS", tmp_path.resolve())
        monkeypatch.setattr(gpus, "nvml_gpus", lambda: nvml_gpus(library))
        return tmp_path

    return make


def test_a_card_has_its_clocks_in_hertz(machine_with_cards):
    (gpu,) = find_gpus(machine_with_cards(Library("NVIDIA H100 80GB HBM3")))
    assert (gpu.name, gpu.kind, gpu.model, gpu.path, gpu.index, gpu.uuid) == (
        "gpu",
        "nvml",
        "NVIDIA H100 80GB HBM3",
        None,
        0,
        "GPU-0",
    )
    assert gpu.frequencies == (345e6, 1965e6, 1980e6) and gpu.current() == 1965e6


def test_a_card_behind_one_that_is_lost_is_found_and_a_board_gpu_comes_first(machine_with_cards):
    root = machine_with_cards(Library("lost", "NVIDIA RTX A2000"))
    devfreq(root, "17000000.gpu", STEPS)
    assert [(gpu.name, gpu.index) for gpu in find_gpus(root)] == [("gpu0", -1), ("gpu1", 1)]


def test_the_gpu_of_a_jetson_is_not_counted_twice(machine_with_cards):
    root = machine_with_cards(Library("Orin (nvgpu)"))
    devfreq(root, "17000000.gpu", STEPS)
    assert [gpu.kind for gpu in find_gpus(root)] == ["devfreq"]


def test_a_card_counts_its_energy(machine_with_cards):
    library = Library("NVIDIA H100 80GB HBM3")
    (rail,) = find_power_sensors(machine_with_cards(library))
    assert (rail.name, rail.source, rail.energy_counter) == ("gpu", "nvml", True)
    advance = rail.pieces()
    library.millijoules += 250
    assert advance().joules == pytest.approx(0.25)


def test_a_card_that_counts_no_energy_shows_its_power(machine_with_cards):
    library = Library("GeForce GTX 1050", refused=("nvmlDeviceGetTotalEnergyConsumption",))
    (rail,) = find_power_sensors(machine_with_cards(library))
    assert not rail.energy_counter and rail.read() == 68.25


def test_a_card_that_tells_nothing_is_a_gpu_without_numbers(machine_with_cards):
    root = machine_with_cards(
        Library(
            "GeForce GT 710",
            refused=(
                "nvmlDeviceGetTotalEnergyConsumption",
                "nvmlDeviceGetPowerUsage",
                "nvmlDeviceGetSupportedMemoryClocks",
                "nvmlDeviceGetClockInfo",
            ),
        )
    )
    (gpu,), (rail,) = find_gpus(root), find_power_sensors(root)
    assert gpu.frequencies == () and math.isnan(gpu.current())
    assert math.isnan(rail.read()) and rail.fault == "GPU-0: Not Supported"


def test_a_driver_that_counts_no_cards_means_no_card(machine_with_cards):
    assert find_gpus(machine_with_cards(Library("NVIDIA H100", refused=("nvmlDeviceGetCount",)))) == ()


def test_the_cards_of_this_machine_do_not_appear_in_another_machines_tree(tmp_path, monkeypatch):
    monkeypatch.setattr(gpus, "nvml_gpus", lambda: nvml_gpus(Library("NVIDIA H100")))
    assert find_gpus(laptop(tmp_path)) == ()


def test_this_machines_own_driver_can_be_asked_whether_it_is_there_or_not():
    assert all(card.uuid and card.model for card in nvml_gpus())

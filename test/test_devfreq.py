"""GPU clocks: devfreq on file trees as boards have them, NVIDIA's library as an object that behaves like it."""

import errno
import json
import math
import os
import time
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sysfs_trees import write_files

from dynamic_perception.hardware import clock_files
from dynamic_perception.hardware.clock_files import retry_while_busy
from dynamic_perception.hardware.clocks import ClockControl, ClocksInUse, FrequencyRange, restore_saved
from dynamic_perception.hardware.devfreq import DEVFREQ, DevfreqClock, find_devices
from dynamic_perception.hardware.nvml import load_nvml
from dynamic_perception.hardware.nvml_clocks import NvmlClock

STEPS = [114_750_000, 216_750_000, 318_750_000, 522_750_000, 854_250_000, 1_109_250_000]  # [Hz] of a Xavier NX's GPU
NAME = "17000000.gv11b"


def xavier(root, governor="nvhost_podgov", speed=None):
    """The GPU and the memory controller of a Jetson; `speed`: content of userspace/set_freq."""
    write_files(
        root / DEVFREQ / NAME,
        {
            "available_frequencies": " ".join(map(str, STEPS)),
            "governor": governor,
            "min_freq": STEPS[0],
            "max_freq": STEPS[-1],
            "cur_freq": STEPS[2],
        },
    )
    if speed is not None:
        write_files(root / DEVFREQ / NAME, {"userspace/set_freq": speed})
    write_files(root / DEVFREQ / "emc", {"governor": "performance"})
    return root


def files(root):
    return {path: path.read_bytes() for path in (root / DEVFREQ).rglob("*") if path.is_file()}


def limits(root):
    return tuple(int((root / DEVFREQ / NAME / name).read_text()) for name in ("min_freq", "max_freq"))


def control(root, clock=None, allowed=FrequencyRange()):
    clocks = ClockControl(root, root / "state", gpu=clock or DevfreqClock(root / DEVFREQ / NAME), gpu_allowed=allowed)
    clocks.open()
    return clocks


@contextmanager
def strict_kernel():
    """Refuse a minimum above the maximum, as drivers do; gives the list of what was written."""
    written = []
    write_file = clock_files.write_once

    def write(path, text):
        low, high = (int((path.parent / name).read_text()) for name in ("min_freq", "max_freq"))
        number = int(text) if text.strip().isdecimal() else None
        if (path.name == "min_freq" and number > high) or (path.name == "max_freq" and number < low):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), str(path))
        write_file(path, text)
        written.append((path.name, number))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clock_files, "write_once", write)
        yield written


# devfreq -----------------------------------------------------------------------------------------------------------


def test_devices_are_found_by_name_and_none_where_there_are_none(tmp_path):
    assert [device.name for device in find_devices(xavier(tmp_path))] == [NAME, "emc"]
    assert find_devices(tmp_path / "nowhere") == ()


def test_an_adreno_is_found_again_where_qualcomms_driver_shows_it(tmp_path):
    folder = tmp_path / "class/kgsl/kgsl-3d0/devfreq"
    folder.mkdir(parents=True)
    assert DevfreqClock.find(tmp_path, DevfreqClock(folder).name) == DevfreqClock(folder)


def test_a_governor_is_held_between_equal_limits(tmp_path):
    clocks = control(xavier(tmp_path))
    result = clocks.set_gpu_frequency(522_750_000)
    assert (result.actual, result.message) == (522_750_000, "")
    assert limits(tmp_path) == (522_750_000, 522_750_000)


def test_the_userspace_governor_is_told_the_speed(tmp_path):
    clocks = control(xavier(tmp_path, "userspace", STEPS[0]))
    result = clocks.set_gpu_frequency(522_750_000)
    assert (result.actual, result.message) == (522_750_000, "")
    assert (tmp_path / DEVFREQ / NAME / "userspace/set_freq").read_text() == "522750000\n"
    assert limits(tmp_path) == (STEPS[0], STEPS[-1])


def test_a_userspace_governor_that_was_never_told_a_speed_is_left_so(tmp_path):
    before = files(xavier(tmp_path, "userspace", "undefined"))
    clocks = control(tmp_path)
    assert clocks.set_gpu_frequency(522_750_000).actual == 522_750_000
    assert clocks.restore() == () and files(tmp_path) == before


def test_between_two_steps_the_nearest_is_taken_and_the_message_says_so(tmp_path):
    result = control(xavier(tmp_path)).set_gpu_frequency(500e6)
    assert result.actual == 522_750_000 and "500 MHz is not available: took 522.75 MHz" in result.message


def test_the_allowed_range_holds(tmp_path):
    clocks = control(xavier(tmp_path), allowed=FrequencyRange(200e6, 900e6))
    assert clocks.available_gpu() == (216_750_000, 318_750_000, 522_750_000, 854_250_000)
    assert clocks.set_gpu_frequency(2e9).actual == 854_250_000
    assert clocks.set_gpu_frequency(1.0).actual == 216_750_000


def test_a_device_that_lists_no_steps_is_not_touched(tmp_path):
    (xavier(tmp_path) / DEVFREQ / NAME / "available_frequencies").unlink()
    before = files(tmp_path)
    assert "has no frequency within" in control(tmp_path).set_gpu_frequency(500e6).message
    assert files(tmp_path) == before


def test_without_a_gpu_there_is_nothing_to_set(tmp_path):
    clocks = ClockControl(tmp_path, tmp_path / "state")
    result = clocks.set_gpu_frequency(500e6)
    assert math.isnan(result.actual) and "no GPU" in result.message and clocks.available_gpu() == ()


@settings(max_examples=40, deadline=None)
@given(
    requests=st.lists(st.one_of(st.just(0.0), st.floats(1.0, 3e9), st.sampled_from(STEPS)), max_size=8),
    found=st.tuples(st.sampled_from(STEPS), st.sampled_from(STEPS)),
    userspace=st.booleans(),
)
def test_any_requests_are_taken_by_the_kernel_and_undone_to_the_byte(tmp_path_factory, requests, found, userspace):
    root = tmp_path_factory.mktemp("gpu")
    xavier(root, "userspace" if userspace else "simple_ondemand", STEPS[1] if userspace else None)
    (root / DEVFREQ / NAME / "min_freq").write_text(f"{min(found)}\n")
    (root / DEVFREQ / NAME / "max_freq").write_text(f"{max(found)}")  # without a line end: to the byte
    before = files(root)
    clocks = control(root)
    with strict_kernel() as written:
        for hertz in requests:
            assert "refuses" not in clocks.set_gpu_frequency(hertz).message
        assert {number for _, number in written} <= {*STEPS, *found}
        assert clocks.restore() == ()
    assert files(root) == before


def test_what_a_killed_process_left_is_put_back(tmp_path):
    before = files(xavier(tmp_path))
    if (child := os.fork()) == 0:
        control(tmp_path).set_gpu_frequency(522_750_000)
        os._exit(0)  # without putting back, as after SIGKILL
    os.waitpid(child, 0)
    assert limits(tmp_path) == (522_750_000, 522_750_000)
    assert json.loads((tmp_path / f"state/devfreq-{NAME}.json").read_text())["found"]["max_freq"] == f"{STEPS[-1]}\n"
    assert restore_saved(tmp_path / "state", tmp_path).complete
    assert files(tmp_path) == before


def test_a_second_owner_is_refused_with_the_number_of_the_first(tmp_path):
    clocks = control(xavier(tmp_path))
    with pytest.raises(ClocksInUse, match=f"process {os.getpid()} sets the clock .*{NAME}"):
        control(tmp_path)
    clocks.restore()
    control(tmp_path)


# NVIDIA's library --------------------------------------------------------------------------------------------------


class FakeNvml:
    """Two GPUs' worth of the functions of `pynvml` that are used, with its errors.  A real driver was not there."""

    NVML_CLOCK_GRAPHICS = 0
    NVML_ERROR_INVALID_ARGUMENT, NVML_ERROR_NOT_SUPPORTED, NVML_ERROR_NO_PERMISSION, NVML_ERROR_IN_USE = 2, 3, 4, 19

    class NVMLError(Exception):
        def __init__(self, value):
            super().__init__(f"error {value}")
            self.value = value

    def __init__(self):
        self.locked = {}
        self.calls = []
        self.refusals = []  # error numbers of the next calls
        self.throttled_to = 9999

    def nvmlDeviceGetHandleByIndex(self, index):
        if index > 1:
            raise self.NVMLError(6)
        return index

    def nvmlDeviceGetHandleByPciBusId(self, address):
        return int(address.decode().split(":")[1], 16)

    def nvmlDeviceGetPciInfo(self, handle):
        return SimpleNamespace(busId=f"00000000:0{handle}:00.0".encode())

    def nvmlDeviceGetSupportedMemoryClocks(self, handle):
        return [2619, 1593]

    def nvmlDeviceGetSupportedGraphicsClocks(self, handle, memory):
        return [1980, 1965, 1500, 345] if memory == 2619 else [1500, 345]

    def nvmlDeviceGetClockInfo(self, handle, kind):
        return min(self.locked.get(handle, 345), self.throttled_to)

    def nvmlDeviceSetGpuLockedClocks(self, handle, low, high):
        self._refuse()
        self.calls.append((handle, low, high))
        self.locked[handle] = high

    def nvmlDeviceResetGpuLockedClocks(self, handle):
        self._refuse()
        self.calls.append((handle, "reset"))
        self.locked.pop(handle, None)

    def _refuse(self):
        if self.refusals and (number := self.refusals.pop(0)):
            raise self.NVMLError(number)


@pytest.fixture
def nvml():
    return FakeNvml()


@pytest.fixture
def h100(nvml, tmp_path):
    """GPU 1, whose folder the tree has."""
    (tmp_path / "bus/pci/devices/0000:01:00.0").mkdir(parents=True)
    return NvmlClock(nvml, 1, tmp_path)


def test_an_nvidia_gpu_is_locked_to_a_listed_step_and_unlocked_again(nvml, h100, tmp_path):
    clocks = control(tmp_path, h100)
    assert clocks.available_gpu() == (345e6, 1500e6, 1965e6, 1980e6)
    result = clocks.set_gpu_frequency(1.6e9)
    assert result.actual == 1.5e9 and "took 1500 MHz" in result.message
    assert clocks.restore() == () and nvml.calls == [(1, 1500, 1500), (1, "reset")]


def test_a_gpu_that_stays_below_its_locked_clock_is_reported_as_it_is(nvml, h100, tmp_path):
    nvml.throttled_to = 1200
    result = control(tmp_path, h100).set_gpu_frequency(1.98e9)
    assert result.actual == 1.2e9 and "was set to 1980 MHz but runs at 1200 MHz" in result.message


def test_a_busy_driver_is_asked_again(nvml, h100, tmp_path):
    nvml.refusals = [FakeNvml.NVML_ERROR_IN_USE] * 2
    assert control(tmp_path, h100).set_gpu_frequency(1.98e9).message == ""


@pytest.mark.parametrize("number, words", [(4, "only root"), (3, "does not lock its clock"), (999, "error 999")])
def test_a_refusal_of_the_driver_says_why(nvml, h100, tmp_path, number, words):
    nvml.refusals = [number]
    assert words in control(tmp_path, h100).set_gpu_frequency(1.98e9).message


def test_what_cannot_be_unlocked_stays_saved(nvml, h100, tmp_path):
    clocks = control(tmp_path, h100)
    clocks.set_gpu_frequency(1.98e9)
    nvml.refusals = [4]
    assert "only root" in clocks.restore()[0]
    assert (tmp_path / "state/nvml-0000:01:00.0.json").exists()
    control(tmp_path, h100)  # the next start unlocks
    assert nvml.locked == {} and not (tmp_path / "state/nvml-0000:01:00.0.json").exists()


def test_a_gpu_is_the_same_by_index_and_by_address(nvml, h100, tmp_path):
    assert NvmlClock(nvml, h100.name, tmp_path).folder == h100.folder == tmp_path / "bus/pci/devices/0000:01:00.0"


def test_a_gpu_that_is_not_there_is_named(nvml):
    with pytest.raises(OSError, match="no GPU 7"):
        NvmlClock(nvml, 7)


def test_without_the_library_or_the_driver_the_error_says_what_to_do():
    with pytest.raises(OSError, match="pip install nvidia-ml-py|is NVIDIA's driver loaded"):
        load_nvml()


def test_trying_again_ends_after_three_times():
    tries = []

    def busy():
        tries.append(1)
        raise OSError(errno.EBUSY, "busy")

    with pytest.raises(OSError, match="busy"):
        retry_while_busy(busy, time.monotonic() + 60.0)
    assert len(tries) == 3

"""Clocks of NVIDIA's discrete GPUs, which the driver locks through its management library (NVML), in MHz.

`nvidia-ml-py` is optional and imported only where such a GPU is asked for.  The library can lock and unlock a clock,
but does not tell whether somebody has locked it before: putting back is unlocking.  Locking needs root.
"""

from __future__ import annotations

import errno
import math
import re
import time
from pathlib import Path
from typing import Any

from dynamic_perception.hardware.clock_files import retry_while_busy

PCI_DEVICES = Path("bus/pci/devices")
UNLOCKED = {"locked_clocks": "none"}
SETTLING_PERIOD = 0.005  # [s] between two looks at a clock that is on its way


class NvmlClock:
    """The graphics clock of one GPU; frequencies in MHz.

    Args:
        nvml: the initialised library, as `load_nvml` gives it.
        gpu: index of the GPU, or its PCI address as in `name`.
        sysfs_root: where the kernel's view of the hardware is mounted.

    Raises:
        OSError: there is no such GPU.
    """

    kind = "nvml"
    unit = 1e6

    def __init__(self, nvml: Any, gpu: int | str, sysfs_root: Path = Path("/sys")):
        self._nvml = nvml
        find = nvml.nvmlDeviceGetHandleByIndex if isinstance(gpu, int) else nvml.nvmlDeviceGetHandleByPciBusId
        try:
            self._handle = find(gpu if isinstance(gpu, int) else gpu.encode())
            address = nvml.nvmlDeviceGetPciInfo(self._handle).busId
        except nvml.NVMLError as error:
            raise OSError(errno.ENODEV, f"no GPU {gpu}: {error}") from None
        address = address.decode() if isinstance(address, bytes) else address
        self.name = address.lower()[-len("0000:00:00.0") :]  # NVML writes the domain with eight digits, sysfs with four
        self.folder = Path(sysfs_root) / PCI_DEVICES / self.name

    def frequencies(self) -> tuple[int, ...]:
        """[MHz] rising: the graphics clocks at any memory clock; empty where the driver lists none."""
        try:
            memory = self._nvml.nvmlDeviceGetSupportedMemoryClocks(self._handle)
            steps = {
                step
                for clock in memory
                for step in self._nvml.nvmlDeviceGetSupportedGraphicsClocks(self._handle, clock)
            }
        except self._nvml.NVMLError:
            return ()
        return tuple(sorted(steps))

    def nearest(self, frequency: float, lowest: float, highest: float) -> int | None:
        """[MHz] The step nearest to `frequency` within `lowest` to `highest`; None: there is none."""
        allowed = [step for step in self.frequencies() if lowest <= step <= highest]
        return min(allowed, key=lambda step: (abs(step - frequency), step), default=None)

    def current(self) -> float:
        """[Hz] As the driver measures it now, which heat, power or rest can make lower than the locked one."""
        try:
            return self.unit * self._nvml.nvmlDeviceGetClockInfo(self._handle, self._nvml.NVML_CLOCK_GRAPHICS)
        except self._nvml.NVMLError:
            return math.nan

    def settings(self) -> dict[str, str]:
        """What `put_back` needs: nothing but that it was not locked, since NVML does not tell more."""
        return dict(UNLOCKED)

    def hold(self, frequency: int, deadline: float) -> None:
        """Lock to one step, and wait until the clock is there, or until `deadline` [s, steady time].

        Raises:
            OSError: the driver refuses it.
        """
        retry_while_busy(lambda: self._call("nvmlDeviceSetGpuLockedClocks", frequency, frequency), deadline)
        while self.current() != self.unit * frequency and time.monotonic() + SETTLING_PERIOD < deadline:
            time.sleep(SETTLING_PERIOD)

    def put_back(self, found: dict[str, str], deadline: float) -> list[str]:
        """Unlock; gives why that was not possible."""
        try:
            retry_while_busy(lambda: self._call("nvmlDeviceResetGpuLockedClocks"), deadline)
        except OSError as error:
            return [self.explain(error)]
        return []

    @classmethod
    def is_name(cls, name: str) -> bool:
        """Whether it is a PCI address as sysfs writes it."""
        return re.fullmatch(r"[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]", name) is not None

    @classmethod
    def settings_fault(cls, found: dict[str, object]) -> str:
        """What keeps a value from being the settings of such a clock; empty: nothing."""
        return "" if found == UNLOCKED else f"expected {UNLOCKED}"

    def explain(self, error: OSError) -> str:
        """What a refusal means, and the way to mend it."""
        if error.errno == errno.EACCES:
            return f"no permission to lock the clock of GPU {self.name}: NVIDIA's driver lets only root do so"
        if error.errno == errno.EOPNOTSUPP:
            return f"GPU {self.name} does not lock its clock: it is too old, or virtual"
        return f"GPU {self.name}: {error.strerror}"

    def _call(self, function: str, *arguments: int) -> None:
        nvml = self._nvml
        numbers = {
            nvml.NVML_ERROR_NO_PERMISSION: errno.EACCES,
            nvml.NVML_ERROR_IN_USE: errno.EBUSY,
            nvml.NVML_ERROR_NOT_SUPPORTED: errno.EOPNOTSUPP,
            nvml.NVML_ERROR_INVALID_ARGUMENT: errno.EINVAL,
        }
        try:
            getattr(nvml, function)(self._handle, *arguments)
        except nvml.NVMLError as error:
            raise OSError(numbers.get(error.value, errno.EIO), str(error), self.name) from None

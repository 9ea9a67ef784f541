"""NVIDIA's discrete GPUs through their management library; without the library or its driver, there are none.

The Python package is `nvidia-ml-py`, the optional dependency `nvidia` of this one.  What its functions mean:
https://docs.nvidia.com/deploy/nvml-api.
"""

from __future__ import annotations

import errno
import math
from types import ModuleType
from typing import Any

INTEGRATED = "(nvgpu)"  # how the library calls the GPU of a Jetson, which devfreq shows with its clocks


def load_nvml() -> ModuleType:
    """The initialised library.

    Raises:
        OSError: it is not installed, or there is no driver; says which and what to do.
    """
    try:
        import pynvml
    except ImportError:
        raise OSError(errno.ENOENT, "NVML's Python module is not installed: pip install nvidia-ml-py") from None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        raise OSError(errno.ENODEV, f"NVML does not start ({error}): is NVIDIA's driver loaded?") from None
    return pynvml


class NvmlGpu:
    """One GPU.  Readings that the driver does not give are NaN, with the reason.

    Args:
        library: the module `pynvml`, initialised.
        index: the library's number of the GPU.

    Raises:
        library.NVMLError: the GPU is not there or cannot be asked.
    """

    def __init__(self, library: Any, index: int):
        self._library, self.index = library, index
        self._handle = library.nvmlDeviceGetHandleByIndex(index)
        self.uuid = _text(library.nvmlDeviceGetUUID(self._handle))
        self.model = _text(library.nvmlDeviceGetName(self._handle))

    def frequencies(self) -> tuple[float, ...]:
        """[Hz] rising: the graphics clocks at the highest memory clock; none where the driver lists none."""
        try:
            memory = max(self._library.nvmlDeviceGetSupportedMemoryClocks(self._handle))
            clocks = self._library.nvmlDeviceGetSupportedGraphicsClocks(self._handle, memory)
        except (self._library.NVMLError, ValueError):
            return ()
        return tuple(sorted({1e6 * clock for clock in clocks if clock > 0}))

    def frequency(self) -> float:
        """[Hz] The graphics clock now; NaN: not known."""
        try:
            return 1e6 * self._library.nvmlDeviceGetClockInfo(self._handle, self._library.NVML_CLOCK_GRAPHICS)
        except self._library.NVMLError:
            return math.nan

    def energy(self) -> tuple[int | None, str]:
        """[µJ] drawn since the driver was loaded, and why it is not known."""
        try:
            return 1000 * self._library.nvmlDeviceGetTotalEnergyConsumption(self._handle), ""
        except self._library.NVMLError as error:
            return None, f"{self.uuid}: {error}"

    def power(self) -> tuple[float, str]:
        """[W] as the GPU's sensor shows it, and why it is not known."""
        try:
            return self._library.nvmlDeviceGetPowerUsage(self._handle) / 1000.0, ""
        except self._library.NVMLError as error:
            return math.nan, f"{self.uuid}: {error}"


def nvml_gpus(library: Any = None) -> tuple[NvmlGpu, ...]:
    """Every discrete GPU in the library's order; none where there is no library or no driver.

    Args:
        library: as `load_nvml` gives it; None: load it.
    """
    try:
        library = library or load_nvml()
    except OSError:
        return ()
    try:
        count = library.nvmlDeviceGetCount()
    except library.NVMLError:
        return ()
    gpus = []
    for index in range(count):
        try:
            gpus.append(NvmlGpu(library, index))
        except library.NVMLError:
            continue  # lost from the bus, or of another user: nothing can be done with it
    return tuple(gpu for gpu in gpus if INTEGRATED not in gpu.model)


def _text(answer: str | bytes) -> str:
    return answer.decode(errors="replace") if isinstance(answer, bytes) else answer

"""The clocks that commands ask a perception node for; while the user has not enabled them, none is touched."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from dynamic_perception.hardware.clocks import ClockControl, FrequencyRange, find_gpu_clock
from dynamic_perception.hardware.compute_element import ComputeElement

NOT_ENABLED = "clocks are not enabled, set the parameter clocks_enabled"


class CommandedClocks:
    """The clocks of `elements`, and the first GPU's.

    Frequencies are in Hz; 0 puts a clock back as it was found, NaN leaves it as it is.

    Args:
        value: of a parameter of the perception node, by its name.
        elements: that the node may run on.
    """

    def __init__(self, value: Callable[[str], Any], elements: Iterable[ComputeElement]):
        self._control: ClockControl | None = None
        if value("clocks_enabled"):
            sysfs, helper = Path(value("sysfs_root")), value("clocks.helper_socket")
            allowed, gpu_allowed = (
                FrequencyRange(value(f"{kind}_frequency_min"), value(f"{kind}_frequency_max"))
                for kind in ("cpu", "gpu")
            )
            self._control = ClockControl(
                sysfs,
                allowed=allowed,
                cpus=frozenset().union(*(element.cpus for element in elements)),
                gpu=find_gpu_clock(sysfs),
                gpu_allowed=gpu_allowed,
                helper_socket=Path(helper) if helper else None,
            )

    def open(self) -> tuple[str, ...]:
        """Become their owner; raises, and gives lines for people, as `ClockControl.open`."""
        return self._control.open() if self._control else ()

    def restore(self) -> tuple[str, ...]:
        """Put them back; what could not be put back, for people."""
        return self._control.restore() if self._control else ()

    def set(self, element: ComputeElement, cpu_frequency: float, gpu_frequency: float) -> str:
        """Set the clock of the element's cluster and the GPU's; what went wrong, or an empty text."""
        return "; ".join(filter(None, [self._set_cpu(element, cpu_frequency), self._set_gpu(gpu_frequency)]))

    def check(self) -> str | None:
        """What differs now from what was set last, as `set`; what was lost is set again.  None: no clock is held."""
        return self._control.check() if self._control else None

    def leave(self, element: ComputeElement) -> None:
        """Put the clock of the element's cluster back: nobody runs there any more."""
        self._set_cpu(element, 0.0)

    def actual(self, element: ComputeElement) -> tuple[float, float]:
        """The clock of the element's cluster and the GPU's as read back; NaN where they are not known."""
        if self._control is None:
            return math.nan, math.nan
        return (
            self._control.set_cpu_frequency(element.cpus, math.nan).actual,
            self._control.set_gpu_frequency(math.nan).actual,
        )

    def _set_cpu(self, element: ComputeElement, frequency: float) -> str:
        if math.isnan(frequency):
            return ""
        if self._control is None:
            return f"cpu_frequency: {NOT_ENABLED}" if frequency > 0 else ""
        return self._control.set_cpu_frequency(element.cpus, frequency).message

    def _set_gpu(self, frequency: float) -> str:
        """0 where there is no GPU is nothing to say."""
        if math.isnan(frequency) or (frequency == 0 and not (self._control and self._control.available_gpu())):
            return ""
        if self._control is None:
            return f"gpu_frequency: {NOT_ENABLED}"
        return self._control.set_gpu_frequency(frequency).message

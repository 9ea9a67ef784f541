"""One clock in one process's hands: what is found is saved, then changed, read back, and in the end put back."""

from __future__ import annotations

import math
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dynamic_perception.hardware.clock_files import BUSY_LIMIT, Clock
from dynamic_perception.hardware.clock_state import Ownership, SavedClock, boot_id, state_file

TOLERANCE = 1000.0  # [Hz] the kernel counts CPU clocks in kHz


@dataclass(frozen=True)
class FrequencyRange:
    """What may be set; ValueError names a limit that is negative, not finite, or crossed.

    Attributes:
        lowest, highest: [Hz]; 0: the hardware's own.
    """

    lowest: float = 0.0
    highest: float = 0.0

    def __post_init__(self):
        for name, limit in (("lowest", self.lowest), ("highest", self.highest)):
            if not 0.0 <= limit < math.inf:
                raise ValueError(
                    f"{name} frequency is {limit}: expected a number of Hz, or 0 for the hardware's own limit"
                )
        if 0.0 < self.highest < self.lowest:
            raise ValueError(f"lowest frequency is {self.lowest}: expected at most the highest, {self.highest}")

    def ends(self, unit: float) -> tuple[float, float]:
        """Both ends in units of so many Hz."""
        return self.lowest / unit, self.highest / unit or math.inf


class ClockSetter(ABC):
    """Sets a clock from `open` to `restore`.  Not for several threads at once.

    Args:
        clock: to set.
        allowed: what may be set.
    """

    def __init__(self, clock: Clock, allowed: FrequencyRange):
        self.clock = clock
        self._lowest, self._highest = allowed.ends(clock.unit)
        self._changed = False  # it is not as it was found
        self._asked: float | None = None  # [Hz] by the last `set`; None: nothing is to be held

    def available(self) -> tuple[float, ...]:
        """[Hz] rising: the steps within what is allowed, or both ends where everything between them is."""
        steps = {self.clock.nearest(step, self._lowest, self._highest) for step in self.clock.frequencies()}
        return tuple(self.clock.unit * step for step in sorted(steps - {None}))

    def set(self, hertz: float, deadline: float) -> list[str]:
        """Run at the available frequency nearest to `hertz`; 0: put the clock back as it was found.

        Args:
            deadline: [s] steady time until which a busy clock is tried again.

        Returns:
            What differs from the request and how to mend it; empty when it was done to the letter.
        """
        self._asked = hertz or None
        if hertz == 0.0:
            return self._put_back(deadline) if self._changed else []
        if not self._is_open():
            return ["clock not changed: the clocks are not open"]
        unit = self.clock.unit
        target = self.clock.nearest(hertz / unit, self._lowest, self._highest)
        if target is None:
            return [
                f"clock not changed: {self.clock.folder} has no frequency within "
                f"{megahertz(unit * self._lowest)} to {megahertz(unit * self._highest)}"
            ]
        fault = self._hold(target, deadline)
        return [fault] if fault else self._differences(hertz, target)

    def check(self, deadline: float) -> list[str] | None:
        """Whether the clock is still as the last `set` wanted it: it is read back, and set again where it was lost.

        Returns:
            As `set`; None: nothing is to be held.
        """
        if self._asked is None:
            return None
        target = self.clock.nearest(self._asked / self.clock.unit, self._lowest, self._highest)
        if target is None or not self._is_held():
            return self.set(self._asked, deadline)
        return self._differences(self._asked, target)

    def _differences(self, hertz: float, target: int) -> list[str]:
        """How the clock, read back, differs from the step `target` that was set for `hertz`."""
        unit, actual = self.clock.unit, self.clock.current()
        if not abs(actual - unit * target) <= TOLERANCE:
            return [
                f"{self.clock.folder} was set to {megahertz(unit * target)} but runs at {megahertz(actual)}: heat, "
                "power or firmware limits it"
            ]
        if abs(unit * target - hertz) > TOLERANCE:
            return [f"{megahertz(hertz)} is not available: took {megahertz(unit * target)}, the nearest"]
        return []

    @abstractmethod
    def open(self) -> tuple[str, ...]:
        """Get the right to set the clock; again is harmless.  Gives what people should know.

        Raises:
            OSError, ValueError: it is not to be had.
        """

    @abstractmethod
    def restore(self) -> list[str]:
        """Put the clock back and give up the right to set it; again is harmless.  Gives what could not be put back."""

    @abstractmethod
    def _is_open(self) -> bool: ...

    def _is_held(self) -> bool:
        """Whether what was set last is still this process's to hold."""
        return self._is_open() and self._changed

    @abstractmethod
    def _hold(self, target: int, deadline: float) -> str:
        """Run at a step of the clock; gives why that is not possible."""

    @abstractmethod
    def _put_back(self, deadline: float) -> list[str]: ...


class ClockOwner(ClockSetter):
    """Sets a clock by itself.

    Args:
        clock: to own.
        state_folder: what was found is saved there until it is put back.
        sysfs_root: the tree that the clock belongs to.
        allowed: what may be set.
        others: further folders where another process may have left the clock's state.
    """

    def __init__(
        self,
        clock: Clock,
        state_folder: Path,
        sysfs_root: Path,
        allowed: FrequencyRange,
        others: Sequence[Path] = (),
    ):
        super().__init__(clock, allowed)
        self._others = [state_file(Path(folder), clock) for folder in others if Path(folder) != Path(state_folder)]
        self._state_folder = Path(state_folder)
        self._state_file = state_file(self._state_folder, clock)
        self._sysfs_root = Path(sysfs_root).resolve()
        self._ownership: Ownership | None = None
        self._found: dict[str, str] | None = None  # as in the state file

    def open(self) -> tuple[str, ...]:
        """Become the owner, and put back what an owner that was killed left behind; again is harmless.

        Returns:
            What was put back and what could not be, for people; the latter is tried again by `restore`.

        Raises:
            ClocksInUse: another process is the owner; it is named.
            OSError: the state folder cannot be written, or the clock is gone.
            ValueError: the state file there is not one.
        """
        if self._ownership is not None:
            return ()
        ownership = Ownership(self.clock, self._state_folder)
        try:
            lines, left = put_back_saved(self._state_file, self.clock)
            for file in self._others:
                found_lines, found_left = put_back_elsewhere(file, self.clock)
                lines += found_lines
                left = left or found_left
        except BaseException:
            ownership.release()
            raise
        self._ownership, self._changed = ownership, left is not None
        if left is not None and (fault := self._keep(left)):
            lines = (*lines, fault)
        return lines

    def restore(self) -> list[str]:
        """Put the clock back exactly as it was found and give up the ownership; again is harmless.

        Returns:
            What could not be put back.  Then the state file stays, for the next start or `restore_saved`.
        """
        if self._ownership is None:
            return []
        try:
            faults = self._put_back(time.monotonic() + BUSY_LIMIT) if self._changed else []
            if not self._changed:
                self._state_file.unlink(missing_ok=True)
        except OSError as error:
            faults = [f"cannot remove {self._state_file}: {error.strerror}"]
        finally:
            self._ownership.release()
            self._ownership, self._found, self._changed = None, None, False
        return faults

    def _is_open(self) -> bool:
        return self._ownership is not None

    def _hold(self, target: int, deadline: float) -> str:
        began = time.monotonic()
        fault = self._save()
        if fault:
            return fault
        deadline += time.monotonic() - began  # a slow disk is no busy clock
        self._changed = True
        try:
            self.clock.hold(target, deadline)
        except OSError as error:
            return self.clock.explain(error)
        return ""

    def _put_back(self, deadline: float) -> list[str]:
        faults = self.clock.put_back(self._found, deadline)
        self._changed = bool(faults)
        return faults

    def _save(self) -> str:
        """Write down what is found before the first change; gives why that is not possible."""
        if self._found is not None:
            return ""
        try:
            found = self.clock.settings()
        except (OSError, ValueError) as error:
            why = self.clock.explain(error) if isinstance(error, OSError) else error
            return f"clock not changed: what cannot be read cannot be put back: {why}"
        return self._keep(found)

    def _keep(self, found: dict[str, str]) -> str:
        """Save what is to be put back; gives why that is not possible."""
        saved = SavedClock(self._sysfs_root, self.clock.kind, self.clock.name, found, boot_id(), os.getpid())
        try:
            saved.write(self._state_file)
        except OSError as error:
            return f"clock not changed: what was found cannot be saved ({error}): make room there"
        self._found = found
        return ""


def put_back_saved(file: Path, clock: Clock) -> tuple[tuple[str, ...], dict[str, str] | None]:
    """As the owner: what was done in words, and the settings that could not be put back.

    Raises:
        OSError, ValueError: the file is not a saved state, or cannot be read or removed.
    """
    try:
        saved = SavedClock.read(file, clock)
    except FileNotFoundError:
        return (), None
    if saved.boot_id != boot_id():
        file.unlink()
        return (f"nothing put back: {file} is from before the last start of the machine; removed",), None
    faults = clock.put_back(saved.found, time.monotonic() + BUSY_LIMIT)
    if faults:
        return tuple(f"not put back: {fault}" for fault in faults), saved.found
    file.unlink()
    values = ", ".join(f"{name} {content.strip()}" for name, content in saved.found.items())
    return (f"put back {clock.folder}: {values}",), None


def put_back_elsewhere(file: Path, clock: Clock) -> tuple[tuple[str, ...], dict[str, str] | None]:
    """As `put_back_saved`, of a file in another place: what is wrong with that one keeps nobody from the clock."""
    try:
        return put_back_saved(file, clock)
    except (OSError, ValueError) as error:
        return (str(error),), None


def megahertz(hertz: float) -> str:
    """For people."""
    return f"{hertz / 1e6:g} MHz"

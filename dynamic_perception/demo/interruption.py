"""Ctrl-C and SIGTERM at any moment: every process ends within two seconds, whatever the demo was doing."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from dynamic_perception.demo.processes import ProcessGroup

EXIT_CODE = 130  # the shell's convention: 128 + SIGINT
KILL_AFTER = 1.0  # [s] after the signal for the nodes to end by themselves
LEAVE_AFTER = 1.4  # [s] after the signal for a deferred end
SHOW_CURSOR = b"\x1b[?25h"
STDOUT, STDERR = 1, 2  # file descriptors


class Interruption:
    """From `listen` on, the first SIGINT or SIGTERM ends the demo; later ones change nothing.

    An exception out of a signal handler comes to light in the middle of anything, and is swallowed or turned into
    another one there.  So the handler itself ends everything, or, while that is `deferred`, leaves a note for `check`.
    """

    def __init__(self) -> None:
        self.processes: ProcessGroup | None = None
        self.before_leaving: Callable[[], None] = lambda: None  # called when all processes have ended; quick
        self._requested = False
        self._deferred = False

    def listen(self) -> None:
        """Take over both signals."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """What must end in order, such as a ROS context, runs in here, and calls `check` all the time."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False
            self.check()  # also in place of an error that the signal brought about

    def check(self) -> None:
        """KeyboardInterrupt if a signal has come."""
        if self._requested:
            raise KeyboardInterrupt

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        for later in (signal.SIGINT, signal.SIGTERM):
            signal.signal(later, signal.SIG_IGN)  # also while Python shuts down, when handlers count no more
        self._requested = True
        if self._deferred:
            if self.processes is not None:
                self.processes.signal_all(signal.SIGTERM)
            threading.Thread(target=self._see_that_it_ends, daemon=True).start()
        else:
            if self.processes is not None:
                self.processes.stop_nodes(KILL_AFTER)
            self._leave()

    def _see_that_it_ends(self) -> None:
        time.sleep(KILL_AFTER)
        self.processes.signal_all(signal.SIGKILL)
        time.sleep(LEAVE_AFTER - KILL_AFTER)
        self._leave()

    def _leave(self) -> None:
        """End at once, with little but system calls: the interpreter may be in the middle of anything."""
        try:
            self.before_leaving()
        finally:
            if os.isatty(STDOUT):
                os.write(STDOUT, SHOW_CURSOR)
            os.write(STDERR, b"interrupted\n")
            os._exit(EXIT_CODE)

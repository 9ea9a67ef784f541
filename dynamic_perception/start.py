"""The first step of every program of this package: what must be seen to before the heavy libraries are loaded.

Loading them takes a second or two.  A signal in that time ends the program as any other, and too little memory is said
in a sentence: some of those libraries end the process themselves when they get none.
"""

from __future__ import annotations

import importlib
import os
import resource
import signal
import sys
from types import ModuleType

INTERRUPTED = 130  # the shell's convention: 128 + SIGINT
COMMAND = "dynamic-perception"
# [MB] of addresses that a program takes at least, as measured with two CPUs and the shipped models.
LEAST_ADDRESSES = {"perception": 1800, "resource_manager": 850, "hardware_monitor": 850, "camera": 1400, COMMAND: 600}


def start_node(name: str) -> int:
    """Run the node `name`; returns the exit code 1 if it cannot be loaded, else the node exits by itself."""
    for number in (signal.SIGINT, signal.SIGTERM):
        # At once, as there is nothing to undo yet; `run` of managed_node has handlers of its own.
        signal.signal(number, lambda received, frame: os._exit(0))
    module = _load(name, f"dynamic_perception.nodes.{name}")
    return 1 if module is None else module.main()


def start_command() -> int:
    """Run the command `dynamic-perception`; returns its exit code."""
    interruptible = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # not in a shell's background
    if interruptible:
        signal.signal(signal.SIGINT, _end_interrupted)
    module = _load(COMMAND, "dynamic_perception.cli")
    if interruptible:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return 1 if module is None else module.main()


def _load(program: str, module: str) -> ModuleType | None:
    """Import a program's module; None, and a sentence on stderr, if a library is missing or finds no memory."""
    allowed = resource.getrlimit(resource.RLIMIT_AS)[0]
    if allowed != resource.RLIM_INFINITY and allowed < LEAST_ADDRESSES[program] * 10**6:
        _refuse(
            f"the limit of virtual memory is {allowed / 1e6:.0f} MB: {program} needs at least "
            f"{LEAST_ADDRESSES[program]} MB, set it with `ulimit -v`"
        )
        return None
    try:
        return importlib.import_module(module)
    except (ImportError, MemoryError, OSError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        _refuse(f"{program} cannot be loaded: {lines[0] if lines else 'not enough memory'}")
        return None


def _refuse(text: str) -> None:
    print(f"error: {text}", file=sys.stderr)


def _end_interrupted(received: int, frame: object) -> None:
    os.write(2, b"interrupted\n")
    os._exit(INTERRUPTED)

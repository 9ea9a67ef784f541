"""Which CPUs the threads of an engine run on.

The kernel knows an affinity per thread.  A new thread has that of the thread that makes it; the threads of a library's
pool are made when they are first needed, and only the kernel can tell which ones they are.

The threads of an element do not share CPUs.  They wake each other hundreds of times in an inference, and a kernel that
sees no cache in common between two CPUs (virtual machines, some boards) wakes them on the waker's CPU, where they take
turns: two threads were as slow as one here.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from threading import Lock

from dynamic_perception.hardware.compute_element import ComputeElement


class Affinity:
    """Keeps the calling thread, and the threads made in `watching`, on the CPUs of a compute element."""

    def __init__(self) -> None:
        self._allowed = frozenset(os.sched_getaffinity(0))
        self._lock = Lock()  # an engine's builder finds threads while another thread moves them
        self._pool: set[int] = set()
        self._pinned: Sequence[frozenset[int]] | None = None  # where the caller and the pool are

    def enter(self, element: ComputeElement) -> None:
        """Let the calling thread and the pool run there from now on, each on its share of the CPUs."""
        self._pin_all(self.shares(element))

    def leave(self) -> None:
        """Let them run wherever this process could when the engine was made."""
        self._pin_all([self._allowed])

    @contextmanager
    def on(self, element: ComputeElement) -> Iterator[None]:
        """Inside, the calling thread runs there, and so does every thread that it makes."""
        before = os.sched_getaffinity(0)
        pin(self._cpus_of(element))
        try:
            yield
        finally:
            pin(before)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Threads of this process that are made inside belong to the pool."""
        before = _threads()
        try:
            yield
        finally:
            with self._lock:
                self._pool |= _threads() - before
                self._pinned = None

    def shares(self, element: ComputeElement) -> list[frozenset[int]]:
        """The CPUs of each of the element's threads, the caller's first: disjoint, if there are enough."""
        cpus = self._cpus_of(element)
        if len(cpus) < element.threads:
            return [cpus] * element.threads
        return [frozenset(sorted(cpus)[first :: element.threads]) for first in range(element.threads)]

    def _pin_all(self, shares: Sequence[frozenset[int]]) -> None:
        pin(shares[0])
        with self._lock:
            if not self._pool or self._pinned == shares:
                return
            self._pool &= _threads()
            for number, thread in enumerate(sorted(self._pool)):
                with suppress(ProcessLookupError):  # it has ended just now
                    os.sched_setaffinity(thread, shares[1 + number % (len(shares) - 1)] if shares[1:] else shares[0])
            self._pinned = shares

    def _cpus_of(self, element: ComputeElement) -> frozenset[int]:
        return self._allowed & frozenset(element.cpus) or self._allowed


def pin(cpus: Collection[int]) -> None:
    """Let the calling thread run on these CPUs only; the kernel is asked, since every thread has its own."""
    if os.sched_getaffinity(0) != cpus:
        os.sched_setaffinity(0, cpus)


def _threads() -> set[int]:
    """The kernel's numbers of this process's threads."""
    return set(map(int, os.listdir("/proc/self/task")))

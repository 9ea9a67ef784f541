"""What calls the callbacks of this package's processes, one at a time, in the thread that spins."""

from __future__ import annotations

import ctypes
from functools import lru_cache

from rclpy.executors import Executor, SingleThreadedExecutor


def make_executor() -> Executor:
    """The events executor where ROS has it (since Kilted), else the one that always was.

    Hearing 60 messages a second took 0.9 instead of 2.7 % of a core with it: the older one builds a new set of all that
    may happen before every wait.
    """
    try:
        from rclpy.experimental import EventsExecutor
    except ImportError:
        return SingleThreadedExecutor()
    return EventsExecutor()


class _ErrorText(ctypes.Structure):
    """`rcutils_error_string_t` of rcutils/error_handling.h."""

    _fields_ = (("text", ctypes.c_char * 1024),)


@lru_cache(maxsize=1)
def _rcutils() -> ctypes.CDLL:
    library = ctypes.CDLL("librcutils.so")  # is in this process already, since rclpy is built on it
    library.rcutils_error_is_set.restype = ctypes.c_bool
    library.rcutils_get_error_string.restype = _ErrorText
    return library


def unread_message() -> str:
    """What the middleware said of a message that this thread could not read since the last call; empty: nothing.

    rclpy drops such a message without an exception and leaves the error behind, and the next one then prints some ten
    lines about the first.  So this takes it away: to be called after every spin.
    """
    library = _rcutils()
    if not library.rcutils_error_is_set():
        return ""
    text = library.rcutils_get_error_string().text.decode(errors="replace")
    library.rcutils_reset_error()
    return text

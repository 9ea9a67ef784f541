"""Stamps of messages as numbers."""

from __future__ import annotations

from typing import Any


def seconds(stamp: Any) -> float:
    """[s] of a builtin_interfaces Time, also of one that cannot be, as before 1970: `rclpy.time.Time` refuses those."""
    return stamp.sec + 1e-9 * stamp.nanosec

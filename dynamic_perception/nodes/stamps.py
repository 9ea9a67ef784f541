"""Stamps of messages as numbers.

`rclpy.time.Time.from_msg` raises for a negative stamp, which any driver or stranger can send; nothing here ever does.
"""

from __future__ import annotations

from builtin_interfaces.msg import Time as TimeMessage


def nanoseconds(stamp: TimeMessage) -> int:
    """ROS time [ns] of a stamp; negative where its seconds are, and 0 where the sender left it out."""
    return 10**9 * stamp.sec + stamp.nanosec


def seconds(stamp: TimeMessage) -> float:
    """ROS time [s] of a stamp."""
    return 1e-9 * nanoseconds(stamp)

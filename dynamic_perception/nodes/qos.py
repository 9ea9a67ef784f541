"""Every QoS profile of the package, by what it is for."""

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy


def _profile(depth: int, reliability: ReliabilityPolicy, durability: DurabilityPolicy) -> QoSProfile:
    return QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=depth, reliability=reliability, durability=durability)


# Sensors repeat themselves: a lost reading is cheaper than a late one.
SENSOR_DATA = _profile(5, ReliabilityPolicy.BEST_EFFORT, DurabilityPolicy.VOLATILE)

# Whole frames are fragmented; best effort loses every 640x480 frame on one host (rmw_fastrtps#739).  Depth is latency.
IMAGE = _profile(1, ReliabilityPolicy.RELIABLE, DurabilityPolicy.VOLATILE)

# Every answer counts, and a reader that is busy for a moment must not lose any.
RESULTS = _profile(10, ReliabilityPolicy.RELIABLE, DurabilityPolicy.VOLATILE)

# Only the newest command counts, and a node that starts later must get it.
LATCHED_COMMAND = _profile(1, ReliabilityPolicy.RELIABLE, DurabilityPolicy.TRANSIENT_LOCAL)

# The reader's side: every command that arrives gets an answer, so none may be dropped before it is seen.
COMMAND_INPUT = _profile(10, ReliabilityPolicy.RELIABLE, DurabilityPolicy.TRANSIENT_LOCAL)

# States answer commands one by one, and a tool that starts later must see the last ones.
LATCHED_STATE = _profile(10, ReliabilityPolicy.RELIABLE, DurabilityPolicy.TRANSIENT_LOCAL)

# `ros2 topic pub` is volatile, and a volatile publisher never matches a transient local subscriber.
USER_INPUT = _profile(1, ReliabilityPolicy.RELIABLE, DurabilityPolicy.VOLATILE)

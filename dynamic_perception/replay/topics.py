"""Which topics of a bag are what: by their names without the namespace, and by their types."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dynamic_perception.installation import PACKAGE
from dynamic_perception.replay.mcap_file import Stored

# Name without namespace -> type, of all that the resource manager hears and says.
MANAGER_TOPICS: Mapping[str, str] = {
    "battery_state": "sensor_msgs/msg/BatteryState",
    "temperature": "sensor_msgs/msg/Temperature",
    "deadline": "builtin_interfaces/msg/Duration",
    "target": f"{PACKAGE}/msg/PerformanceTarget",
    "inference_report": f"{PACKAGE}/msg/InferenceReport",
    "operating_point/state": f"{PACKAGE}/msg/OperatingPointState",
    "operating_point/command": f"{PACKAGE}/msg/OperatingPointCommand",
}
IMAGE, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
TRUTH = "truth"
NO_FRAMES = (TRUTH, "segmentation", "overlay")  # images that are not the camera's


@dataclass(frozen=True)
class BagTopics:
    """The topics that a replay uses.

    Attributes:
        manager: full name -> name without namespace, as in `MANAGER_TOPICS`.
        image: full name of the frames; None: there are none.
        truth: full name of the label images of the frames; None: there are none.
    """

    manager: Mapping[str, str]
    image: str | None
    truth: str | None


def find_topics(topics: Mapping[str, Stored], namespace: str = "", image: str | None = None) -> BagTopics:
    """Find them among the topics of a bag.

    Args:
        topics: of the bag.
        namespace: of the perception node, for bags of several.
        image: the topic of the frames, where it has another name.

    Raises:
        ValueError: a topic is not there, or it is not clear which of several is meant.
    """
    prefix = "/" + namespace.strip("/") + "/" if namespace.strip("/") else "/"
    inside = {name: stored for name, stored in topics.items() if name.startswith(prefix)}
    manager = {}
    for short, msgtype in MANAGER_TOPICS.items():
        name = _only_one(short, [n for n, stored in inside.items() if _is(n, short) and stored.msgtype == msgtype])
        if name is not None:
            manager[name] = short
    return BagTopics(
        manager,
        _find_image(topics, inside, image),
        _only_one(TRUTH, [n for n, stored in inside.items() if _is(n, TRUTH) and stored.msgtype == IMAGE]),
    )


def _find_image(topics: Mapping[str, Stored], inside: Mapping[str, Stored], asked: str | None) -> str | None:
    if asked is not None:
        if asked not in topics or topics[asked].msgtype not in (IMAGE, COMPRESSED):
            images = [name for name, stored in topics.items() if stored.msgtype in (IMAGE, COMPRESSED)]
            raise ValueError(
                f"image topic is '{asked}': expected one of the bag's, {', '.join(images) or 'which has none'}"
            )
        return asked
    frames = [
        name
        for name, stored in inside.items()
        if stored.msgtype in (IMAGE, COMPRESSED) and not any(_is(name, other) for other in NO_FRAMES)
    ]
    raw, compressed = ([name for name in frames if _is(name, short)] for short in ("image", "image/compressed"))
    return _only_one("image", raw or compressed or frames, "--image-topic or --namespace")


def _is(name: str, short: str) -> bool:
    return name == f"/{short}" or name.endswith(f"/{short}")


def _only_one(what: str, names: list[str], remedy: str = "--namespace") -> str | None:
    if len(names) > 1:
        raise ValueError(f"the bag has several topics that may be '{what}': {', '.join(names)}; choose with {remedy}")
    return names[0] if names else None

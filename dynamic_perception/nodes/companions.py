"""Other nodes that do the same job on the same topics, and nodes that were given another network than their partner.

Two managers on one namespace command by turns; two perception nodes answer each command twice and share no clocks.
Both work after a fashion, and nobody knows why the robot flaps.  So every node looks at the ROS graph, twice a second,
for others that publish what it should be alone with, and compares the network that its partner names in its messages
with its own.  What is found is an ERROR in the diagnostics of all nodes concerned.  They go on meanwhile: the newest
command counts, but one for another network is rejected.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping

from dynamic_perception.nodes.managed_node import ManagedNode

LOOK_PERIOD = 0.5  # [s] a look at the graph takes a tenth of a millisecond
FORGOTTEN_AFTER = 2.5  # [s] commands and states are repeated every second


class Companions:
    """Watches the graph while it is not destroyed.

    Args:
        node: that watches.
        topics: by the topics that should have one publisher, what their publishers are, in the plural, for people.
    """

    def __init__(self, node: ManagedNode, topics: Mapping[str, str]):
        self._node = node
        self._topics = dict(topics)
        self._rivals: dict[str, str] = {}
        self._timer = node.create_timer(LOOK_PERIOD, self._look, clock=node.steady_clock)

    def destroy(self) -> None:
        """Look no more."""
        self._node.destroy_timer(self._timer)

    @property
    def fault(self) -> str:
        """What is wrong, in a sentence for each topic; empty: nothing is."""
        return "; ".join(self._rivals.values())

    def _look(self) -> None:
        found = {topic: text for topic, what in self._topics.items() if (text := self._rivalry(topic, what))}
        for topic, text in found.items():
            if self._rivals.get(topic) != text:
                self._node.report_fault("companions", text)
        self._rivals = found

    def _rivalry(self, topic: str, what: str) -> str:
        publishers = self._node.get_publishers_info_by_topic(topic)
        if len(publishers) < 2:
            return ""
        names = sorted(f"{info.node_namespace.rstrip('/')}/{info.node_name}" for info in publishers)
        place = self._node.resolve_topic_name(topic)
        return f"{len(names)} {what} publish '{place}': {', '.join(names)}: stop all but one, or give them namespaces"


def network_name(model: str, weights_sha256: str) -> str:
    """A network for people and for comparing: its bundle's name and the beginning of its weights' digest."""
    return f"{model} ({weights_sha256[:8]})" if weights_sha256 else model


def differs(model: str, weights_sha256: str, own_model: str, own_weights_sha256: str) -> bool:
    """Whether a message is about another network; one of a sender that names none is not."""
    if weights_sha256 and own_weights_sha256:
        return weights_sha256 != own_weights_sha256
    return bool(model) and model != own_model


class PartnersNetwork:
    """The network that the partner's messages name, compared with the node's own.

    Args:
        model, weights_sha256: the node's own.
        sentence: makes a sentence of the partner's network and the own one.
    """

    def __init__(self, model: str, weights_sha256: str, sentence: Callable[[str, str], str]):
        self._own = model, weights_sha256
        self._sentence = sentence
        self._other, self._heard_at = "", -math.inf

    @property
    def fault(self) -> str:
        """What differs, for people; empty: nothing does, or nobody has named another network for FORGOTTEN_AFTER."""
        return self._other if time.monotonic() - self._heard_at < FORGOTTEN_AFTER else ""

    def heard(self, model: str, weights_sha256: str) -> bool:
        """Take what a message names; True if it is the node's own network, or none is named."""
        other = differs(model, weights_sha256, *self._own)
        if other:
            self._other = self._sentence(network_name(model, weights_sha256), network_name(*self._own))
            self._heard_at = time.monotonic()
        return not other

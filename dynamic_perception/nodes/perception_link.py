"""What the resource manager has with one perception node: its table, its topics, and the command that it was sent.

A command is repeated every second, under its number, until a newer one replaces it.  The perception node answers each
with a state that carries the number; one that stays away is reported.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from builtin_interfaces.msg import Duration as DurationMessage

from dynamic_perception.management.manager import Decision
from dynamic_perception.management.operating_points import OperatingPoint as TablePoint
from dynamic_perception.management.operating_points import OperatingPointTable
from dynamic_perception.msg import (
    InferenceReport,
    OperatingPoint,
    OperatingPointCommand,
    OperatingPointState,
    PerformanceTarget,
)
from dynamic_perception.networks.bundle import ModelBundle
from dynamic_perception.nodes import qos
from dynamic_perception.nodes.companions import Companions, PartnersNetwork
from dynamic_perception.nodes.managed_node import ManagedNode
from dynamic_perception.nodes.manager_inputs import Answers, label

ANSWER_TIMEOUT = 2.0  # [s] for the perception node to answer a command


class PerceptionLink:
    """One perception node, seen from the resource manager.

    Args:
        node: the resource manager's.
        name: the application's name, and the namespace of its topics below the node's own; "": the node's own.
        table: the operating points of its network on this machine.
        bundle: its network, as this manager knows it.

    Attributes:
        decision: the newest; None: none since activation.
        answers: which command is in force, and what the perception node says of it.
        asked_for: what the user asked for last, and that still holds: the messages by their topics.
    """

    def __init__(self, node: ManagedNode, name: str, table: OperatingPointTable, bundle: ModelBundle):
        self.name = name
        self.table = table
        self._bundle = bundle
        self.partner = PartnersNetwork(
            bundle.name,
            bundle.weights_sha256,
            lambda theirs, own: f"{label(name, 'perception')} runs {theirs}, this manager decides over {own}",
        )
        self._node = node
        self._prefix = f"{name}/" if name else ""
        self._commands = node.create_publisher(
            OperatingPointCommand, f"{self._prefix}operating_point/command", qos.LATCHED_COMMAND
        )
        self._companions = Companions(
            node,
            {
                f"{self._prefix}operating_point/command": "managers",
                f"{self._prefix}operating_point/state": "perception nodes",
            },
        )
        self._subscriptions: list[Any] = []
        self.start()

    def start(self) -> None:
        """Forget what was before activation."""
        self.decision: Decision | None = None
        self.asked_for: dict[str, DurationMessage | PerformanceTarget] = {}
        self.answers = Answers()
        self.sequence, self._sent_at = 0, -math.inf

    def subscribe(self, on_deadline: Callable, on_target: Callable, on_report: Callable, on_state: Callable) -> None:
        """Hear of this network; every callback gets the link and the message."""
        for kind, topic, callback, profile in (
            (DurationMessage, "deadline", on_deadline, qos.USER_INPUT),
            (PerformanceTarget, "target", on_target, qos.USER_INPUT),
            (InferenceReport, "inference_report", on_report, qos.RESULTS),
            (OperatingPointState, "operating_point/state", on_state, qos.LATCHED_STATE),
        ):
            self._subscriptions.append(
                self._node.create_subscription(
                    kind, f"{self._prefix}{topic}", lambda message, call=callback: call(self, message), profile
                )
            )

    def unsubscribe(self) -> None:
        """Undo `subscribe`."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions = []

    def destroy(self) -> None:
        """Undo the rest."""
        self.unsubscribe()
        self._companions.destroy()
        self._node.destroy_publisher(self._commands)

    @property
    def fault(self) -> str:
        """What is wrong between this manager and that perception node, for people; empty: nothing."""
        return "; ".join(filter(None, [self.partner.fault, self._companions.fault]))

    def label(self, kind: str) -> str:
        """`kind` of fault or value, with the name of the network where there are several."""
        return label(self.name, kind)

    def decided(self, decision: Decision, anew: bool = False) -> None:
        """Send a command if the decision is a new one.

        `anew`: it is the first one after /clock was heard for the first time: new only if the point is another one.
        """
        self.decision = decision
        command = self.answers.command
        same = anew and command is not None and _is_of(command.operating_point, decision.point)
        if command is None or (decision.changed and not same):
            self._send()

    def _send(self) -> None:
        decision = self.decision
        self.sequence += 1
        command = OperatingPointCommand(
            sequence=self.sequence,
            operating_point=_to_message(decision),
            reason=int(decision.reason),
            feasible=decision.feasible,
            detail=decision.detail,
            model=self._bundle.name,
            weights_sha256=self._bundle.weights_sha256,
        )
        command.header.stamp = self._node.get_clock().now().to_msg()
        self._sent_at = self._steady()
        self.answers.expect(command)
        self._commands.publish(command)
        self._node.get_logger().info(f"{self.label('command')} {self.sequence}: {decision.point}: {decision.detail}")

    def repeat(self) -> None:
        """Send the command again, and report it if it has no answer."""
        command = self.answers.command
        if command is None:
            return
        if self.answers.newest is None and self._steady() - self._sent_at > ANSWER_TIMEOUT:
            topic = self._node.resolve_topic_name(f"{self._prefix}operating_point/state")
            self._node.report_fault(
                self.label("no answer"),
                f"command {self.sequence} has no answer on '{topic}': is the perception node active?",
            )
        if self.decision.feasible != command.feasible:
            # The point stays, but what is said about it does not; at a limit's edge that may change every frame.
            self._send()
        else:
            self._commands.publish(command)

    def _steady(self) -> float:
        return 1e-9 * self._node.steady_clock.now().nanoseconds


def _is_of(commanded: OperatingPoint, point: TablePoint) -> bool:
    """Whether a commanded point is this one of the table."""
    return (commanded.subnetwork, commanded.compute_element) == (point.subnetwork, point.compute_element) and all(
        got == expected or (math.isnan(got) and math.isnan(expected))
        for got, expected in (
            (commanded.cpu_frequency, point.cpu_frequency),
            (commanded.gpu_frequency, point.gpu_frequency),
        )
    )


def _to_message(decision: Decision) -> OperatingPoint:
    point: TablePoint = decision.point
    return OperatingPoint(
        subnetwork=point.subnetwork,
        compute_element=point.compute_element,
        cpu_frequency=point.cpu_frequency,
        gpu_frequency=point.gpu_frequency,
        expected_latency=decision.expected_latency,
        expected_power=decision.expected_power,
        expected_energy=decision.expected_energy,
        expected_accuracy=decision.expected_accuracy,
    )

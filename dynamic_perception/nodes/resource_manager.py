"""The resource-manager node: battery, heat, deadline, target and reports in, operating-point commands out.

The way of a decision: every input goes to `ResourceManager` (in `management`, which knows no ROS) -> `_decide` ->
`operating_point/command`, repeated every second -> the perception node's `operating_point/state` -> `_on_state`.
"""

from __future__ import annotations

import math
from typing import Any, Callable

from builtin_interfaces.msg import Duration as DurationMessage
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.parameter import Parameter
from sensor_msgs.msg import BatteryState, Temperature

from dynamic_perception.management.manager import Decision, ResourceManager
from dynamic_perception.management.operating_points import OperatingPoint as TablePoint
from dynamic_perception.msg import (
    InferenceReport,
    OperatingPoint,
    OperatingPointCommand,
    OperatingPointState,
    PerformanceTarget,
)
from dynamic_perception.nodes import qos
from dynamic_perception.nodes.managed_node import ManagedNode, run
from dynamic_perception.nodes.manager_inputs import (
    TARGET_PARAMETERS,
    Answers,
    give_battery,
    give_deadline,
    give_report,
    give_target,
    give_temperature,
    read_profile,
    read_settings,
    read_target,
    zone_of,
)

COMMAND_PERIOD = 1.0  # [s] a command is repeated so often, for nodes that start later and as a sign of life
DECISION_PERIOD = 0.2  # [s] decisions also happen without input, because inputs become stale and dwells end
ANSWER_TIMEOUT = 2.0  # [s] for the perception node to answer a command
REJECTED_FOR = 30.0  # [s] a rejected point is not offered again for so long


class ResourceManagerNode(ManagedNode):
    """Decides which operating point the perception node runs, and tells it."""

    def __init__(self) -> None:
        super().__init__("resource_manager")
        self._manager: ResourceManager | None = None
        self._entities: list[Any] = []
        self._timers_active: list[Any] = []

    # Lifecycle -------------------------------------------------------------------------------------------------

    def configure(self) -> None:
        bundle, path, self._table = read_profile(self.value("model"), self.value("profile"))
        self._settings = read_settings(self.value, float(self._table.power.max()))
        ResourceManager(self._table, self._settings)  # refuses settings that do not fit the table, before activation
        self._commands = self.create_publisher(OperatingPointCommand, "operating_point/command", qos.LATCHED_COMMAND)
        self._manager = None
        self.get_logger().info(f"{len(self._table)} operating points of {bundle.name} from {path}")

    def activate(self) -> None:
        self._manager = ResourceManager(self._table, self._settings)
        self._manager.set_target(self._now(), read_target(self.value))
        self._decision: Decision | None = None
        self._command: OperatingPointCommand | None = None
        self._sequence, self._sent_at, self._answers = 0, -math.inf, Answers()
        self._entities = [
            self.create_subscription(BatteryState, "battery_state", self._on_battery, qos.SENSOR_DATA),
            self.create_subscription(Temperature, "temperature", self._on_temperature, qos.SENSOR_DATA),
            self.create_subscription(DurationMessage, "deadline", self._on_deadline, qos.USER_INPUT),
            self.create_subscription(PerformanceTarget, "target", self._on_target, qos.USER_INPUT),
            self.create_subscription(InferenceReport, "inference_report", self._on_report, qos.RESULTS),
            self.create_subscription(OperatingPointState, "operating_point/state", self._on_state, qos.LATCHED_STATE),
        ]
        self._timers_active = [
            self.create_timer(DECISION_PERIOD, self._decide, clock=self.steady_clock),
            self.create_timer(COMMAND_PERIOD, self._repeat_command, clock=self.steady_clock),
        ]
        self._decide()

    def deactivate(self) -> None:
        for timer in self._timers_active:
            self.destroy_timer(timer)
        for subscription in self._entities:
            self.destroy_subscription(subscription)
        self._timers_active, self._entities, self._manager = [], [], None

    def cleanup(self) -> None:
        if getattr(self, "_commands", None) is not None:
            self.destroy_publisher(self._commands)
            self._commands = None

    def parameters_changed(self, parameters: list[Parameter]) -> None:
        if self._manager is not None and any(p.name in TARGET_PARAMETERS for p in parameters):
            self._manager.set_target(self._now(), read_target(self.value))
            self._decide()

    # Inputs ------------------------------------------------------------------------------------------------------

    def _now(self) -> float:
        """Time [s] that decisions count in: the ROS clock, which a bag brings along when it is played."""
        return 1e-9 * self.get_clock().now().nanoseconds

    def _on_battery(self, message: BatteryState) -> None:
        self._take("battery_state", give_battery, message)

    def _on_temperature(self, message: Temperature) -> None:
        self._take(f"temperature {zone_of(message)}", give_temperature, message)

    def _on_deadline(self, message: DurationMessage) -> None:
        self._take("deadline", give_deadline, message)

    def _on_target(self, message: PerformanceTarget) -> None:
        self._take("target", give_target, message)

    def _on_report(self, message: InferenceReport) -> None:
        self._take("inference_report", give_report, message)

    def _take(self, name: str, give: Callable[..., str], message: Any) -> None:
        """Give an input to the manager; a wrong one is refused, counted, and changes nothing."""
        fault = give(self._manager, self._now(), message)
        if fault:
            self.report_fault(name, fault)
        self._decide()

    # Decisions ---------------------------------------------------------------------------------------------------

    def _decide(self) -> None:
        self._decision = self._manager.decide(self._now())
        if self._command is None or self._decision.changed:
            self._send_command()

    def _send_command(self) -> None:
        decision = self._decision
        self._sequence += 1
        self._command = OperatingPointCommand(
            sequence=self._sequence,
            operating_point=_to_message(decision),
            reason=int(decision.reason),
            feasible=decision.feasible,
            detail=decision.detail,
        )
        self._command.header.stamp = self.get_clock().now().to_msg()
        self._sent_at = self._steady()
        self._answers.expect(self._command)
        self._commands.publish(self._command)
        self.get_logger().info(f"command {self._sequence}: {decision.point}: {decision.detail}")

    def _repeat_command(self) -> None:
        if self._answers.newest is None and self._steady() - self._sent_at > ANSWER_TIMEOUT:
            self.report_fault(
                "no answer",
                f"command {self._sequence} has no answer on "
                f"'{self.resolve_topic_name('operating_point/state')}': is the perception node active?",
            )
        if self._decision.feasible != self._command.feasible:
            # The point stays, but what is said about it does not; at the edge of a limit that may come and go every frame.
            self._send_command()
        else:
            self._commands.publish(self._command)

    def _on_state(self, message: OperatingPointState) -> None:
        if not self._answers.is_news(message):
            return
        if message.result == OperatingPointState.RESULT_REJECTED:
            self.report_fault("rejected", f"command {message.sequence} was rejected: {message.message}")
            self._manager.reject(self._now(), self._decision.index, REJECTED_FOR)
            self._decide()
        elif message.result == OperatingPointState.RESULT_PARTIAL:
            self.report_fault("partial", f"command {message.sequence} took effect in part: {message.message}")

    def _steady(self) -> float:
        return 1e-9 * self.steady_clock.now().nanoseconds

    def diagnose(self) -> tuple[bytes, str, dict[str, Any]]:
        status = self._manager.status(self._now())
        values = {
            "operating point": self._decision.point,
            "feasible": self._decision.feasible,
            "detail": self._decision.detail,
            "sequence": self._sequence,
            "caps": "; ".join(cap.text for cap in status["caps"]) or "none",
            **{
                f"slow-down {element}": f"{mean:.2f} +- {deviation:.2f}"
                for element, (mean, deviation) in status["slow_down"].items()
            },
            "overhead [ms]": "{:.2f} +- {:.2f}".format(*(1e3 * value for value in status["overhead"])),
        }
        stale = ", ".join(f"{name} (for {since:.0f} s)" for name, since in status["stale"].items())
        if stale:
            return DiagnosticStatus.WARN, f"not heard of any more: {stale}", {**values, "stale": stale}
        level = DiagnosticStatus.OK if self._decision.feasible else DiagnosticStatus.WARN
        return level, self._decision.detail, values


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


def main() -> None:
    """Run the node until it is stopped."""
    run(ResourceManagerNode)

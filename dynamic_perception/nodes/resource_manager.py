"""The resource-manager node: battery, heat, deadline, target and reports in, operating-point commands out.

The way of a decision: every input goes to `ResourceManager` (in `management`, which knows no ROS) -> `_decide` ->
`operating_point/command`, repeated every second -> the perception node's `operating_point/state` -> `_on_state`.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from builtin_interfaces.msg import Duration as DurationMessage
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.parameter import Parameter
from rclpy.time import Time
from sensor_msgs.msg import BatteryState, Temperature

from dynamic_perception.hardware.compute_element import platform_fingerprint
from dynamic_perception.management.budgets import COLDEST, HOTTEST, BatteryThreshold, ThermalZone
from dynamic_perception.management.manager import Decision, ResourceManager
from dynamic_perception.management.operating_points import OperatingPoint as TablePoint
from dynamic_perception.management.settings import STALE_POLICIES, ManagerSettings
from dynamic_perception.management.target import Objective, Target
from dynamic_perception.msg import (
    InferenceReport,
    OperatingPoint,
    OperatingPointCommand,
    OperatingPointState,
    PerformanceTarget,
)
from dynamic_perception.networks.bundle import ModelBundle, find_bundle, read_bundle
from dynamic_perception.nodes import qos
from dynamic_perception.nodes.managed_node import ManagedNode, run
from dynamic_perception.profiling.table_choice import check_table, find_table
from dynamic_perception.profiling.table_file import read_table

COMMAND_PERIOD = 1.0  # [s] a command is repeated so often, for nodes that start later and as a sign of life
DECISION_PERIOD = 0.2  # [s] decisions also happen without input, because inputs become stale and dwells end
ANSWER_TIMEOUT = 2.0  # [s] for the perception node to answer a command
REJECTED_FOR = 30.0  # [s] a rejected point is not offered again for so long
TARGET_PARAMETERS = ("max_latency", "max_energy", "max_power", "min_accuracy", "objective")


class ResourceManagerNode(ManagedNode):
    """Decides which operating point the perception node runs, and tells it."""

    def __init__(self) -> None:
        super().__init__("resource_manager")
        self._manager: ResourceManager | None = None
        self._entities: list[Any] = []
        self._timers_active: list[Any] = []

    # Lifecycle -------------------------------------------------------------------------------------------------

    def configure(self) -> None:
        bundle = read_bundle(find_bundle(self.value("model")))
        path = self._table_path(bundle)
        file = read_table(path)
        forced = check_table(path, file, bundle, platform_fingerprint(), self.value("force_profile"))
        for difference in forced:
            self.get_logger().warning(f"{path} {difference}: taken because of force_profile")
        self._table = file.table
        self._settings = self._read_settings()
        ResourceManager(self._table, self._settings)  # refuses settings that do not fit the table, before activation
        self._commands = self.create_publisher(OperatingPointCommand, "operating_point/command", qos.LATCHED_COMMAND)
        self._manager = None
        self.get_logger().info(f"{len(self._table)} operating points of {bundle.name} from {path}")

    def activate(self) -> None:
        self._manager = ResourceManager(self._table, self._settings)
        self._manager.set_target(self._now(), self._target_from_parameters())
        self._decision: Decision | None = None
        self._command: OperatingPointCommand | None = None
        self._sequence, self._sent_at, self._answer = 0, -math.inf, None
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

    def _table_path(self, bundle: ModelBundle) -> Path:
        if not self.value("profile"):
            return find_table(bundle, platform_fingerprint())
        path = Path(self.value("profile")).expanduser()
        if not path.exists():
            raise ValueError(
                f"no operating-point table at {path}: "
                f"measure it with `dynamic-perception profile {self.value('model')}`"
            )
        return path

    def _read_settings(self) -> ManagerSettings:
        thresholds, caps = self.value("battery_thresholds"), self.value("battery_power_caps")
        if len(thresholds) != len(caps):
            raise ValueError(
                f"battery_power_caps has {len(caps)} entries: expected one per battery_thresholds, {len(thresholds)}"
            )
        sustainable = self.value("sustainable_power") or 0.5 * float(self._table.power.max())
        zone = ThermalZone(
            name="*",
            sustainable_power=sustainable,
            switch_on=self.value("thermal_switch_on_temperature"),
            control=self.value("thermal_control_temperature"),
            critical=self.value("thermal_critical_temperature"),
        )
        fallback = self.value("fallback_subnetwork"), self.value("fallback_element")
        return ManagerSettings(
            deadline_probability=self.value("deadline_probability"),
            dwell=self.value("dwell"),
            fallback=fallback if all(fallback) else None,
            battery=tuple(BatteryThreshold(below, max_power_fraction=cap) for below, cap in zip(thresholds, caps)),
            thermal=(zone,),
            **{f"{name}_timeout": self.value(f"{name}_timeout") or math.inf for name in STALE_POLICIES},
            **{f"{name}_stale_policy": self.value(f"{name}_stale_policy") for name in STALE_POLICIES},
        )

    def _target_from_parameters(self, changed: dict[str, Any] | None = None) -> Target:
        values = {name: self.value(name) for name in TARGET_PARAMETERS} | (changed or {})
        return _make_target(
            values["max_latency"],
            values["max_energy"],
            values["max_power"],
            values["min_accuracy"],
            Objective[values["objective"].upper()],
        )

    def parameters_changed(self, parameters: list[Parameter]) -> None:
        if self._manager is not None and any(p.name in TARGET_PARAMETERS for p in parameters):
            self._manager.set_target(self._now(), self._target_from_parameters())
            self._decide()

    # Inputs ------------------------------------------------------------------------------------------------------

    def _now(self) -> float:
        """Time [s] that decisions count in: the ROS clock, which a bag brings along when it is played."""
        return 1e-9 * self.get_clock().now().nanoseconds

    def _on_battery(self, message: BatteryState) -> None:
        if message.present and not 0 <= message.percentage <= 1:
            self.report_fault(
                "battery_state",
                f"battery_state.percentage is {message.percentage:g}: expected 0 to 1; "
                "the state of charge counts as unknown",
            )
        self._manager.observe_battery(self._now(), message.percentage, message.present)
        self._decide()

    def _on_temperature(self, message: Temperature) -> None:
        zone = message.header.frame_id or "unnamed"
        if not self._manager.observe_temperature(self._now(), zone, message.temperature):
            self.report_fault(
                f"temperature {zone}",
                f"temperature of zone '{zone}' is {message.temperature:g} C: expected "
                f"{COLDEST:g} to {HOTTEST:g} C, and not exactly 0; the reading is not used",
            )
        self._decide()

    def _on_deadline(self, message: DurationMessage) -> None:
        self._take(
            "deadline", lambda: self._manager.set_deadline(self._now(), _limit(message.sec + 1e-9 * message.nanosec))
        )

    def _on_target(self, message: PerformanceTarget) -> None:
        def take() -> None:
            self._manager.set_target(
                self._now(),
                _make_target(
                    message.max_latency, message.max_energy, message.max_power, message.min_accuracy, message.objective
                ),
            )
            self._manager.set_deadline(self._now(), math.nan)  # the newest word on the deadline is the target's

        self._take("target", take)

    def _on_report(self, message: InferenceReport) -> None:
        overhead = message.end_to_end_duration - message.inference_duration
        self._take(
            "inference_report",
            lambda: self._manager.observe_report(
                self._now(), message.subnetwork, message.compute_element, message.inference_duration, max(0.0, overhead)
            ),
        )

    def _take(self, name: str, give: Any) -> None:
        """Give an input to the manager; a wrong one is refused, counted, and changes nothing."""
        try:
            give()
        except ValueError as error:
            self.report_fault(name, f"{name} refused: {error}")
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
        self._sent_at, self._answer = self._steady(), None
        self._commands.publish(self._command)
        self.get_logger().info(f"command {self._sequence}: {decision.point}: {decision.detail}")

    def _repeat_command(self) -> None:
        if self._answer is None and self._steady() - self._sent_at > ANSWER_TIMEOUT:
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
        # A latched state may answer the same number of a manager that ran before this one.
        if message.sequence != self._sequence or Time.from_msg(message.header.stamp) < Time.from_msg(
            self._command.header.stamp
        ):
            return
        before, self._answer = self._answer, message
        if before is not None and before.result == message.result:
            return  # repeated; another result is news: a point that was applied may fail later
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


def _limit(value: float) -> float:
    """Messages say "none" as NaN or, from `ros2 topic pub` with fields left out, as 0."""
    return math.nan if value == 0 else value


def _make_target(
    max_latency: float, max_energy: float, max_power: float, min_accuracy: float, objective: int
) -> Target:
    return Target(
        _limit(max_latency), _limit(max_energy), _limit(max_power), _limit(min_accuracy), Objective(objective)
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


def main() -> None:
    """Run the node until it is stopped."""
    run(ResourceManagerNode)

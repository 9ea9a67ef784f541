"""The resource-manager node: battery, heat, deadlines, targets and reports in, operating-point commands out.

The way of a decision: every input goes to `JointManager` (in `management`, which knows no ROS) -> `_decide` -> a
command to each network whose point changes, repeated every second -> the perception node's `operating_point/state` ->
`_on_state`.  One network is the ordinary case; with `namespaces`, several share the machine and its budgets.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from builtin_interfaces.msg import Duration as DurationMessage
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.parameter import Parameter
from sensor_msgs.msg import BatteryState, Temperature

from dynamic_perception.management.joint import JointManager
from dynamic_perception.management.operating_points import OperatingPointTable
from dynamic_perception.management.strangers import clipped, listed
from dynamic_perception.msg import InferenceReport, OperatingPointState, PerformanceTarget
from dynamic_perception.networks.bundle import ModelBundle
from dynamic_perception.nodes import qos
from dynamic_perception.nodes.decision_clock import DecisionClock
from dynamic_perception.nodes.managed_node import ManagedNode, run
from dynamic_perception.nodes.manager_inputs import (
    TARGET_PARAMETERS,
    give_battery,
    give_deadline,
    give_report,
    give_state,
    give_target,
    give_temperature,
    label,
    make_manager,
    of_network,
    read_profile,
    read_target,
    refusal,
    zone_of,
)
from dynamic_perception.nodes.parameters import ParameterSpec
from dynamic_perception.nodes.perception_link import PerceptionLink

COMMAND_PERIOD = 1.0  # [s] a command is repeated so often, for nodes that start later and as a sign of life
DECISION_PERIOD = 0.2  # [s] decisions also happen without input, because inputs become stale and dwells end
REJECTED_FOR = 30.0  # [s] a rejected point is not offered again for so long
NAMESPACE = re.compile(r"[A-Za-z_]\w*(/[A-Za-z_]\w*)*")
OF_A_NETWORK = ("model", "profile", "weight", "fallback_subnetwork", "fallback_element", *TARGET_PARAMETERS)


class ResourceManagerNode(ManagedNode):
    """Decides which operating points the perception nodes run, and tells them."""

    def __init__(self) -> None:
        super().__init__("resource_manager")
        self._manager: JointManager | None = None
        self._decision_clock = DecisionClock(self.get_clock(), self.steady_clock, self._on_clock_step)
        self._links: dict[str, PerceptionLink] = {}
        self._entities: list[Any] = []
        self._timers_active: list[Any] = []

    def further_parameters(self) -> list[ParameterSpec]:
        """For each of several namespaces its own "<namespace>.<parameter>"; what is not set is as for all."""
        names = self._networks()
        unusable = [name for name in names if not NAMESPACE.fullmatch(name)]
        if names != [""] and (unusable or len(set(names)) < len(names)):
            raise ValueError(
                f"parameter 'namespaces' is {names}: expected different relative namespaces, or one empty text"
            )
        return [
            replace(self.spec(parameter), name=f"{name}.{parameter}", default=self.value(parameter))
            for name in names
            if name
            for parameter in OF_A_NETWORK
        ]

    def _networks(self) -> list[str]:
        return self.value("namespaces") or [""]

    # Lifecycle -------------------------------------------------------------------------------------------------

    def configure(self) -> None:
        for name in self._networks():
            self._links[name] = PerceptionLink(self, name, *self._read_table(name))
        self._make_manager()  # whatever does not fit together is refused before activation

    def _read_table(self, network: str) -> tuple[OperatingPointTable, ModelBundle]:
        bundle, path, table, forced = read_profile(self.value, network)
        for difference in forced:
            self.get_logger().warning(f"{path} {difference}: taken because of force_profile")
        self.get_logger().info(f"{len(table)} operating points of {bundle.name} from {path}")
        return table, bundle

    def _make_manager(self) -> JointManager:
        return make_manager(self._now(), self.value, {name: link.table for name, link in self._links.items()})

    def activate(self) -> None:
        self._manager = self._make_manager()
        for link in self._links.values():
            link.start()
            link.subscribe(self._on_deadline, self._on_target, self._on_report, self._on_state)
        self._entities = [
            self.create_subscription(BatteryState, "battery_state", self._on_battery, qos.SENSOR_DATA),
            self.create_subscription(Temperature, "temperature", self._on_temperature, qos.SENSOR_DATA),
        ]
        self._timers_active = [
            self.create_timer(DECISION_PERIOD, self._decide, clock=self.steady_clock),
            self.create_timer(COMMAND_PERIOD, self._repeat_commands, clock=self.steady_clock),
        ]
        self._decide()

    def deactivate(self) -> None:
        for timer in self._timers_active:
            self.destroy_timer(timer)
        for subscription in self._entities:
            self.destroy_subscription(subscription)
        for link in self._links.values():
            link.unsubscribe()
        self._timers_active, self._entities, self._manager = [], [], None

    def cleanup(self) -> None:
        for link in self._links.values():
            link.destroy()
        self._links = {}

    def parameters_changed(self, parameters: list[Parameter]) -> None:
        if self._manager is None:
            return
        changed = {parameter.name for parameter in parameters}
        for name in self._links:
            prefix = f"{name}." if name else ""
            if changed & {f"{prefix}{parameter}" for parameter in TARGET_PARAMETERS}:
                fault = refusal(label(name, "target"), lambda name=name: self._retarget(name))
                if not fault:
                    self._links[name].asked_for.pop("target", None)
                self._heard(label(name, "target"), fault)
        fault = ""
        if "mission_duration" in changed:
            seconds = self.value("mission_duration")
            fault = refusal("mission_duration", lambda: self._manager.set_mission(self._now(), seconds))
        self._heard("mission_duration", fault)

    def _retarget(self, network: str) -> None:
        """Let the target of the parameters stand; ValueError if it makes no sense."""
        self._manager.set_target(self._now(), network, read_target(of_network(self.value, network)))

    # Inputs ------------------------------------------------------------------------------------------------------

    def _now(self) -> float:
        """Time [s] that decisions count in."""
        return self._decision_clock.seconds

    def _on_clock_step(self, what: str) -> None:
        """Start anew, since what was measured before the step means nothing; what users asked for stays in force."""
        if self._manager is None:
            return
        self._manager = self._make_manager()
        for link in self._links.values():
            for name, give in (("target", self._give_target), ("deadline", self._give_deadline)):
                if name in link.asked_for:
                    give(link, link.asked_for[name])
        if what:
            self.report_fault("clock step", f"{what}: what was believed of the machine is forgotten, and learnt anew")
        self._decide(anew=not what)

    def _on_battery(self, message: BatteryState) -> None:
        self._heard("battery_state", give_battery(self._manager, self._now(), message))

    def _on_temperature(self, message: Temperature) -> None:
        self._heard(f"temperature {zone_of(message)}", give_temperature(self._manager, self._now(), message))

    def _on_deadline(self, link: PerceptionLink, message: DurationMessage) -> None:
        fault = self._give_deadline(link, message)
        if not fault:
            link.asked_for["deadline"] = message
        self._heard(link.label("deadline"), fault)

    def _give_deadline(self, link: PerceptionLink, message: DurationMessage) -> str:
        return give_deadline(self._manager, self._now(), link.name, message)

    def _on_target(self, link: PerceptionLink, message: PerformanceTarget) -> None:
        fault = self._give_target(link, message)
        if not fault:
            link.asked_for = {"target": message}  # a target ends the deadline that was asked for before
        self._heard(link.label("target"), fault)

    def _give_target(self, link: PerceptionLink, message: PerformanceTarget) -> str:
        min_rate = of_network(self.value, link.name)("min_rate")
        return give_target(self._manager, self._now(), link.name, message, min_rate)

    def _on_report(self, link: PerceptionLink, message: InferenceReport) -> None:
        if link.partner.fault:
            return  # its subnetworks may have the same names, and are others
        fault = give_report(self._manager, self._now(), link.name, message, link.answers)
        self._heard(link.label("inference_report"), fault)

    def _heard(self, name: str, fault: str) -> None:
        """Decide after an input; a wrong one was refused, is counted, and has changed nothing."""
        if fault:
            self.report_fault(name, fault)
        self._decide()

    # Decisions ---------------------------------------------------------------------------------------------------

    def _decide(self, anew: bool = False) -> None:
        for name, decision in self._manager.decide(self._now()).items():
            self._links[name].decided(decision, anew)

    def _repeat_commands(self) -> None:
        for link in self._links.values():
            link.repeat()

    def _on_state(self, link: PerceptionLink, message: OperatingPointState) -> None:
        if not link.partner.heard(message.model, message.weights_sha256):
            return  # a rejection by another network says nothing of these points
        if not give_state(self._manager, self._now(), link.answers, message):
            return
        if message.result == OperatingPointState.RESULT_REJECTED:
            text = f"command {message.sequence} was rejected: {clipped(message.message, 300)}"
            self.report_fault(link.label("rejected"), text)
            self._manager.reject(self._now(), link.name, link.decision.index, REJECTED_FOR)
            self._decide()
        elif message.result == OperatingPointState.RESULT_PARTIAL:
            text = f"command {message.sequence} took effect in part: {clipped(message.message, 300)}"
            self.report_fault(link.label("partial"), text)

    def diagnose(self) -> tuple[bytes, str, dict[str, Any]]:
        values: dict[str, Any] = {}
        stale: dict[str, float] = {}
        never: dict[str, float] = {}
        for name, status in self._manager.status(self._now()).items():
            values |= self._values_of(self._links[name], status)
            for key, since in status["stale"].items():
                silent = never if key in status["never heard"] else stale
                silent[self._links[name].label(key) if key == "report" else key] = since
        values["not heard so far"] = ", ".join(never) or "nothing that is expected"
        text = listed([f"{name} (for {since:.0f} s)" for name, since in stale.items()])
        faults = "; ".join(filter(None, (link.fault for link in self._links.values())))
        if faults:
            return DiagnosticStatus.ERROR, faults, values
        if self._decision_clock.fault:
            return DiagnosticStatus.WARN, self._decision_clock.fault, values
        if text:
            return DiagnosticStatus.WARN, f"not heard of any more: {text}", {**values, "stale": text}
        decisions = [(link, link.decision) for link in self._links.values()]
        level = DiagnosticStatus.OK if all(decision.feasible for _, decision in decisions) else DiagnosticStatus.WARN
        details = [f"{link.name}: {decision.detail}" if link.name else decision.detail for link, decision in decisions]
        return level, "; ".join(details), values

    @staticmethod
    def _values_of(link: PerceptionLink, status: dict[str, Any]) -> dict[str, Any]:
        values = {
            "operating point": link.decision.point,
            "feasible": link.decision.feasible,
            "detail": link.decision.detail,
            "sequence": link.sequence,
            "overhead [ms]": "{:.2f} +- {:.2f}".format(*(1e3 * value for value in status["overhead"])),
        }
        of_the_machine = {
            "caps": listed([cap.text for cap in status["caps"]], separator="; ") or "none",
            "battery": status["battery"],
            "temperatures not used": listed([f"{zone} {celsius:.1f} C" for zone, celsius in status["shown"].items()])
            or "none",
            "throttled": ", ".join(f"{name} to {hertz / 1e6:.0f} MHz" for name, hertz in status["throttled"].items())
            or "no clock",
            **{
                f"slow-down {element}": f"{mean:.2f} +- {deviation:.2f}"
                for element, (mean, deviation) in status["slow_down"].items()
            },
        }
        return {link.label(key): value for key, value in values.items()} | of_the_machine


def main() -> None:
    """Run the node until it is stopped."""
    run(ResourceManagerNode)

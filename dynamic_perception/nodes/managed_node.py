"""What every node of this package has in common: lifecycle, parameters, faults, diagnostics, start and end.

A node gives five methods.  `configure` loads and warms up, `activate` begins to take input, `deactivate` and
`cleanup` undo them, `diagnose` tells its state; each raises an exception to refuse.  rclpy swallows exceptions in
lifecycle callbacks without a word, so they are caught, logged and undone here.
"""

from __future__ import annotations

import math
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.executors import ExternalShutdownException
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.signals import SignalHandlerOptions

from dynamic_perception.management.strangers import Names, shortened
from dynamic_perception.nodes.executor import make_executor
from dynamic_perception.nodes.parameters import KNOWN_NAMES, NODE_PARAMETERS, ParameterSpec

FAULT_LOG_PERIOD = 10.0  # [s] the same fault is logged at most so often; diagnostics count every one
FAULT_SHOWN_FOR = 5.0  # [s] how long diagnostics stay at WARN after a fault
STOP_POLL_PERIOD = 0.1  # [s] how soon a signal is noticed while nothing else happens


class ManagedNode(LifecycleNode):
    """Base of the four nodes.

    Args:
        name: node name; its parameters are `NODE_PARAMETERS[name]`.
    """

    def __init__(self, name: str):
        super().__init__(name)
        self.steady_clock = Clock(clock_type=ClockType.STEADY_TIME)
        self.fault_counts: Counter[str] = Counter()
        self._fault_kinds = Names()  # what strangers send must not make diagnostics grow
        self._fault_logged_at: dict[str, float] = {}
        self._last_fault = (-math.inf, "")
        self._specs: dict[str, ParameterSpec] = {}
        self._declare(NODE_PARAMETERS[name])
        self._declare(self.further_parameters())
        self._check_start_values()
        self.add_on_set_parameters_callback(self._validate_parameters)
        self._has_post_set = hasattr(self, "add_post_set_parameters_callback")  # not on Humble
        if self._has_post_set:
            self.add_post_set_parameters_callback(self.parameters_changed)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self.create_timer(1.0, self._publish_diagnostics, clock=self.steady_clock)

    # What a node gives -----------------------------------------------------------------------------------------

    def configure(self) -> None:
        """Load and warm up."""

    def activate(self) -> None:
        """Begin to take input and publish."""

    def deactivate(self) -> None:
        """Undo `activate`, also when only half of it happened.  Must not need a working ROS context."""

    def cleanup(self) -> None:
        """Undo `configure`, also when only half of it happened."""

    def diagnose(self) -> tuple[bytes, str, dict[str, Any]]:
        """Level (DiagnosticStatus.OK, WARN, ERROR), one line for people, and values to show."""
        return DiagnosticStatus.OK, "running", {}

    def further_parameters(self) -> Sequence[ParameterSpec]:
        """Parameters that there are because of the values of others."""
        return ()

    def check_parameter(self, name: str, value: Any) -> str | None:
        """Why `value` cannot be accepted for `name`, or None; must not change anything."""

    def parameters_changed(self, parameters: list[Parameter]) -> None:
        """Apply parameters that were accepted at run time."""

    # Parameters ------------------------------------------------------------------------------------------------

    def _declare(self, specs: Sequence[ParameterSpec]) -> None:
        for spec in specs:
            self._specs[spec.name] = spec
            self.declare_parameter(spec.name, spec.default, spec.descriptor())

    def spec(self, name: str) -> ParameterSpec:
        """What is known about a declared parameter."""
        return self._specs[name]

    def value(self, name: str) -> Any:
        """The value of a declared parameter."""
        value = self.get_parameter(name).value
        return list(value) if isinstance(self._specs[name].default, list) else value

    def _check_start_values(self) -> None:
        for name in sorted(set(self._parameter_overrides) - KNOWN_NAMES - set(self._specs) - {"use_sim_time"}):
            if not name.startswith("qos_overrides."):
                self.get_logger().warning(
                    f"parameter '{name}' is set but no node of this package knows it: a typing error?"
                )
        for name in self._specs:
            fault = self._fault_of(name, self.get_parameter(name).value)
            if fault:
                raise ValueError(fault)
        values = ", ".join(f"{name}={self.get_parameter(name).value!r}" for name in self._specs)
        self.get_logger().info(f"parameters: {values}")

    def _fault_of(self, name: str, value: Any) -> str | None:
        spec = self._specs.get(name)
        if spec is None:
            return None
        if isinstance(value, float) and not math.isfinite(value):
            return f"parameter '{name}' is {value}: expected a finite number"
        if spec.choices and value not in spec.choices:
            return f"parameter '{name}' is '{value}': expected one of {', '.join(spec.choices)}"
        fault = self.check_parameter(name, value)
        return f"parameter '{name}' is {value!r}: {fault}" if fault else None

    def _validate_parameters(self, parameters: list[Parameter]) -> SetParametersResult:
        faults = [fault for p in parameters if (fault := self._fault_of(p.name, p.value))]
        if not faults and not self._has_post_set and self.executor is not None:
            self.executor.create_task(self.parameters_changed, parameters)  # runs after the values are in place
        return SetParametersResult(successful=not faults, reason="; ".join(faults))

    # Faults and diagnostics ------------------------------------------------------------------------------------

    def report_fault(self, kind: str, text: str) -> None:
        """Count a fault of bad input or hardware under `kind`, show it in diagnostics, and log it, not too often."""
        kind, text, now = self._fault_kinds.of(kind), shortened(text), time.monotonic()
        self.fault_counts[kind] += 1
        self._last_fault = (now, text)
        if now - self._fault_logged_at.get(kind, -math.inf) >= FAULT_LOG_PERIOD:
            self._fault_logged_at[kind] = now
            count = self.fault_counts[kind]
            self.get_logger().warning(text if count == 1 else f"{text} ({kind}: {count} so far)")

    def _publish_diagnostics(self) -> None:
        state = self._state_machine.current_state[1]
        level, message, values = DiagnosticStatus.OK, state, {}
        if state == "active":
            level, message, values = self.diagnose()
        since, text = self._last_fault
        if level == DiagnosticStatus.OK and time.monotonic() - since < FAULT_SHOWN_FOR:
            level, message = DiagnosticStatus.WARN, text
        if text:
            values["last fault"] = text
        # A copy, because other threads count faults meanwhile.
        values = {
            "state": state,
            **values,
            **{f"faults: {kind}": count for kind, count in self.fault_counts.copy().items()},
        }
        status = DiagnosticStatus(
            level=level,
            name=self.get_fully_qualified_name().lstrip("/"),
            message=message,
            values=[KeyValue(key=key, value=str(value)) for key, value in values.items()],
        )
        array = DiagnosticArray(status=[status])
        array.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(array)

    # Lifecycle -------------------------------------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._transition("configure", self.configure, self.cleanup)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        outcome = self._transition("activate", self.activate, self.deactivate)
        if outcome == TransitionCallbackReturn.SUCCESS:
            super().on_activate(state)
        return outcome

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        super().on_deactivate(state)
        return self._transition("deactivate", self.deactivate)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._transition("cleanup", self.cleanup)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._transition("shutdown", self.release)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._transition("error handling", self.release)

    def release(self) -> None:
        """Undo everything, from any state."""
        try:
            self.deactivate()
        finally:
            self.cleanup()

    def _transition(
        self, name: str, act: Callable[[], None], undo: Callable[[], None] | None = None
    ) -> TransitionCallbackReturn:
        try:
            act()
            return TransitionCallbackReturn.SUCCESS
        except Exception as error:
            # A wrong value has a sentence that says so; anything else is a defect, and its way matters.
            expected = isinstance(error, (ValueError, OSError))
            self.get_logger().error(f"{name} failed: {error if expected else traceback.format_exc()}")
        if undo is not None:
            try:
                undo()
            except Exception:
                self.get_logger().error(f"undoing {name} failed: {traceback.format_exc()}")
        return TransitionCallbackReturn.FAILURE


def run(make_node: Callable[[], ManagedNode]) -> None:
    """Run one node until SIGINT or SIGTERM, then release what it holds and exit with code 0.

    The signals only set a flag: no callback and no clean-up is ever torn apart by an exception from nowhere, and
    the ROS context is still valid while the node undoes its work.  With `autostart`, a node that cannot start
    exits with code 1, so that whoever started it notices.
    """
    stopping = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda received, frame: stopping.append(received))
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    try:
        node = make_node()
    except Exception as error:
        refused = isinstance(error, (ValueError, rclpy.exceptions.ParameterException))
        print(f"error: {error}" if refused else traceback.format_exc(), file=sys.stderr)
        rclpy.try_shutdown()
        sys.exit(1)
    executor = make_executor()
    executor.add_node(node)
    started = True
    if node.value("autostart"):
        started = all(
            trigger() == TransitionCallbackReturn.SUCCESS
            for trigger in (node.trigger_configure, node.trigger_activate)
            if not stopping
        )
    try:
        while started and not stopping and rclpy.ok():
            executor.spin_once(timeout_sec=STOP_POLL_PERIOD)
    except ExternalShutdownException:
        pass  # the context was shut down from outside: the same end
    finally:
        node.release()
        executor.shutdown()
        node.destroy_node()
        rclpy.try_shutdown()
    sys.exit(0 if started else 1)

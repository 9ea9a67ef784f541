"""What every node of this package has in common: lifecycle, parameters, faults, diagnostics, start and end.

A node gives five methods.  `configure` loads and warms up, `activate` begins to take input, `deactivate` and
`cleanup` undo them, `diagnose` tells its state; each raises an exception to refuse.  rclpy swallows exceptions in
lifecycle callbacks without a word, so they are caught, logged and undone here.  Those of every other callback are
caught in `guarded_node`, and counted here.
"""

from __future__ import annotations

import math
import re
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.executors import Executor, ExternalShutdownException
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn
from rclpy.logging import LoggingSeverity
from rclpy.parameter import Parameter
from rclpy.signals import SignalHandlerOptions

from dynamic_perception.nodes.executor import make_executor, unread_message
from dynamic_perception.nodes.guarded_node import GuardedNode
from dynamic_perception.nodes.parameters import KNOWN_NAMES, NODE_PARAMETERS, ParameterSpec

FAULT_LOG_PERIOD = 10.0  # [s] the same fault is logged at most so often; diagnostics count every one
FAULT_SHOWN_FOR = 5.0  # [s] how long diagnostics stay at WARN after a fault
FAULT_KINDS = 64  # counted by name; what strangers send must not make diagnostics grow for ever
OTHER_FAULTS = "other"  # the kind of all those that come after
LONGEST_KIND, LONGEST_FAULT = 80, 400  # [characters] of a kind and of a text
STOP_POLL_PERIOD = 0.1  # [s] how soon a signal is noticed while nothing else happens
SOURCE_PLACE = re.compile(r",? at \S+:\d+")  # where in its source rcl found a fault, which helps nobody who runs it

# What says in its text what is wrong; anything else that keeps a node from being made is a defect.
REFUSALS = (ValueError, MemoryError, rclpy.exceptions.ParameterException, rclpy_implementation.RCLError)


class ManagedNode(GuardedNode):
    """Base of the four nodes.

    Args:
        name: node name; its parameters are `NODE_PARAMETERS[name]`.
    """

    def __init__(self, name: str):
        self.fault_counts: Counter[str] = Counter()  # before rclpy registers the first callback
        self._fault_logged_at: dict[str, float] = {}
        self._last_fault = (-math.inf, "")
        super().__init__(name)
        self.steady_clock = Clock(clock_type=ClockType.STEADY_TIME)
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
            override = self._parameter_overrides.get(spec.name)
            if override is not None:
                self._parameter_overrides[spec.name] = self._in_type(override)
            if override is not None and spec.in_type(override.value) == []:
                self._declare_empty(spec)
            else:
                self.declare_parameter(spec.name, spec.default, spec.descriptor())

    def _declare_empty(self, spec: ParameterSpec) -> None:
        """Declare a list that is empty, whose type rclpy cannot tell, so that it would refuse it."""
        writable = spec.descriptor()
        writable.read_only = False
        self.declare_parameter(spec.name, spec.default, writable, ignore_override=True)
        self.set_parameters([Parameter(spec.name, spec.type, [])])
        descriptor = spec.descriptor()
        descriptor.type = spec.type.value
        self.set_descriptor(spec.name, descriptor)

    def _in_type(self, parameter: Parameter) -> Parameter:
        """The parameter with its value in the declared type, where it is only written in another one."""
        spec = self._specs.get(parameter.name)
        value = parameter.value if spec is None else spec.in_type(parameter.value)
        return parameter if value is parameter.value else Parameter(parameter.name, spec.type, value)

    def set_parameters_atomically(self, parameter_list: list[Parameter]) -> SetParametersResult:
        """Set parameters, all or none; also what a service is asked for comes by here, in every version of rclpy."""
        return super().set_parameters_atomically([self._in_type(parameter) for parameter in parameter_list])

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
            changed = self.guarded("parameters", self.parameters_changed)
            self.executor.create_task(changed, parameters)  # runs after the values are in place
        return SetParametersResult(successful=not faults, reason="; ".join(faults))

    # Faults and diagnostics ------------------------------------------------------------------------------------

    def report_fault(self, kind: str, text: str) -> None:
        """Count a fault of bad input or hardware under `kind`, show it in diagnostics, and log it, not too often."""
        now, kind, text = time.monotonic(), _shortened(kind, LONGEST_KIND), _shortened(text, LONGEST_FAULT)
        if kind not in self.fault_counts and len(self.fault_counts) >= FAULT_KINDS:
            kind = OTHER_FAULTS
        self.fault_counts[kind] += 1
        self._last_fault = (now, text)
        if now - self._fault_logged_at.get(kind, -math.inf) >= FAULT_LOG_PERIOD:
            self._fault_logged_at[kind] = now
            count = self.fault_counts[kind]
            self.get_logger().warning(text if count == 1 else f"{text} ({kind}: {count} so far)")

    def report_exception(self, place: str, error: Exception) -> None:
        """Count an exception that nobody expected, and log it as a fault; its way is logged at level debug."""
        what = "".join(traceback.format_exception_only(error)).strip() or type(error).__name__
        self.report_fault(place, f"{place} failed and goes on: {what}{_origin(error)}")
        if self.get_logger().is_enabled_for(LoggingSeverity.DEBUG):
            self.get_logger().debug(f"{place} failed: {''.join(traceback.format_exception(error))}")

    def _publish_diagnostics(self) -> None:
        state = self._state_machine.current_state[1]
        level, message, values = DiagnosticStatus.OK, state, {}
        if state == "active":
            failed = (DiagnosticStatus.ERROR, "diagnosing failed", {})
            level, message, values = self.guarded("diagnose", self.diagnose, lambda: failed)()
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
            expected = isinstance(error, (ValueError, OSError, MemoryError, ImportError))
            text = str(error) or type(error).__name__
            self.get_logger().error(f"{name} failed: {text if expected else traceback.format_exc()}")
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
    try:
        rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    except Exception as error:  # arguments, parameter file, log folder, domain: all of them the user's
        print(f"error: ROS cannot be started: {_sentence(error)}", file=sys.stderr)
        sys.exit(1)
    try:
        node = make_node()
    except Exception as error:
        print(f"error: {_sentence(error)}" if isinstance(error, REFUSALS) else traceback.format_exc(), file=sys.stderr)
        rclpy.try_shutdown()
        sys.exit(1)
    executor = make_executor()
    executor.add_node(node)
    unread_message()  # what is left from the setup has been dealt with there
    started = True
    if node.value("autostart"):
        started = all(
            trigger() == TransitionCallbackReturn.SUCCESS
            for trigger in (node.trigger_configure, node.trigger_activate)
            if not stopping
        )
    try:
        while started and not stopping and rclpy.ok():
            _spin_once(executor, node)
            if unread := unread_message():
                text = f"a message was not read: is its sender built with another version of it? {unread}"
                node.report_fault("message not read", text)
    except ExternalShutdownException:
        pass  # the context was shut down from outside: the same end
    finally:
        node.release()
        executor.shutdown()
        node.destroy_node()
        rclpy.try_shutdown()
    sys.exit(0 if started else 1)


def _spin_once(executor: Executor, node: ManagedNode) -> None:
    """Do what there is to do; what raises beside all callbacks, such as taking a message, does not end the node."""
    try:
        executor.spin_once(timeout_sec=STOP_POLL_PERIOD)
    except ExternalShutdownException:
        raise
    except Exception as error:
        node.report_exception("executor", error)
        time.sleep(STOP_POLL_PERIOD)  # not in circles, if it happens again


def _sentence(error: Exception) -> str:
    """What an exception says, in one line."""
    if type(error).__name__ == "UnknownROSArgsError":
        return f"unknown ROS arguments {error}"
    text = " ".join(SOURCE_PLACE.sub("", str(error)).split()) or type(error).__name__
    return f"{text}; ROS_LOG_DIR names another folder" if "log directory" in text else text


def _shortened(text: str, most: int) -> str:
    """`text` as one line of no more than `most` characters, all of which can be sent and logged."""
    text = printable(text)
    return text if len(text) <= most else f"{text[: most - 3]}..."


def _origin(error: Exception) -> str:
    """Where an exception was raised, for people."""
    frames = traceback.extract_tb(error.__traceback__)
    return f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""


def printable(text: str) -> str:
    """`text` as one line: what strangers send must not forge lines of the log, nor move a terminal's cursor."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)

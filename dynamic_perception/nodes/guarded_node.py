"""A lifecycle node on which no callback can be registered that ends the process by an exception.

rclpy lets an exception of a callback out of the executor, which ends the node.  So everything that takes a callback is
overridden here, and what rclpy registers for itself (parameters, `/clock`, lifecycle services) comes by the same way.
"""

from __future__ import annotations

import copy
import functools
import inspect
import threading
import time
from collections.abc import Callable
from typing import Any

from rcl_interfaces.msg import SetParametersResult
from rclpy.client import Client
from rclpy.lifecycle import LifecycleNode

RESTART_PAUSE = 0.5  # [s] before the work of a thread begins again after an exception


class GuardedNode(LifecycleNode):
    """Every callback, and every thread that is started by `start_thread`, runs inside the same guard."""

    def __init__(self, name: str):
        super().__init__(name)
        for service in self.services:  # those of lifecycle and type descriptions, which rclpy makes without a method
            if not is_guarded(service.callback):
                service.callback = self._guarded_service(service.srv_name, service.callback)

    def report_exception(self, place: str, error: Exception) -> None:
        """Count and log an exception of the callback or thread `place`; called in any thread."""
        raise NotImplementedError

    def guarded(self, place: str, act: Callable, otherwise: Callable = lambda *_: None) -> Callable:
        """`act`, whose exceptions are reported; after one the answer is that of `otherwise`, with the same arguments.

        Raises:
            TypeError: `act` is a coroutine function: its exceptions would come after the guard.
        """
        if inspect.iscoroutinefunction(act):
            raise TypeError(f"{place}: expected a plain function as callback, not a coroutine")

        # The signature must stay: rclpy looks at it to know what the callback takes.
        @functools.wraps(act)
        def call(*arguments: Any, **named: Any) -> Any:
            try:
                return act(*arguments, **named)
            except Exception as error:
                self.report_exception(place, error)
                return otherwise(*arguments)

        call.is_guarded = True  # type: ignore[attr-defined]
        return call

    def start_thread(self, name: str, work: Callable[[], None], stopping: Callable[[], bool]) -> threading.Thread:
        """Run `work` in a thread of its own, and again after an exception, until it returns or `stopping` is true."""

        def finish() -> bool:
            work()
            return True

        def keep_working() -> None:
            complete = False
            while not complete and not stopping():
                complete = self.guarded(f"thread {name}", finish, lambda: False)()
                if not complete:
                    time.sleep(RESTART_PAUSE)

        thread = threading.Thread(target=keep_working, name=name)
        thread.start()
        return thread

    # Everything that takes a callback ----------------------------------------------------------------------------

    def create_subscription(self, msg_type: type, topic: str, callback: Callable, *arguments: Any, **named: Any) -> Any:
        callback = self.guarded(f"subscription {topic}", callback)
        return super().create_subscription(msg_type, topic, callback, *arguments, **self._guarded_events(topic, named))

    def create_publisher(self, msg_type: type, topic: str, *arguments: Any, **named: Any) -> Any:
        return super().create_publisher(msg_type, topic, *arguments, **self._guarded_events(topic, named))

    def create_timer(  # type: ignore[override]  # what is left out is handed on as it comes
        self, timer_period_sec: float, callback: Callable, *arguments: Any, **named: Any
    ) -> Any:
        callback = self.guarded(f"timer {_name_of(callback)}", callback)
        return super().create_timer(timer_period_sec, callback, *arguments, **named)

    def create_service(self, srv_type: type, srv_name: str, callback: Callable, *arguments: Any, **named: Any) -> Any:
        callback = self._guarded_service(srv_name, callback)
        return super().create_service(srv_type, srv_name, callback, *arguments, **named)

    def create_client(self, srv_type: type, srv_name: str, *arguments: Any, **named: Any) -> Client:
        client: Any = super().create_client(srv_type, srv_name, *arguments, **named)
        call_async = client.call_async

        def call(request: Any) -> Any:
            future = call_async(request)
            add = future.add_done_callback
            future.add_done_callback = lambda act: add(self.guarded(f"answer of {srv_name}", act))
            return future

        client.call_async = call
        return client

    def create_guard_condition(self, callback: Callable, *arguments: Any, **named: Any) -> Any:
        callback = self.guarded(f"guard condition {_name_of(callback)}", callback)
        return super().create_guard_condition(callback, *arguments, **named)

    def add_pre_set_parameters_callback(self, callback: Callable) -> None:
        # An empty list is what rclpy refuses.
        super().add_pre_set_parameters_callback(self.guarded("parameters", callback, lambda _: []))

    def add_on_set_parameters_callback(self, callback: Callable) -> None:
        refused = SetParametersResult(successful=False, reason="checking the value failed; the node's log says how")
        super().add_on_set_parameters_callback(self.guarded("parameters", callback, lambda _: refused))

    def add_post_set_parameters_callback(self, callback: Callable) -> None:
        super().add_post_set_parameters_callback(self.guarded("parameters", callback))

    def _guarded_service(self, name: str, callback: Callable) -> Callable:
        # The client gets the response as far as it was filled, or else would wait for ever.
        return self.guarded(f"service {name}", callback, lambda request, response: response)

    def _guarded_events(self, topic: str, named: dict[str, Any]) -> dict[str, Any]:
        if named.get("event_callbacks") is None:
            return named
        events = copy.copy(named["event_callbacks"])
        for kind, callback in vars(events).items():
            if callable(callback):
                setattr(events, kind, self.guarded(f"{kind} event of {topic}", callback))
        return {**named, "event_callbacks": events}


def is_guarded(callback: Callable) -> bool:
    """Whether a callback cannot raise."""
    return getattr(callback, "is_guarded", False)


def _name_of(callback: Callable) -> str:
    return getattr(callback, "__name__", type(callback).__name__).strip("_")

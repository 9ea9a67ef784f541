"""The managers that can be compared, by the names that the command takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dynamic_perception import extensions
from dynamic_perception.management.settings import ManagerSettings
from dynamic_perception.simulation.alert import Alert, AlertSettings
from dynamic_perception.simulation.boards import Board
from dynamic_perception.simulation.fixed import FixedNetwork, NetworkOnly
from dynamic_perception.simulation.governors import Performance, Powersave, Schedutil
from dynamic_perception.simulation.manager import Manager
from dynamic_perception.simulation.oracle import CausalBound, Oracle, ThrottledOracle
from dynamic_perception.simulation.ours import Ours

MANAGERS: dict[str, Callable[[Board], Manager]] = {
    "oracle": Oracle,
    "throttled-oracle": ThrottledOracle,
    "causal-bound": CausalBound,
    "ours": Ours,
    "ours-default": lambda board: Ours(board, ManagerSettings(), "ours, default settings"),
    "alert": Alert,
    "alert-published": lambda board: Alert(board, AlertSettings(), "ALERT as published"),
    "network-only": NetworkOnly,
    "schedutil": Schedutil,
    "schedutil-best-element": lambda board: Schedutil(board, best_element=True),
    "performance": Performance,
    "powersave": Powersave,
    "fixed-largest": lambda board: FixedNetwork(board, largest=True),
    "fixed-smallest": lambda board: FixedNetwork(board, largest=False),
}
USUAL = ("oracle", "ours", "alert", "network-only", "schedutil", "fixed-largest", "fixed-smallest")


def find_managers(names: Sequence[str], board: Board) -> list[Manager]:
    """New managers of these names, of this package or of another; ValueError for a name that there is not."""
    makers = [_find_maker(name) for name in dict.fromkeys(names)]
    return [make(board) for make in makers]


def _find_maker(name: str) -> Callable[[Board], Manager]:
    make = MANAGERS.get(name) or extensions.find_extension(extensions.MANAGERS, name)
    if make is None:
        known = extensions.with_extensions(extensions.MANAGERS, MANAGERS)
        raise ValueError(f"no manager '{name}': expected one of {', '.join(known)}")
    return make

"""What other packages add to this one: engines, families of networks, managers and boards of their own.

A package names them as entry points, in its setup.py:

    entry_points={"dynamic_perception.engines": ["numpy = my_package.engine:NumpyEngine"]}

It is found once it is installed beside this one, by pip or by colcon, and imported when it is asked for by that name.
`docs/extending.md` has an example of each.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import entry_points
from typing import Any

ENGINES, FAMILIES, MANAGERS, BOARDS = (
    f"dynamic_perception.{kind}" for kind in ("engines", "families", "managers", "boards")
)


def find_extension(group: str, name: str) -> Any | None:
    """What another package calls `name` in that group; None if nobody does.

    Raises:
        ValueError: it is there, but cannot be imported; names it and the reason.
    """
    found = list(entry_points(group=group, name=name))
    if not found:
        return None
    try:
        return found[0].load()
    except Exception as error:  # whatever a module of somebody else raises when it is imported
        raise ValueError(f"{group}: '{name}' is {found[0].value}, which cannot be imported: {error!r}") from error


def with_extensions(group: str, own: Iterable[str]) -> list[str]:
    """The names of this package, then those that others add: for what was expected instead of a wrong one."""
    return list(dict.fromkeys([*own, *sorted(entry_points(group=group).names)]))

"""Message definitions: what is written into a bag, and how messages of a bag are decoded by its own definitions.

Messages of this package that an older version recorded come out as those of this version: fields that are new since
then are "not known" (NaN, 0 or empty), unless something here depends on them; then the bag is refused.
"""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from rosbags.interfaces import Nodetype
from rosbags.serde import SerdeError
from rosbags.typesys import Stores, TypesysError, get_types_from_idl, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from dynamic_perception.installation import PACKAGE, share_folder

MSG, IDL, NONE = "ros2msg", "ros2idl", ""  # encodings of definitions, as MCAP calls them
SEPARATOR = "=" * 80
BUILTIN = frozenset(
    [
        "bool",
        "byte",
        "char",
        "float32",
        "float64",
        "int8",
        "uint8",
        "int16",
        "uint16",
        "int32",
        "uint32",
        "int64",
        "uint64",
        "string",
        "wstring",
    ]
)
# Fields that a replay depends on: an older message without one of them is refused.
NEEDED: Mapping[str, tuple[str, ...]] = {
    f"{PACKAGE}/msg/InferenceReport": (
        "header",
        "subnetwork",
        "compute_element",
        "inference_duration",
        "end_to_end_duration",
        "deadline_met",
    ),
    f"{PACKAGE}/msg/OperatingPoint": ("subnetwork", "compute_element"),
    f"{PACKAGE}/msg/OperatingPointCommand": ("header", "sequence", "operating_point"),
    f"{PACKAGE}/msg/OperatingPointState": ("header", "sequence", "result", "requested"),
}
REMEDY = "replay it with the version of this package that recorded it"

Fields = Mapping[str, tuple[Any, Any]]  # name -> type, as rosbags describes it


class DefinitionRefused(ValueError):
    """A message definition that cannot be used; the message says what to do."""


@cache
def definition_text(msgtype: str) -> str:
    """Definition of "<package>/msg/<Name>" and, after it, of all that it is made of, as MCAP wants it (ros2msg).

    Raises:
        DefinitionRefused: no definition is installed.
    """
    texts = {msgtype: _read_definition(msgtype)}
    pending = [msgtype]
    while pending:
        current = pending.pop()
        for part in _parts(texts[current], package=current.split("/")[0]):
            if part not in texts:
                texts[part] = _read_definition(part)
                pending.append(part)
    first, *others = texts.items()
    return first[1] + "".join(f"{SEPARATOR}\nMSG: {name.replace('/msg/', '/')}\n{text}" for name, text in others)


def _read_definition(msgtype: str) -> str:
    package, _, name = msgtype.split("/")
    # Where ROS comes from PyPI it lies in the environment of this Python, and no variable says so.
    prefixes = [*filter(None, os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)), sys.prefix]
    shares = [share_folder()] if package == PACKAGE else [Path(prefix) / "share" / package for prefix in prefixes]
    for share in shares:
        file = share / "msg" / f"{name}.msg"
        if file.is_file():
            return file.read_text().rstrip("\n") + "\n"
    raise DefinitionRefused(
        f"no definition of {msgtype} is installed: expected msg/{name}.msg in {' or '.join(map(str, shares))}"
    )


def _parts(text: str, package: str) -> list[str]:
    """Types other than the built-in ones that a definition names, in full."""
    parts = []
    for line in text.splitlines():
        kind = re.split(r"[\s\[<]", line.partition("#")[0].strip(), maxsplit=1)[0]
        if kind and kind not in BUILTIN:
            owner, _, name = kind.rpartition("/")
            parts.append(f"{owner.removesuffix('/msg') or package}/msg/{name}")
    return parts


class Decoder:
    """Messages of one type, decoded by the definition that the bag has of it.

    Args:
        msgtype: "<package>/msg/<Name>".
        encoding: of the definition: ros2msg, ros2idl, or empty where the bag has none.  Then a message of this package
            has to fit its definition of today, any other that of ROS 2 Humble.
        definition: its text.

    Attributes:
        new_fields: "<Message>.<field>" that the bag's definition has not, and that come out as not known.

    Raises:
        DefinitionRefused: the definition cannot be read, or lacks what a replay depends on.
    """

    def __init__(self, msgtype: str, encoding: str, definition: str):
        self.msgtype = msgtype
        self._own = encoding == NONE
        self._store = _assumed_store(msgtype) if self._own else _parse(msgtype, encoding, definition)
        self.new_fields: list[str] = []
        self._current = None
        if msgtype.startswith(f"{PACKAGE}/") and not self._own:
            current = _parse(msgtype, MSG, definition_text(msgtype))
            if not self._is_current(current, msgtype):
                self._current = current

    def decode(self, data: bytes | memoryview) -> Any:
        """The message as this version knows it; ValueError if the bytes do not fit the definition."""
        message = self._decode(data)
        return message if self._current is None else self._upgrade(message, self.msgtype)

    def to_current(self, data: bytes) -> bytes:
        """A serialised message, serialised as this version does it."""
        if self._current is None:
            return data
        return bytes(self._current.serialize_cdr(self.decode(data), self.msgtype))

    def _decode(self, data: bytes | memoryview) -> Any:
        try:
            return self._store.deserialize_cdr(memoryview(data), self.msgtype)
        except SerdeError as error:
            advice = (
                (
                    "; the bag has no definition of it, and another version may have recorded it: where that one is "
                    "installed, `ros2 bag convert` to MCAP adds the definition"
                )
                if self._own
                else ""
            )
            raise ValueError(f"{self.msgtype}: {error}{advice}") from None

    def _is_current(self, current: Typestore, msgtype: str) -> bool:
        """Whether the bag's definition is that of today; what is new is noted, what does not do is refused."""
        then, now = _fields(self._store, msgtype), _fields(current, msgtype)
        name = msgtype.rpartition("/")[2]
        missing = [field for field in now if field not in then]
        for field in missing:
            if field in NEEDED.get(msgtype, ()):
                raise DefinitionRefused(f"the bag's {msgtype} has no field {field}, which is needed here: {REMEDY}")
        same = list(then) == list(now)
        self.new_fields += [f"{name}.{field}" for field in missing]
        for field in now:
            if field in then:
                if not _same_kind(then[field], now[field]):
                    raise DefinitionRefused(
                        f"{field} of the bag's {msgtype} is {_kind_name(then[field])}: expected "
                        f"{_kind_name(now[field])}; {REMEDY}"
                    )
                same &= then[field] == now[field]
                if now[field][0] == Nodetype.NAME:
                    same &= self._is_current(current, now[field][1])
        return same

    def _upgrade(self, message: Any, msgtype: str) -> Any:
        values = {}
        for field, (kind, detail) in _fields(self._current, msgtype).items():
            if not hasattr(message, field):
                values[field] = _not_known(self._current, kind, detail)
            elif kind == Nodetype.NAME:
                values[field] = self._upgrade(getattr(message, field), detail)
            else:
                values[field] = getattr(message, field)
        return self._current.types[msgtype](**values)


def _parse(msgtype: str, encoding: str, definition: str) -> Typestore:
    store = get_typestore(Stores.EMPTY)
    try:
        read = {MSG: lambda: get_types_from_msg(definition, msgtype), IDL: lambda: get_types_from_idl(definition)}
        store.register(read[encoding]())
        store.get_msgdef(msgtype)
    except KeyError as error:
        text = f"the bag's definition of {msgtype} is not complete or of an unknown kind: {error}"
        raise DefinitionRefused(text) from None
    except (TypesysError, SerdeError) as error:
        raise DefinitionRefused(f"the bag's definition of {msgtype} cannot be read: {error}") from None
    return store


def _assumed_store(msgtype: str) -> Typestore:
    if msgtype.startswith(f"{PACKAGE}/"):
        return _parse(msgtype, MSG, definition_text(msgtype))
    store = get_typestore(Stores.ROS2_HUMBLE)
    if msgtype not in store.fielddefs:
        raise DefinitionRefused(f"the bag has no definition of {msgtype}, and it is none of the standard messages")
    return store


def _fields(store: Typestore, msgtype: str) -> Fields:
    return dict(store.fielddefs[msgtype][1])


def _same_kind(then: tuple[Any, Any], now: tuple[Any, Any]) -> bool:
    """Whether a value of one is a value of the other: numbers of different width are."""
    if then[0] == now[0] == Nodetype.BASE:
        return _family(then) == _family(now)
    return then == now


def _family(field: tuple[Any, Any]) -> str:
    return re.sub(r"^u?int\d+$", "int", re.sub(r"^float\d+$", "float", field[1][0]))


def _kind_name(field: tuple[Any, Any]) -> str:
    kind, detail = field
    return detail if kind == Nodetype.NAME else detail[0] if kind == Nodetype.BASE else "a list"


def _not_known(store: Typestore, kind: Any, detail: Any) -> Any:
    if kind == Nodetype.NAME:
        fields = _fields(store, detail)
        return store.types[detail](**{name: _not_known(store, *field) for name, field in fields.items()})
    if kind == Nodetype.BASE:
        name = detail[0]
        return math.nan if name.startswith("float") else "" if name == "string" else False if name == "bool" else 0
    element, count = detail
    return [_not_known(store, *element) for _ in range(count if kind == Nodetype.ARRAY else 0)]

"""What nodes and the clock helper say to each other: one JSON object a line, over a stream socket of the Unix family.

A request names one clock, or all clocks of a compute element, and a frequency in Hz; 0 puts back what was found:

    {"policy": "policy4", "frequency": 1500000000}
    {"element": "cpu4:2", "frequency": 0}

`policy` is a cpufreq policy or, where the helper allows it, a devfreq device by its name in /sys/class/devfreq.  Just
these two keys; a line is UTF-8, ends with a line feed and has at most 512 bytes with it.  Every line has one answer, in
the same order, in ASCII:

    {"ok": true, "actual": 1500000000.0, "message": ""}
    {"ok": false, "reason": "frequency is -1: expected 0, or a number of Hz up to 1e+11"}

`actual` [Hz] is read back from the kernel, the slowest of several clocks, null where it does not tell; `message` says
what differs from the request.  A refused request changes nothing.  After a line that is too long the helper hangs up,
since nothing behind it can be understood; it also hangs up on who does not read the answers.  What a client has set
is put back when its connection ends, whoever ends it.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DEFAULT_SOCKET = Path("/run/dynamic_perception/clocks.sock")
LINE_LIMIT = 512  # [byte]
HIGHEST_FREQUENCY = 1e11  # [Hz] beyond any clock
TARGETS = ("policy", "element")


class Refused(Exception):
    """A request that is not carried out; the text says why."""


@dataclass(frozen=True)
class Request:
    """Set a clock.

    Attributes:
        target: "policy" or "element", what `name` is.
        name: has no sign in it that a path could be made with.
        frequency: [Hz]; 0: put back what was found.
    """

    target: str
    name: str
    frequency: float

    def line(self) -> bytes:
        """As it is sent."""
        return _line({self.target: self.name, "frequency": self.frequency})


def parse_request(line: bytes) -> Request:
    """Read one line without its end.

    Raises:
        Refused: it is not a request; nothing else is ever raised, whatever the bytes.
    """
    try:
        content = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise Refused(f"not JSON: {error}") from None
    if not isinstance(content, dict):
        raise Refused(f"expected an object with 'frequency' and one of {', '.join(TARGETS)}")
    targets = [key for key in TARGETS if key in content]
    if len(targets) != 1 or set(content) != {targets[0], "frequency"}:
        raise Refused(f"expected just 'frequency' and one of {', '.join(TARGETS)}, found {_shown(sorted(content))}")
    name, frequency = content[targets[0]], content["frequency"]
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.:@,-]{0,63}", name):
        raise Refused(f"{targets[0]} is {_shown(name)}: expected a name")
    if (
        isinstance(frequency, bool)
        or not isinstance(frequency, (int, float))
        or not 0 <= frequency <= HIGHEST_FREQUENCY
    ):
        raise Refused(f"frequency is {_shown(frequency)}: expected 0, or a number of Hz up to {HIGHEST_FREQUENCY:g}")
    return Request(targets[0], name, float(frequency))


def done(actual: float, message: str) -> bytes:
    """The answer to a request that was carried out."""
    return _line({"ok": True, "actual": None if math.isnan(actual) else actual, "message": message})


def refused(reason: str) -> bytes:
    """The answer to one that was not."""
    return _line({"ok": False, "reason": reason})


def parse_answer(line: bytes) -> dict[str, Any]:
    """What the helper said.

    Raises:
        ValueError: it is no answer.
    """
    answer = json.loads(line)
    if not isinstance(answer, dict) or not isinstance(answer.get("ok"), bool):
        raise ValueError(f"the clock helper answered {_shown(answer)}")
    return answer


def _line(content: dict[str, Any]) -> bytes:
    return json.dumps(content).encode("ascii") + b"\n"


def _shown(value: object) -> str:
    """A stranger's value in a message: short, and on one line."""
    return ascii(value)[:80]

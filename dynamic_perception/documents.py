"""YAML and JSON from outside: read with limits, so that whatever a file holds costs a sentence and no more.

The parsers of both formats recurse, make integers of any length and follow references: a small file can exhaust the
stack or the memory, or give a number that no arithmetic here bears.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

DEEPEST = 64  # lists and mappings within each other; the package's own files have 8
MOST_VALUES = 2_000_000  # after references are followed; the largest results file has some 300,000
LARGEST_FILE = 256 << 20  # [byte]
LARGEST_INTEGER = 2**64  # what a float or a message field can take in


class InvalidDocument(ValueError):
    """A file that is no YAML or JSON, or beyond what a file of this package can be; the text names the file."""


def read_yaml(path: Path) -> Any:
    """The one YAML document of a file, as plain values.

    Raises:
        InvalidDocument: says where in which file what is wrong.
        OSError: the file cannot be read.
    """
    return parse_yaml(_text(path), str(path))


def parse_yaml(text: str, name: str) -> Any:
    """A YAML document as plain values; `name` says in errors where it came from."""
    return _parse(yaml.safe_load, text, name, "YAML")


def read_json(path: Path) -> Any:
    """The JSON value of a file; raises as `read_yaml`."""
    return parse_json(_text(path), str(path))


def parse_json(text: str | bytes, name: str) -> Any:
    """A JSON value; `name` says in errors where it came from."""
    return _parse(json.loads, text, name, "JSON")


def _text(path: Path) -> str:
    if path.stat().st_size > LARGEST_FILE:
        raise InvalidDocument(f"{path} has {path.stat().st_size >> 20} MiB: expected at most {LARGEST_FILE >> 20}")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InvalidDocument(f"{path} is no text in UTF-8: {error.reason} at byte {error.start}") from None


def _parse(parse: Callable[[Any], Any], text: str | bytes, name: str, kind: str) -> Any:
    try:
        content = parse(text)
    except RecursionError:
        raise InvalidDocument(f"{name}: lists within each other too deep: expected at most {DEEPEST}") from None
    except (yaml.YAMLError, ValueError, TypeError, OverflowError) as error:  # ValueError: also an impossible date
        reason = " ".join(str(error).split())
        raise InvalidDocument(f"{name}: no valid {kind}: {reason[:300]}") from None
    _check(content, name)
    return content


def _check(content: Any, name: str) -> None:
    """Without recursion, and counting what a reference repeats as often as it is repeated."""
    waiting, seen = [(content, 0)], 0
    while waiting:
        value, depth = waiting.pop()
        seen += 1
        if seen > MOST_VALUES:
            raise InvalidDocument(f"{name}: more than {MOST_VALUES:,} values, with what references repeat")
        if depth > DEEPEST:
            raise InvalidDocument(f"{name}: lists within each other too deep: expected at most {DEEPEST}")
        if isinstance(value, dict):
            waiting += [(item, depth + 1) for pair in value.items() for item in pair]
        elif isinstance(value, (list, tuple, set)):
            waiting += [(item, depth + 1) for item in value]
        elif isinstance(value, int) and abs(value) > LARGEST_INTEGER:
            digits = int(math.log10(2) * value.bit_length()) + 1
            raise InvalidDocument(f"{name}: an integer of {digits} digits: expected at most {LARGEST_INTEGER:.1e}")

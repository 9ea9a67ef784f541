"""Platform files: what a person knows better about a machine than its kernel tells.

    schema: 1
    boards: [Odroid XU3]                 # the board's model contains one of these; left out: any machine
    elements:
      cpu4:                              # as `dynamic-perception hardware` calls it
        name: a15                        # what to call it instead
        cpus: [4, 5, 6, 7]               # the CPUs it has; a name of your own with CPUs is one more element
        threads: [1, 2, 4]               # thread counts to offer
        frequency_range: [2.0e8, 1.8e9]  # [Hz] clocks that may be used
        power_rail: VDD_ARM              # the rail that feeds it
    temperatures:
      include: [SEN1]                    # sensors, as `dynamic-perception hardware` calls them, that count in any case
      exclude: ["iwlwifi*"]              # and such that never do; * and ? stand for any letters, and for one
    found: {}                            # what the machine told when the file was written: for readers, not used

Every key but `schema` may be left out.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from dynamic_perception.hardware.sysfs import excerpt
from dynamic_perception.hardware.temperature_choice import TemperatureChoice
from dynamic_perception.installation import share_folder

SCHEMA = 1
DEPTH = 3  # keys that lead to a value at most: elements, an element's name, a setting's
KEYS = ("schema", "boards", "elements", "found", "temperatures")
ELEMENT_KEYS = ("name", "threads", "frequency_range", "power_rail", "cpus")
TEMPERATURE_KEYS = ("include", "exclude")
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,31}")
GPU = "gpu"  # how the names of GPUs, and of nothing else, begin


@dataclass(frozen=True)
class ElementSettings:
    """What a platform file says about one cluster or GPU.

    Attributes:
        name: what to call it.
        cpus: numbers of the CPUs that it has, rising; None: those that the machine tells; empty for a GPU.
        threads: counts to offer, rising; None: all that make sense.
        frequency_range: [Hz] lowest and highest clock that may be used.
        power_rail: the name of the rail that feeds it; empty: what the machine tells.
    """

    name: str
    cpus: tuple[int, ...] | None = None
    threads: tuple[int, ...] | None = None
    frequency_range: tuple[float, float] = (0.0, math.inf)
    power_rail: str = ""


@dataclass(frozen=True)
class Platform:
    """A platform file; the default says nothing.

    Attributes:
        elements: the machine's name of a cluster or GPU, or a new cluster's, to what is said about it.
        temperatures: which sensors count.
    """

    elements: Mapping[str, ElementSettings] = field(default_factory=dict)
    temperatures: TemperatureChoice = field(default_factory=TemperatureChoice)

    def of(self, found_as: str) -> ElementSettings:
        """What is said about the element that the machine calls so."""
        return self.elements.get(found_as, ElementSettings(found_as))

    def clusters(self, found: Mapping[str, frozenset[int]]) -> dict[str, frozenset[int]]:
        """The machine's clusters, each with the CPUs that the file gives it; those it gives away are no one else's.

        Args:
            found: name to CPUs, fastest first, which the result keeps to.
        """
        given = {name: frozenset(said.cpus) for name, said in self.elements.items() if said.cpus}
        taken = frozenset().union(*given.values())
        clusters = {name: given.get(name, cpus - taken) for name, cpus in {**found, **given}.items()}
        places = {cpu: place for place, cpus in enumerate(found.values()) for cpu in cpus}

        def place(name: str) -> tuple[int, int]:
            return min(places.get(cpu, len(places)) for cpu in clusters[name]), min(clusters[name])

        return {name: clusters[name] for name in sorted((name for name in clusters if clusters[name]), key=place)}


@dataclass(frozen=True)
class Found:
    """What a platform file is checked against.

    Attributes:
        board: the machine's model.
        cpus: every element's name to its number of CPUs; 0 for a GPU.
        frequencies: every element's name to [Hz] rising; empty: not known.
        stepped: names of the elements that can run at these frequencies only, not between them.
        rails: names of the power rails.
        online: numbers of all CPUs that can be used.
        temperatures: names of the temperature sensors.
    """

    board: str
    cpus: Mapping[str, int]
    frequencies: Mapping[str, tuple[float, ...]]
    stepped: frozenset[str]
    rails: tuple[str, ...]
    online: frozenset[int] = frozenset()
    temperatures: tuple[str, ...] = ()


def find_platform_file(name: Path) -> Path:
    """A platform file by its path, or a shipped one by its name, with or without ".yaml".

    Raises:
        ValueError: there is none; names those that are shipped.
    """
    if name.is_file():
        return name
    shipped = {path.stem: path for path in sorted((share_folder() / "config" / "platforms").glob("*.yaml"))}
    if len(name.parts) == 1 and name.name.removesuffix(".yaml") in shipped:
        return shipped[name.name.removesuffix(".yaml")]
    raise ValueError(f"platform file '{name}' does not exist: expected a file, or one of {', '.join(shipped)}")


def read_platform(path: Path, found: Found) -> Platform:
    """Read and check a platform file against the machine.

    Raises:
        OSError: the file cannot be read.
        ValueError: names file, line, key, value, and what is allowed.
    """
    return _Checker(Path(path), found).platform()


def within(frequencies: tuple[float, ...], limits: tuple[float, float], stepped: bool) -> tuple[float, ...]:
    """[Hz] The frequencies inside the limits; where everything between the first and the last is allowed, its ends."""
    if stepped or not frequencies:
        return tuple(clock for clock in frequencies if limits[0] <= clock <= limits[1])
    low, high = max(frequencies[0], limits[0]), min(frequencies[-1], limits[1])
    return tuple(sorted({low, high})) if low <= high else ()


class _Checker:
    """One file while it is checked.  A place is the tuple of keys that leads to a value."""

    def __init__(self, path: Path, found: Found):
        self._path, self._found = path, found
        self._lines: dict[tuple, int] = {}

    def platform(self) -> Platform:
        content = self._load()
        self._mapping((), content, KEYS)
        if content.get("schema") != SCHEMA:
            self._refuse(("schema",), content.get("schema"), str(SCHEMA))
        self._check_board(content.get("boards"))
        elements = content.get("elements", {})
        self._mapping(("elements",), elements, tuple(self._found.cpus), new=self._is_new)
        settings = {name: self._element(("elements", name), name, said) for name, said in elements.items()}
        self._check_names(settings)
        self._check_shares(settings)
        return Platform(settings, self._temperatures(content.get("temperatures", {})))

    def _load(self) -> Any:
        try:
            node = yaml.compose(self._path.read_text(encoding="utf-8"), yaml.SafeLoader)
            content = yaml.SafeLoader("").construct_document(node) if node else {}
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else 1
            raise ValueError(f"{self._path}:{line}: {error.problem}") from None
        except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: no UTF-8, or no such day
            raise ValueError(f"{self._path}: {error}: expected a YAML file") from None
        self._note_lines((), node)
        return content

    def _note_lines(self, place: tuple, node: yaml.Node | None) -> None:
        if node is not None:
            self._lines.setdefault(place, node.start_mark.line + 1)
        if place[:1] == ("found",) or len(place) > DEPTH or not isinstance(node, yaml.MappingNode):
            return
        for key, value in node.value:
            inner = (*place, key.value if isinstance(key, yaml.ScalarNode) else "?")
            if inner in self._lines:
                self._lines[inner] = key.start_mark.line + 1
                self._refuse(inner, "given twice", "each key once")
            self._lines[inner] = key.start_mark.line + 1
            self._note_lines(inner, value)

    def _element(self, place: tuple, found_as: str, said: Any) -> ElementSettings:
        self._mapping(place, said, ELEMENT_KEYS)
        settings = ElementSettings(found_as)
        if "cpus" in said:
            settings = replace(settings, cpus=self._cpus((*place, "cpus"), found_as, said["cpus"]))
        most = len(settings.cpus) if settings.cpus else max(1, self._found.cpus[found_as])
        for key, value in said.items():
            if key == "cpus":
                continue
            checks: dict[str, Callable[..., Any]] = {
                "name": self._name,
                "threads": partial(self._threads, most),
                "frequency_range": self._range,
                "power_rail": self._rail,
            }
            settings = replace(settings, **{key: checks[key]((*place, key), found_as, value)})
        return settings

    def _name(self, place: tuple, found_as: str, value: Any) -> str:
        if not isinstance(value, str) or not NAME.fullmatch(value):
            self._refuse(place, value, "a letter, then at most 31 letters, digits, '_' or '-'")
        is_gpu = found_as.startswith(GPU)
        if value.startswith(GPU) != is_gpu:
            self._refuse(
                place,
                value,
                f"a name that {'begins' if is_gpu else 'does not begin'} with '{GPU}', as those "
                "of GPUs do and others must not",
            )
        return value

    def _is_new(self, name: Any, said: Any) -> bool:
        """Whether this is an element that the machine does not tell of: a name for CPUs."""
        named = isinstance(name, str) and NAME.fullmatch(name) and not name.startswith(GPU)
        return bool(named) and isinstance(said, dict) and "cpus" in said

    def _cpus(self, place: tuple, found_as: str, value: Any) -> tuple[int, ...]:
        online = self._found.online
        numbers = isinstance(value, list) and value and all(type(n) is int and n in online for n in value)
        if found_as.startswith(GPU) or not numbers or len(set(value)) < len(value):
            self._refuse(
                place,
                value,
                "nothing, as a GPU has no CPUs"
                if found_as.startswith(GPU)
                else f"a list of different CPUs of {' '.join(map(str, sorted(online)))}",
            )
        return tuple(sorted(value))

    def _threads(self, most: int, place: tuple, found_as: str, value: Any) -> tuple[int, ...]:
        numbers = isinstance(value, list) and value and all(type(n) is int and 1 <= n <= most for n in value)
        if not numbers or len(set(value)) < len(value):
            self._refuse(
                place,
                value,
                "[1], as a GPU has no threads to set"
                if found_as.startswith(GPU)
                else f"a list of different numbers from 1 to {most}, the CPUs of {found_as}",
            )
        return tuple(sorted(value))

    def _range(self, place: tuple, found_as: str, value: Any) -> tuple[float, float]:
        limits = [_number(limit) for limit in value] if isinstance(value, list) else []
        if len(limits) != 2 or not 0.0 <= limits[0] <= limits[1] < math.inf:
            self._refuse(place, value, "[lowest, highest] in Hz, for example [6.0e8, 1.8e9]")
        clocks = self._found.frequencies.get(found_as, ())
        if clocks and not within(clocks, (limits[0], limits[1]), found_as in self._found.stepped):
            listed = " ".join(f"{clock:g}" for clock in clocks)
            self._refuse(place, value, f"a range with a clock of {found_as} in it: {listed} Hz")
        return limits[0], limits[1]

    def _rail(self, place: tuple, found_as: str, value: Any) -> str:
        if value not in self._found.rails:
            self._refuse(
                place,
                value,
                f"one of {', '.join(self._found.rails)}"
                if self._found.rails
                else "no rail, as this machine shows none",
            )
        return value

    def _check_board(self, boards: Any) -> None:
        place, board = ("boards",), self._found.board
        if boards is None:
            return
        if not isinstance(boards, list) or not all(isinstance(name, str) and name for name in boards):
            self._refuse(place, boards, "a list of parts of board names")
        if not any(name.lower() in board.lower() for name in boards):
            self._refuse(place, boards, f"a part of '{board}', which this machine is")

    def _check_names(self, settings: dict[str, ElementSettings]) -> None:
        for found_as in settings:
            name = settings[found_as].name
            others = [
                settings[other].name if other in settings else other for other in self._found.cpus if other != found_as
            ]
            if name in others:
                self._refuse(("elements", found_as, "name"), name, "a name that no other element has")

    def _check_shares(self, settings: dict[str, ElementSettings]) -> None:
        owners: dict[int, str] = {}
        for found_as, said in settings.items():
            for cpu in said.cpus or ():
                if cpu in owners:
                    place = ("elements", found_as, "cpus")
                    self._refuse(place, list(said.cpus or ()), f"no CPU of {owners[cpu]}, as {cpu} is")
                owners[cpu] = found_as

    def _temperatures(self, said: Any) -> TemperatureChoice:
        self._mapping(("temperatures",), said, TEMPERATURE_KEYS)
        for key, value in said.items():
            place = ("temperatures", key)
            if not isinstance(value, list) or not all(isinstance(name, str) and name for name in value):
                self._refuse(place, value, "a list of names of temperature sensors")
            for name in TemperatureChoice(tuple(value)).unknown(self._found.temperatures):
                known = ", ".join(self._found.temperatures)
                self._refuse(place, name, f"one of {known}" if known else "nothing, as this machine shows no sensor")
        return TemperatureChoice(tuple(said.get("include", ())), tuple(said.get("exclude", ())))

    def _mapping(
        self,
        place: tuple,
        value: Any,
        allowed: tuple[str, ...],
        new: Callable[[Any, Any], bool] = lambda key, inner: False,
    ) -> None:
        if not isinstance(value, dict):
            self._refuse(place, value, f"a mapping of {', '.join(allowed)}")
        for key in value:
            if key not in allowed and not new(key, value[key]):
                self._refuse((*place, key), None, f"one of {', '.join(allowed)}", unknown=True)

    def _refuse(self, place: tuple, value: Any, expected: str, unknown: bool = False) -> None:
        line = next((f":{self._lines[part]}" for part in _outwards(place) if part in self._lines), "")
        key = ".".join(map(str, place)) or "the file"
        problem = "is not known here" if unknown else f"is {excerpt(repr(value))}"
        raise ValueError(f"{self._path}{line}: {key} {problem}: expected {expected}")


def _outwards(place: tuple) -> Iterator[tuple]:
    return (place[:length] for length in range(len(place), -1, -1))


def _number(value: Any) -> float:
    """Also "1.8e9", which YAML 1.1 takes for a text; NaN where it is no number."""
    try:
        return math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan

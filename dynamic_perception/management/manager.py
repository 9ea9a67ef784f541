"""The resource manager: from what was heard to the operating point that should run.

The way of a decision: the inputs (`set_*`, `observe_*`) are kept as they are heard; `decide` gathers them into a
:class:`Situation`, lets the :class:`Selector` choose, holds back steps up that may not last, and says why it moved.
The same object decides on the robot, in simulation and in replay: it reads no clock and draws no random number, so the
same calls with the same times give the same decisions.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from dynamic_perception.management import plausible
from dynamic_perception.management.availability import Availability
from dynamic_perception.management.budgets import PowerCap
from dynamic_perception.management.decision import CAUSES, USER_REASONS, Decision, Reason
from dynamic_perception.management.dwell import Dwell
from dynamic_perception.management.environment import Environment
from dynamic_perception.management.explanation import explain_change, explain_left_out, explain_move, explain_stale
from dynamic_perception.management.machine import Machine
from dynamic_perception.management.operating_points import OperatingPoint, OperatingPointTable
from dynamic_perception.management.selection import Prediction, Selection, Selector, Situation, known
from dynamic_perception.management.settings import ManagerSettings
from dynamic_perception.management.slow_downs import cluster_of
from dynamic_perception.management.steady_time import SteadyTime
from dynamic_perception.management.strangers import clipped
from dynamic_perception.management.target import Target
from dynamic_perception.management.watchdog import Watchdog

DETOUR = "detour"  # a cause of a step up that no step down has
IN_FLIGHT = 1  # reports after a change of the clock alone that may still be of the clock before it

__all__ = ["Decision", "ManagerSettings", "Reason", "ResourceManager"]


class ResourceManager:
    """Decides which operating point of `table` should run.

    Times are seconds of any one clock, given by the caller.  They need not rise: see :class:`SteadyTime`.  What is
    heard is compared with what is plausible; what cannot be is refused with a ValueError, and changes nothing.
    """

    def __init__(
        self, table: OperatingPointTable, settings: ManagerSettings = ManagerSettings(), machine: Machine | None = None
    ):
        """`machine`: the one that other networks share; None: the network has it for itself."""
        self.table = table
        self.settings = settings
        self.greatest_power = float(np.nanmax(table.power)) if not np.isnan(table.power).all() else math.nan
        self.machine = Machine(settings, self.greatest_power) if machine is None else machine
        self._selector = Selector(table, settings.relax, settings.deadline_probability, self._fallback_rows())
        self._prediction = Prediction(len(table))
        # Where others share the machine, a point is not left for a frame: that would move theirs.
        self._environment = Environment(
            table.elements, settings.environment, self.machine.slow_downs, catches_up=machine is None
        )
        self._dwell = Dwell(settings.dwell, settings.longest_dwell, settings.most_up)
        self._target = Target()
        self._deadline = math.nan  # of the `deadline` topic
        self._availability = Availability(table, self.machine)
        self.sharing: dict[str, float] = {}  # element -> slowed so much by the machine's other networks
        self._time = SteadyTime()
        self._reports_since_move = 0  # with a clock, of the current point
        self._in_flight = 0  # of these, how many may still be of the point before it
        self._watchdog = Watchdog()  # of this network's own inputs
        self._current: int | None = None
        self._point = table[0]  # the row of `_current`
        self._braced_from: int | None = None  # the row that was left because one inference was slow
        self._detour: int | None = None  # the row that was left only because frames have waited
        self._settled: Situation | None = None  # the last one in which the current point was the right one
        self._reason = Reason.STARTUP
        self._field = ""  # of the situation, that moved the point
        self._sentence = ""

    # ---- what is heard

    def set_target(self, time: float, target: Target) -> None:
        """Replace the whole target."""
        self._advance(time)
        self._target, self._detour = target, None

    def set_deadline(self, time: float, seconds: float) -> None:
        """Let this deadline stand instead of the target's max_latency; NaN or 0: the target's again."""
        if seconds != 0 and not math.isnan(seconds):
            plausible.DEADLINE.check("deadline", seconds, plausible.OR_NONE)
        self._advance(time)
        self._deadline, self._detour = seconds if seconds > 0 else math.nan, None

    def observe_report(
        self,
        time: float,
        subnetwork: str,
        compute_element: str,
        inference: float,
        overhead: float,
        cpu_frequency: float = math.nan,
        gpu_frequency: float = math.nan,
    ) -> None:
        """Take one processed frame: `inference` s and `overhead` s around it, at these clocks [Hz] (NaN: not known).

        ValueError, and no change, for a point that is not in the table or a duration that cannot be.
        """
        if not self.table.has(subnetwork, compute_element):
            point = f"{clipped(subnetwork)} on {clipped(compute_element)}"
            raise ValueError(f"report of {point}: there is no such operating point")
        cpu_frequency = plausible.check_clock("cpu_frequency", cpu_frequency)
        gpu_frequency = plausible.check_clock("gpu_frequency", gpu_frequency)
        self._advance(time)
        # Where no point asks for less than the throttled clock, its cluster is slower than profiled, whatever is asked.
        explained = cluster_of(compute_element) not in self._availability.stuck
        clocks = (cpu_frequency, gpu_frequency) if explained else (math.nan, math.nan)
        profiled = self.table.latency_at(subnetwork, compute_element, *clocks, self._current)
        profiled *= self.sharing.get(compute_element, 1.0)
        self._environment.observe(self._now, compute_element, inference, profiled, overhead)
        running = self._point
        told = cpu_frequency > 0 or gpu_frequency > 0
        if told and (running.subnetwork, running.compute_element) == (subnetwork, compute_element):
            self._reports_since_move += 1
            if self._reports_since_move > self._in_flight:
                self.observe_clock(time, compute_element, running.cpu_frequency, cpu_frequency)
                self.observe_clock(time, compute_element, running.gpu_frequency, gpu_frequency, "gpu")
        self._watchdog.heard("report", self._now, self.settings.report_timeout)

    def observe_clock(self, time: float, compute_element: str, asked: float, actual: float, clock: str = "cpu") -> None:
        """Take a clock [Hz] that was asked for on the element's cluster, and the one it has (0, NaN: unknown).

        `clock`: "cpu" or "gpu".  While it stays below what was asked for, points of that cluster that ask for a faster
        one are left out.
        """
        self._advance(time)
        self.machine.observe_clock(self._now, cluster_of(compute_element), asked, actual, clock)

    def observe_battery(self, time: float, percentage: float, present: bool, name: str = "") -> bool:
        """Take a state of charge (0..1); not `present`: mains power.  False if it cannot be used.

        Of several batteries, told apart by `name`, the lowest one counts.
        """
        self._advance(time)
        return self.machine.observe_battery(self._now, percentage, present, name)

    def observe_temperature(self, time: float, zone: str, celsius: float) -> bool:
        """Take the temperature of a zone.  False if it has no use: impossible, or of a zone that does not count."""
        self._advance(time)
        return self.machine.observe_temperature(self._now, zone, celsius)

    def set_mission(self, time: float, seconds: float) -> None:
        """Let the battery last for so long (NaN or 0: no mission); ValueError without a battery_capacity."""
        self._advance(time)
        self.machine.mission.set_end(self._now, seconds)

    def reject(self, time: float, point: int | OperatingPoint, for_seconds: float) -> None:
        """Leave a point out for a while, because a command for it was rejected."""
        self._advance(time)
        if isinstance(point, OperatingPoint):
            row = self.table.find(point.subnetwork, point.compute_element, point.cpu_frequency, point.gpu_frequency)
        else:
            row = point if 0 <= point < len(self.table) else None
        if row is None:
            raise ValueError(f"rejected point {clipped(str(point))}: there is no such operating point")
        plausible.PAUSE.check(f"rejected point {point}: for_seconds", for_seconds)
        self._availability.reject(row, self._now + for_seconds)

    # ---- what is decided

    def decide(self, time: float) -> Decision:
        """The point to run at `time` [s]; never None, whatever is not known."""
        self._advance(time)
        situation, before = self.situation(), self._current
        if before is not None and self._environment.suspected > 1.0 and self._dwell.may_step_up(self._now):
            return self._brace(situation)
        origin, self._braced_from = self._braced_from, None
        if origin is not None:  # what was done for one frame is no ground for what follows
            self._sentence = "one slow inference, no more: " + explain_move(self._point, self.table[origin])
            self._current, self._point = origin, self.table[origin]
        decision = self._choose(situation)
        if decision.index == before:
            return decision
        if decision.index == origin:
            self._dwell.step_up(self._now, DETOUR)
        return decision._replace(changed=True)

    def _brace(self, situation: Situation) -> Decision:
        """A frame waits because the last inference was slow: it is to be in time even if the next one is as slow.

        On the same element, as nobody knows yet what is slow; and nothing else is decided.
        """
        mean, variance = situation.slow_down
        here = situation.available & (self.table.element_index == self.table.element_index[self._current])
        slow = situation._replace(slow_down=(mean * self._environment.suspected, variance), available=here)
        prediction = self._selector.predict(slow, self._prediction)
        if not here[self._current] or self._selector.admits(slow, prediction, self._current):
            return self._decision(slow, prediction, Selection(self._current, here, ()), False)
        fast = self._selector.select(slow, prediction)
        changed = fast.index != self._current
        if changed:
            if self._braced_from is None:
                self._braced_from = self._current
            cause = self._explain("overhead", situation, fast.index)
            move = explain_move(self._point, self.table[fast.index])
            self._take(fast.index, Reason.CONTENTION, cause + move, self._settled)
        return self._decision(slow, prediction, fast, changed)

    def _choose(self, situation: Situation) -> Decision:
        """The point that should run in this situation, as a decision."""
        prediction = self._selector.predict(situation, self._prediction)
        if self._detour is not None and not self._environment.waiting and self._return(situation, prediction):
            return self._decision(situation, prediction, Selection(self._current, situation.available, ()), True)
        if self._current is not None and self._selector.admits(situation, prediction, self._current):
            better = self._selector.select(situation, prediction, self._current, self.settings.margin)
            changed = self._improve(situation, prediction, better)
            return self._decision(situation, prediction, better, changed, admitted=not changed)
        exact = self._selector.select(situation, prediction)
        changed = True
        if self._current is None:
            self._take(exact.index, Reason.STARTUP, f"start: {self.table[exact.index]}", situation)
        elif not exact.kept[self._current]:
            self._move(exact.index, situation, forced=True)
        elif exact.index == self._current:
            changed = self._improve(situation, prediction, exact)
        else:
            better = self._selector.select(situation, prediction, self._current, self.settings.margin)
            changed = self._improve(situation, prediction, better)
        return self._decision(situation, prediction, exact, changed)

    def _return(self, situation: Situation, prediction: Prediction) -> bool:
        """No frame waits any more: go back at once to the point that was left for those that did, if it may run."""
        row, self._detour = self._detour, None
        if row == self._current or not self._selector.admits(situation, prediction, row):
            return False
        if not self._dwell.may_step_up(self._now):
            return False
        self._dwell.step_up(self._now, DETOUR)
        self._field = "overhead"
        self._take(
            row, Reason.CONTENTION, "no frame waits any more: " + explain_move(self._point, self.table[row]), situation
        )
        return True

    def _improve(self, situation: Situation, prediction: Prediction, better: Selection) -> bool:
        """The current point may stay.  Leave it for a clearly better one: down at once, up after the dwell."""
        if better.index == self._current:
            self._dwell.stop_waiting()
            self._settled = situation
            return False
        if self._is_down(prediction, better):
            return self._move(better.index, situation, forced=False)
        waited, index = self._dwell.waited(self._now, better.kept), better.index
        if not waited[index]:
            if not np.count_nonzero(waited):
                return False
            waited[self._current] = True
            patient = situation._replace(available=situation.available & waited)
            index = self._selector.select(patient, prediction, self._current, self.settings.margin).index
        if index == self._current:
            return False
        return self._move(index, situation, forced=False, up=True)

    def _is_down(self, prediction: Prediction, better: Selection) -> bool:
        """Cheaper and faster, or closer to a limit that cannot be met: nothing to wait for."""
        new, old = better.index, self._current
        faster = prediction.inference[new] <= prediction.inference[old]
        cheaper = prediction.power[new] <= prediction.power[old]
        saves = prediction.energy[new] <= prediction.energy[old]
        missed = better.given_up
        late = "deadline" in missed or "rate" in missed
        return bool(
            (faster and cheaper)
            or (faster and late)
            or (saves and "energy" in missed)
            or (cheaper and ("battery" in missed or "power" in missed))
        )

    def _move(self, index: int, situation: Situation, forced: bool, up: bool = False) -> bool:
        """Take point `index`; False if it is one step up too many."""
        reason, field = self._cause(situation, forced)
        asked = reason in USER_REASONS
        if up and not asked and not self._dwell.may_step_up(self._now):
            self._dwell.stop_waiting()
            return False
        cause = self._explain(field, situation, self._current if forced else index)
        detour = forced and field == "overhead" and self._environment.waiting > 0.0
        if not detour:
            self._detour = None
        elif self._detour is None:
            self._detour = self._current
        self._field = field
        self._take(index, reason, cause + explain_move(self.table[self._current], self.table[index]), situation)
        if up:
            self._dwell.step_up(self._now, self._edge(reason), asked)
        elif asked or detour:
            self._dwell.stop_waiting()
        else:
            self._dwell.step_down(self._now, self._edge(reason))
        return True

    def _edge(self, reason: Reason) -> tuple[Reason, int]:
        """What a step up and its taking back have in common where an input is at the edge between two points."""
        return reason, self._environment.regime if reason is Reason.CONTENTION else 0

    def _explain(self, field: str, situation: Situation, row: int) -> str:
        """What happened to `field`, ready to be followed by what was done; `row`: the point that it concerns."""
        if field == "thermal_cap":
            cap = self.machine.thermal_cap
            return f"{cap.text}; " if cap else "temperatures: no cap; "
        if field == "battery_cap":
            return f"{self.machine.battery_text}; "
        if field == "available":
            return f"{self._availability.explain(row, bool(situation.available[row]))}: "
        if field == "battery_ignored":
            acted_on = [name for name in self._stale() if self.machine.falls_back(name) or self.machine.ignores(name)]
            return f"{explain_stale((name, self._silence(name)) for name in acted_on)}: "
        return f"{explain_change(field, self._settled, situation, self.table, self.table.compute_element[row])}: "

    def _take(self, index: int, reason: Reason, sentence: str, situation: Situation) -> None:
        before, self._point = self._point, self.table[index]
        same = (before.subnetwork, before.compute_element) == (self._point.subnetwork, self._point.compute_element)
        self._in_flight = IN_FLIGHT if same or self._current is None else 0
        self._current, self._reason, self._sentence, self._settled = index, reason, sentence, situation
        self._reports_since_move = 0

    def _cause(self, situation: Situation, forced: bool) -> tuple[Reason, str]:
        """Which input moves the point: bring the new inputs into the settled situation one by one until it does."""
        if self._moves(self._settled, forced):
            return self._reason, self._field  # one more step of the same move: this point has just waited longer
        trial = self._settled
        for reason, names in CAUSES:  # noqa: B007  (`reason` is returned after the loop)
            news = {name: getattr(situation, name) for name in names}
            if any(_differs(value, getattr(trial, name)) for name, value in news.items()):
                trial = trial._replace(**news)
                if self._moves(trial, forced):
                    break
        return reason, names[0]

    def _moves(self, situation: Situation, forced: bool) -> bool:
        """Whether the current point would be left in this situation."""
        prediction = self._selector.predict(situation)
        if forced:
            return not self._selector.select(situation, prediction).kept[self._current]
        return self._selector.select(situation, prediction, self._current, self.settings.margin).index != self._current

    def _decision(
        self, situation: Situation, prediction: Prediction, exact: Selection, changed: bool, admitted: bool = False
    ) -> Decision:
        """The current point as a decision; `admitted`: it is known to meet every limit."""
        index, point = self._current, self._point
        missed = () if admitted else self._selector.missed(situation, prediction, index)
        too_hot = not admitted and prediction.power[index] > situation.thermal_cap
        detail = self._sentence
        if missed or too_hot or self._selector.unknown or self._availability.rejected:
            detail = "; ".join([detail, *map(str, missed), *self._notes(situation, exact, too_hot)])
        if any(relaxed.limit == "deadline" for relaxed in missed):
            self.machine.retry_clocks_soon(self._now)
        inference = float(prediction.inference[index])
        return Decision(
            index=index,
            point=point,
            expected_latency=inference,
            expected_end_to_end=inference + situation.overhead[0],
            expected_power=known(prediction.power[index]),
            expected_energy=known(prediction.energy_of(index)),
            expected_accuracy=point.accuracy,
            deadline_probability=self._selector.within_deadline(situation, prediction, index),
            reason=self._reason,
            feasible=not missed and not too_hot,
            relaxed=missed,
            detail=detail,
            changed=changed,
        )

    def _notes(self, situation: Situation, exact: Selection, too_hot: bool) -> list[str]:
        """What else people should know about the choice."""
        notes = explain_left_out(situation, exact.kept, self._selector.unknown)
        if too_hot:
            notes.append(f"no point is within the thermal limit: {self.machine.thermal_cap.text}")
        if len(self._availability.rejected) == len(self.table):
            notes.append("every point was rejected lately")
        return notes

    # ---- what is decided elsewhere, for several networks together

    @property
    def current(self) -> int | None:
        """Row of the point that was decided last; None: nothing was yet."""
        return self._current

    def advance(self, time: float) -> None:
        """Nothing was heard up to `time`."""
        self._advance(time)

    def possible(self, situation: Situation) -> np.ndarray:
        """[n] bool, never empty: what may run, the fallback point alone if that is asked for."""
        fallback = situation.available & self._selector.fallback
        return fallback if situation.fallback and fallback.any() else situation.available

    def stay(self, situation: Situation) -> None:
        """The current point is the right one in this situation."""
        self._settled = situation

    def adopt(self, index: int, reason: Reason, cause: str, situation: Situation) -> None:
        """Take point `index`; `cause`: why, ready to be followed by what is done."""
        move = str(self.table[index]) if self._current is None else explain_move(self._point, self.table[index])
        self._take(index, reason, cause + move, situation)

    def describe(self, situation: Situation, changed: bool) -> Decision:
        """The current point as a decision."""
        prediction = self._selector.predict(situation, self._prediction)
        return self._decision(situation, prediction, Selection(self._current, situation.available, ()), changed)

    def explain(self, field: str, situation: Situation, row: int) -> str:
        """What happened to this field of the situation, ready to be followed by what is done about it.

        `row`: the point that it concerns.
        """
        return self._explain(field, situation, row)

    # ---- what is known

    def status(self, time: float) -> dict[str, Any]:
        """For diagnostics: what is stale, what limits the power, and how the machine does.

        `stale`: input -> seconds since it went stale.  `never heard`: those of them that nobody has sent so far.
        `faults`: input -> why its last value could not be used.
        `shown`: zone that does not count -> its last temperature [Celsius].  `battery`: the one that counts, in words.
        `caps`: the PowerCaps in force, with their source.  `slow_down`: compute element -> (mean, standard deviation).
        `overhead`: (mean, standard deviation) [s].  `rejected`: point -> seconds left.
        `throttled`: name of a clock -> [Hz].  `dwell`: [s] before a step up.
        """
        self._advance(time)
        self.machine.end_silent(self._now)
        mean, variance = self._environment.slow_down(self._now)
        overhead, overhead_variance = self._environment.overhead(self._now)
        stale = self._stale()
        return {
            "stale": stale,
            "never heard": tuple(name for name in stale if self._never_heard(name)),
            "faults": self.machine.faults,
            "shown": dict(self.machine.temperatures.aside),
            "battery": str(self.machine.battery),
            "caps": self._caps(),
            "slow_down": {
                element: (float(mean[i]), math.sqrt(variance[i])) for i, element in enumerate(self.table.elements)
            },
            "overhead": (overhead, math.sqrt(overhead_variance)),
            "rejected": {
                str(self.table[row]): until - self._now
                for row, until in sorted(self._availability.rejected.items())
                if self._now < until
            },
            "throttled": {
                str(clock): hertz for clock, (hertz, until) in self.machine.ceilings.items() if self._now < until
            },
            "dwell": self._dwell.seconds,
        }

    def situation(self) -> Situation:
        """Everything that a choice depends on, as of the newest time."""
        self.machine.end_silent(self._now)
        stale = self._stale()
        deadline = self._deadline if not math.isnan(self._deadline) else self._target.max_latency
        return Situation(
            target=self._target,
            deadline=deadline if not math.isnan(deadline) else math.inf,
            thermal_cap=self.machine.thermal_watts,
            battery_cap=self.machine.battery_watts,
            battery_ignored="battery" in stale and self.machine.ignores("battery"),
            fallback=any(self.machine.falls_back(name) for name in stale),
            slow_down=self._environment.slow_down(self._now),
            overhead=self._environment.overhead(self._now),
            available=self._availability.rows(self._now),
        )

    def _never_heard(self, name: str) -> bool:
        return self.machine.watchdog.never_heard(name) or self._watchdog.never_heard(name)

    def _stale(self) -> dict[str, float]:
        return self.machine.watchdog.stale(self._now) | self._watchdog.stale(self._now)

    def _silence(self, name: str) -> float:
        watchdog = self._watchdog if name == "report" else self.machine.watchdog
        return watchdog.silence(name, self._now)

    def _caps(self) -> tuple[PowerCap, ...]:
        caps = self.machine.caps
        if not math.isnan(self._target.max_power):
            caps.append(PowerCap("target", self._target.max_power, f"target: cap {self._target.max_power:.3g} W"))
        return tuple(caps)

    @property
    def _now(self) -> float:
        return self._time.now

    def _advance(self, time: float) -> None:
        """Never back; the timeouts of all inputs start with the first call."""
        started = self._time.started
        self._time.advance(time)
        if not started:
            self._watchdog.expect("report", self._now, self.settings.report_timeout)
            self.machine.start(self._now)

    def _fallback_rows(self) -> np.ndarray:
        if self.settings.fallback is None:
            return np.array([], dtype=int)
        rows = self.table.matching(*self.settings.fallback)
        if not len(rows):
            points = dict.fromkeys(zip(self.table.subnetwork, self.table.compute_element))
            raise ValueError(
                f"manager: fallback is {' on '.join(self.settings.fallback)}: expected one of "
                f"{', '.join(f'{subnetwork} on {element}' for subnetwork, element in points)}"
            )
        return rows


def _differs(one: Any, other: Any) -> bool:
    """Whether two values of a situation may differ; of arrays, and of tuples of them, only the identity is compared."""
    return one is not other and not (isinstance(one, float) and one == other)

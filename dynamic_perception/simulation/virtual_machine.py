"""The machine in virtual time: one network's frames run at what a manager decides, heat and battery follow.

A frame that arrives while another one runs waits; a newer one takes its place, and it is never answered.  An inference
lasts profiled latency x slow-down, at the power of the row it runs as; the slow-down is the trace's, or follows from
the other work on the same cluster.  Throttling shows in the clock that an inference starts with.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from dynamic_perception.management.target import Target
from dynamic_perception.simulation.boards import Board
from dynamic_perception.simulation.manager import Manager, target_of
from dynamic_perception.simulation.temperature import POLL, StepWise
from dynamic_perception.simulation.trace import Trace, slow_downs

SENSOR_POLLS = 4  # polls between two readings of the sensors: one second
SENSOR_DELAY = 1  # polls by which a reading is late
TEMPERATURE_NOISE = 0.5  # [K] deviation; then rounded to whole degrees, as the Exynos' sensors are
CHARGE_STEP = 0.01  # fuel gauges tell whole percents


@dataclass(frozen=True, eq=False)
class Run:
    """What happened; [n] each, NaN or -1 for a frame that was never answered."""

    manager: str
    trace: Trace
    asked: np.ndarray  # row that was decided
    ran: np.ndarray  # row that it ran as, at the last clock
    inference: np.ndarray  # [s]
    latency: np.ndarray  # [s] from arrival to answer
    energy: np.ndarray  # [J] of the inference
    accuracy: np.ndarray  # [0..1] of what ran
    temperature: np.ndarray  # [°C] true, when the frame started
    charge: np.ndarray  # [0..1] true
    resting_energy: float  # [J] while no inference ran
    seconds: float  # of virtual time
    events: list[tuple[float, str]] = field(default_factory=list)  # time [s], why the manager moved

    @property
    def answered(self) -> np.ndarray:
        return self.ran >= 0

    @property
    def met(self) -> np.ndarray:
        """[n] bool: answered within the deadline."""
        return np.nan_to_num(self.latency, nan=math.inf) <= self.trace.deadline * (1 + 1e-9)


class VirtualMachine:
    """Runs traces on a board."""

    def __init__(self, board: Board, trace: Trace, seed: int = 0):
        """`seed`: of the sensors' noise."""
        self.board, self.trace = board, trace
        self.slow_downs = slow_downs(trace, board.clusters, board.element_cluster, board.threads, board.cores)
        self._slow = self.slow_downs.tolist()
        other = np.zeros((len(trace), len(board.clusters)))
        for cluster, values in trace.other_threads.items():
            other[:, board.clusters.index(cluster)] = values
        self._other = other.tolist()
        self._other_power = (board.other_core_power * other.sum(axis=1)).tolist()
        self._seed = seed
        self._element = board.table.element_index.tolist()
        self._cluster = board.element_cluster.tolist()
        self._latency, self._power = board.table.latency.tolist(), board.table.power.tolist()

    def run(self, manager: Manager, objective: str = "energy") -> Run:
        """Let a manager have the whole trace."""
        return _Running(self, manager, objective).run()


class _Running:
    """One run."""

    def __init__(self, machine: VirtualMachine, manager: Manager, objective: str):
        self.machine, self.manager, self.objective = machine, manager, objective
        board, trace = machine.board, machine.trace
        self._temperature = board.temperature()
        self._throttle = StepWise(board.trips if manager.is_throttled else (), board.clusters)
        self._now, self._next_poll, self._polls = 0.0, POLL, 0
        self._since_poll = 0.0  # [J] of all rails
        self.charge = trace.charge
        self._resting_energy = 0.0
        readings = 64 + int(trace.arrival[-1] / POLL) // SENSOR_POLLS
        random = np.random.default_rng([machine._seed, 77])  # the same for every manager
        self._noise = random.normal(0.0, TEMPERATURE_NOISE, readings).tolist()
        self._reading = (self._temperature.celsius, self.charge)
        self._frame = 0
        self._load, self._ambient = trace.other_load.tolist(), trace.ambient.tolist()

    def run(self) -> Run:
        machine, manager, trace = self.machine, self.manager, self.machine.trace
        n = len(trace)
        columns = {
            name: np.full(n, math.nan).tolist() for name in ("inference", "latency", "energy", "temperature", "charge")
        }
        asked, ran = [-1] * n, [-1] * n
        events: list[tuple[float, str]] = []
        arrival, overheads = trace.arrival.tolist(), trace.overhead.tolist()
        targets = self._targets()
        if manager.sees_future:
            manager.foresee(trace, machine.slow_downs, targets)
        throttled, steps = machine.board.throttled, self._throttle.steps
        free_at, before, target = 0.0, -1, None
        for frame in range(n):
            start = arrival[frame] if arrival[frame] >= free_at else free_at
            self._frame = frame
            if frame + 1 < n and free_at >= arrival[frame + 1]:
                continue  # a newer one is there when the machine is free
            self._rest(start)
            if targets[frame] is not target:
                target = targets[frame]
                manager.set_target(start, target)
            row = manager.decide(start, frame)
            if row != before:
                before = row
                events.append((start, manager.explanation()))
            element = machine._element[row]
            cluster = machine._cluster[element]
            slow = machine._slow[frame][element]
            if manager.governs:
                other = machine._other[frame][cluster]
                inference, power, last = manager.govern(start, row, slow, steps[cluster], other)
            else:
                last = throttled[row][steps[cluster]] if steps[cluster] else row
                inference, power = machine._latency[last] * slow, machine._power[last]
            overhead = overheads[frame]
            columns["temperature"][frame], columns["charge"][frame] = self._temperature.celsius, self.charge
            free_at = start + overhead + inference
            self._pass(start + inference, power)
            self._rest(free_at)
            asked[frame], ran[frame] = row, last
            columns["inference"][frame], columns["energy"][frame] = inference, inference * power
            columns["latency"][frame] = free_at - arrival[frame]
            manager.report(free_at, row, last, inference, overhead, start - arrival[frame])
        rows = np.array(ran)
        accuracy = np.where(rows >= 0, machine.board.table.accuracy[rows], math.nan)
        return Run(
            manager.name,
            trace,
            np.array(asked),
            rows,
            **{name: np.array(values) for name, values in columns.items()},
            accuracy=accuracy,
            resting_energy=self._resting_energy,
            seconds=self._now,
            events=events,
        )

    def _targets(self) -> list[Target]:
        """One object for as long as the user's wishes stay the same."""
        trace = self.machine.trace
        wishes = np.column_stack([trace.deadline, trace.min_accuracy, trace.max_energy])
        targets: list[Target] = []
        before = None
        for wish in wishes.tolist():
            targets.append(targets[-1] if wish == before else target_of(self.objective, *wish))
            before = wish
        return targets

    def _rest(self, until: float) -> None:
        if until > self._now:
            self._resting_energy += self.machine.board.resting_power * (until - self._now)
            self._pass(until, self.machine.board.resting_power)

    def _pass(self, until: float, power: float) -> None:
        """Let time pass with this power of the network's rails [W]."""
        power = (0.0 if power != power else power) + self.machine._other_power[self._frame]
        while self._next_poll <= until:
            self._since_poll += power * (self._next_poll - self._now)
            self._now = self._next_poll
            self._next_poll += POLL
            self._poll()
        self._since_poll += power * (until - self._now)
        self._now = until

    def _poll(self) -> None:
        frame, energy = self._frame, self._since_poll
        self._since_poll = 0.0
        self._temperature.advance(energy / POLL, self._ambient[frame])
        throttling_changed = self._throttle.poll(self._temperature.celsius)
        drawn = energy + self._load[frame] * POLL
        self.charge = max(0.0, self.charge - drawn / self.machine.board.battery_capacity)
        self._polls += 1
        if self.manager.sees_future:
            if throttling_changed:
                self.manager.throttle(self._throttle.steps)
            return self.manager.hear(self._now, self._temperature.celsius, self.charge)
        if self._polls % SENSOR_POLLS == SENSOR_DELAY:
            celsius, charge = self._reading
            noise = self._noise[(self._polls // SENSOR_POLLS) % len(self._noise)]
            self.manager.hear(self._now, float(round(celsius + noise)), round(charge / CHARGE_STEP) * CHARGE_STEP)
        if self._polls % SENSOR_POLLS == 0:
            self._reading = (self._temperature.celsius, self.charge)

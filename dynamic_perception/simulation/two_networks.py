"""Two networks on one board in virtual time: frames of both arrive together, one of them comes and goes.

While both run on one cluster with more threads than cores, they take turns: each advances at cores / threads of its
speed and draws its power for that part of the time.  A cluster has one clock.  Deadlines are shorter than the gap
between frames; a frame that arrives while its network still runs is never answered.  Heat and battery are left out:
they would slow the governors most, which draw the most power.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from dynamic_perception.management.joint import JointManager
from dynamic_perception.management.settings import ManagerSettings
from dynamic_perception.management.target import Objective, Target
from dynamic_perception.simulation.boards import Board
from dynamic_perception.simulation.families import BANDWIDTH, GAP, JITTER, NOISE, OTHER_WORK, OVERHEAD, REST
from dynamic_perception.simulation.fixed import networks_of
from dynamic_perception.simulation.governors import SchedutilSettings
from dynamic_perception.simulation.ours import TUNED
from dynamic_perception.simulation.trace import Trace

FRAMES = 400
NAMES = ("first", "second")
GUEST = (0.15, 0.85)  # of the trace: the second network is there in between
TIGHTEST, LOOSEST = 2.2, 5.0  # [units, as in families.py] deadline: two largest networks take turns within 2 units
SLEEPS = 1e-12


@dataclass(frozen=True, eq=False)
class SharedTrace:
    """What two networks meet; `deadlines` ([2] s) are for the whole trace, the rest is as in Trace, for both."""

    trace: Trace
    deadlines: tuple[float, float]
    present: np.ndarray  # [n, 2] bool


@dataclass(frozen=True, eq=False)
class SharedRun:
    """What happened to both; [n, 2] each, NaN where there was no answer."""

    manager: str
    shared: SharedTrace
    latency: np.ndarray  # [s]
    energy: np.ndarray  # [J]
    accuracy: np.ndarray  # [0..1]

    @property
    def miss_rate(self) -> float:
        """Share of the frames of networks that were there."""
        late = ~(self.latency <= np.array(self.shared.deadlines) * (1 + 1e-9))
        return float(late[self.shared.present].mean())


def make_shared_trace(board: Board, seed: int, frames: int = FRAMES) -> SharedTrace:
    """Two deadlines of one frame rate, noise, and bursts of other work; the same seed gives the same."""
    random = np.random.default_rng([seed, 100])
    table = board.table
    unit = float(table.latency[table.accuracy == table.accuracy.max()].min())
    deadlines = unit * random.uniform(TIGHTEST, LOOSEST, 2) + OVERHEAD
    period = GAP * deadlines.max()
    arrival = period * (1.0 + np.arange(frames) + np.clip(random.normal(0.0, JITTER, frames), -0.045, 0.045))
    slow_down = np.maximum(0.5, 1.0 + random.uniform(*NOISE) * random.standard_normal(frames))
    time = random.uniform(*REST)
    while time < arrival[-1]:
        end = time + random.uniform(*OTHER_WORK)
        slow_down[(arrival >= time) & (arrival < end)] *= 1.0 + random.uniform(BANDWIDTH, 4 * BANDWIDTH)
        time = end + random.uniform(*REST)
    present = np.ones((frames, 2), dtype=bool)
    first, last = (int(share * frames) for share in GUEST)
    present[:first, 1] = present[last:, 1] = False
    trace = Trace(arrival, deadlines.max(), slow_down=slow_down, overhead=OVERHEAD, family="two networks", seed=seed)
    return SharedTrace(trace, (float(deadlines[0]), float(deadlines[1])), present)


class SharedBoard:
    """Runs shared traces; every `run_*` is one manager."""

    def __init__(self, board: Board):
        self.board = board
        self._element, self._cluster = board.table.element_index, board.element_cluster

    def run_joint(
        self, shared: SharedTrace, floors: tuple[float, float], settings: ManagerSettings = TUNED, name: str = "ours"
    ) -> SharedRun:
        """JointManager with the least energy at these floors of accuracy."""
        manager = JointManager(
            replace(settings, thermal=(), battery=()), dict(zip(self.board.clusters, self.board.cores.tolist()))
        )
        table, here = self.board.table, [False, False]

        def decide(time: float, frame: int) -> dict[int, int]:
            for network in range(2):
                there = bool(shared.present[frame, network])
                if there and not here[network]:
                    target = Target(
                        max_latency=shared.deadlines[network],
                        min_accuracy=floors[network],
                        objective=Objective.MIN_ENERGY,
                    )
                    manager.add_application(time, NAMES[network], table, target)
                elif here[network] and not there:
                    manager.remove_application(time, NAMES[network])
                here[network] = there
            return {NAMES.index(application): decision.index for application, decision in manager.decide(time).items()}

        def report(time: float, network: int, row: int, inference: float) -> None:
            point = table[row]
            manager.observe_report(
                time,
                NAMES[network],
                point.subnetwork,
                point.compute_element,
                inference,
                OVERHEAD,
                point.cpu_frequency,
                point.gpu_frequency,
            )

        return self._run(shared, name, decide, report, self._take_turns)

    def run_schedutil(self, shared: SharedTrace) -> SharedRun:
        """Each network is the largest that fits at full clock on the fastest element while both run; clocks by load."""
        rows, governor = self.largest_that_fit(shared.deadlines), _SharedSchedutil(self)

        def decide(time: float, frame: int) -> dict[int, int]:
            return {network: rows[network] for network in range(2) if shared.present[frame, network]}

        return self._run(shared, "schedutil", decide, lambda *_: None, governor.run)

    def largest_that_fit(self, deadlines: tuple[float, float]) -> tuple[int, int]:
        """The pair of greatest summed accuracy that is in time when it takes turns; the smallest where none is."""
        networks = networks_of(self.board, self.board.default_element)
        best, best_accuracy = (int(networks[0]), int(networks[0])), -math.inf
        for first in networks.tolist():
            for second in networks.tolist():
                seconds, _ = self._take_turns(0.0, {0: first, 1: second}, 1.0)
                accuracy = self.board.table.accuracy[first] + self.board.table.accuracy[second]
                if all(seconds[n] + OVERHEAD <= deadlines[n] for n in range(2)) and accuracy > best_accuracy:
                    best, best_accuracy = (first, second), accuracy
        return best

    def sharing(self, rows: Mapping[int, int]) -> float:
        """By how much both are slowed while both run."""
        if len(rows) < 2:
            return 1.0
        elements = [int(self._element[row]) for row in rows.values()]
        clusters = [int(self._cluster[element]) for element in elements]
        if clusters[0] != clusters[1]:
            return 1.0
        return max(1.0, float(self.board.threads[elements].sum() / self.board.cores[clusters[0]]))

    def _take_turns(
        self, time: float, rows: dict[int, int], slow_down: float
    ) -> tuple[dict[int, float], dict[int, float]]:
        """(seconds, J) of every network, at the rows' clocks.  The shorter one shares all its time."""
        alone = {n: float(self.board.table.latency[row]) * slow_down for n, row in rows.items()}
        energy = {n: alone[n] * float(self.board.table.power[row]) for n, row in rows.items()}
        extra = (self.sharing(rows) - 1.0) * min(alone.values())
        return {n: seconds + extra for n, seconds in alone.items()}, energy

    def _run(self, shared: SharedTrace, name, decide, report, work) -> SharedRun:
        trace, n = shared.trace, len(shared.trace)
        latency, energy, accuracy = (np.full((n, 2), math.nan) for _ in range(3))
        free_at = [0.0, 0.0]
        for frame, arrival in enumerate(trace.arrival.tolist()):
            chosen = decide(arrival, frame)
            rows = {network: row for network, row in chosen.items() if free_at[network] <= arrival}
            if not rows:
                continue
            seconds, joules = work(arrival, rows, float(trace.slow_down[frame]))
            for network in sorted(rows, key=seconds.get):
                free_at[network] = arrival + seconds[network] + OVERHEAD
                latency[frame, network] = seconds[network] + OVERHEAD
                energy[frame, network] = joules[network]
                accuracy[frame, network] = self.board.table.accuracy[rows[network]]
                report(free_at[network], network, rows[network], seconds[network])
        return SharedRun(name, shared, latency, energy, accuracy)


class _SharedSchedutil:
    """Schedutil as in governors.py, with the work of both networks on one cluster: it is busy while either runs."""

    def __init__(self, shared_board: SharedBoard, settings: SchedutilSettings = SchedutilSettings()):
        self._shared_board, self._settings = shared_board, settings
        self._load = self._last = self._estimate = self._ended = 0.0

    def run(self, time: float, rows: dict[int, int], slow_down: float) -> tuple[dict[int, float], dict[int, float]]:
        board, settings = self._shared_board.board, self._settings
        ladders = {n: board.ladder(row) for n, row in rows.items()}
        clock = board.clock[next(iter(ladders.values()))]
        shares = clock / clock[-1]
        sharing = self._shared_board.sharing(rows)
        load = self._load * 0.5 ** (max(0.0, time - self._ended) / settings.half_life)
        left, elapsed = dict.fromkeys(rows, 1.0), 0.0
        seconds, energy = {}, dict.fromkeys(rows, 0.0)
        while left:
            wanted = settings.headroom * min(1.0, max(load, self._estimate, self._last))
            index = int(np.argmax(shares >= wanted - 1e-9)) if wanted <= 1.0 else len(shares) - 1
            turns = sharing if len(left) > 1 else 1.0
            pace = {n: 1.0 / (board.table.latency[ladders[n][index]] * slow_down * turns) for n in left}
            step = min([settings.tick, *(left[n] / pace[n] for n in left)])
            for n in list(left):
                energy[n] += step * float(board.table.power[ladders[n][index]]) / turns
                left[n] -= step * pace[n]
                if left[n] <= SLEEPS:
                    seconds[n] = elapsed + step
                    del left[n]
            elapsed += step
            decay = 0.5 ** (step / settings.half_life)
            load = load * decay + (1.0 - decay) * float(shares[index])
        self._load, self._ended, self._last = load, time + elapsed, load
        self._estimate += settings.estimate_weight * (load - self._estimate)
        return seconds, energy

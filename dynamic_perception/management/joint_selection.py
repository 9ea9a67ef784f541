"""Choosing the operating points of several networks on one machine together: a pure function of what is known now.

What the networks have in common:

* **Cores.**  Networks on one cluster take turns: with more threads than cores, all of them are slowed by
  threads / cores, and each draws its power for cores / threads of the time.  A GPU is a cluster of one core.
* **Clocks.**  A cluster has one: points that set it can only run together if they set the same.
* **Power.**  All together stay under one cap.

A combination's worth is the weighted sum over the networks of a utility in about 0..1 (accuracy; or what is saved of
the table's greatest energy or latency), less a penalty for every limit that is missed: ten times as much per step of
the relax order, and up to twice as much the farther it is missed.  So limits are given up in that order, and between
networks the weights decide.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from statistics import NormalDist
from typing import TypeVar

import numpy as np

from dynamic_perception.management.operating_points import OperatingPointTable
from dynamic_perception.management.selection import Situation
from dynamic_perception.management.settings import ManagerSettings
from dynamic_perception.management.slow_downs import cluster_of, threads_of
from dynamic_perception.management.target import Objective

Numbers = TypeVar("Numbers", float, np.ndarray)

PENALTY_STEP = 10.0
TIE_BREAK = 1e-4  # of the whole utility: between equally accurate points, energy decides, then latency
UNKNOWN_POWER = 1e6  # [W] no cap is kept by not knowing
MOST_ASSIGNMENTS = 4096  # of networks to elements that are looked at; beyond it, the least promising are dropped
MOST_REMEMBERED = 1024  # combinations whose sharing is kept
MOST_LAMBDAS = 20  # steps of the search for the price of power; it ends by itself long before
ROUNDING = 1e-12


@dataclass(frozen=True)
class Combination:
    """One row of every network's table, in the networks' order."""

    rows: tuple[int, ...]
    worth: float  # of all networks together, penalties included
    penalty: float  # 0: every limit is met
    power: float  # [W] of all networks together

    def is_within(self, cap: float) -> bool:
        """Whether the power stays under `cap` [W]."""
        return self.power <= cap * (1.0 + ROUNDING) + ROUNDING


class Network:
    """One network's table, prepared for choosing it together with others; `weight` > 0."""

    def __init__(self, table: OperatingPointTable, settings: ManagerSettings, weight: float):
        self.table = table
        self.weight = weight
        self.relax = settings.relax
        self.quantile = NormalDist().inv_cdf(settings.deadline_probability)
        self.clusters = [cluster_of(element) for element in table.elements]
        self.threads = np.array([threads_of(element) for element in table.elements])
        self.power = np.where(np.isnan(table.power), UNKNOWN_POWER, table.power)
        self.energy = np.where(np.isnan(table.energy), np.inf, table.energy)
        finite = self.energy[np.isfinite(self.energy)]
        self.greatest_energy = float(finite.max()) if len(finite) else 1.0
        self.greatest_latency = float(table.latency.max())
        clocks = np.nan_to_num(np.array([table.cpu_frequency, table.gpu_frequency]))
        self.clock_keys = list(map(tuple, np.round(clocks.T / 1e5).astype(int).tolist()))  # to 0.1 MHz

    def penalty_of(self, limit: str) -> float:
        """What missing this limit costs; one that is not in the relax order costs most."""
        level = self.relax.index(limit) if limit in self.relax else len(self.relax)
        return PENALTY_STEP ** (level + 1)


class JointSelector:
    """Chooses points for several networks.

    `cores`: cluster -> number of its cores; one that is not named has as many as the tables' greatest thread count.
    """

    def __init__(self, networks: Sequence[Network], cores: Mapping[str, int], one_clock: bool = True):
        """`one_clock`: a cluster has one clock, whoever is on it."""
        self.networks = tuple(networks)
        self._one_clock = one_clock
        self._regardless: JointSelector | None = None  # of the clocks
        self._shared: dict[tuple[int, tuple[int, ...]], np.ndarray] = {}  # what `sharing` has answered
        self.clusters = list(dict.fromkeys(cluster for network in networks for cluster in network.clusters))
        self._cores = np.array([cores.get(name) or self._greatest_thread_count(name) for name in self.clusters])
        self._elements = [
            np.array([self.clusters.index(cluster) for cluster in network.clusters]) for network in networks
        ]  # per network: [its elements] -> cluster
        self._classes = [
            _Classes(network, clusters, self._signatures()) for network, clusters in zip(networks, self._elements)
        ]
        self._assign()

    def _greatest_thread_count(self, cluster: str) -> int:
        return max(
            int(threads)
            for network in self.networks
            for name, threads in zip(network.clusters, network.threads)
            if name == cluster
        )

    def _signatures(self) -> list[dict[tuple, int]]:
        """Per cluster: clock setting -> 1, 2, ...; 0 is for points that leave the clock alone."""
        found: list[dict[tuple, int]] = [{} for _ in self.clusters]
        for network, clusters in zip(self.networks, self._elements):
            for row, key in enumerate(network.clock_keys):
                of_cluster = found[clusters[network.table.element_index[row]]]
                if self._one_clock and any(key):
                    of_cluster.setdefault(key, len(of_cluster) + 1)
        return found

    def _assign(self) -> None:
        """Every assignment of networks to elements: [N, networks], and how much each network is slowed by sharing."""
        choices = [range(len(clusters)) for clusters in self._elements]
        while math.prod(map(len, choices)) > MOST_ASSIGNMENTS:  # the slowest element of who has most choices is dropped
            most = max(range(len(choices)), key=lambda a: len(choices[a]))
            table = self.networks[most].table
            fastest = {e: table.latency[table.element_index == e].min() for e in choices[most]}
            choices[most] = [e for e in choices[most] if e != max(fastest, key=fastest.get)]
        self._assignments = np.array(list(product(*choices)), dtype=np.intp).reshape(-1, len(choices))
        clusters = np.array([of[column] for of, column in zip(self._elements, self._assignments.T)]).T
        threads = np.array([n.threads[column] for n, column in zip(self.networks, self._assignments.T)]).T
        total = np.zeros((len(clusters), len(self.clusters)))
        for a in range(len(self.networks)):
            total[np.arange(len(total)), clusters[:, a]] += threads[:, a]
        factors = np.maximum(1.0, total / self._cores)
        sharing = np.take_along_axis(factors, clusters, axis=1)  # [N, networks]
        self._on_cluster = clusters
        self._levels, self._level = np.unique(sharing, return_inverse=True)
        self._level = self._level.reshape(sharing.shape)
        # Where _Search._value finds and puts what a network is worth in every assignment, as flat indices.
        counts = np.array([len(of) for of in self._elements])
        self._of_network = (self._level * counts + self._assignments).T.copy()
        self._place = (np.arange(len(clusters))[:, None] * len(self.clusters) + clusters).T.copy()

    def sharing(self, rows: Sequence[int], of: int) -> np.ndarray:
        """[elements] by how much network `of` would be slowed by the others on each of its elements.

        `rows`: the point of every network; negative: it does not run.
        """
        key = of, tuple(rows)
        if key not in self._shared:  # asked for at every decision, and changes with the points only
            if len(self._shared) >= MOST_REMEMBERED:
                self._shared.clear()
            self._shared[key] = self._share(rows, of)
        return self._shared[key]

    def _share(self, rows: Sequence[int], of: int) -> np.ndarray:
        network, load = self.networks[of], np.zeros(len(self.clusters))
        for a, row in enumerate(rows):
            if a != of and row >= 0:
                element = self.networks[a].table.element_index[row]
                load[self._elements[a][element]] += self.networks[a].threads[element]
        clusters = self._elements[of]
        return np.maximum(1.0, (load[clusters] + network.threads) / self._cores[clusters])

    def evaluate(
        self, situations: Sequence[Situation], rows: Sequence[int], current: Sequence[int] = (), margin: float = 0.0
    ) -> Combination:
        """One combination; -inf worth where a point is not available."""
        worth = penalty = power = 0.0
        for a, (network, situation, row) in enumerate(zip(self.networks, situations, rows)):
            sharing = self.sharing(rows, a).item(network.table.element_index.item(row))
            worse = 1.0 + margin if current and current[a] != row else 1.0
            value, missed, watts = _judge_one(network, situation, sharing, row, worse)
            worth, penalty, power = worth + value, penalty + missed, power + watts
        return Combination(tuple(rows), worth, penalty, power)

    def solve(
        self,
        situations: Sequence[Situation],
        cap: float,
        current: Sequence[int] = (),
        margin: float = 0.0,
        tolerance: float = 0.0,
        most_knapsacks: float = math.inf,
    ) -> Combination:
        """The combination of greatest worth whose power is at most `cap` [W]; where there is none, that of least power.

        With `current`, all other points must do with latency, power and energy worse by `margin`.  `tolerance`: by what
        share of the networks' weights the worth may be less than the greatest; exact with 0, unless more than
        `most_knapsacks` combinations of elements and clocks have to be looked into.

        Networks that cannot agree on the clocks, because all that they may run sets another one on the same cluster,
        are chosen for as if each had its own: the one that sets it last has its way.

        The price of power (a Lagrange multiplier) splits the problem by networks but for elements and clocks, which are
        tried all at once; what remains between that bound and the best combination found is searched from the most
        promising elements and clocks on, each of them a multiple-choice knapsack.
        """
        judged = []
        for a, (network, situation) in enumerate(zip(self.networks, situations)):
            worse = np.ones(len(network.table))
            if current:
                worse[:] = 1.0 + margin
                worse[current[a]] = 1.0
            judged.append(_judge(network, situation, self._levels, slice(None), worse))
        slack = tolerance * sum(network.weight for network in self.networks)
        found = _Search(self, judged, cap, slack).run(most_knapsacks)
        if found is not None:
            return found
        if self._regardless is None:
            self._regardless = JointSelector(self.networks, dict(zip(self.clusters, self._cores)), one_clock=False)
        return self._regardless.solve(situations, cap, current, margin, tolerance, most_knapsacks)


class _Classes:
    """The rows of one network, grouped by element and clock setting."""

    def __init__(self, network: Network, clusters: np.ndarray, signatures: list[dict[tuple, int]]):
        self.elements = elements = network.table.element_index
        self.signature = np.array([signatures[clusters[e]].get(key, 0) for e, key in zip(elements, network.clock_keys)])
        self.settings = 1 + max(len(of_cluster) for of_cluster in signatures)
        keys = elements * self.settings + self.signature
        self.order = np.argsort(keys, kind="stable")
        self.keys, self.starts = np.unique(keys[self.order], return_index=True)
        self.shape = len(clusters), self.settings
        self._rows: dict[tuple[int, int], np.ndarray] = {}

    def rows(self, element: int, setting: int) -> np.ndarray:
        """Those that can run on this element while its cluster's clock is set like that."""
        if (element, setting) not in self._rows:
            on_element = self.elements == element
            self._rows[element, setting] = np.flatnonzero(
                on_element & ((self.signature == setting) | (self.signature == 0))
            )
        return self._rows[element, setting]

    def best(self, values: np.ndarray) -> np.ndarray:
        """[levels, elements, settings] the greatest of `values` ([levels, n]) in every class, free clocks included."""
        greatest = np.full((len(values), self.shape[0] * self.shape[1]), -np.inf)
        greatest[:, self.keys] = np.maximum.reduceat(values[:, self.order], self.starts, axis=1)
        greatest = greatest.reshape(len(values), *self.shape)
        return np.maximum(greatest, greatest[:, :, :1])


class _Search:
    """One run of :meth:`JointSelector.solve`; `judged`: (worth, penalty, power) [levels, n] of every network."""

    def __init__(self, selector: JointSelector, judged: list[tuple[np.ndarray, ...]], cap: float, slack: float):
        self._slack = slack
        self._selector, self._cap = selector, cap * (1.0 + ROUNDING) + ROUNDING
        self._worth, self._penalty, self._power = zip(*judged)
        self._best: Combination | None = None

    def run(self, most_knapsacks: float) -> Combination | None:
        """None: all combinations would need two clocks on one cluster."""
        free = self._richest(0.0)
        if free is None or free.power <= self._cap:
            return free
        coolest = self._richest(math.inf)
        if coolest.power > self._cap:
            return coolest
        self._best = coolest
        self._search(self._price_of_power(free, coolest), most_knapsacks)
        return self._best

    def _priced(self, a: int, price: float) -> np.ndarray:
        """[levels, n] worth less price of power; an infinite price: power alone counts, worth between equals."""
        if price == math.inf:
            return np.where(self._worth[a] == -np.inf, -np.inf, -self._power[a] + 1e-9 * self._worth[a])
        return self._worth[a] - price * self._power[a]

    def _value(self, price: float) -> np.ndarray:
        """[settings, N, clusters] the most that the networks on a cluster are worth at this price."""
        selector, settings = self._selector, self._selector._classes[0].settings
        value = np.zeros((settings, len(selector._assignments) * len(selector.clusters)))
        for a, (classes, place, of_network) in enumerate(zip(selector._classes, selector._place, selector._of_network)):
            best = classes.best(self._priced(a, price)).reshape(-1, settings).T
            value[:, place] += best[:, of_network]
        return value.reshape(settings, len(selector._assignments), len(selector.clusters))

    def _richest(self, price: float) -> Combination | None:
        """The best combination at this price of power, whatever its power."""
        value = self._value(price)
        totals = value.max(axis=0).sum(axis=1)
        assignment = int(np.argmax(totals))
        if totals[assignment] == -np.inf:
            return None
        settings = value[:, assignment].argmax(axis=0)
        rows = []
        for a, classes in enumerate(self._selector._classes):
            element = self._selector._assignments[assignment, a]
            candidates = classes.rows(element, settings[self._selector._on_cluster[assignment, a]])
            priced = self._priced(a, price)[self._selector._level[assignment, a], candidates]
            rows.append(int(candidates[np.argmax(priced)]))
        return self._combination(assignment, rows)

    def _combination(self, assignment: int, rows: Sequence[int]) -> Combination:
        levels = self._selector._level[assignment]
        total = [
            float(sum(of[a][levels[a], row] for a, row in enumerate(rows)))
            for of in (self._worth, self._penalty, self._power)
        ]
        return Combination(tuple(rows), *total)

    def _price_of_power(self, above: Combination, below: Combination) -> float:
        """Where the two ends of the answer meet: one combination too hot, one within the cap, equally good there."""
        price = 0.0
        for _ in range(MOST_LAMBDAS):
            price = (above.worth - below.worth) / (above.power - below.power)
            found = self._richest(price)
            if found.worth - price * found.power <= above.worth - price * above.power + 1e-9 * (1 + abs(above.worth)):
                break
            above, below = (found, below) if found.power > self._cap else (above, found)
            self._offer(found)
            if not self._can_beat(found.worth + price * (self._cap - found.power)):
                break
        return max(price, 0.0)

    def _offer(self, found: Combination) -> None:
        if found.power <= self._cap and found.worth > self._best.worth:
            self._best = found

    def _search(self, price: float, most_knapsacks: float) -> None:
        value = self._value(price)
        bounds = value.max(axis=0).sum(axis=1) + price * self._cap
        looked_into = 0
        for assignment in np.argsort(-bounds, kind="stable"):
            if not self._can_beat(bounds[assignment]):
                return
            for bound, settings in self._settings(value[:, assignment].T, price, int(assignment)):
                if not self._can_beat(bound):
                    break
                if looked_into >= most_knapsacks:
                    return
                looked_into += 1
                self._knapsack(int(assignment), settings, price, bound)

    def _can_beat(self, bound: float) -> bool:
        return bound > self._best.worth + self._slack + 1e-9 * (1.0 + abs(self._best.worth))

    def _settings(self, value: np.ndarray, price: float, assignment: int) -> Iterable[tuple[float, tuple[int, ...]]]:
        """(bound, clock setting of every cluster) of one assignment, the most promising first."""
        used = set(self._selector._on_cluster[assignment].tolist())
        choices = [np.flatnonzero(value[c] > -np.inf).tolist() if c in used else [0] for c in range(len(value))]
        found = [
            (float(sum(value[c, f] for c, f in enumerate(settings))) + price * self._cap, settings)
            for settings in product(*choices)
        ]
        return sorted(found, key=lambda entry: -entry[0])

    def _knapsack(self, assignment: int, settings: tuple[int, ...], price: float, bound: float) -> None:
        """The best rows on these elements at these clocks: fronts of power and worth, merged network by network."""
        gap = bound - self._best.worth  # what a row may lose against its network's best at this price, and still matter
        power, worth, chosen = np.zeros(1), np.zeros(1), np.zeros((1, 0), dtype=np.intp)
        for a, classes in enumerate(self._selector._classes):
            level = self._selector._level[assignment, a]
            rows = classes.rows(
                self._selector._assignments[assignment, a], settings[self._selector._on_cluster[assignment, a]]
            )
            priced = self._priced(a, price)[level, rows]
            rows = rows[priced >= priced.max() - gap]
            rows = rows[_front(self._power[a][level, rows], self._worth[a][level, rows])]
            power = np.add.outer(power, self._power[a][level, rows]).ravel()
            worth = np.add.outer(worth, self._worth[a][level, rows]).ravel()
            chosen = np.hstack([np.repeat(chosen, len(rows), axis=0), np.tile(rows, len(chosen))[:, None]])
            kept = np.flatnonzero(power <= self._cap)
            kept = kept[_front(power[kept], worth[kept])]
            power, worth, chosen = power[kept], worth[kept], chosen[kept]
        if len(worth):
            self._offer(self._combination(assignment, [int(row) for row in chosen[np.argmax(worth)]]))


def _front(power: np.ndarray, worth: np.ndarray) -> np.ndarray:
    """Indices, power rising, of those for which nothing of less power is worth as much."""
    order = np.lexsort((-worth, power))
    rising = worth[order]
    best_before = np.maximum.accumulate(np.concatenate([[-np.inf], rising[:-1]]))[: len(rising)]
    return order[rising > best_before]


def _judge(
    network: Network, situation: Situation, sharing: np.ndarray, rows: np.ndarray | slice, worse: np.ndarray | float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(worth, penalty, power [W]) of these `rows` ([m]), each [levels, m], when slowed by `sharing` ([levels]).

    Weighted.  Latency, power and energy count as `worse` by a factor; -inf worth: not available.
    """
    table, target = network.table, situation.target
    element = table.element_index[rows]
    mean, variance = situation.slow_down[0][element], situation.slow_down[1][element]
    variance = np.maximum(variance, (table.spread[rows] * mean) ** 2)
    shared = sharing[:, None]
    inference = table.latency[rows] * mean * shared
    end_to_end = inference + situation.overhead[0]
    assured = end_to_end + network.quantile * np.sqrt(
        (table.latency[rows] * shared) ** 2 * variance + situation.overhead[1]
    )
    power = network.power[rows] / shared * worse
    energy = network.energy[rows] * mean * worse
    accuracy = table.accuracy[rows]
    limits = (
        ("deadline", assured * worse, situation.deadline),
        ("energy", energy, target.max_energy),
        ("power", power, target.max_power),
        ("rate", end_to_end * worse, 1.0 / target.min_rate),
    )
    penalty = np.zeros(inference.shape)
    for name, column, most in limits:
        if math.isfinite(most):
            penalty += network.penalty_of(name) * miss_of(column / most - 1.0)
    if target.min_accuracy > 0:
        penalty += network.penalty_of("accuracy") * miss_of(1.0 - accuracy / target.min_accuracy)
    spent = np.minimum(energy / network.greatest_energy, 10.0)
    taken = inference * worse / network.greatest_latency
    utility = _utility(target.objective, accuracy, spent, taken)
    worth = np.where(situation.available[rows], network.weight * (utility - penalty), -np.inf)
    return worth, network.weight * penalty, power


def _judge_one(
    network: Network, situation: Situation, sharing: float, row: int, worse: float
) -> tuple[float, float, float]:
    """(worth, penalty, power [W]) of one row as `_judge` has them.

    The current combination is judged at every report, and numpy takes ten times as long for one number.
    """
    table, target = network.table, situation.target
    element, latency = table.element_index.item(row), table.latency.item(row) * sharing
    mean = situation.slow_down[0].item(element)
    variance = max(situation.slow_down[1].item(element), (table.spread.item(row) * mean) ** 2)
    end_to_end = latency * mean + situation.overhead[0]
    assured = end_to_end + network.quantile * math.sqrt(latency**2 * variance + situation.overhead[1])
    power = network.power.item(row) / sharing * worse
    energy = network.energy.item(row) * mean * worse
    accuracy = table.accuracy.item(row)
    penalty = 0.0
    for name, value, most in (
        ("deadline", assured * worse, situation.deadline),
        ("energy", energy, target.max_energy),
        ("power", power, target.max_power),
        ("rate", end_to_end * worse, 1.0 / target.min_rate),
    ):
        if math.isfinite(most) and value / most - 1.0 > ROUNDING:
            penalty += network.penalty_of(name) * (2.0 - most / value)
    if target.min_accuracy > 0 and 1.0 - accuracy / target.min_accuracy > ROUNDING:
        penalty += network.penalty_of("accuracy") * (2.0 - 1.0 / (2.0 - accuracy / target.min_accuracy))
    spent = min(energy / network.greatest_energy, 10.0)
    taken = latency * mean * worse / network.greatest_latency
    utility = _utility(target.objective, accuracy, spent, taken)
    worth = network.weight * (utility - penalty) if situation.available[row] else -math.inf
    return worth, network.weight * penalty, power


def _utility(objective: Objective, accuracy: Numbers, spent: Numbers, taken: Numbers) -> Numbers:
    """0..1: the more the better; energy `spent` and time `taken` are shares of the greatest ones of the network."""
    best = {Objective.MAX_ACCURACY: accuracy, Objective.MIN_ENERGY: 1.0 - spent, Objective.MIN_LATENCY: 1.0 - taken}
    return best[objective] - TIE_BREAK * (spent + TIE_BREAK * taken)


def miss_of(excess: np.ndarray | float) -> np.ndarray:
    """0 where a limit is met; 1 where it is just missed, up to 2 the farther; `excess`: share of the limit."""
    over = np.maximum(excess, 0.0)
    return np.where(excess > ROUNDING, 2.0 - 1.0 / (1.0 + over), 0.0)

"""Choosing the points of several networks together: against trying everything, and what they share."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tables import board, point, table

from dynamic_perception.management.joint_selection import Combination, JointSelector, Network
from dynamic_perception.management.selection import Situation
from dynamic_perception.management.settings import ManagerSettings
from dynamic_perception.management.slow_downs import cluster_of, threads_of
from dynamic_perception.management.target import Objective, Target

CORES = {"cpu0": 2, "cpu4": 4, "gpu": 1}
FRUGAL = Target(objective=Objective.MIN_ENERGY)


def situation(points, target: Target = Target(), **changes) -> Situation:
    """Nothing but the target matters, unless said."""
    count = len(points.elements)
    ordinary = Situation(
        target=target,
        deadline=math.inf if math.isnan(target.max_latency) else target.max_latency,
        thermal_cap=math.inf,
        battery_cap=math.inf,
        battery_ignored=False,
        fallback=False,
        slow_down=(np.ones(count), np.full(count, 1e-3)),
        overhead=(1e-3, 1e-8),
        available=np.ones(len(points), dtype=bool),
    )
    return ordinary._replace(**changes)


def selector_of(*tables, weights=(), cores=CORES) -> JointSelector:
    weights = weights or [1.0] * len(tables)
    return JointSelector([Network(points, ManagerSettings(), weight) for points, weight in zip(tables, weights)], cores)


def clocks_agree(tables, rows) -> bool:
    """No cluster is asked for two clock settings."""
    asked: dict[str, tuple] = {}
    for points, row in zip(tables, rows):
        chosen = points[row]
        setting = tuple(np.nan_to_num([chosen.cpu_frequency, chosen.gpu_frequency]))
        if any(setting) and asked.setdefault(cluster_of(chosen.compute_element), setting) != setting:
            return False
    return True


def try_everything(selector, situations, cap, current=(), margin=0.0) -> Combination:
    """What solve() says that it finds, by looking at every combination."""
    tables = [network.table for network in selector.networks]
    combinations = list(product(*(range(len(points)) for points in tables)))
    agreeing = [rows for rows in combinations if clocks_agree(tables, rows)]
    every = [selector.evaluate(situations, rows, current, margin) for rows in agreeing or combinations]
    within = [combination for combination in every if combination.is_within(cap) and combination.worth > -math.inf]
    if within:
        return max(within, key=lambda combination: combination.worth)
    return min((c for c in every if c.worth > -math.inf), key=lambda combination: combination.power)


clocks = st.sampled_from([math.nan, 0.0, 1.0e9, 1.5e9])
points_of_a_network = st.lists(
    st.tuples(
        st.sampled_from(["cpu0:1", "cpu0:2", "cpu4:1", "cpu4:4", "gpu"]),
        st.floats(1e-3, 0.1),
        st.one_of(st.just(math.nan), st.floats(0.5, 10.0)),
        st.floats(0.1, 1),
        clocks,
    ),
    min_size=1,
    max_size=7,
).map(
    lambda rows: table(
        [
            point(f"{row}", element, latency, power, accuracy, cpu_frequency=clock)
            for row, (element, latency, power, accuracy, clock) in enumerate(rows)
        ]
    )
)
maybe = lambda low, high: st.one_of(st.just(math.nan), st.floats(low, high))  # noqa: E731
targets = st.builds(
    Target,
    max_latency=maybe(1e-3, 0.1),
    max_energy=maybe(1e-3, 0.5),
    max_power=maybe(0.5, 10),
    min_accuracy=maybe(0.1, 1),
    objective=st.sampled_from(Objective),
    min_rate=maybe(5, 100),
)
networks = st.lists(st.tuples(points_of_a_network, targets, st.floats(0.5, 4)), min_size=2, max_size=3)


@settings(deadline=None, max_examples=300)
@given(networks, st.one_of(st.just(math.inf), st.floats(0.1, 25.0)), st.booleans(), st.randoms())
def test_no_combination_is_better_than_the_one_that_is_found(networks, cap, has_current, random):
    tables, asked, weights = zip(*networks)
    selector = selector_of(*tables, weights=weights)
    situations = [situation(points, target) for points, target in zip(tables, asked)]
    current, margin = (), 0.0
    if has_current:
        current, margin = [random.randrange(len(points)) for points in tables], 0.1
    found = selector.solve(situations, cap, current, margin)
    exact = try_everything(selector, situations, cap, current, margin)
    if exact.is_within(cap):
        assert found.worth == pytest.approx(exact.worth, rel=1e-6, abs=1e-6)
        assert found.is_within(cap)
        assert clocks_agree(tables, found.rows) or not clocks_agree(tables, exact.rows)
    elif exact.worth > -math.inf:
        assert found.power == pytest.approx(exact.power, rel=1e-6)


def test_the_number_of_threads_is_read_from_the_elements_name():
    assert [threads_of(element) for element in ("cpu4:4", "cpu:1", "gpu", "gpu:x")] == [4, 1, 1, 1]


def test_more_threads_than_cores_slow_everybody_on_the_cluster():
    points = table([point("a", "cpu4:4"), point("a", "cpu4:1"), point("a", "gpu")])
    selector = selector_of(points, points)
    assert selector.sharing([0, 1], 0).tolist() == [1.25, 1.0, 1.0]  # 4 + 1 threads on 4 cores; 1 + 1 on them
    assert selector.sharing([0, 2], 0).tolist() == [1.0, 1.0, 2.0]  # two on the GPU take turns
    assert selector.sharing([0, -1], 0).tolist() == [1.0, 1.0, 1.0]  # the other one does not run


def test_who_takes_turns_draws_power_for_its_turns_alone():
    points = table([point("a", "gpu", power=6.0)])
    selector = selector_of(points, points)
    assert selector.evaluate([situation(points)] * 2, [0, 0]).power == 6.0


def test_two_networks_do_not_both_take_the_element_that_only_serves_one():
    points = table([point("a", "gpu", latency=10e-3), point("a", "cpu4:4", latency=18e-3)])
    found = selector_of(points, points).solve([situation(points, Target(max_latency=20.5e-3))] * 2, math.inf)
    assert sorted(points.compute_element[row] for row in found.rows) == ["cpu4:4", "gpu"]
    assert found.penalty == 0.0


def test_on_one_cluster_the_clock_is_the_same_for_both():
    fast_or_slow = table(
        [
            point("a", "cpu4:1", latency=10e-3, power=1.0, cpu_frequency=1e9),
            point("a", "cpu4:1", latency=5e-3, power=3.0, cpu_frequency=2e9),
        ]
    )
    hurried, patient = Target(max_latency=8e-3, objective=Objective.MIN_ENERGY), FRUGAL
    selector = selector_of(fast_or_slow, fast_or_slow)
    found = selector.solve([situation(fast_or_slow, hurried), situation(fast_or_slow, patient)], math.inf)
    assert found.rows == (1, 1)
    assert selector.solve([situation(fast_or_slow, patient)] * 2, math.inf).rows == (0, 0)


def test_a_point_that_leaves_the_clock_alone_goes_with_any_clock():
    free = table([point("a", "cpu4:1")])
    fixed = table([point("a", "cpu4:1", cpu_frequency=2e9)])
    assert selector_of(free, fixed).solve([situation(free), situation(fixed)], math.inf).rows == (0, 0)


def test_under_a_power_cap_the_network_of_more_weight_keeps_its_accuracy():
    points = table(
        [point("small", "cpu0:1", power=1.0, accuracy=0.7), point("large", "cpu0:1", power=3.0, accuracy=0.8)]
    )
    for weights, expected in (((1.0, 3.0), (0, 1)), ((3.0, 1.0), (1, 0))):
        selector = selector_of(points, points, weights=weights)
        assert selector.solve([situation(points)] * 2, 4.0).rows == expected


def test_where_no_combination_is_cool_enough_it_is_the_coolest():
    selector = selector_of(board(), board())
    found = selector.solve([situation(board())] * 2, 0.0)
    assert found.power == pytest.approx(
        min(selector.evaluate([situation(board())] * 2, rows).power for rows in product(range(8), repeat=2))
    )


def test_limits_are_given_up_in_the_declared_order():
    points = table(
        [point("small", "gpu", latency=5e-3, accuracy=0.7), point("large", "gpu", latency=20e-3, accuracy=0.9)]
    )
    other = table([point("a", "cpu4:1")])
    asked = Target(max_latency=10e-3, min_accuracy=0.8)
    for relax, expected in ((("accuracy", "deadline"), 0), (("deadline", "accuracy"), 1)):
        chosen = ManagerSettings(relax=relax)
        selector = JointSelector([Network(points, chosen, 1.0), Network(other, chosen, 1.0)], CORES)
        assert selector.solve([situation(points, asked), situation(other)], math.inf).rows[0] == expected


def test_a_point_that_is_not_available_is_not_taken():
    available = np.ones(8, dtype=bool)
    available[7] = False
    situations = [situation(board(), available=available), situation(board())]
    assert selector_of(board(), board()).solve(situations, math.inf).rows[0] != 7


def test_too_many_elements_for_all_assignments_leave_out_the_slowest():
    wide = table(
        [
            point("a", f"cpu{cluster}:{threads}", latency=1e-3 * (1 + cluster))
            for cluster in range(4)
            for threads in (1, 2, 4)
        ]
    )
    found = selector_of(*[wide] * 5, cores={}).solve([situation(wide)] * 5, math.inf)
    assert found.penalty == 0.0

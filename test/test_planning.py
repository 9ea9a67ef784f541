"""A plan is the manager's choice on an undisturbed machine, with the reasons against the other points."""

from __future__ import annotations

import math

import pytest
from tables import board, point, table

from dynamic_perception.management.planning import make_plan
from dynamic_perception.management.target import Objective, Target

CLOCKED = table(
    [
        point("25%", "cpu:1", 8e-3, 1.0, 0.78, cpu_frequency=1e9),
        point("25%", "cpu:1", 4e-3, 3.0, 0.78, 2e9),
        point("50%", "cpu:1", 16e-3, 1.0, 0.81, cpu_frequency=1e9),
        point("50%", "cpu:1", 8e-3, 3.0, 0.81, cpu_frequency=2e9),
    ]
)  # energies 8, 12, 16, 24 mJ


def names(points, plan) -> list[str]:
    return [f"{points[r.index].subnetwork} {points[r.index].compute_element}" for r in plan]


def test_without_limits_the_objective_alone_decides():
    assert make_plan(board(), Target()).index == 7
    assert make_plan(board(), Target(objective=Objective.MIN_LATENCY)).index == 4


def test_the_best_point_within_every_limit_is_chosen():
    plan = make_plan(board(), Target(max_latency=8e-3, max_power=2.0))
    assert board()[plan.index].subnetwork == "50%"
    assert plan.feasible and plan.met == 2


def test_every_limit_says_how_many_points_miss_it():
    plan = make_plan(board(), Target(max_latency=8e-3, max_power=2.0))
    assert plan.excluded == {"deadline": 3, "power": 4}


def test_a_better_point_says_which_limit_it_misses_and_by_how_much():
    plan = make_plan(board(), Target(max_latency=8e-3, max_power=2.0))
    assert names(board(), plan.better) == ["100% cpu:2", "100% cpu:1", "75% cpu:2", "75% cpu:1"]
    (deadline,) = plan.better[1].misses
    assert (deadline.limit, deadline.asked, deadline.got) == ("deadline", 8e-3, pytest.approx(22e-3))
    assert [miss.limit for miss in plan.better[2].misses] == ["power"]


def test_the_next_best_points_meet_every_limit():
    plan = make_plan(board(), Target(max_latency=8e-3, max_power=2.0))
    assert names(board(), plan.next_best) == ["25% cpu:1"]
    assert plan.next_best[0].misses == ()


def test_the_chosen_point_at_another_clock_may_be_better_but_for_a_limit():
    plan = make_plan(CLOCKED, Target(max_latency=10e-3))
    assert plan.index == 3
    assert [(runner_up.index, runner_up.misses[0].limit) for runner_up in plan.better] == [(2, "deadline")]


def test_a_point_is_named_once_at_its_best_clock():
    assert [r.index for r in make_plan(CLOCKED, Target()).next_best] == [0]


def test_where_no_point_meets_all_limits_the_plan_says_what_the_chosen_one_misses():
    plan = make_plan(board(), Target(max_latency=5e-3, min_accuracy=0.84))
    assert not plan.feasible
    assert [miss.limit for miss in plan.misses] == ["accuracy"]
    assert plan.met == 0 and plan.excluded == {"deadline": 5, "accuracy": 6}


def test_the_spread_of_the_profile_counts_against_the_deadline():
    points = table([point(latency=10e-3, latency_p95=20e-3, accuracy=0.9), point("50%", latency=10e-3)])
    assert make_plan(points, Target(max_latency=15e-3)).index == 1
    assert math.isclose(make_plan(points, Target(max_latency=15e-3)).better[0].misses[0].got, 20e-3)

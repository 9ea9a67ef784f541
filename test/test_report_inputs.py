"""What a report says to the manager: the clocks it was made at, and which part of a frame's age is the machine's."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest

from dynamic_perception.nodes.manager_inputs import Answers, give_report, give_state

ASKED = {"cpu_frequency": 2.0e9, "gpu_frequency": 1.0e9}


class Heard:
    """A manager that keeps what it is told."""

    def __init__(self):
        self.reports, self.clocks = [], []

    def observe_report(self, *report):
        self.reports.append(report)

    def observe_clock(self, *clock):
        self.clocks.append(clock)


def message(**fields):
    stamp = SimpleNamespace(sec=fields.pop("sec", 1), nanosec=0)
    return SimpleNamespace(header=SimpleNamespace(stamp=stamp), **fields)


def report(**fields):
    values = {
        "sequence": 1,
        "subnetwork": "100%",
        "compute_element": "gpu:1",
        "age_at_start": 0.004,
        "inference_duration": 0.010,
        "end_to_end_duration": 0.016,
        "deadline": 0.05,
        "cpu_frequency": math.nan,
        "gpu_frequency": math.nan,
    }
    return message(**{**values, **fields})


def answers(asked=ASKED, actual=ASKED, **fields) -> Answers:
    """What is known after command 1 was answered."""
    result = Answers()
    point = SimpleNamespace(compute_element="gpu:1", **asked)
    result.expect(message(sequence=1, operating_point=point))
    state = message(sequence=1, result=0, requested=point, actual=SimpleNamespace(**actual), **fields)
    state.command_stamp = SimpleNamespace(sec=1, nanosec=0)
    assert give_state(Heard(), 0.0, result, state)
    return result


def told(message, known=None):
    """(overhead, CPU clock, GPU clock) that the manager is told."""
    manager = Heard()
    assert give_report(manager, 0.0, "", message, known or answers()) == ""
    return manager.reports[0][5:]


def test_the_clocks_are_those_of_the_report():
    assert told(report(cpu_frequency=1.5e9, gpu_frequency=0.7e9))[1:] == (1.5e9, 0.7e9)


def test_a_report_of_an_older_version_is_taken_to_be_made_at_the_clocks_that_were_answered():
    actual = {"cpu_frequency": 1.8e9, "gpu_frequency": 0.9e9}
    assert told(report(), answers(actual=actual))[1:] == (1.8e9, 0.9e9)


def test_a_report_of_another_command_says_nothing_about_the_clocks_that_were_asked_for():
    clocks = told(report(sequence=7, cpu_frequency=1.5e9, gpu_frequency=0.7e9))[1:]
    assert all(math.isnan(clock) for clock in clocks)


def test_a_clock_that_nobody_asked_for_is_none_that_could_be_throttled():
    asked = {"cpu_frequency": 0.0, "gpu_frequency": math.nan}
    clocks = told(report(cpu_frequency=1.5e9, gpu_frequency=0.7e9), answers(asked=asked))[1:]
    assert all(math.isnan(clock) for clock in clocks)


def test_a_state_tells_both_clocks():
    manager, known = Heard(), answers(actual={"cpu_frequency": 1.8e9, "gpu_frequency": 0.9e9})
    give_state(manager, 5.0, known, known.newest)
    assert manager.clocks == [(5.0, "gpu:1", 2.0e9, 1.8e9, "cpu"), (5.0, "gpu:1", 1.0e9, 0.9e9, "gpu")]


@pytest.mark.parametrize(
    "age, deadline, overhead",
    [(0.004, 0.05, 0.006), (0.3, 0.05, 0.302), (5.0, 0.05, 0.002), (5.0, math.nan, 0.002), (5.0, 6.0, 5.002)],
)
def test_an_age_that_no_point_can_make_up_for_is_no_overhead(age, deadline, overhead):
    message = report(age_at_start=age, deadline=deadline, end_to_end_duration=age + 0.012)
    assert told(message)[0] == pytest.approx(overhead)


@pytest.mark.parametrize("age", [math.nan, -1.998])
def test_a_report_of_an_older_version_may_have_no_age_or_a_negative_one(age):
    assert told(report(age_at_start=age, end_to_end_duration=0.012))[0] == pytest.approx(0.002)


def test_without_the_name_of_its_command_an_older_answer_is_told_by_its_stamp():
    known = Answers()
    known.expect(message(sequence=1, sec=100))
    state = message(sequence=1, result=0, sec=99, command_stamp=SimpleNamespace(sec=0, nanosec=0))
    assert not known.is_news(state)
    state.header.stamp.sec = 100
    assert known.is_news(state)

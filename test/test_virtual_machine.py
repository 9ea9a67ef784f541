"""The machine in virtual time: the same again for the same seed, energy is conserved, heat throttles."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynamic_perception.simulation.boards import Board, find_board
from dynamic_perception.simulation.catalogue import MANAGERS
from dynamic_perception.simulation.families import make_trace
from dynamic_perception.simulation.manager import Manager
from dynamic_perception.simulation.summary import summarise
from dynamic_perception.simulation.trace import Trace
from dynamic_perception.simulation.virtual_machine import VirtualMachine

FULL = ("100%", "a15:4", 2.0e9)


class AtRow(Manager):
    """Always the same row; keeps what it hears."""

    name = "one row"

    def __init__(self, board: Board, row: int):
        super().__init__(board)
        self.row = row
        self.heard: list[tuple[float, float, float]] = []
        self.reports: list[tuple] = []

    def decide(self, time, frame):
        return self.row

    def report(self, *values):
        self.reports.append(values)

    def hear(self, time, celsius, charge):
        self.heard.append((time, celsius, charge))


@pytest.fixture(scope="module")
def board() -> Board:
    return find_board("odroid_xu3")


def at(board: Board, subnetwork: str, element: str, clock: float) -> AtRow:
    return AtRow(board, board.table.find(subnetwork, element, clock))


def steady(frames: int, period: float, **columns) -> Trace:
    return Trace(period * (1 + np.arange(frames)), deadline=columns.pop("deadline", period), overhead=0.0, **columns)


@pytest.mark.parametrize("name", MANAGERS)
def test_the_same_seed_gives_the_same_run(name, board):
    trace = make_trace("mixed", board, 7, 120)
    machine = VirtualMachine(board, trace, 3)
    one, other = machine.run(MANAGERS[name](board)), machine.run(MANAGERS[name](board))
    for column in ("asked", "ran", "latency", "energy", "temperature", "charge"):
        np.testing.assert_array_equal(getattr(one, column), getattr(other, column))


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 100), name=st.sampled_from(["ours", "alert", "schedutil", "oracle", "fixed-largest"]))
def test_the_battery_loses_what_inferences_resting_and_the_rest_of_the_robot_take(seed, name, board):
    trace = make_trace("calm", board, seed, 80)
    run = VirtualMachine(board, trace, seed).run(MANAGERS[name](board))
    taken = np.nansum(run.energy) + run.resting_energy + trace.other_load[0] * run.seconds
    polled = 0.3 * (trace.other_load[0] + board.table.power.max())  # [J] the charge is that of the last poll
    left = run.charge[-1] * board.battery_capacity
    assert left == pytest.approx(board.battery_capacity - taken, abs=polled + taken / 50)


def test_an_inference_takes_profiled_latency_times_slow_down_at_the_rows_power(board):
    manager = at(board, "50%", "a7:4", 1.0e9)
    run = VirtualMachine(board, steady(3, 0.5, slow_down=[1.0, 1.5, 2.0])).run(manager)
    point = board.table[manager.row]
    np.testing.assert_allclose(run.inference, point.latency * np.array([1.0, 1.5, 2.0]))
    np.testing.assert_allclose(run.energy, run.inference * point.power)


def test_heat_lowers_the_clock_and_the_report_says_as_what_it_ran(board):
    manager = at(board, *FULL)
    run = VirtualMachine(board, steady(400, 0.08, ambient=20.0)).run(manager)
    clocks = board.table.cpu_frequency[run.ran]
    assert clocks[0] == 2.0e9 and clocks.min() <= 1.7e9  # three steps down, as from 85 °C
    assert np.nanmax(run.temperature) > 85.0 > np.nanmean(run.temperature[-50:])
    assert manager.reports[-1][2] == run.ran[-1]


def test_a_cool_board_is_never_throttled(board):
    run = VirtualMachine(board, steady(200, 0.3)).run(at(board, "100%", "a7:4", 1.0e9))
    assert (run.ran == run.asked).all()


def test_a_frame_waits_for_the_one_before_and_its_latency_counts_from_its_arrival(board):
    manager = at(board, "25%", "a7:4", 1.0e9)  # 54 ms
    trace = Trace(np.array([0.1, 0.13, 0.5]), 0.1, overhead=0.0)
    run = VirtualMachine(board, trace).run(manager)
    inference = board.table.latency[manager.row]
    assert run.latency[1] == pytest.approx(2 * inference - 0.03)
    assert manager.reports[1][5] == pytest.approx(inference - 0.03)


def test_a_frame_that_a_newer_one_replaces_is_never_answered_and_counts_as_missed(board):
    trace = Trace(np.array([0.1, 0.11, 0.12, 0.5]), 0.2, overhead=0.0)
    run = VirtualMachine(board, trace).run(at(board, "25%", "a7:4", 1.0e9))
    assert run.answered.tolist() == [True, False, True, True]
    assert summarise(run).miss_rate == pytest.approx(0.25)


def test_sensors_are_read_every_second_in_whole_degrees_and_percents(board):
    manager = at(board, *FULL)
    VirtualMachine(board, steady(100, 0.1)).run(manager)
    times, celsius, charges = map(np.array, zip(*manager.heard))
    np.testing.assert_allclose(np.diff(times), 1.0)
    assert (celsius == np.round(celsius)).all()
    np.testing.assert_allclose(charges * 100, np.round(charges * 100), atol=1e-9)


def test_what_a_sensor_says_is_late(board):
    """While it gets hotter, the reading is that of a poll ago."""
    manager = at(board, *FULL)
    run = VirtualMachine(board, steady(100, 0.08)).run(manager)
    time, celsius, _ = manager.heard[1]
    true = run.temperature[np.searchsorted(run.trace.arrival, time)]
    assert celsius < true - 2.0


def test_only_what_was_answered_counts_as_energy(board):
    trace = steady(5, 0.3)
    run = VirtualMachine(board, trace).run(at(board, "25%", "a7:1", 2e8))  # 877 ms
    assert np.isnan(run.energy[~run.answered]).all()
    assert summarise(run).miss_rate == 1.0


def test_a_machine_with_ten_times_the_frames_keeps_twenty_thousand_decisions_a_second(board):
    """The machine alone; a slow or busy computer has three tries."""
    import time

    trace = make_trace("mixed", board, 1, 3000)
    rates = []
    for _ in range(3):
        machine, manager = VirtualMachine(board, trace), MANAGERS["fixed-largest"](board)
        started = time.perf_counter()
        machine.run(manager)
        rates.append(len(trace) / (time.perf_counter() - started))
    assert max(rates) > 20_000


def test_a_board_of_which_no_power_is_known_still_has_latencies(board):
    table = dataclasses.replace(
        board.table, power=np.full(len(board.table), np.nan), energy=np.full(len(board.table), np.nan)
    )
    blind = dataclasses.replace(board, table=table)
    run = VirtualMachine(blind, make_trace("calm", blind, 0, 40)).run(MANAGERS["ours"](blind), "accuracy")
    assert run.met.all() and np.isnan(run.energy).all()

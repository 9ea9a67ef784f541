"""Each manager of a comparison follows its own rule, and the oracle is a bound for all of them."""

from __future__ import annotations

import math
from itertools import groupby

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynamic_perception.management.target import Objective, Target
from dynamic_perception.simulation.alert import Alert, AlertSettings
from dynamic_perception.simulation.boards import Board, find_board
from dynamic_perception.simulation.catalogue import MANAGERS, find_managers
from dynamic_perception.simulation.comparison import recovery_frames, step_trace
from dynamic_perception.simulation.families import FAMILIES, make_trace
from dynamic_perception.simulation.fixed import NetworkOnly
from dynamic_perception.simulation.governors import Schedutil, SchedutilSettings
from dynamic_perception.simulation.oracle import CausalBound, Oracle
from dynamic_perception.simulation.ours import Ours
from dynamic_perception.simulation.summary import keeps_limits
from dynamic_perception.simulation.trace import Trace
from dynamic_perception.simulation.two_networks import SharedBoard, make_shared_trace
from dynamic_perception.simulation.virtual_machine import Run, VirtualMachine


@pytest.fixture(scope="module")
def board() -> Board:
    return find_board("odroid_xu3")


@pytest.fixture(scope="module")
def gpu() -> Board:
    return find_board("jetson_xavier_nx")


def steady(frames: int, period: float, deadline: float, **columns) -> Trace:
    return Trace(period * (1 + np.arange(frames)), deadline, overhead=0.0, **columns)


def names(board: Board, run: Run) -> list[str]:
    return [board.table.subnetwork[row] for row in run.ran]


# ---- the oracle


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    family=st.sampled_from(list(FAMILIES)),
    objective=st.sampled_from(["energy", "accuracy"]),
    name=st.sampled_from([n for n in MANAGERS if n != "oracle"]),
)
def test_in_no_frame_that_keeps_all_limits_is_anybody_better_than_the_oracle(seed, family, objective, name, board):
    machine = VirtualMachine(board, make_trace(family, board, seed, 80), seed)
    oracle, other = machine.run(Oracle(board, budgets=False), objective), machine.run(MANAGERS[name](board), objective)
    kept = keeps_limits(other, objective)
    assert keeps_limits(oracle, objective)[kept].all()
    if objective == "energy":
        assert (oracle.energy[kept] <= other.energy[kept] * (1 + 1e-9)).all()
    else:
        assert (oracle.accuracy[kept] >= other.accuracy[kept] - 1e-9).all()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), family=st.sampled_from(list(FAMILIES)), name=st.sampled_from(list(MANAGERS)))
def test_whoever_is_in_time_the_oracle_is_too(seed, family, name, board):
    machine = VirtualMachine(board, make_trace(family, board, seed, 80), seed)
    oracle, other = machine.run(MANAGERS["oracle"](board)), machine.run(MANAGERS[name](board))
    assert oracle.met[other.met].all()


def test_the_oracle_keeps_the_batterys_policy_where_it_is_asked_to(board):
    machine = VirtualMachine(board, make_trace("battery", board, 1, 300))
    run = machine.run(Oracle(board), "accuracy")
    assert run.charge[-1] < 0.1
    assert board.table.power[run.ran[-20:]].max() <= 0.25 * board.table.power.max()


def test_the_oracle_knows_a_slow_frame_before_it_comes(board):
    slow = np.ones(20)
    slow[10] = 2.0
    run = VirtualMachine(board, steady(20, 0.3, 0.2, slow_down=slow, min_accuracy=0.87)).run(MANAGERS["oracle"](board))
    assert run.met.all()
    assert run.ran[10] != run.ran[9] == run.ran[11]


def test_where_nothing_is_in_time_the_oracle_takes_the_fastest(board):
    run = VirtualMachine(board, steady(5, 0.3, 0.001)).run(MANAGERS["oracle"](board))
    assert board.table.latency[run.ran[0]] == board.table.latency.min()


def test_the_throttled_oracle_chooses_among_the_clocks_that_heat_leaves(board):
    trace = make_trace("heat", board, 2)
    cool, hot = (VirtualMachine(board, trace, 2).run(MANAGERS[name](board)) for name in ("oracle", "throttled-oracle"))
    assert (hot.ran == hot.asked).all()
    assert (hot.asked != cool.asked).any()
    assert (hot.energy >= cool.energy * (1 - 1e-9))[hot.met & cool.met].all()


# ---- the causal bound


def test_the_causal_bound_knows_what_slows_a_frame_but_not_its_noise(board):
    chance, other_work = np.ones(20), np.ones(20)
    chance[10], other_work[15] = 1.9, 1.9
    trace = steady(20, 0.3, 0.12, slow_down=chance * other_work, noise=chance, min_accuracy=0.87)
    run = VirtualMachine(board, trace).run(MANAGERS["causal-bound"](board))
    assert np.flatnonzero(~run.met).tolist() == [10]
    assert run.asked[15] != run.asked[10] == run.asked[9]


@pytest.mark.parametrize("probability", [0.6, 0.9, 0.99])
def test_the_causal_bound_misses_no_more_than_it_is_allowed_to(probability, board):
    machine = VirtualMachine(board, make_trace("calm", board, 2, 400))
    misses = [1.0 - machine.run(CausalBound(board, probability=p)).met.mean() for p in (probability, 0.5)]
    assert misses[0] <= 1.0 - probability + 0.01
    assert misses[0] <= misses[1]


# ---- governors and single knobs


def test_the_largest_network_that_fits_at_full_clock_is_chosen(board):
    """At full clock on four A15: 16, 33, 49 and 65 ms."""
    for deadline, chosen in ((0.030, "25%"), (0.040, "50%"), (0.060, "75%"), (0.100, "100%"), (0.005, "25%")):
        run = VirtualMachine(board, steady(3, 0.3, deadline)).run(MANAGERS["performance"](board))
        assert set(names(board, run)) == {chosen}


@pytest.mark.parametrize("name, clock", [("performance", 2.0e9), ("powersave", 2.0e8), ("fixed-largest", 2.0e9)])
def test_the_fixed_governors_keep_their_clock(name, clock, board):
    run = VirtualMachine(board, steady(5, 2.0, 0.1)).run(MANAGERS[name](board))
    assert (board.table.cpu_frequency[run.asked] == clock).all()


def test_the_best_element_is_the_one_of_least_energy_on_which_the_network_fits(board):
    run = VirtualMachine(board, steady(3, 0.5, 0.2)).run(MANAGERS["schedutil-best-element"](board))
    assert board.table.compute_element[run.ran[-1]] == "a7:4"


def test_schedutil_raises_the_clock_while_work_lasts_and_lets_it_fall_at_rest(board):
    plain = SchedutilSettings(util_est=False)
    busy = VirtualMachine(board, steady(30, 0.08, 0.08)).run(Schedutil(board, settings=plain))
    idle = VirtualMachine(board, steady(30, 1.5, 0.08)).run(Schedutil(board, settings=plain))
    assert busy.inference[5:].mean() < idle.inference[5:].mean()
    assert board.table.cpu_frequency[idle.ran].max() < board.table.cpu_frequency[busy.ran].max()


def test_schedutil_takes_a_quarter_more_than_the_load_so_far(board):
    """At rest the load is 0 and so the clock the lowest, up to the first look that sees more."""
    governor = Schedutil(board, settings=SchedutilSettings(util_est=False))
    row = board.table.find("100%", "a15:4", 2.0e9)
    ladder = board.ladder(row)
    seconds, power, _ = governor.govern(0.0, row, 0.004 / board.table.latency[ladder[0]], 0, 0.0)
    assert seconds == pytest.approx(0.004)
    assert power == pytest.approx(board.table.power[ladder[0]])
    load = (1 - 0.5 ** (4 / 32)) * 0.1  # one tick at 200 of 2000 MHz
    expected = np.flatnonzero(board.clock[ladder] / 2.0e9 >= 1.25 * load)[0]
    _, _, last = governor.govern(0.004, row, 0.004 / board.table.latency[ladder[expected]], 0, 0.0)
    assert last == ladder[expected]


def test_util_est_remembers_how_busy_the_last_inferences_were(board):
    trace = steady(20, 0.15, 0.1)
    governors = [Schedutil(board, settings=SchedutilSettings(util_est=on)) for on in (True, False)]
    with_estimate, without = (VirtualMachine(board, trace).run(governor) for governor in governors)
    assert with_estimate.inference[-1] < without.inference[-1]


def test_other_work_that_fills_a_core_keeps_schedutil_at_full_clock(board):
    run = VirtualMachine(board, steady(10, 0.4, 0.1, other_threads={"a15": 1.0})).run(Schedutil(board))
    assert (board.table.cpu_frequency[run.ran] >= 1.8e9).all()


def test_network_only_moves_one_step_down_after_twenty_slow_frames(board):
    """65 ms of the largest one become 98 ms, of 90; 75 % takes 73 ms."""
    slow = np.where(np.arange(60) >= 25, 1.5, 1.0)
    run = VirtualMachine(board, steady(60, 0.3, 0.09, slow_down=slow)).run(NetworkOnly(board))
    chosen = names(board, run)
    first = chosen.index("75%")
    assert set(chosen[:first]) == {"100%"} and set(chosen[first:]) == {"75%"}
    mean = np.mean(run.latency[first - 20 : first])
    assert mean > 0.09 >= np.mean(run.latency[first - 21 : first - 1])


def test_network_only_comes_back_one_step_at_a_time(board):
    slow = np.where(np.arange(200) < 70, 4.0, 1.0)
    run = VirtualMachine(board, steady(200, 0.3, 0.1, slow_down=slow)).run(NetworkOnly(board))
    order = [name for name, _ in groupby(names(board, run))]
    assert order == ["100%", "75%", "50%", "25%", "50%", "75%", "100%"]


# ---- ALERT


def test_alerts_filter_is_the_published_one(board):
    """One sample of 1.5 with K 0.5, mu 1, P 0.1, alpha 0.3, Q0 0.1, R 0.001, by hand."""
    alert = Alert(board, AlertSettings())
    alert.report(0.0, 0, 0, 1.5 * board.table.latency[0], 0.0, 0.0)
    assert alert.variance == pytest.approx(0.5 * 0.1 + 0.1)
    assert alert.gain == pytest.approx(0.15 / 0.151)
    assert alert.mean == pytest.approx(1.0 + 0.15 / 0.151 * 0.5)
    alert.report(0.1, 0, 0, 1.5 * board.table.latency[0], 0.0, 0.0)
    process = 0.3 * 0.1 + 0.7 * (0.15 / 0.151 * 0.5) ** 2
    assert alert.variance == pytest.approx((1 - 0.15 / 0.151) * 0.15 + process)


def test_alert_takes_the_least_energy_among_what_is_likely_enough(board):
    alert = Alert(board, AlertSettings(probability=0.95), overhead=0.0)
    alert.mean, alert.variance = 1.2, 0.01
    alert.set_target(0.0, Target(max_latency=0.1, min_accuracy=0.84, objective=Objective.MIN_ENERGY))
    likely = 0.1 / board.table.latency >= 1.2 + 1.6448536 * 0.1
    allowed = np.flatnonzero(likely & (board.table.accuracy >= 0.84))
    assert alert.decide(0.0, 0) == allowed[np.argmin(board.table.energy[allowed])]


def test_alert_believes_that_what_slows_one_element_slows_all(board):
    """The A7 is not slowed; ALERT counts its energy and latency up all the same."""
    alert = Alert(board)
    for frame in range(10):
        row = board.table.find("50%", "a15:4", 1.0e9)
        alert.report(0.1 * frame, row, row, 2.0 * board.table.latency[row], 0.0, 0.0)
    alert.set_target(0.0, Target(max_latency=0.15, max_energy=math.nan, objective=Objective.MAX_ACCURACY))
    assert board.table.latency[alert.decide(1.0, 10)] * 2.0 <= 0.15


# ---- ours, and two networks


def test_ours_recovers_from_a_step_of_every_element(board):
    runs = [VirtualMachine(board, step_trace(board, seed), seed).run(Ours(board), "accuracy") for seed in (0, 2, 4)]
    assert all(run.met[-40:].mean() > 0.9 for run in runs)


def test_recovery_is_the_first_frame_from_which_five_in_a_row_are_in_time(board):
    slow = np.where(np.isin(np.arange(20), (5, 6, 8)), 2.0, 1.0)
    run = VirtualMachine(board, steady(20, 0.3, 0.1, slow_down=slow)).run(MANAGERS["fixed-largest"](board))
    assert recovery_frames(run, step=5) == 5


def test_ours_tells_why_it_moved(board):
    run = VirtualMachine(board, make_trace("bursts", board, 3, 300)).run(Ours(board))
    assert run.events[0][1].startswith("startup: ")
    assert any(text.startswith("contention: ") for _, text in run.events[1:])


def test_two_networks_on_one_gpu_take_turns(gpu):
    machine = SharedBoard(gpu)
    seconds, energy = machine._take_turns(0.0, {0: 0, 1: 59}, 1.0)
    short, long = gpu.table.latency[0], gpu.table.latency[59]
    if short > long:
        short, long = long, short
    assert min(seconds.values()) == pytest.approx(2 * short)
    assert max(seconds.values()) == pytest.approx(short + long)
    assert energy[0] == pytest.approx(gpu.table.energy[0], rel=1e-4)


def test_networks_on_clusters_of_their_own_do_not_slow_each_other(board):
    rows = {0: board.table.find("100%", "a15:4", 1.0e9), 1: board.table.find("100%", "a7:4", 1.0e9)}
    seconds, _ = SharedBoard(board)._take_turns(0.0, rows, 1.0)
    assert seconds == {network: pytest.approx(board.table.latency[row]) for network, row in rows.items()}


def test_the_second_network_comes_and_goes_and_both_keep_their_floors(board):
    shared = make_shared_trace(board, 2, 120)
    run = SharedBoard(board).run_joint(shared, (0.84, 0.84))
    there = ~np.isnan(run.latency)
    assert there[:, 0].mean() > 0.95 and not there[:18, 1].any() and not there[102:, 1].any()
    assert run.miss_rate < 0.1
    assert np.nanmean(run.accuracy) > 0.84


def test_an_unknown_manager_is_refused_with_what_there_is(board):
    with pytest.raises(ValueError, match="no manager 'magic': expected one of oracle, throttled-oracle"):
        find_managers(["ours", "magic"], board)

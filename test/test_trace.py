"""Traces are the same again for the same seed, survive a file, and say what is wrong with them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from dynamic_perception.simulation.boards import Board, find_board
from dynamic_perception.simulation.families import FAMILIES, make_trace
from dynamic_perception.simulation.trace import COLUMNS, Trace, load_trace, slow_downs


@pytest.fixture(scope="module")
def board() -> Board:
    return find_board("odroid_xu3")


def same(one: Trace, other: Trace) -> bool:
    columns = all(np.array_equal(getattr(one, name), getattr(other, name)) for name in ("arrival", *COLUMNS))
    threads = all(np.array_equal(values, other.other_threads[cluster]) for cluster, values in one.other_threads.items())
    return columns and threads and one.charge == other.charge


@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_seed_gives_the_same_trace_and_another_seed_another_one(family, board):
    trace = make_trace(family, board, 5, 100)
    assert same(trace, make_trace(family, board, 5, 100))
    assert not same(trace, make_trace(family, board, 6, 100))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_frame_in_time_has_ended_when_the_next_one_arrives(family, board):
    for seed in range(5):
        trace = make_trace(family, board, seed)
        assert (trace.deadline[:-1] <= np.diff(trace.arrival)).all()


def test_what_makes_a_family_is_in_its_traces(board):
    traces = {family: make_trace(family, board, 2) for family in FAMILIES}
    assert np.quantile(traces["calm"].slow_down, [0.1, 0.9]) == pytest.approx(1.0, abs=0.06)
    assert traces["bursts"].other_threads["a15"].max() >= 1
    assert traces["ramps"].slow_down.max() > 1.2
    assert traces["heat"].ambient[-1] >= 10
    assert traces["battery"].charge < 0.3
    assert len(np.unique(traces["mixed"].deadline)) > 1


def test_an_unknown_family_is_refused_with_what_there_is(board):
    with pytest.raises(ValueError, match="no family of traces 'stormy': expected one of calm, bursts"):
        make_trace("stormy", board, 0)


def test_a_trace_survives_its_file(board, tmp_path):
    trace = make_trace("mixed", board, 3, 50)
    trace.save(tmp_path / "trace.npz")
    assert same(trace, load_trace(tmp_path / "trace.npz"))
    assert [path.name for path in tmp_path.iterdir()] == ["trace.npz"]


def test_a_recording_in_yaml_needs_arrival_deadline_and_slow_down(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("arrival: [0.0, 0.1, 0.2]\ndeadline: 0.08\nslow_down: [1.0, 1.5, 1.02]\n")
    trace = load_trace(file)
    assert trace.deadline.tolist() == [0.08] * 3
    assert trace.slow_down.tolist() == [1.0, 1.5, 1.02]


@pytest.mark.parametrize(
    "text, said",
    [
        ("deadline: 0.1\n", "arrival is missing"),
        ("arrival: [0.0, 0.1]\ndeadline: 0.1\nspeed: 3\n", "unknown name 'speed': expected arrival, deadline"),
        ("arrival: [0.0, 0.1]\ndeadline: [0.1]\n", r"deadline has shape \(1,\): expected one number, or \(2,\)"),
        ("arrival: [0.1, 0.0]\ndeadline: 0.1\n", "arrival does not rise"),
        ("arrival: [0.0, 0.1]\ndeadline: [0.1, -1]\n", "deadline, frame 1: -1: expected more than 0 s"),
        (
            "arrival: [0.0]\ndeadline: 0.1\nslow_down: 1.0e+15\n",
            r"slow_down, frame 0: 1e\+15: expected more than 0, at most",
        ),
        ("arrival: [0.0]\ndeadline: 0.1\nslow_down: 0\n", "slow_down, frame 0: 0: expected more than 0"),
        ("arrival: [0.0]\ndeadline: 0.1\nnoise: -1\n", "noise, frame 0: -1: expected more than 0"),
        ("- 1\n", "holds list: expected names and columns"),
        ("arrival: [\n", "no valid YAML"),
    ],
)
def test_a_file_that_is_no_trace_is_refused_by_name_and_value(text, said, tmp_path):
    file = tmp_path / "wrong.yaml"
    file.write_text(text)
    with pytest.raises(ValueError, match=f"wrong.yaml: .*{said}"):
        load_trace(file)


def test_threads_that_are_more_than_the_cores_take_turns(board):
    trace = Trace(np.array([0.0, 1.0]), 0.1, slow_down=[1.0, 1.1], other_threads={"a15": [0.0, 2.0]})
    factors = slow_downs(trace, board.clusters, board.element_cluster, board.threads, board.cores)
    by_element = dict(zip(board.table.elements, factors.T.tolist()))
    assert by_element["a15:2"] == pytest.approx([1.0, 1.1])
    assert by_element["a15:4"] == pytest.approx([1.0, 1.1 * 6 / 4])
    assert by_element["a7:4"] == pytest.approx([1.0, 1.1])


def test_other_work_on_a_cluster_that_there_is_not_is_refused(board):
    trace = dataclasses.replace(make_trace("calm", board, 0, 10), other_threads={"gpu": 1.0})
    with pytest.raises(ValueError, match="cluster 'gpu': the platform has a15, a7"):
        slow_downs(trace, board.clusters, board.element_cluster, board.threads, board.cores)

"""The search keeps what nothing beats, goes on where it was, and says at once what cannot be had."""

import json
from dataclasses import replace
from itertools import pairwise

import cv2
import numpy as np
import pytest
import torch
from bundles import TINY, TINY_OFA, TINY_SEGMENTER, TINY_SPACES, make_bundle
from hypothesis import given
from hypothesis import strategies as st

from dynamic_perception.cli import main
from dynamic_perception.hardware.compute_element import discover_elements
from dynamic_perception.networks.bundle import read_bundle, write_model_file
from dynamic_perception.networks.families import make_supernet
from dynamic_perception.training.candidates import SEARCHED, CandidateMeter, MeasurementLog, MeasurementSettings
from dynamic_perception.training.images import read_split
from dynamic_perception.training.pareto import InfeasibleError, Limits, Point, closest, front, spread
from dynamic_perception.training.sandwich import held_out_score
from dynamic_perception.training.search import RUNGS, search
from dynamic_perception.training.tasks import ClassificationTask

EVALUATIONS = 60
few_values = st.sampled_from([0.1, 0.2, 0.5, 0.7, 0.9])  # so that ties are common
points_of_numbers = st.lists(st.builds(Point, st.integers(), few_values, few_values), min_size=1, max_size=12)
limits_of_numbers = st.builds(Limits, few_values, few_values)


def pretended(config) -> Point:
    """A made-up measurement: early stages cost most and late ones gain most, and large kernels only cost."""
    latency, gain = 1e-5 * config.resolution, 0.01 * config.resolution
    for stage, (kernels, expansions) in enumerate(zip(config.kernels, config.expansions)):
        latency += 1e-5 * (5 - stage) * (sum(kernels) + sum(expansions))
        gain += 0.02 * (1 + stage) * sum(expansions)
    return Point(config, latency, 1 - 1 / (1 + gain))


def beats(one: Point, other: Point) -> bool:
    return (
        one.latency <= other.latency
        and one.accuracy >= other.accuracy
        and (one.latency, one.accuracy) != (other.latency, other.accuracy)
    )


@given(points_of_numbers)
def test_the_front_is_what_nothing_beats_and_rises_strictly(points):
    kept = front(points)
    assert all(
        (k.latency, k.accuracy) == (p.latency, p.accuracy)
        for p in points
        if not any(beats(other, p) for other in points)
        for k in kept
        if k.latency == p.latency
    )
    assert {p.latency for p in points if not any(beats(other, p) for other in points)} == {k.latency for k in kept}
    assert all(a.latency < b.latency and a.accuracy < b.accuracy for a, b in pairwise(kept))


@given(points_of_numbers, limits_of_numbers)
def test_nothing_breaks_both_limits_by_less_than_the_closest_points(points, limits):
    found = [limits.excess(point) for point in closest(points, limits)]
    for latency, accuracy in map(limits.excess, points):
        assert any(a <= latency and b <= accuracy for a, b in found)
    assert all(a[0] < b[0] and a[1] > b[1] for a, b in pairwise(found))


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=20, unique=True).map(sorted), st.integers(1, 12))
def test_spread_positions_rise_and_hold_both_ends(values, count):
    chosen = spread(values, count)
    assert len(chosen) == min(count, len(values)) and all(a < b for a, b in pairwise(chosen))
    assert chosen[-1] == len(values) - 1 and (chosen[0] == 0 or count == 1)


@given(st.integers(2, 12), st.integers(1, 6))
def test_evenly_spaced_values_are_spread_evenly(count, step):
    values = [float(i) for i in range((count - 1) * step + 1)]
    assert spread(values, count) == [i * step for i in range(count)]


@pytest.mark.parametrize("space", TINY_SPACES, ids=lambda space: space.family)
def test_first_genes_give_the_smallest_and_last_ones_the_largest(space):
    assert space.from_genes([choices[0] for choices in space.genes()]) == space.smallest()
    assert space.from_genes([choices[-1] for choices in space.genes()]) == space.largest()


@pytest.mark.parametrize("space", TINY_SPACES, ids=lambda space: space.family)
@given(data=st.data())
def test_any_genes_give_a_canonical_subnetwork(space, data):
    config = space.from_genes([data.draw(st.sampled_from(choices)) for choices in space.genes()])
    assert space.subnet(config.to_plain()) == config


def test_a_small_space_is_measured_whole():
    points = search(TINY_SEGMENTER, lambda c: Point(c, 1e-9 * TINY_SEGMENTER.macs(c), c.width / 8), Limits(), 10, 1)
    assert len({point.config for point in points}) == len(points) == 10


def test_a_large_space_is_measured_as_often_as_allowed():
    points = search(TINY_OFA, pretended, Limits(), EVALUATIONS, 1)
    assert len({point.config for point in points}) == len(points) == EVALUATIONS


def test_evolution_beats_most_of_what_as_many_random_subnetworks_find():
    beaten, found, lost, evolved_points = 0, 0, 0, 0
    for seed in range(4):
        evolved = front(search(TINY_OFA, pretended, Limits(), 120, seed))
        rng = np.random.default_rng(seed)
        drawn = front(pretended(TINY_OFA.sample(rng)) for _ in range(120))
        beaten += sum(any(beats(one, other) for one in evolved) for other in drawn)
        lost += sum(any(beats(one, other) for one in drawn) for other in evolved)
        found, evolved_points = found + len(drawn), evolved_points + len(evolved)
    assert beaten > 0.5 * found and lost < 0.1 * evolved_points


def test_limits_draw_the_search_to_what_they_admit():
    limits = Limits(pretended(TINY_OFA.largest()).latency / 2)
    free, limited = (search(TINY_OFA, pretended, one, EVALUATIONS, 1) for one in (Limits(), limits))
    assert sum(map(limits.admit, limited)) > sum(map(limits.admit, free))


class Interrupted(Exception):
    """Stops a search in the middle, as Ctrl-C does."""


@pytest.mark.parametrize("stop_at", [1, 2, 25, 41])
def test_an_interrupted_search_measures_only_the_rest_and_finds_the_same(tmp_path, stop_at):
    def run(interrupt_at) -> tuple[list[Point], int]:
        log = MeasurementLog(tmp_path / "log.jsonl", TINY_OFA, {"seed": 1})
        count = 0

        def measure(config):
            nonlocal count
            if config not in log.points[SEARCHED]:
                count += 1
                if count == interrupt_at:
                    raise Interrupted
                log.add(SEARCHED, [pretended(config)])
            return log.points[SEARCHED][config]

        return search(TINY_OFA, measure, Limits(), EVALUATIONS, 1), count

    with pytest.raises(Interrupted):
        run(stop_at)
    points, measured = run(None)
    assert measured == EVALUATIONS - (stop_at - 1)
    assert points == search(TINY_OFA, pretended, Limits(), EVALUATIONS, 1)


def test_a_line_that_was_only_begun_is_measured_anew(tmp_path):
    log = MeasurementLog(tmp_path / "log.jsonl", TINY_OFA, {"seed": 1})
    small, large = pretended(TINY_OFA.smallest()), pretended(TINY_OFA.largest())
    log.add(SEARCHED, [small])
    log.add(SEARCHED, [large])
    whole = (tmp_path / "log.jsonl").read_bytes()
    (tmp_path / "log.jsonl").write_bytes(whole[:-7])
    log = MeasurementLog(tmp_path / "log.jsonl", TINY_OFA, {"seed": 1})
    assert log.points[SEARCHED] == {small.config: small}
    log.add(SEARCHED, [large])
    assert (tmp_path / "log.jsonl").read_bytes() == whole


def test_measurements_of_other_settings_are_not_used(tmp_path):
    MeasurementLog(tmp_path / "log.jsonl", TINY_OFA, {"frames": 30})
    with pytest.raises(ValueError, match="was made with frames 30, now 20: .* another --run folder"):
        MeasurementLog(tmp_path / "log.jsonl", TINY_OFA, {"frames": 20})


@pytest.mark.parametrize("limits, measurements", [(Limits(max_latency=1e-9), 2), (Limits(min_accuracy=0.99), RUNGS)])
def test_a_limit_that_cannot_be_kept_ends_the_search_at_once(limits, measurements):
    seen = []

    def measure(config):
        seen.append(config)
        return pretended(config)

    with pytest.raises(InfeasibleError):
        search(TINY_OFA, measure, limits, EVALUATIONS, 1)
    assert len(seen) <= measurements


def test_limits_that_exclude_each_other_end_with_points_close_to_both():
    largest, smallest = pretended(TINY_OFA.largest()), pretended(TINY_OFA.smallest())
    limits = Limits(1.01 * smallest.latency, 0.99 * largest.accuracy)
    with pytest.raises(InfeasibleError, match="closest of 60 measured ones") as raised:
        search(TINY_OFA, pretended, limits, EVALUATIONS, 1)
    nearest = raised.value.points
    assert nearest[0].latency <= limits.max_latency and nearest[-1].accuracy >= limits.min_accuracy


@pytest.fixture
def shades(tmp_path):
    """Images of five shades, with noise."""
    random = np.random.default_rng(0)
    for split, count in (("train", 20), ("test", 4)):
        for number in range(5):
            folder = tmp_path / "shades" / split / f"class {number}"
            folder.mkdir(parents=True)
            for i in range(count):
                image = random.integers(0, 60, (48, 48, 3)) + 45 * number
                cv2.imwrite(str(folder / f"{i:02}.png"), image.astype(np.uint8))
    return tmp_path / "shades"


def test_an_accuracy_is_that_of_the_calibrated_subnetwork_and_a_latency_that_of_its_graph(tmp_path, shades):
    bundle = make_bundle(tmp_path / "tiny", TINY_OFA)
    task = ClassificationTask(read_split(shades, "train", 48), range(0, 100, 2), (48, 48), mirrored=False)
    network = make_supernet(TINY_OFA)
    network.load_tensors({name: torch.from_numpy(array) for name, array in bundle.tensors().items()})
    meter = CandidateMeter(bundle, network, task, discover_elements()[0], MeasurementSettings(1000, 32, 5, seed=3))
    small, large = meter.measure(TINY_OFA.smallest()), meter.measure(TINY_OFA.largest())
    for point in (small, large):
        assert point.accuracy == held_out_score(network, task, point.config, seed=3, images=32)
    assert 0 < small.latency < large.latency


@pytest.fixture
def command(tmp_path, shades) -> list[str]:
    bundle = make_bundle(tmp_path / "tiny", TINY_OFA)
    write_model_file(replace(bundle, training={"method": "random", "data": [str(shades)]}))
    return [
        "search",
        str(tmp_path / "tiny"),
        "--element",
        "cpu:1",
        "--run",
        str(tmp_path / "run"),
        "--evaluations",
        "10",
        "--points",
        "3",
        "--frames",
        "5",
        "--calibration-images",
        "32",
        "--threads",
        "1",
    ]


def test_the_search_command_writes_a_family_that_rises_and_repeating_it_changes_nothing(tmp_path, command, monkeypatch):
    # Random weights classify nothing: accuracies are made up, all else is real.
    monkeypatch.setattr(CandidateMeter, "_score", lambda self, config, images: pretended(config).accuracy)
    before = read_bundle(tmp_path / "tiny")
    assert main(command) == 0
    bundle = read_bundle(tmp_path / "tiny")
    found = bundle.training["search"]
    rising = sorted(zip(found["latency [s]"].values(), found["top-1 on held-out images"].values()))
    assert 2 <= len(rising) <= 3 and all(a[0] < b[0] and a[1] < b[1] for a, b in pairwise(rising))
    assert list(found["latency [s]"]) == [s.name for s in bundle.subnetworks]
    assert (found["element"], found["evaluations"], found["latency_source"]) == ("cpu:1", 10, "measured")
    assert all(s.accuracy_source == "measured on the 20 test images of shades" for s in bundle.subnetworks)
    assert all(np.array_equal(before.tensors()[name], array) for name, array in bundle.tensors().items())
    log = (tmp_path / "run" / "evaluations.jsonl").read_text()
    written = {s.config for s in bundle.subnetworks}
    assert written <= {TINY_OFA.subnet(json.loads(line)["config"]) for line in log.splitlines()[1:]}
    assert (tmp_path / "run" / "search.png").read_bytes().startswith(b"\x89PNG")

    assert main(command) == 0
    assert read_bundle(tmp_path / "tiny") == bundle and (tmp_path / "run" / "evaluations.jsonl").read_text() == log


def test_an_infeasible_search_is_exit_code_2_names_the_closest_and_writes_no_bundle(tmp_path, command, capsys):
    model = (tmp_path / "tiny" / "model.yaml").read_bytes()
    assert main([*command, "--max-latency", "1e-9"]) == 2
    error = capsys.readouterr().err
    assert "no subnetwork takes at most 1e-06 ms: the closest of 2 measured ones are" in error
    assert "MMACs at 32x32 pixels with" in error
    assert (tmp_path / "tiny" / "model.yaml").read_bytes() == model


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--element", "gpu:7"], "compute element 'gpu:7' does not exist here"),
        (["--element", "cpu:1", "--points", "0"], "--points is 0: expected at least 1"),
        (["--element", "cpu:1", "--min-accuracy", "95"], "min_accuracy is 95.0: expected 0 to 1"),
        (["--element", "cpu:1"], "has all its subnetworks already"),
    ],
)
def test_a_search_that_makes_no_sense_is_one_sentence(tmp_path, arguments, message, capsys):
    make_bundle(tmp_path / "tiny", TINY)
    assert main(["search", str(tmp_path / "tiny"), *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.strip().splitlines()) == 1

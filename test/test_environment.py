"""How the machine behaves now: slow-down per compute element, overhead, and the chance to meet a deadline."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynamic_perception.management.environment import Environment
from dynamic_perception.management.slow_downs import SlowDowns

FRAME = 1 / 30  # [s]
PROFILED = 10e-3  # [s]


class Machine:
    """Frames of a machine whose inferences take `slow_down` x PROFILED with relative normal noise."""

    def __init__(self, noise: float = 0.02, seed: int = 1):
        self.environment = Environment(("cpu:1", "cpu:2"))
        self.time = 0.0
        self._noise = noise
        self._random = np.random.default_rng(seed)

    def run(self, frames: int, slow_down: float = 1.0, element: str = "cpu:2", overhead: float = 2e-3) -> None:
        for _ in range(frames):
            factor = slow_down * (1 + self._noise * self._random.standard_normal())
            self.environment.observe(self.time, element, PROFILED * factor, PROFILED, overhead)
            self.time += FRAME

    def slow_down(self, element: str = "cpu:2") -> tuple[float, float]:
        """(mean, standard deviation)"""
        index = self.environment.elements.index(element)
        mean, variance = self.environment.slow_down(self.time)
        return mean[index], math.sqrt(variance[index])


def test_without_samples_every_element_is_as_profiled_give_or_take():
    mean, variance = Environment(("cpu:1", "cpu:2", "gpu")).slow_down(0.0)
    assert mean.tolist() == [1.0, 1.0, 1.0]
    assert (np.sqrt(variance) > 0.05).all()


@pytest.mark.parametrize("seed", range(5))
def test_the_mean_is_close_and_the_deviation_is_that_of_the_machine(seed):
    machine = Machine(noise=0.05, seed=seed)
    machine.run(1500, slow_down=1.2)
    mean, deviation = machine.slow_down()
    assert mean == pytest.approx(1.2, abs=0.08)
    assert 0.03 < deviation < 0.12


@pytest.mark.parametrize("noise", [0.01, 0.02, 0.05, 0.1])
def test_the_predicted_95_percent_quantile_holds_for_about_95_percent_of_the_next_frames(noise):
    machine, kept = Machine(noise, seed=3), 0
    for _ in range(4000):
        mean, deviation = machine.slow_down()
        factor = 1 + noise * machine._random.standard_normal()
        kept += factor <= mean + 1.6449 * deviation
        machine.environment.observe(machine.time, "cpu:2", PROFILED * factor, PROFILED, 0.0)
        machine.time += FRAME
    assert 0.93 < kept / 4000 < 0.985  # at 1 % noise the noise floor makes it safer than asked


@pytest.mark.parametrize("slow_down", [3.0, 0.2, 1.36])
def test_one_outlier_changes_nothing(slow_down):
    with_outlier, without = Machine(noise=0.02), Machine(noise=0.02)
    for machine in (with_outlier, without):
        machine.run(300)
    with_outlier.environment.observe(with_outlier.time - FRAME / 2, "cpu:2", slow_down * PROFILED, PROFILED, 2e-3)
    assert with_outlier.slow_down() == pytest.approx(without.slow_down(), rel=1e-6)
    for machine in (with_outlier, without):
        machine.run(100)
    assert with_outlier.slow_down() == pytest.approx(without.slow_down(), rel=1e-6)


@pytest.mark.parametrize("noise", [0.005, 0.02, 0.05])
@pytest.mark.parametrize("seed", range(5))
def test_a_step_is_followed_within_three_frames(noise, seed):
    machine = Machine(noise, seed)
    machine.run(300)
    machine.run(3, slow_down=1.36)
    assert machine.slow_down()[0] == pytest.approx(1.36, abs=0.05 + noise)


def test_after_a_step_the_machine_counts_as_steady_again():
    machine = Machine(noise=0.02)
    machine.run(300)
    before = machine.slow_down()[1]
    machine.run(4, slow_down=1.36)
    assert machine.slow_down()[1] < 2 * before


def test_a_machine_that_is_slow_every_other_frame_is_uncertain_not_fast():
    machine = Machine(noise=0.02)
    machine.run(300)
    for _ in range(15):
        machine.run(1, slow_down=1.36)
        machine.run(1, slow_down=1.0)
    mean, deviation = machine.slow_down()
    assert mean + 1.645 * deviation > 1.3


def test_an_unused_element_fades_back_to_the_profile_and_becomes_uncertain():
    machine = Machine(noise=0.0)
    machine.run(300, slow_down=1.5, element="cpu:1")
    used = machine.slow_down("cpu:1")
    means, deviations = [used[0]], [used[1]]
    for _ in range(4):
        machine.run(900, element="cpu:2")
        mean, deviation = machine.slow_down("cpu:1")
        means.append(mean)
        deviations.append(deviation)
    assert all(later < earlier for earlier, later in itertools.pairwise(means))
    assert all(later > deviations[0] for later in deviations[1:])
    assert means[-1] == pytest.approx(1.0, abs=0.02)


def test_an_element_that_was_left_amid_a_jump_is_not_doubted_for_good():
    machine = Machine(noise=0.02)
    machine.run(300, slow_down=2.0, element="cpu:1")
    for slow_down in (1.0, 2.0, 1.0):
        machine.run(1, slow_down=slow_down, element="cpu:1")
    amid_the_jump = machine.slow_down("cpu:1")[1]
    machine.run(1800, element="cpu:2")
    assert machine.slow_down("cpu:1")[1] < 0.15 < amid_the_jump


def test_an_element_that_was_slow_is_most_doubted_while_nobody_can_say_whether_it_still_is():
    machine = Machine(noise=0.02)
    machine.run(300, slow_down=1.25, element="cpu:1")
    doubts = []
    for _ in range(5):
        doubts.append(machine.slow_down("cpu:1")[1])
        machine.run(150, element="cpu:2")
    assert doubts[0] < doubts[-1] < max(doubts)


def test_the_element_in_use_does_not_fade():
    machine = Machine(noise=0.01)
    machine.run(3000, slow_down=1.5)
    assert machine.slow_down()[0] == pytest.approx(1.5, abs=0.03)


def test_elements_that_are_both_in_use_do_not_influence_each_other():
    mixed, sorted_ = Environment(("cpu:1", "cpu:2")), Environment(("cpu:1", "cpu:2"))
    for environment in (mixed, sorted_):
        for element in ("cpu:1", "cpu:2"):
            environment.observe(0.0, element, PROFILED, PROFILED, 0.0)
    frames = [("cpu:1", 1.1), ("cpu:2", 1.3), ("cpu:1", 1.15), ("cpu:2", 1.25), ("cpu:1", 1.12)]
    for environment, order in ((mixed, frames), (sorted_, sorted(frames, key=lambda frame: frame[0]))):
        for element, factor in order:
            environment.observe(0.0, element, factor * PROFILED, PROFILED, 0.0)
    assert np.array_equal(mixed.slow_down(1.0), sorted_.slow_down(1.0))


def test_an_older_time_counts_as_now():
    machine = Machine()
    machine.run(100, slow_down=1.5)
    mean, _ = machine.environment.slow_down(-1e6)
    machine.environment.observe(-1e6, "cpu:2", 1.5 * PROFILED, PROFILED, 0.0)
    assert mean[1] == pytest.approx(1.5, abs=0.05)
    assert machine.slow_down()[0] == pytest.approx(1.5, abs=0.05)


@settings(deadline=None)
@given(
    name=st.sampled_from(["inference", "profiled", "overhead"]),
    value=st.one_of(st.just(math.nan), st.just(math.inf), st.floats(max_value=0.0, exclude_max=True)),
)
def test_a_duration_that_cannot_be_is_refused_by_name_and_changes_nothing(name, value):
    environment = Environment(("cpu:1",))
    before = environment.slow_down(0.0), environment.overhead()
    durations = {"inference": PROFILED, "profiled": PROFILED, "overhead": 1e-3, name: value}
    with pytest.raises(ValueError, match=name):
        environment.observe(0.0, "cpu:1", **durations)
    assert np.array_equal(environment.slow_down(0.0), before[0]) and environment.overhead() == before[1]


@pytest.mark.parametrize("name", ["inference", "profiled"])
def test_an_inference_of_no_time_is_refused(name):
    with pytest.raises(ValueError, match=name):
        Environment(("cpu:1",)).observe(0.0, "cpu:1", **{"inference": 1.0, "profiled": 1.0, "overhead": 0.0, name: 0.0})


def test_an_unknown_element_is_refused_with_those_that_are_known():
    with pytest.raises(ValueError, match="'gpu': expected one of cpu:1, cpu:2"):
        Environment(("cpu:1", "cpu:2")).observe(0.0, "gpu", 1.0, 1.0, 0.0)


def test_the_overhead_is_learnt():
    machine = Machine()
    machine.run(150, overhead=6e-3)
    mean, variance = machine.environment.overhead()
    assert mean == pytest.approx(6e-3, rel=0.01)
    assert math.sqrt(variance) < 1e-3


def test_what_a_short_inference_takes_longer_is_mostly_a_fixed_cost_and_of_a_long_one_a_factor():
    for profiled, longer, factor in ((1e-3, 0.4e-3, 1.15), (20e-3, 8e-3, 1.4)):
        environment = Environment(("cpu:2",))
        for frame in range(60):
            environment.observe(frame * FRAME, "cpu:2", profiled + longer, profiled, 2e-3)
        slow_down, overhead = environment.slow_down(60 * FRAME)[0][0], environment.overhead()[0]
        assert slow_down == pytest.approx(factor, abs=0.03)
        assert slow_down * profiled + overhead == pytest.approx(profiled + longer + 2e-3, rel=1e-3)


def test_one_late_frame_does_not_change_the_overhead():
    machine = Machine()
    machine.run(100, overhead=2e-3)
    before = machine.environment.overhead()
    machine.run(1, overhead=80e-3)
    assert machine.environment.overhead() == before


def test_elements_of_one_cluster_recover_together_by_the_same_share():
    machine = Machine(noise=0.01)
    machine.run(30, slow_down=3.0, element="cpu:2")
    machine.run(30, slow_down=2.0, element="cpu:1")
    assert machine.slow_down("cpu:2")[0] == pytest.approx(3.0, abs=0.1)
    machine.run(6, slow_down=1.5, element="cpu:1")  # half of what slowed it is gone
    assert machine.slow_down("cpu:2")[0] == pytest.approx(2.0, abs=0.1)
    machine.run(6, slow_down=1.0, element="cpu:1")
    assert machine.slow_down("cpu:2")[0] == pytest.approx(1.0, abs=0.05)


def test_an_element_does_not_fade_below_what_the_one_in_use_on_its_cluster_still_suffers():
    machine = Machine(noise=0.01)
    machine.run(30, slow_down=3.0, element="cpu:2")
    machine.run(3000, slow_down=2.0, element="cpu:1")
    assert machine.slow_down("cpu:2")[0] == pytest.approx(2.0, abs=0.1)


def test_elements_that_were_never_heard_are_taken_to_be_slowed_too_the_more_so_on_the_same_cores():
    slow_downs = SlowDowns(("cpu0:1", "cpu0:2", "cpu4:2"))
    as_profiled = slow_downs.predict(0.0, ("cpu0:1",))[1][0]
    for frame in range(30):
        slow_downs.observe(frame * FRAME, "cpu0:2", 1.6)
    mean, variance = slow_downs.predict(1.0, ("cpu0:1", "cpu4:2"))
    assert mean.tolist() == pytest.approx([1.6, 1.3], abs=0.04)
    assert (variance > as_profiled + 0.01).all()


def test_a_step_is_taken_for_threads_that_take_turns_after_a_while_and_slows_elements_of_fewer_threads_less():
    slow_downs = SlowDowns(("cpu0:1", "cpu0:2", "cpu0:3", "cpu0:4", "cpu4:4"))
    for frame in range(480):
        slow_downs.observe(frame * FRAME, "cpu0:4", 1.0 if frame < 30 else 1.5)  # two more threads on four cores
        if frame == 33:
            right_after = slow_downs.predict(frame * FRAME, ("cpu0:1", "cpu0:3"))[0]
    assert right_after.tolist() == pytest.approx([1.5, 1.5], abs=0.05)
    later = slow_downs.predict(480 * FRAME, ("cpu0:1", "cpu0:2", "cpu0:3", "cpu4:4"))[0]
    assert later.tolist() == pytest.approx([1.0, 1.0, 1.2, 1.0], abs=0.05)


def test_what_came_bit_by_bit_is_taken_to_slow_all_elements_alike():
    slow_downs = SlowDowns(("cpu0:1", "cpu0:4"))
    for frame in range(600):
        slow_downs.observe(frame * FRAME, "cpu0:4", 1.0 + 0.5 * min(1.0, frame / 300))
    assert slow_downs.predict(600 * FRAME, ("cpu0:1",))[0][0] > 1.2


def test_a_trial_of_one_frame_that_finds_an_element_still_slow_counts():
    slow_downs, fades = SlowDowns(("cpu:1", "cpu:2")), []
    time = 0.0
    for _ in range(4):
        slow_downs.observe(time, "cpu:2", 1.4)
        if not fades:
            slow_downs.observe(time + FRAME, "cpu:2", 1.4)
        for frame in range(180):
            slow_downs.observe(time + (frame + 2) * FRAME, "cpu:1", 1.0)
        time += 182 * FRAME
        fades.append(slow_downs.predict(time, ("cpu:2",))[0][0])
    assert fades[0] < fades[1] < fades[2] < fades[3] < 1.4


def test_elements_of_different_cores_that_were_slow_for_the_same_cause_recover_together():
    slow_downs = SlowDowns(("cpu0:2", "cpu4:2"))
    for frame in range(90):
        element = "cpu0:2" if frame < 30 else "cpu4:2"
        slow_downs.observe(frame * FRAME, element, 1.6 if frame < 60 else 1.3)
    assert slow_downs.predict(90 * FRAME, ("cpu0:2",))[0][0] == pytest.approx(1.3, abs=0.05)


def test_how_noisy_the_machine_is_counts_for_an_element_that_was_never_heard():
    steady, noisy = (SlowDowns(("cpu0:2", "cpu4:2")) for _ in range(2))
    random = np.random.default_rng(2)
    for frame in range(300):
        for slow_downs, noise in ((steady, 0.01), (noisy, 0.15)):
            slow_downs.observe(frame * FRAME, "cpu0:2", 1.0 + noise * random.standard_normal())
    unheard = [slow_downs.predict(300 * FRAME, ("cpu4:2",))[1][0] for slow_downs in (steady, noisy)]
    assert math.sqrt(unheard[1] - unheard[0]) == pytest.approx(0.15, rel=0.3)


def test_an_element_that_is_not_used_is_taken_to_be_slowed_when_the_one_in_use_is_but_not_for_ever():
    machine = Machine()
    machine.run(30, element="cpu:1")
    machine.run(300, slow_down=1.6, element="cpu:2")
    assert 1.25 < machine.slow_down("cpu:1")[0] < 1.6
    machine.run(9000, slow_down=1.6, element="cpu:2")
    assert machine.slow_down("cpu:1")[0] < 1.02


def test_that_the_threads_of_one_element_wait_for_one_another_does_not_say_that_those_of_others_do():
    machine = Machine()
    machine.run(30, slow_down=3.0, element="cpu:2")
    assert machine.slow_down("cpu:1")[0] == 1.0


def test_that_one_element_is_faster_than_profiled_does_not_say_that_others_are():
    machine = Machine()
    machine.run(30, slow_down=0.6, element="cpu:2")
    assert machine.slow_down("cpu:1")[0] == 1.0


def test_elements_of_different_clusters_do_not_recover_together():
    slow_downs = SlowDowns(("cpu0:2", "cpu4:2"))
    for frame in range(60):
        slow_downs.observe(frame * FRAME, "cpu0:2" if frame < 30 else "cpu4:2", 3.0 if frame < 57 else 1.0)
    mean, _ = slow_downs.predict(2.0, ("cpu0:2", "cpu4:2"))
    assert mean[0] == pytest.approx(3.0, abs=0.05) and mean[1] == pytest.approx(1.0, abs=0.05)


def test_an_element_that_is_found_slow_again_fades_more_slowly_until_it_has_recovered():
    slow_downs = SlowDowns(("cpu:2",))

    def use(time: float, ratio: float) -> float:
        for frame in range(10):
            slow_downs.observe(time + frame * FRAME, "cpu:2", ratio)
        return slow_downs.predict(time + 10.0, ("cpu:2",))[0][0]

    first, second, third = use(0.0, 3.0), use(20.0, 3.0), use(40.0, 3.0)
    assert 1.0 < first < second < third < 3.0
    use(60.0, 1.0)
    use(80.0, 3.0)
    assert use(80.5, 3.0) == pytest.approx(first, rel=0.05)


@pytest.mark.parametrize("period", [0.03, 1.0, 5.0])
def test_how_slow_an_element_is_is_learnt_at_any_frame_rate(period):
    slow_downs = SlowDowns(("cpu:2",))
    for frame in range(60):
        slow_downs.observe(frame * period, "cpu:2", 2.0)
    assert slow_downs.predict(60 * period, ("cpu:2",))[0][0] == pytest.approx(2.0, abs=0.02)


@pytest.mark.parametrize("share, counts", [(1.36, 1), (1.05, 0)])
def test_a_step_of_the_load_is_a_new_regime_and_noise_is_not(share, counts):
    machine = Machine(noise=0.02)
    machine.run(300)
    before = machine.environment.regime
    machine.run(30, slow_down=share)
    assert machine.environment.regime - before == counts


def test_where_several_elements_are_in_use_the_one_that_is_slowed_least_tells_of_other_cores():
    slow_downs = SlowDowns(("cpu0:2", "cpu4:2", "gpu"))
    for frame in range(60):
        slow_downs.observe(frame * FRAME, "cpu0:2", 1.8)
        slow_downs.observe(frame * FRAME, "cpu4:2", 1.0)
    assert slow_downs.predict(2.0, ("gpu",))[0][0] == pytest.approx(1.0, abs=0.02)

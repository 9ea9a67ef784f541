"""How old a frame is: by its stamp where that can be, else since it arrived."""

from __future__ import annotations

import math

import pytest

from dynamic_perception.nodes.frame_age import AHEAD, BEHIND, LATE, SETTLED, FrameAges, age_of_machine, judge

NOW = 1.7e9  # [s] a time of our days
WAITED = 0.004


@pytest.mark.parametrize("age", [-0.99 * AHEAD, 0.0, 0.03, 0.99 * BEHIND])
def test_a_stamp_of_these_seconds_is_plausible(age):
    assert judge(NOW - age, NOW).kind == ""


@pytest.mark.parametrize(
    "stamp, now, kind, words",
    [
        (NOW + 2.0, NOW, "ahead", "stamped 2 s ahead of this machine's clock"),
        (NOW + 1.01 * AHEAD, NOW, "ahead", "ahead of this machine's clock"),
        (NOW - 3600.0, NOW, "behind", "stamped 3600 s behind this machine's clock"),
        (1234.0, NOW, "since start", "stamped 1234 s since a start, 1.7e+09 s behind"),
        (0.0, NOW, "missing", "carry no stamp"),
        (-1.0, NOW, "before 1970", "stamped 1 s before 1970"),
        (12.0, 2.0, "ahead", "stamped 10 s ahead"),
        (5.0, 0.0, "no clock", "nothing was heard on /clock yet"),
    ],
)
def test_a_stamp_that_cannot_be_is_named_and_the_deadline_counts_from_the_arrival(stamp, now, kind, words):
    judgement = judge(stamp, now)
    assert judgement.kind == kind and words in judgement.text
    assert "the deadline counts from the" in judgement.text and "arrival" in judgement.text
    assert FrameAges().take(stamp, now, WAITED, math.nan) == WAITED


def test_a_frame_is_never_younger_than_it_has_waited():
    assert FrameAges().take(NOW + 0.04, NOW, WAITED, math.nan) == WAITED
    assert FrameAges().take(NOW - 0.02, NOW, WAITED, math.nan) == pytest.approx(0.02)


@pytest.mark.parametrize(
    "age, deadline, counts",
    [(0.5, math.nan, 0.5), (5.0, math.nan, 0.0), (5.0, 0.1, 0.0), (0.5, 0.1, 0.5), (5.0, 6.0, 5.0), (7.0, 6.0, 0.0)],
)
def test_an_age_that_no_operating_point_can_make_up_for_is_not_the_machines(age, deadline, counts):
    assert age_of_machine(age, deadline) == counts


def test_frames_that_arrive_too_late_for_every_point_are_named_but_their_deadline_counts_from_the_stamp():
    ages = FrameAges()
    assert ages.take(NOW - 5.0, NOW, WAITED, 0.1) == pytest.approx(5.0)
    assert ages.state.kind == "late" and "arrive 4.996 s after their stamp" in ages.state.text


def test_a_frame_that_waited_long_in_the_node_did_not_arrive_late():
    ages = FrameAges()
    ages.take(NOW - 2.0 * LATE, NOW, 1.9 * LATE, 0.1)
    assert ages.state.kind == ""


def test_a_change_is_told_once_and_so_is_its_end():
    ages = FrameAges()
    told = []
    for stamp in [NOW] + 5 * [NOW + 2.0] + 3 * [NOW + 3.0] + 10 * [NOW]:
        ages.take(stamp, NOW, 0.0, math.nan)
        told.append(ages.news())
    assert [news.kind for news in told if news is not None] == ["ahead", ""]


def test_one_plausible_frame_among_others_is_no_end():
    ages = FrameAges()
    for offset in 5 * (2.0, 0.0):
        ages.take(NOW + offset, NOW, 0.0, math.nan)
        assert ages.state.kind == "ahead"
    for _ in range(SETTLED):
        ages.take(NOW, NOW, 0.0, math.nan)
    assert ages.state.kind == ""

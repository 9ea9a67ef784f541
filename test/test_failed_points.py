"""A point that failed is left alone, longer every time, until it works."""

from dynamic_perception.nodes.failed_points import LONGEST_PAUSE, FailedPoints

POINT = "100%", "cpu:1"


def test_a_failure_is_told_until_its_pause_is_over():
    failed = FailedPoints(first_pause=100.0)
    assert failed.why_not(POINT) == "" and str(failed) == "none"
    failed.add(POINT, RuntimeError("out of memory"))
    assert "not tried again for" in failed.why_not(POINT) and "out of memory" in failed.why_not(POINT)
    assert failed.why_not(("33%", "cpu:1")) == ""
    assert FailedPoints(first_pause=0.0).add(POINT, RuntimeError("no pause")) == 0.0


def test_the_pause_doubles_up_to_the_longest_and_begins_anew_after_a_success():
    failed = FailedPoints(first_pause=8.0)
    assert [failed.add(POINT, RuntimeError("lost")) for _ in range(5)] == [
        8.0,
        16.0,
        32.0,
        LONGEST_PAUSE,
        LONGEST_PAUSE,
    ]
    failed.forget(POINT)
    assert failed.add(POINT, RuntimeError("lost")) == 8.0

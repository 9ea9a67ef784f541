"""What is shown of two runs is what was recorded."""

import io
import json
import math
from dataclasses import replace
from itertools import combinations

import cv2
import numpy as np
import pytest
from rich.console import Console
from runs import (
    ELEMENTS,
    LIMITS,
    PHASES,
    SUBNETWORKS,
    as_shown,
    make_clocked_run,
    make_emulated_run,
    make_frame,
    make_run,
    make_scored_run,
)

from dynamic_perception.report.live_table import EventLog, LiveTable, make_table, take_snapshot
from dynamic_perception.report.page import headline
from dynamic_perception.report.picture_style import DPI, FAINT
from dynamic_perception.report.recorded_run import Command, Reading, RecordedRun, iou_series, list_changes, summarise
from dynamic_perception.report.results_file import Results, to_plain
from dynamic_perception.report.shown_run import show_runs
from dynamic_perception.report.timeline import WIDTH, draw_timeline, make_timeline


def print_to_text(renderable) -> str:
    console = Console(file=io.StringIO(), width=120)
    console.print(renderable)
    return console.file.getvalue()


def test_a_late_answer_and_a_skipped_frame_are_misses():
    run = make_run()
    run.frames = [make_frame(1.0), make_frame(2.0, met=False), make_frame(3.0, skipped=2), make_frame(6.0)]
    calm, heat, whole = summarise(run)
    assert (calm.frames, calm.misses) == (5, 3)
    assert (heat.frames, heat.misses) == (1, 0)
    assert (whole.frames, whole.misses) == (6, 3)


def test_a_phase_without_frames_has_no_rates():
    run = make_run()
    run.frames = [make_frame(1.0)]
    heat = summarise(run)[1]
    assert heat.frames == 0 and math.isnan(heat.miss_rate) and math.isnan(heat.accuracy)


def test_commands_for_the_same_point_are_no_change():
    first = Command(0.0, 1, "100%", "cpu:2", "startup", True, "start")
    infeasible = Command(1.0, 2, "100%", "cpu:2", "deadline", False, "too tight")
    down = Command(2.0, 3, "25%", "cpu:2", "deadline", True, "down")
    assert list_changes(make_run(commands=[first, infeasible, down])) == [first, down]


def test_another_clock_is_a_change_but_none_is_none_however_it_is_said():
    commands = [
        Command(float(i), i, "100%", "cpu:2", "thermal", True, "", clock)
        for i, clock in enumerate([math.nan, 0.0, 1e9, 1e9, 2e9])
    ]
    assert [c.sequence for c in list_changes(make_run(commands=commands))] == [0, 2, 4]


def test_the_series_are_strict_json_with_unknown_values_as_null():
    run = make_run()
    run.charges.append(Reading(9.9, "BAT0", math.nan))
    plain = json.loads(json.dumps(to_plain(run), allow_nan=False))
    assert plain["charges"]["charge"][-1] is None
    assert plain["frames"]["latency_s"][:2] == [0.003, 0.004]
    assert (plain["temperature_source"], plain["battery_source"]) == ("modelled", "measured")


def test_the_live_table_shows_the_state_and_what_is_modelled():
    run = make_run()
    text = print_to_text(make_table(run, take_snapshot(run, 9.9), LIMITS))
    for shown in (
        "run 1 of 2",
        "heat",
        "100% on cpu:2",
        "5.0 ms",
        "25 of 100 frames",
        "84.3 °C modelled",
        "measured",
        "thermal at 6.0 s",
    ):
        assert shown in text


def test_pixels_of_a_phase_are_counted_together():
    calm, heat, whole = summarise(make_scored_run())
    assert calm.mean_iou == pytest.approx(0.25) and heat.mean_iou == 1.0  # half of one class, nothing of the other
    assert whole.mean_iou == pytest.approx((100 / 150 + 50 / 100) / 2)


def test_the_live_iou_is_that_of_the_last_two_seconds():
    times, values = iou_series(make_scored_run())
    assert list(times) == [pytest.approx(0.1 * i) for i in range(100)]
    assert values[49] == pytest.approx(0.25) and values[72] == 1.0
    assert 0.25 < values[60] < 1.0


def test_without_a_truth_nothing_is_said_about_the_iou(tmp_path):
    run = make_run()
    assert math.isnan(summarise(run)[-1].mean_iou)
    assert "IoU" not in print_to_text(make_table(run, take_snapshot(run, 9.9), LIMITS)) + headline(run, run)
    assert to_plain(run)["mean_iou"]["time_s"] == []


def test_the_live_table_shows_the_iou_and_what_it_is_measured_against():
    run = make_scored_run()
    text = print_to_text(make_table(run, take_snapshot(run, 9.9), LIMITS))
    assert "mean IoU, live" in text and "100\N{NO-BREAK SPACE}% of 2 s" in text
    assert "measured against a known truth" in text and "measured against a known truth" in headline(run, run)


def test_the_live_table_shows_the_clock_and_where_it_comes_from():
    run = make_emulated_run()
    text = print_to_text(make_table(run, take_snapshot(run, 9.9), LIMITS))
    assert "100% on cpu:2 at 1000 MHz" in text and "emulated" in text


def test_the_timeline_has_a_row_for_the_clock_where_it_is_set():
    def rows(make):
        return len(make_timeline(as_shown(make(), make(managed=False))).axes)

    assert rows(make_emulated_run) == rows(make_run) + 1


def test_the_live_table_of_the_fixed_run_says_that_nobody_manages():
    run = make_run(managed=False)
    assert "there is no manager" in print_to_text(make_table(run, take_snapshot(run, 9.9), LIMITS))


def test_the_live_table_can_be_shown_before_anything_was_heard():
    run = RecordedRun("run", True, PHASES, "modelled", "modelled")
    with LiveTable(Console(file=io.StringIO(), force_terminal=True), LIMITS) as display:
        display.show(run, 0.0)


def test_the_event_log_has_one_line_per_phase_and_change():
    run, console = make_run(), Console(file=io.StringIO(), width=80)
    with EventLog(console) as log:
        for time in np.arange(0.0, 10.0, 0.5):
            log.show(run, time)
    lines = console.file.getvalue().splitlines()
    assert sum("phase" in line for line in lines) == 2
    assert sum("command" in line for line in lines) == 2
    assert len(lines) == 4


def test_the_timeline_is_a_picture_of_the_promised_size(tmp_path):
    draw_timeline(as_shown(make_run(), make_run(managed=False)), tmp_path / "timeline.png")
    image = cv2.imread(str(tmp_path / "timeline.png"))
    assert image.shape[1] == WIDTH * DPI
    assert len(np.unique(image[::10, ::10].reshape(-1, 3), axis=0)) > 20  # not blank


def make_long_run(managed: bool = True) -> RecordedRun:
    """Of a network with eight subnetworks."""
    run = make_run(managed)
    run.frames = [
        replace(frame, subnetwork=f"{frame.subnetwork} of {number % 8}") for number, frame in enumerate(run.frames)
    ]
    return run


@pytest.mark.parametrize("make", [make_run, make_scored_run, make_long_run])
@pytest.mark.parametrize("changes", [3, 60])
def test_no_two_texts_of_the_timeline_overlap(changes, make):
    reasons = ["contention", "deadline", "thermal", "battery", "stale input"]
    commands = [
        Command(10.0 * i / changes, i + 1, SUBNETWORKS[i % 4], ELEMENTS[i % 2], reasons[i % 5], True, "")
        for i in range(changes)
    ]
    managed = make()
    managed.commands = commands
    figure = make_timeline(as_shown(managed, make(managed=False)))
    figure.canvas.draw()
    texts = [*figure.texts, *figure.legends[0].get_texts()]
    for axes in figure.axes:
        low, high = axes.get_ylim()
        drawn_ticks = [label for label in axes.get_yticklabels() if low <= label.get_position()[1] <= high]
        texts += [*axes.texts, axes.yaxis.label, axes.xaxis.label, *drawn_ticks]
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts if text.get_text()]
    assert [(a, b) for (a, box), (b, other) in combinations(boxes, 2) if box.overlaps(other)] == []
    width, height = figure.bbox.size
    assert all(box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height for _, box in boxes)


def test_long_names_of_subnetworks_find_room_beside_the_timeline():
    names = [f"{number}/8 of the channels" for number in range(4)]
    managed, fixed = make_run(), make_run(managed=False)
    for run in (managed, fixed):
        run.frames = [replace(frame, subnetwork=names[3]) for frame in run.frames]
        run.commands = []
    figure = make_timeline(show_runs([Results("demo", (managed, fixed))]))
    figure.canvas.draw()
    labels = [axes.yaxis.label.get_window_extent() for axes in figure.axes]
    assert min(box.x0 for box in labels) >= 0


def test_the_headline_compares_both_runs():
    managed, fixed = make_run(), make_run(managed=False)
    managed.frames = [make_frame(1.0), make_frame(2.0)]
    fixed.frames = [make_frame(1.0, met=False), make_frame(2.0)]
    assert "0.0 % of the deadlines were missed, at the fixed largest subnetwork 50.0 %" in headline(managed, fixed)


def test_the_timeline_has_a_row_only_for_what_is_known():
    bare = make_run()
    bare.temperatures, bare.charges = [], []
    labels = [axes.get_ylabel() for axes in make_timeline(as_shown(bare)).axes]
    assert not any("temperature" in label or "battery" in label or "clock" in label for label in labels)
    labels = [axes.get_ylabel() for axes in make_timeline(as_shown(make_clocked_run())).axes]
    assert "CPU clock\n[GHz]" in labels and "power\nmeasured [W]" in labels


def test_in_the_timeline_measured_and_modelled_temperatures_have_rows_of_their_own():
    modelled, measured = make_run(), replace(make_run(managed=False), temperature_source="measured")
    rows = {axes.get_ylabel(): axes for axes in make_timeline(as_shown(modelled, measured)).axes}
    colours = {
        kind: {line.get_color() for line in rows[f"temperature\n{kind} [°C]"].lines}
        for kind in ("modelled", "measured")
    }
    assert not colours["modelled"] & (colours["measured"] - {FAINT})
    assert "battery\nmeasured [%]" in rows


def test_the_headline_says_how_the_energy_is_known():
    managed, fixed = make_run(), make_run(managed=False)
    assert "the modelled energy of a frame 10.00 mJ instead of 10.00 mJ" in headline(managed, fixed)
    managed.energy_source = "measured"
    assert "energy" not in headline(managed, fixed)

"""A bag becomes the run that was recorded."""

import math

import numpy as np
import pytest
from bags import write_run
from tables import board

from dynamic_perception.cli import main
from dynamic_perception.profiling.table_file import ProfileFile, write_table
from dynamic_perception.replay.recorded_bag import is_bag, read_bag
from dynamic_perception.report.recorded_run import list_changes, summarise
from dynamic_perception.report.results_file import to_plain
from dynamic_perception.report.shown_run import show_runs

PROFILE = ProfileFile(board(), "tiny", "0" * 64, "onnxruntime", "1", {"cpu_model": "a machine"}, {})


def test_frames_deadlines_and_sensors_come_out_as_they_were_recorded(tmp_path):
    (run,) = read_bag(write_run(tmp_path / "run")).runs
    assert [frame.subnetwork for frame in run.frames] == ["100%"] * 30 + ["25%"] * 30
    assert run.frames[9].latency == pytest.approx(0.03) and not run.frames[9].met and run.frames[9].skipped == 1
    assert run.frames[10].time == pytest.approx(1.0)
    assert [change.deadline for change in run.deadlines] == [pytest.approx(0.02)]
    assert run.temperatures[5].value == pytest.approx(55.0) and run.temperature_source == "modelled"
    assert run.powers[0].zone == "VDD_CPU" and run.powers[0].value == pytest.approx(2.5)
    assert run.charges == []
    whole = summarise(run)[-1]
    assert (whole.frames, whole.misses) == (66, 12)


def test_commands_that_are_repeated_count_once_and_bring_clocks_and_accuracies(tmp_path):
    results = read_bag(write_run(tmp_path / "run"))
    (run,) = results.runs
    assert [(c.sequence, c.reason, c.feasible, c.detail) for c in list_changes(run)] == [
        (1, "startup", True, "start"),
        (2, "thermal", False, "hot"),
    ]
    assert run.managed and [answer.cpu_frequency for answer in run.answers] == [1.4e9, 8e8]
    (shown,) = show_runs([results])
    assert shown.points[0] == "100% on cpu:2, cpu 1400 MHz" and shown.points[-1] == "25% on cpu:2, cpu 800 MHz"
    assert run.frames[0].accuracy == pytest.approx(0.85) and run.frames[-1].accuracy == pytest.approx(0.78)


def test_energy_is_unknown_without_a_table_and_modelled_with_one(tmp_path):
    folder = write_run(tmp_path / "run")
    bare, known = read_bag(folder).runs[0], read_bag(folder, PROFILE).runs[0]
    assert bare.energy_source == "unknown" and math.isnan(bare.frames[0].energy)
    assert known.energy_source == "modelled"
    assert known.frames[0].energy == pytest.approx(board().energy[board().find("100%", "cpu:2")])


def test_frames_around_a_change_are_shown_with_their_answers(tmp_path):
    (run,) = read_bag(write_run(tmp_path / "run", with_images=True)).runs
    assert [picture.time for picture in run.pictures] == pytest.approx([0.0, 2.9, 3.0])
    assert [picture.image[0, 0, 0] for picture in run.pictures] == [0, 29, 30]
    assert run.pictures[1].labels == ("ship",) and run.pictures[1].scores == (0.5,)
    assert np.array_equal(run.pictures[2].image, np.full((6, 8, 3), 30))


def test_a_file_and_its_folder_are_the_same_bag(tmp_path):
    folder = write_run(tmp_path / "run")
    (file,) = folder.glob("*.mcap")
    assert is_bag(folder) and is_bag(file) and not is_bag(tmp_path)
    assert to_plain(read_bag(file).runs[0]) == to_plain(read_bag(folder).runs[0])


def test_two_networks_are_two_runs_that_share_sensors_and_deadline(tmp_path):
    def second(bag):
        for number in range(5):
            bag.add_report(
                0.99 + number, "50%", "cpu:1", 0.004, overhead=0.006, topic="/robot/signs/inference_report", energy=0.5
            )

    road, signs = read_bag(write_run(tmp_path / "run", prefix="/robot/road/", more=second)).runs
    assert (road.title, signs.title) == ("with the manager, robot/road", "recorded, robot/signs")
    assert len(road.frames) == 60 and len(signs.frames) == 5
    assert signs.commands == [] and len(road.commands) == 2
    assert signs.temperatures and road.temperatures and signs.deadlines and road.deadlines


def test_a_bag_without_inference_reports_is_refused_with_what_was_expected(tmp_path):
    folder = write_run(tmp_path / "run", frames=0)
    with pytest.raises(ValueError, match="expected messages of dynamic_perception/msg/InferenceReport"):
        read_bag(folder)


def test_a_damaged_file_is_refused_by_the_command(tmp_path, capsys):
    (tmp_path / "run.mcap").write_bytes(b"\x89MCAP0\r\nnothing more")
    assert main(["report", str(tmp_path / "run.mcap"), "--out", str(tmp_path / "out")]) == 2
    assert "run.mcap" in capsys.readouterr().err


def test_what_is_left_of_a_damaged_bag_is_shown_and_the_loss_is_told(tmp_path):
    folder = write_run(tmp_path / "run", with_images=True)
    whole = read_bag(folder)
    (folder / "metadata.yaml").unlink()  # the recorder was killed
    damaged = read_bag(folder)
    assert to_plain(damaged.runs[0]) == to_plain(whole.runs[0])
    assert "damage of the bag" not in whole.sources
    assert damaged.sources["damage of the bag"].startswith("run has no metadata.yaml")


def test_the_command_makes_a_page_of_a_bag_and_its_table(tmp_path, capsys):
    write_table(tmp_path / "table.yaml", PROFILE)
    folder = write_run(tmp_path / "run", with_images=True)
    assert main(["report", str(folder), "--table", str(tmp_path / "table.yaml"), "--out", str(tmp_path / "out")]) == 0
    page = (tmp_path / "out" / "index.html").read_text()
    assert "energy per frame, modelled [mJ]" in page and page.count('alt="frame"') == 3
    assert (tmp_path / "out" / "energy_modelled.png").exists()

"""What is written about runs is read back, and a file that is none is refused with what was expected."""

import json
import math

import numpy as np
import pytest
from runs import make_clocked_run, make_results, make_run, make_scored_run

from dynamic_perception.report.recorded_run import summarise
from dynamic_perception.report.results_file import read_results, to_plain, write_results


def test_runs_come_back_with_all_their_series(tmp_path):
    runs = (make_run(), make_clocked_run(), make_run(managed=False))
    read = read_results(write_results(tmp_path / "demo", make_results(*runs)))
    assert read.name == "demo" and read.metric == "top-1"
    for before, after in zip(runs, read.runs):
        assert json.dumps(to_plain(after)) == json.dumps(to_plain(before))
        assert after.phases == before.phases and after.managed == before.managed


def test_pictures_come_back_pixel_by_pixel(tmp_path):
    run = make_run()
    write_results(tmp_path, make_results(run))
    (picture,) = read_results(tmp_path).runs[0].pictures
    assert np.array_equal(picture.image, run.pictures[0].image)
    assert (picture.labels, picture.scores, picture.subnetwork) == (("ship", "truck"), (0.8, 0.1), "100%")
    assert picture.overlay is None and picture.truth is None


def test_the_iou_of_a_phase_is_that_of_the_counted_pixels(tmp_path):
    run = make_scored_run()
    write_results(tmp_path, make_results(run))
    read = read_results(tmp_path).runs[0]
    assert [s.mean_iou for s in summarise(read)] == pytest.approx([s.mean_iou for s in summarise(run)])


def test_the_operating_points_come_back(tmp_path):
    before = make_results()
    write_results(tmp_path, before)
    table = read_results(tmp_path).table
    assert table.subnetwork == before.table.subnetwork and dict(table.provenance) == dict(before.table.provenance)
    assert np.array_equal(table.latency, before.table.latency)
    assert np.isnan(table.cpu_frequency).all()


def test_an_older_file_without_operating_points_and_clocks_is_read(tmp_path):
    path = write_results(tmp_path, make_results())
    content = json.loads(path.read_text())
    del content["operating_points"], content["limits"], content["deadlines_explained"]
    for run in content["runs"]:
        del run["powers"], run["scores"], run["energy_source"], run["pictures"]
        for name in ("commands", "answers"):
            run[name] = (
                {}
                if not run[name]["time_s"]
                else {key: column for key, column in run[name].items() if "frequency" not in key}
            )
    path.write_text(json.dumps(content))
    read = read_results(tmp_path)
    assert read.table is None and read.limits is None
    assert math.isnan(read.runs[0].commands[0].cpu_frequency) and read.runs[1].commands == []


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda content: content.pop("runs"), "runs: expected a list of at least one run"),
        (lambda content: content["runs"][0].pop("frames"), "expected the key 'frames'"),
        (lambda content: content["runs"][0]["frames"].pop("latency_s"), "frames: expected the column latency_s"),
        (lambda content: content["runs"][0]["frames"]["met"].pop(), "frames: expected columns of one length"),
        (lambda content: content["limits"].pop("control"), "expected the key 'control'"),
        (lambda content: content["operating_points"]["columns"]["latency_s"].__setitem__(2, -1.0), "latency, row 2"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, spoil, words):
    path = write_results(tmp_path, make_results())
    content = json.loads(path.read_text())
    spoil(content)
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="results.json") as error:
        read_results(tmp_path)
    assert words in str(error.value)


def test_half_a_file_is_refused(tmp_path):
    path = write_results(tmp_path, make_results())
    path.write_text(path.read_text()[:500])
    with pytest.raises(ValueError, match="no valid JSON"):
        read_results(tmp_path)


def test_no_part_of_a_file_is_left_behind(tmp_path):
    write_results(tmp_path, make_results())
    assert {path.name for path in tmp_path.iterdir()} == {"results.json", "pictures"}

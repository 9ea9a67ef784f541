"""`dynamic-perception simulate` compares managers, and draws what they did."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from dynamic_perception.cli import main
from dynamic_perception.report.results_file import read_results
from dynamic_perception.simulation.trace import load_trace


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")


def test_it_prints_a_line_per_manager_and_where_the_numbers_come_from(capsys):
    assert main(["simulate", "--trace", "bursts", "--frames", "60", "--managers", "oracle", "ours", "alert"]) == 0
    said = capsys.readouterr().out
    assert "latency modelled, power modelled, energy modelled, accuracy measured" in said
    rows = [line.split() for line in said.splitlines() if line.startswith(("oracle", "ours", "ALERT"))]
    lines = {row[0]: row for row in rows}
    assert set(lines) == {"oracle", "ours", "ALERT"}
    assert lines["oracle"][6] == "1.000"


@pytest.mark.parametrize("platform, objective", [("odroid_xu3", "energy"), ("jetson_xavier_nx", "accuracy")])
def test_it_draws_three_pictures_and_keeps_the_trace(platform, objective, tmp_path, capsys):
    out = tmp_path / "pictures"
    common = ["--platform", platform, "--objective", objective, "--frames", "80"]
    assert main(["simulate", *common, "--out", str(out)]) == 0
    files = sorted(path.name for path in out.iterdir())
    assert files == ["energy_error.png", "misses.png", "results.json", "timeline.png", "trace.npz"]
    for picture in out.glob("*.png"):
        pixels = np.asarray(Image.open(picture).convert("L"))
        assert pixels.shape[1] == 2200 and pixels.std() > 10
    assert len(load_trace(out / "trace.npz")) == 80


def test_a_kept_trace_gives_the_same_comparison_again(tmp_path, capsys):
    common = ["--frames", "60", "--managers", "ours", "alert"]
    main(["simulate", "--trace", "mixed", *common, "--out", str(tmp_path)])
    first = [line for line in capsys.readouterr().out.splitlines() if not line.startswith(("drew", "wrote"))]
    main(["simulate", "--trace", str(tmp_path / "trace.npz"), *common])
    assert capsys.readouterr().out.splitlines() == first


@pytest.mark.parametrize(
    "arguments, said",
    [
        (
            ["--platform", "toaster"],
            "no platform 'toaster': expected one of odroid_xu3, jetson_xavier_nx, or the file of",
        ),
        (
            ["--trace", "storm"],
            "no trace 'storm': expected one of calm, bursts, ramps, heat, battery, mixed, or a file",
        ),
        (["--managers", "magic"], "no manager 'magic': expected one of oracle, throttled-oracle"),
        (["--frames", "0"], "frames is 0: expected at least 1"),
        (["--seed", "-1"], "seed is -1: expected 0 or more"),
    ],
)
def test_a_wrong_name_is_refused_with_what_is_allowed(arguments, said, capsys):
    assert main(["simulate", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_a_profile_of_a_machine_without_power_is_simulated_for_accuracy(tmp_path, capsys):
    from bundles import make_bundle, make_profile

    profile = make_profile(tmp_path / "profile.yaml", make_bundle(tmp_path / "tiny"))
    status = main(
        [
            "simulate",
            "--platform",
            str(profile),
            "--objective",
            "accuracy",
            "--frames",
            "40",
            "--managers",
            "ours",
            "fixed-largest",
            "--out",
            str(tmp_path / "out"),
        ]
    )
    assert status == 0
    assert (tmp_path / "out" / "timeline.png").exists()


def test_what_it_leaves_is_results_for_a_report(tmp_path):
    main(["simulate", "--trace", "bursts", "--frames", "80", "--managers", "ours", "oracle", "--out", str(tmp_path)])
    results = read_results(tmp_path)
    assert [run.title for run in results.runs] == ["ours", "oracle"]
    for run in results.runs:
        assert len(run.frames) + sum(frame.skipped for frame in run.frames) <= 80 and len(run.frames) > 40
        assert run.energy_source == run.temperature_source == "modelled"
    assert results.runs[0].commands[0].reason == "startup" and results.table is not None

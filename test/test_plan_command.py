"""`dynamic-perception plan` says what is chosen and why, and draws it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from PIL import Image
from tables import board

from dynamic_perception.cli import main
from dynamic_perception.management.planning import make_plan
from dynamic_perception.management.target import Target
from dynamic_perception.report.trade_off_picture import make_picture

SHIPPED = "odroid_xu3/group_cnn_cifar10"


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")


def test_it_prints_the_choice_and_what_each_limit_excludes(capsys):
    assert main(["plan", SHIPPED, "--deadline", "400", "--energy", "100"]) == 0
    said = capsys.readouterr().out
    assert "chosen: 75% on a7:4 at cpu 700 MHz" in said
    assert "169 of 512 points meet every limit; excluded by deadline 106, energy 334" in said


def test_a_runner_up_says_which_limit_it_misses_by_how_much(capsys):
    main(["plan", SHIPPED, "--deadline", "400", "--energy", "100"])
    lines = capsys.readouterr().out.splitlines()
    (line,) = (line for line in lines if line.startswith("100% on a7:2"))
    assert line.rstrip().endswith("energy +42 %, deadline +11 %")


def test_limits_that_no_point_meets_give_exit_code_1_and_what_is_missed(capsys):
    assert main(["plan", SHIPPED, "--deadline", "10", "--accuracy", "0.87"]) == 1
    assert "no point meets every limit: deadline" in capsys.readouterr().out


def test_provenance_is_said(capsys):
    main(["plan", SHIPPED])
    assert "latency modelled, power modelled, energy modelled, accuracy measured" in capsys.readouterr().out


def test_the_objective_is_that_of_the_manager(capsys):
    main(["plan", SHIPPED, "--objective", "min_latency"])
    assert "chosen: 25% on a15:4 at cpu 1900 MHz" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments, expected",
    [
        (["nowhere/nothing"], "expected a file, or one of the shipped"),
        ([SHIPPED, "--energy", "-1"], "max_energy is -0.001"),
    ],
)
def test_wrong_input_is_refused_by_name(arguments, expected, capsys):
    assert main(["plan", *arguments]) == 2
    assert expected in capsys.readouterr().err


def test_the_picture_is_drawn(tmp_path):
    assert main(["plan", SHIPPED, "--deadline", "200", "--out", str(tmp_path / "plan.png")]) == 0
    with Image.open(tmp_path / "plan.png") as image:
        assert image.size[0] == 2000 and len(np.unique(np.asarray(image.convert("L")))) > 100


def test_the_picture_names_every_subnetwork_element_and_source():
    target = Target(max_latency=8e-3)
    figure = make_picture("board", board(), target, make_plan(board(), target))
    words = {text.get_text() for legend in figure.legends for text in legend.get_texts()}
    assert {"25%  (0.780)", "100%  (0.850)", "cpu:1", "cpu:2"} <= words
    assert [axes.get_ylabel() for axes in figure.axes] == ["energy per inference [mJ], modelled", "accuracy, modelled"]


def test_a_table_without_energy_cannot_be_drawn():
    unknown = dataclasses.replace(board(), energy=np.full(len(board()), np.nan))
    with pytest.raises(ValueError, match="knows no energy"):
        make_picture("board", unknown, Target(), make_plan(unknown, Target()))

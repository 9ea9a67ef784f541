"""Figures are drawn from named files of real runs, and the README's numbers are those of the files they name."""

import importlib.util
import json
import sys
from pathlib import Path

import cv2
import pytest
from runs import make_results

from dynamic_perception.report.results_file import write_results

ROOT = Path(__file__).parents[1]
_spec = importlib.util.spec_from_file_location("figures", ROOT / "scripts" / "figures.py")
figures = importlib.util.module_from_spec(_spec)
sys.modules["figures"] = figures  # where dataclasses look for the module
_spec.loader.exec_module(figures)


@pytest.fixture
def check(tmp_path):
    content = {"summary": {"managed": [{"rate": 1}, {"rate": 0.00318, "n": 12345}]}}
    (tmp_path / "run.json").write_text(json.dumps(content))

    def faults_of(text):
        (tmp_path / "README.md").write_text(text)
        return figures.check_numbers(tmp_path / "README.md", tmp_path)
    return faults_of


@pytest.mark.parametrize("text", [
    "missed 0.3 %<!-- run.json: summary.managed[-1].rate * 100 --> of",
    "0.32 %<!--run.json:summary.managed[1].rate*100-->",
    "12,345<!-- run.json: summary.managed[1].n --> frames", "no comment, no claim: 0.9 %"])
def test_a_number_that_is_rounded_rightly_is_right(check, text):
    assert check(text) == []


def test_a_wrong_number_is_told_with_its_line_and_what_the_file_holds(check):
    (fault,) = check("\nmissed 0.4 %<!-- run.json: summary.managed[-1].rate * 100 --> of")
    assert fault == "README.md:2: 0.4 %: run.json holds 0.318"


@pytest.mark.parametrize("place", [
    "none.json: a", "run.json: summary.fixed[0].rate", "run.json: summary.managed[7].rate"])
def test_a_place_that_is_not_there_is_told(check, place):
    (fault,) = check(f"0.4 %<!-- {place} -->")
    assert "cannot be read" in fault


def test_the_readme_holds_the_numbers_of_the_files_it_names():
    assert figures.check_numbers(ROOT / "README.md", ROOT) == []


def test_a_figure_is_drawn_from_its_file_and_listed_with_it(tmp_path):
    write_results(tmp_path / "docs" / "results" / "demo", make_results())
    figure = next(figure for figure in figures.FIGURES if figure.path == "docs/timeline.png")
    figures.make_figure(figure, tmp_path, again=False)
    assert cv2.imread(str(tmp_path / "docs" / "timeline.png")).shape[1] == 2000
    figures.write_list(tmp_path)
    (row,) = [line for line in (tmp_path / "docs" / "figures.md").read_text().splitlines() if "timeline.png" in line]
    assert "docs/results/demo/results.json" in row and "dynamic-perception demo --headless" in row
    assert "a <fast> one" in row


def test_a_figure_without_its_file_and_a_command_for_it_is_an_error(tmp_path):
    figure = next(figure for figure in figures.FIGURES if not figure.measure)
    with pytest.raises(FileNotFoundError, match="which is not there"):
        figures.make_figure(figure, tmp_path, again=False)


def test_shipped_tables_that_figures_are_drawn_from_are_there():
    for figure in figures.FIGURES:
        assert not figure.results.startswith("config/") or (ROOT / figure.results).exists()

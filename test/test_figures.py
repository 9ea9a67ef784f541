"""Figures are drawn from named files of real runs, and the documents' numbers are those of the files they name."""

import importlib.util
import json
import re
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


OUTPUT = """\
    two tables, of which the first has a heading of two lines
┏━━━━━━━━━━━━━━━━━┳━━━━━━━━━━━┳━━━━━━━┓
┃                 ┃    steady ┃       ┃
┃ network         ┃ median ms ┃   run ┃
┡━━━━━━━━━━━━━━━━━╇━━━━━━━━━━━╇━━━━━━━┩
│ segmenter       │      12.5 │ 1 / 2 │
│ segmenter, int8 │       6.2 │ 3 / 4 │
└─────────────────┴───────────┴───────┘
┏━━━━━━━━┳━━━━━┓
┃ points ┃ p99 ┃
┡━━━━━━━━╇━━━━━┩
│  1,000 │  86 │
└────────┴─────┘
{"p99_us": 86.42, "energy_over_oracle": 1.0773, "nothing": 0.0, "unknown": NaN}
"""


@pytest.fixture
def root(tmp_path):
    content = {"summary": {"managed": [{"rate": 1}, {"rate": 0.00318, "n": 12345}]}}
    (tmp_path / "run.json").write_text(json.dumps(content))
    (tmp_path / "docs" / "results" / "benchmarks").mkdir(parents=True)
    (tmp_path / "docs" / "results" / "benchmarks" / "bench.txt").write_text(OUTPUT)
    return tmp_path


@pytest.fixture
def check(root):
    def faults_of(text):
        (root / "README.md").write_text(text)
        return figures.check_numbers(root / "README.md", root)

    return faults_of


@pytest.mark.parametrize(
    "text",
    [
        "missed 0.3 %<!-- run.json: summary.managed[-1].rate * 100 --> of",
        "0.32 %<!--run.json:summary.managed[1].rate*100-->",
        "12,345<!-- run.json: summary.managed[1].n --> frames",
        "no comment, no claim: 0.9 %",
        "86<!-- bench.txt: p99_us --> us",
        "8 %<!-- bench.txt: energy_over_oracle * 100 - 100 -->",
        "86.4<!-- docs/results/benchmarks/bench.txt: p99_us -->",
        "0.00<!-- bench.txt: nothing -->",
        '12.5<!-- bench.txt: the "steady median ms" of "^segmenter [^,]*$" --> or more',
        '12<!-- bench.txt: greatest "steady median ms" of "segmenter" --> ms',
        '0.0062<!-- bench.txt: least "steady median ms" of "." * 1e-3 --> s',
        '4<!-- bench.txt: the "run" of "int8"[1] -->',
        '86<!-- bench.txt: the "p99" of "1,000" -->',
    ],
)
def test_a_number_that_is_rounded_rightly_is_right(check, text):
    assert check(text) == []


def test_a_wrong_number_is_told_with_its_line_and_what_the_file_holds(check):
    (fault,) = check("\nmissed 0.4 %<!-- run.json: summary.managed[-1].rate * 100 --> of")
    assert fault == "README.md:2: 0.4 %: run.json holds 0.318"


@pytest.mark.parametrize(
    "place",
    [
        "none.json: a",
        "run.json: summary.fixed[0].rate",
        "run.json: summary.managed[7].rate",
        "none.txt: a",
        "bench.txt: p50",
        'bench.txt: the "p95" of "1,000"',
        'bench.txt: the "run" of "segmenter"',
        'bench.txt: least "p99" of "network"',
        "bench.txt: unknown",
        'bench.txt: mean "p99" of "1,000"',
        'bench.txt: the "run" of "int8"[2]',
    ],
)
def test_a_place_that_is_not_there_is_told(check, place):
    (fault,) = check(f"0.4 %<!-- {place} -->")
    assert "cannot be read" in fault


@pytest.mark.parametrize(
    "text",
    [
        "about four<!-- run.json: summary.managed[0].rate -->",
        "1 %<!-- run.json summary.managed[0].rate -->",
        '86<!-- bench.txt: the p99 of "1,000" -->',
        "1<!-- run.json: summary.managed[0].rate / 2 -->",
    ],
)
def test_a_comment_that_is_not_understood_is_told_and_not_passed_over(check, text):
    (fault,) = check(text)
    assert "is not understood: expected a number before it" in fault


def test_numbers_are_written_as_the_files_hold_them_and_nothing_else_changes(root, capsys):
    rate = "<!-- run.json: summary.managed[-1].rate * 100 -->"
    text = f"of 9,999<!-- run.json: summary.managed[1].n --> frames\n0.5 %{rate},"
    (root / "README.md").write_text(f"{text} 0.7<!-- none.txt: a -->, 0.32{rate}\n")
    (fault,) = figures.update_numbers(root / "README.md", root)
    assert "README.md:2: 0.7: none.txt: a cannot be read" in fault
    updated = text.replace("9,999", "12,345").replace("0.5 %", "0.3 %")
    assert (root / "README.md").read_text() == f"{updated} 0.7<!-- none.txt: a -->, 0.32{rate}\n"
    assert "README.md:1: 9,999 is now 12,345" in capsys.readouterr().out


@pytest.mark.parametrize("path", figures.documents(ROOT), ids=lambda path: path.name)
def test_a_document_holds_the_numbers_of_the_files_it_names(path):
    assert figures.check_numbers(path, ROOT) == []


# Numbers in tables that are no results: what was measured, and of how many.
SETTINGS = re.compile(r"`[^`]*`|9\dth percentile|[\d,]+ points|of 100, at inferences of over 100 ms|XU3|int8")


def test_every_result_in_a_table_names_its_file():
    page = (ROOT / "docs" / "benchmarks.md").read_text()
    summary = (ROOT / "README.md").read_text().split("## Development", 1)[1].split("| page | what |")[0]
    tables = [table.splitlines() for table in re.findall(r"(?:^\|.*\|\n)+", page + summary, re.MULTILINE)]
    assert len(tables) == 10
    for head, _, *rows in tables:
        for row in rows:
            results = figures.NUMBER.sub("", row).strip("|").split(" | ")[1:]
            aims = 1 if head.endswith("| aim |") else 0  # nobody's results
            assert not re.search(r"\d", SETTINGS.sub("", " ".join(results[: len(results) - aims]))), row


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

"""The README's table of promises: every line is short and has a test behind it."""

import ast
import re

import pytest
from documents import ROOT, documents

HEADING = "## What happens when ...\n"
LONGEST = 90  # characters of a cell for people


def promises() -> list[list[str]]:
    """Cells of every row."""
    section = documents()["README.md"].split(HEADING, 1)[1].split("\n## ", 1)[0]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows[2:]]


@pytest.mark.parametrize("when, what, tests", promises())
def test_a_promise_is_short_and_names_tests_that_there_are(when, what, tests):
    assert 0 < len(when) <= LONGEST and 0 < len(what) <= LONGEST
    named = re.findall(r"`(test/test_\w+\.py)::(test_\w+)`", tests)
    assert named and len(named) == tests.count("`") // 2
    for file, name in named:
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, f"{file} has no {name}"


def test_no_promise_is_made_twice_and_none_rests_on_a_test_that_is_left_out():
    rows = promises()
    assert len(rows) > 30 and len({when for when, _, _ in rows}) == len(rows)
    for _, _, tests in rows:
        for file, name in re.findall(r"`(test/test_\w+\.py)::(test_\w+)`", tests):
            marks = re.search(rf"((?:^@.*\n(?:^[ )].*\n)*)*)^def {name}\(", (ROOT / file).read_text(), re.MULTILINE)[1]
            assert "mark.skip(" not in marks and "xfail" not in marks, f"{file}::{name}"

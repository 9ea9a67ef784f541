"""The operating-point table as a file."""

from __future__ import annotations

import dataclasses
import math
import re

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from tables import board, point, table

from dynamic_perception.management.operating_points import COLUMNS, UNITS
from dynamic_perception.profiling import table_file
from dynamic_perception.profiling.table_file import ProfileFile, read_table, write_table

PROFILE = ProfileFile(
    table=board(),
    model="group_cnn_cifar10",
    weights_sha256="9f86d081",
    engine="onnxruntime",
    engine_version="1.22",
    platform={"cpu_model": "Cortex-A76", "cpus": 4, "clusters": [[0, 1, 2, 3]], "virtual": False},
    conditions={"measured_at": "2025-01-31T12:00:00+00:00", "least_runs": 100},
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "table.yaml"


def rewrite(path, old: str, new: str) -> int:
    """Replace the only or first `old` in the file; the number of the line that it was in."""
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    return text[: text.index(old)].count("\n") + 1


def test_what_was_written_is_read(path):
    write_table(path, PROFILE)
    read = read_table(path)
    for name in COLUMNS:
        np.testing.assert_array_equal(getattr(read.table, name), getattr(PROFILE.table, name))
    assert dict(read.table.provenance) == dict(PROFILE.table.provenance)
    for name in ("model", "weights_sha256", "engine", "engine_version", "platform", "conditions"):
        assert getattr(read, name) == getattr(PROFILE, name)


positive = st.floats(min_value=1e-5, max_value=1e3)  # within what is plausible of latency and of power
names = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc", "Zl", "Zp")), min_size=1, max_size=12)


@st.composite
def points(draw):
    latency, power = draw(positive), draw(st.one_of(positive, st.just(math.nan)))
    drawn = point(draw(names), draw(names), latency, power, draw(st.floats(0, 1)))
    return dataclasses.replace(drawn, energy=power)


@settings(max_examples=30, deadline=None)
@given(st.lists(points(), min_size=1, max_size=20))
def test_every_name_and_number_comes_back_exactly(tmp_path_factory, rows):
    path = tmp_path_factory.getbasetemp() / "exact.yaml"
    write_table(path, dataclasses.replace(PROFILE, table=table(rows)))
    read = read_table(path).table
    assert [repr(read[row]) for row in range(len(read))] == [repr(row) for row in rows]


def test_the_file_says_units_and_provenance_of_its_columns(path):
    write_table(path, PROFILE)
    content = yaml.safe_load(path.read_text())
    assert content["schema_version"] == 1
    assert content["units"] == dict(UNITS)
    assert content["provenance"]["power"] == "modelled"
    assert dict(zip(content["columns"], content["rows"][4]))["latency"] == 2e-3


def test_a_row_is_one_line_for_people(path):
    write_table(path, PROFILE)
    assert len([line for line in path.read_text().splitlines() if line.startswith("- [")]) == len(PROFILE.table)


def test_the_columns_may_stand_in_any_order(path):
    write_table(path, PROFILE)
    content = yaml.safe_load(path.read_text())
    content["columns"] = content["columns"][::-1]
    content["rows"] = [row[::-1] for row in content["rows"]]
    path.write_text(yaml.safe_dump(content))
    np.testing.assert_array_equal(read_table(path).table.latency, PROFILE.table.latency)


def test_writing_replaces_the_file_and_leaves_nothing_else(path):
    write_table(path, PROFILE)
    write_table(path, dataclasses.replace(PROFILE, model="other"))
    assert read_table(path).model == "other"
    assert list(path.parent.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_file(path, monkeypatch):
    write_table(path, PROFILE)

    def full_disk(descriptor):
        raise OSError("no space left on device")

    monkeypatch.setattr(table_file.os, "fsync", full_disk)
    with pytest.raises(OSError, match="no space"):
        write_table(path, dataclasses.replace(PROFILE, model="other"))
    assert read_table(path).model == PROFILE.model
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    "old, new, key, expected",
    [
        ("schema_version: 1", "schema_version: 2", "schema_version", "expected 1, found '2'"),
        ("name: group_cnn_cifar10", "name: [a]", "model.name", "expected text"),
        ("name: group_cnn_cifar10", "title: group_cnn_cifar10", "model", "expected the key name"),
        ("weights_sha256: 9f86d081", "weights_sha256: 123", "weights_sha256", "expected text (in quotes"),
        ("version: '1.22'", "version: 1.22", "engine.version", "expected text (in quotes"),
        ("latency: s", "latency: ms", "units.latency", "expected s, found 'ms'"),
        ("columns: [subnetwork, ", "columns: [", "columns", "found 'no subnetwork'"),
        ("columns: [subnetwork, ", "columns: [colour, subnetwork, ", "columns", "expected each once"),
        ("[25%, ", "[", "rows[0]", "expected 10 values, one per column, found '9'"),
        ("[25%, ", "[25, ", "subnetwork", "expected text"),
        ("0.78]", "high]", "accuracy", "expected a number"),
        ("0.78]", "78.0]", "accuracy", "within 0..1"),
        ("0.004, ", ".nan, ", "latency", "expected more than 0 s"),
        ("0.004, ", "-1.0, ", "latency", "expected more than 0 s"),
        ("0.004, ", "fast, ", "latency", "expected a number"),
    ],
)
def test_a_wrong_value_is_refused_with_file_line_key_and_what_was_expected(path, old, new, key, expected):
    write_table(path, PROFILE)
    line = rewrite(path, old, new)
    with pytest.raises(ValueError) as error:
        read_table(path)
    message = str(error.value)
    assert message.startswith(f"{path}:{line}: ")
    assert key in message and expected in message


def test_an_unknown_provenance_is_refused_where_the_provenances_stand(path):
    write_table(path, PROFILE)
    line = rewrite(path, "provenance:\n  latency: modelled", "provenance:\n  latency: guessed")
    with pytest.raises(ValueError, match=rf":{line + 1}: .*latency is 'guessed': expected one of measured, modelled"):
        read_table(path)


@pytest.mark.parametrize(
    "key", ["schema_version", "model", "engine", "platform", "conditions", "units", "provenance", "columns", "rows"]
)
def test_a_missing_key_is_refused_by_name(path, key):
    write_table(path, PROFILE)
    content = yaml.safe_load(path.read_text())
    del content[key]
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(ValueError, match=rf"{re.escape(str(path))}:\d+: .*{key}"):
        read_table(path)


def test_an_unknown_key_is_refused_by_name(path):
    write_table(path, PROFILE)
    line = rewrite(path, "provenance:", "colour: red\nprovenance:")
    with pytest.raises(ValueError, match=rf":{line}: .*the key colour"):
        read_table(path)


def test_a_key_that_is_there_twice_is_refused(path):
    write_table(path, PROFILE)
    line = rewrite(path, "  name: group_cnn_cifar10", "  name: a\n  name: b")
    with pytest.raises(ValueError, match=rf":{line + 1}: model: expected every key once, found 'name again'"):
        read_table(path)


@pytest.mark.parametrize("key", ["platform", "rows", "units"])
def test_a_text_where_a_structure_belongs_is_refused(path, key):
    write_table(path, PROFILE)
    content = yaml.safe_load(path.read_text())
    content[key] = "much"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(ValueError, match=rf":\d+: {key}: expected a (mapping|list), found 'much'"):
        read_table(path)


def test_a_table_without_points_is_refused(path):
    write_table(path, PROFILE)
    content = yaml.safe_load(path.read_text())
    content["rows"] = []
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(ValueError, match="rows: expected at least one operating point"):
        read_table(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"# nothing\n",
        b"a: [1, 2",
        b"\xff\xfe\x00 no text",
        b"a: !!python/object:os.system {}\n",
        b"just words",
        b"- 1\n- 2\n",
    ],
)
def test_anything_else_is_refused_with_the_name_of_the_file(path, content):
    path.write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(str(path))):
        read_table(path)


def test_a_platform_that_names_a_python_object_is_refused(path):
    write_table(path, PROFILE)
    rewrite(path, "  cpu_model: Cortex-A76", "  cpu_model: !!python/object/apply:os.getcwd []")
    with pytest.raises(ValueError, match="no valid YAML"):
        read_table(path)


def test_a_file_that_is_not_there_says_so(path):
    with pytest.raises(FileNotFoundError):
        read_table(path)

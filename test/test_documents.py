"""YAML and JSON from outside: whatever a file holds, it costs one sentence that names the file."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynamic_perception.documents import InvalidDocument, parse_json, parse_yaml, read_json, read_yaml

PACKAGE = Path(__file__).resolve().parents[1] / "dynamic_perception"
HOSTILE = {
    "deep list": ("[" * 5000, "too deep|no valid"),
    "deep and whole": ("[" * 100 + "]" * 100, "too deep"),
    "very deep and whole": ("[" * 50_000 + "]" * 50_000, "too deep"),
    "400 digits": ("{a: " + "9" * 400 + "}", "an integer of 40[01] digits"),
    "5,000 digits": ("{a: " + "9" * 5000 + "}", "no valid|digits"),
    "no text": ("\0\1\2", "no valid"),
    "unfinished": ("{a: [1, 2", "no valid"),
    "impossible date": ("a: 2026-13-45", "no valid"),
    "an object": ("!!python/object/apply:os.system [echo]", "no valid"),
}
LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [" + ",".join([f"*{before}"] * 9) + "]\n" for before, name in zip("abcdefgh", "bcdefghi")
)


@pytest.mark.parametrize("text, expected", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_yaml_file_is_refused_with_its_name(tmp_path, text, expected):
    path = tmp_path / "robot.yaml"
    path.write_text(text)
    with pytest.raises(InvalidDocument, match=f"{re.escape(str(path))}.*({expected})") as refusal:
        read_yaml(path)
    assert len(str(refusal.value)) < 600 and "\n" not in str(refusal.value)


def test_references_that_multiply_are_counted(tmp_path):
    with pytest.raises(InvalidDocument, match="more than 2,000,000 values"):
        parse_yaml(LAUGHS, "laughs")


@pytest.mark.parametrize("text", ["[" * 100_000, "[" * 100 + "]" * 100, "1" * 400, "1" * 5000, '{"a": ', "\x00"])
def test_a_hostile_json_file_is_refused_with_its_name(tmp_path, text):
    path = tmp_path / "results.json"
    path.write_text(text)
    with pytest.raises(InvalidDocument, match=re.escape(str(path))):
        read_json(path)


def test_bytes_that_are_no_text_are_refused(tmp_path):
    (tmp_path / "a.yaml").write_bytes(b"a: \xff\xfe")
    with pytest.raises(InvalidDocument, match="no text in UTF-8: .* at byte 3"):
        read_yaml(tmp_path / "a.yaml")


@given(st.recursive(st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(), st.lists, max_leaves=20))
@settings(max_examples=50, deadline=None)
def test_what_was_written_is_read(value):
    assert parse_json(json.dumps(value), "a value") == value


def test_no_other_module_parses_files_by_itself():
    """Those named check lines of a protocol themselves, or read back what they wrote."""
    own = {
        "documents.py": {"yaml.safe_load", "json.loads"},
        "hardware/helper_protocol.py": {"json.loads"},
        "hardware/clock_state.py": {"json.loads"},
        "profiling/turn_log.py": {"json.loads"},
        "training/candidates.py": {"json.loads"},
        "training/incremental.py": {"json.loads"},
        "training/sandwich.py": {"json.loads"},
    }
    found = {}
    for path in PACKAGE.rglob("*.py"):
        calls = re.findall(r"(?:yaml\.(?:safe_|full_|unsafe_)?load|json\.loads?)\b", path.read_text())
        if calls:
            found[str(path.relative_to(PACKAGE))] = set(calls)
    assert found == own
